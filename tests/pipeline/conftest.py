"""A storefront project small enough to run in seconds, through the real command."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from uphold.project import init

SMALL = {
    "threads": 1,
    "align": {
        "n_harmful": 24,
        "n_benign": 12,
        "n_helpful": 48,
        "rounds": 1,
        "n_harmful_pairs": 8,
        "n_benign_pairs": 8,
        "benign_clauses": ["help"],
    },
    "guard": {"n_harmful": 48, "n_benign": 64, "n_threshold": 60, "n_validation": 12, "fpr_budget": 0.1},
    "measure": {"attacks": ["direct", "roleplay", "many_shot"], "n_behaviours": 18, "n_benign": 24, "n_tasks": 16},
}


@pytest.fixture(scope="session")
def small_project(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("projects") / "small"
    init(folder)
    yaml = YAML()
    settings = yaml.load((folder / "uphold.yaml").read_text())
    settings.update(SMALL)
    with open(folder / "uphold.yaml", "w") as file:
        yaml.dump(settings, file)
    return folder


def _start(project: Path, out: Path, *more: str) -> subprocess.Popen:
    """The real command, in a process of its own."""
    command = [sys.executable, "-m", "uphold", "--quiet", "run", str(project), "--out", str(out), "--json", *more]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )


def _finish(process: subprocess.Popen) -> str:
    """Its stdout, once it ended with a verdict (exit 0 or 1)."""
    out, err = process.communicate(timeout=300)
    assert process.returncode in (0, 1), err
    return out


@pytest.fixture(scope="session")
def start():
    return _start


@pytest.fixture(scope="session")
def finish():
    return _finish


@pytest.fixture(scope="session")
def reference(small_project, tmp_path_factory) -> Path:
    """A run that nothing disturbed."""
    out = tmp_path_factory.mktemp("runs") / "reference"
    (out.parent / "reference.json").write_text(_finish(_start(small_project, out)))
    return out
