"""Shared settings: property tests repeat exactly, and no test reads the network, the user's home or another run's leftovers."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("uphold", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("uphold")

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("MPLBACKEND", "Agg")


@pytest.fixture
def read_only_folder(tmp_path: Path) -> Path:
    """A folder that refuses new files, also to root (whom permissions do not stop, but /sys does)."""
    if os.geteuid() != 0:
        tmp_path.chmod(0o500)
        return tmp_path
    if not Path("/sys/kernel").is_dir():
        pytest.skip("root may write anywhere here")
    return Path("/sys/kernel")


@pytest.fixture(autouse=True)
def _progress_is_heard():
    """A command run with --quiet silences its whole process: no test may inherit that from another."""
    from uphold.core.progress import quiet

    quiet(False)
    yield
    quiet(False)
