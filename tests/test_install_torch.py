"""Set-up never drags in GPU libraries for a demo, and says what to set where only those are on offer."""

import importlib.util
import json
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "install_torch.py"
spec = importlib.util.spec_from_file_location("install_torch", SCRIPT)
install_torch = importlib.util.module_from_spec(spec)
spec.loader.exec_module(install_torch)


def report(*packages):
    return {"install": [{"metadata": {"name": name, "version": version}} for name, version in packages]}


CPU = report(("torch", "2.13.0+cpu"), ("numpy", "2.4.6"), ("sympy", "1.14"))
CUDA = report(
    ("torch", "2.13.0"), ("nvidia-cublas", "13"), ("nvidia_nccl_cu13", "2"), ("cuda-bindings", "13"), ("triton", "3")
)


class Pip:
    """Answers `pip install --dry-run` from a table of requirement -> report; what is not in it cannot be had."""

    def __init__(self, plans):
        self.plans, self.asked = plans, []

    def __call__(self, arguments):
        self.asked.append(list(arguments))
        plan = self.plans.get(arguments[-1])
        return subprocess.CompletedProcess(arguments, 0 if plan else 1, json.dumps(plan) if plan else "", "")


def test_gpu_packages_are_recognised_under_all_their_names():
    assert install_torch.gpu_packages(CPU) == []
    assert install_torch.gpu_packages(CUDA) == ["cuda-bindings", "nvidia-cublas", "nvidia_nccl_cu13", "triton"]
    assert install_torch.gpu_packages(report(("torch", "2.13.0+cu130"))) == ["torch 2.13.0+cu130"]
    assert install_torch.gpu_packages({}) == []


def test_the_tested_version_is_taken_where_its_cpu_build_is_on_offer():
    pip = Pip({"torch==2.13.0": CPU, "torch>=2.4": CPU})
    assert install_torch.choose(pip, []) == "torch==2.13.0"
    assert pip.asked == [["install", "--quiet", "--dry-run", "--report", "-", "torch==2.13.0"]]


@pytest.mark.parametrize("first", [None, CUDA])
def test_any_other_version_is_taken_when_the_tested_one_is_missing_or_for_gpus(first):
    assert install_torch.choose(Pip({"torch==2.13.0": first, "torch>=2.4": CPU}), []) == "torch>=2.4"


def test_another_index_is_handed_to_pip():
    pip = Pip({"torch==2.13.0": CPU})
    install_torch.choose(pip, ["--index-url", "file:///wheels"])
    assert pip.asked[0][-3:] == ["--index-url", "file:///wheels", "torch==2.13.0"]


def test_where_only_gpu_builds_are_on_offer_it_stops_and_says_what_to_set():
    with pytest.raises(SystemExit) as caught:
        install_torch.choose(Pip({"torch==2.13.0": CUDA, "torch>=2.4": CUDA}), [])
    assert str(caught.value) == (
        "install_torch: no CPU build of PyTorch is on offer: "
        "torch>=2.4 would bring 4 GPU packages (cuda-bindings, nvidia-cublas, nvidia_nccl_cu13, ...).\n"
        + install_torch.MEND
    )
    assert "UPHOLD_TORCH_INDEX=URL make setup" in install_torch.MEND


def test_where_pip_offers_nothing_it_says_so():
    with pytest.raises(SystemExit, match="pip found no torch for this Python, or could not reach its package index"):
        install_torch.choose(Pip({}), [])
