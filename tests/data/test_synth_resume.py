"""Killed with -9 at any point and started again, a run loses no row, doubles none and pays for no call twice."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from synth_child import run

from uphold.core import progress

CHILD = Path(__file__).with_name("synth_child.py")


@pytest.fixture(autouse=True)
def loud():
    yield
    progress.quiet(False)


def lines(file):
    return file.read_bytes().count(b"\n") if file.exists() else 0


def kill_when(out, name, n):
    """Start the run in a process of its own and kill it once the file holds `n` lines."""
    process = subprocess.Popen([sys.executable, str(CHILD), str(out)])
    deadline = time.monotonic() + 60
    while lines(out / name) < n:
        assert process.poll() is None, "the run ended too early"
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


def test_a_run_killed_thrice_ends_like_one_never_killed(tmp_path):
    whole = run(tmp_path / "whole")
    assert whole.n_rows == 80
    out = tmp_path / "killed"
    for name, n in (("calls.jsonl", 3), ("rows.jsonl", 1), ("calls.jsonl", 200)):
        kill_when(out, name, n)
    assert 0 < lines(out / "rows.jsonl") < 80
    done = run(out)
    assert (out / "rows.jsonl").read_bytes() == (tmp_path / "whole" / "rows.jsonl").read_bytes()
    assert done.counts == whole.counts
    assert done.n_calls == whole.n_calls
    keys = [json.loads(line)["k"] for line in (out / "calls.jsonl").read_text().splitlines()]
    assert len(keys) == len(set(keys)) == lines(tmp_path / "whole" / "calls.jsonl")


@pytest.mark.parametrize("cut", [1, 20, 400, 3000])
def test_whatever_is_cut_off_the_rows_is_made_again(tmp_path, cut):
    run(tmp_path)
    file = tmp_path / "rows.jsonl"
    whole = file.read_bytes()
    file.write_bytes(whole[:-cut])  # as a machine that lost power might leave it
    run(tmp_path)
    assert file.read_bytes() == whole


def test_rows_lost_from_the_middle_are_made_again_without_doubling_any(tmp_path):
    run(tmp_path)
    file = tmp_path / "rows.jsonl"
    whole = file.read_text(encoding="utf-8").splitlines()
    file.write_text("\n".join([*whole[:10], *whole[30:]]) + "\n", encoding="utf-8")
    run(tmp_path)
    assert sorted(file.read_text(encoding="utf-8").splitlines()) == sorted(whole)
