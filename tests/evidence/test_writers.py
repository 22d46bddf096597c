"""Many writers, killed at any moment: nothing that was acknowledged is lost, and the chain stays sound."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from synthetic_evidence import share

from uphold.evidence.ledger import Ledger, verify

WRITERS = Path(__file__).with_name("writers.py")


@pytest.mark.parametrize("kills", [20, pytest.param(200, marks=pytest.mark.slow)])
def test_eight_writers_killed_at_random_lose_nothing_acknowledged(tmp_path: Path, kills: int) -> None:
    subprocess.run([sys.executable, str(WRITERS), str(tmp_path), str(kills), "7"], check=True, timeout=300)
    Ledger(tmp_path).append(share("last", 1, 2))  # drops the torn line the last kill may have left

    assert verify(tmp_path).problems == ()
    acknowledged = (tmp_path / "acks").read_text().split()
    kept = {entry.hash for entry in Ledger(tmp_path).entries()}
    assert len(acknowledged) >= kills
    assert [h for h in acknowledged if h not in kept] == []
