"""Installs PyTorch for `make setup` without ever fetching gigabytes of GPU libraries for a demo.

A torch that can already be imported is taken as it is. Otherwise pip is asked what it would install (`--dry-run --report`), first for
the version we test with, then for any; the first plan without CUDA packages is carried out. Where only CUDA builds are on offer it
stops and says what to set. UPHOLD_TORCH_INDEX names another package index for torch alone.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

WANTED = ("torch==2.13.0", "torch>=2.4")
GPU_PACKAGE = re.compile(r"^(nvidia|cuda|triton|pytorch[-_.]triton)([-_.]|$)", re.IGNORECASE)
MEND = """\
Do one of these, then run the same command again:
  - name a package index that offers CPU builds:  UPHOLD_TORCH_INDEX=URL make setup
  - or install the torch you want yourself:       .venv/bin/python -m pip install torch"""

Pip = Callable[[Sequence[str]], "subprocess.CompletedProcess[str]"]


def pip(arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run pip of this Python and capture what it says."""
    return subprocess.run([sys.executable, "-m", "pip", *arguments], capture_output=True, text=True, check=False)


def gpu_packages(report: dict[str, Any]) -> list[str]:
    """Names of the CUDA packages in pip's installation report, sorted. A torch whose version ends in +cu counts too."""
    found = set()
    for item in report.get("install", []):
        name, version = item["metadata"]["name"], item["metadata"]["version"]
        if GPU_PACKAGE.match(name) or (name == "torch" and re.search(r"\+(cu|rocm|xpu)", version)):
            found.add(name if name != "torch" else f"torch {version}")
    return sorted(found)


def choose(run_pip: Pip, index: list[str]) -> str:
    """The first wanted requirement whose plan has no CUDA packages. Raises SystemExit, saying how to mend it, when there is none."""
    refused = ""
    for wanted in WANTED:
        done = run_pip(["install", "--quiet", "--dry-run", "--report", "-", *index, wanted])
        if done.returncode != 0:
            continue
        found = gpu_packages(json.loads(done.stdout))
        if not found:
            return wanted
        refused = f"{wanted} would bring {len(found)} GPU packages ({', '.join(found[:3])}, ...)"
    reason = refused or "pip found no torch for this Python, or could not reach its package index"
    raise SystemExit(f"install_torch: no CPU build of PyTorch is on offer: {reason}.\n{MEND}")


def main() -> None:
    """Install torch unless it is there."""
    if importlib.util.find_spec("torch") is not None:
        print("install_torch: using the torch that is installed")
        return
    address = os.environ.get("UPHOLD_TORCH_INDEX", "")
    index = ["--index-url", address] if address else []
    wanted = choose(pip, index)
    print(f"install_torch: installing {wanted} (CPU build)", flush=True)
    done = pip(["install", "--quiet", *index, wanted])
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise SystemExit(f"install_torch: pip failed: {last}\n{MEND}")


if __name__ == "__main__":
    main()
