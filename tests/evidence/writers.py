"""Run as a program: eight writers append to one ledger and are killed at random; see test_writers.py.

Usage: writers.py RUN KILLS SEED. Each writer notes an entry's hash in RUN/acks only after the ledger acknowledged it.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

from synthetic_evidence import share

from uphold.evidence import ledger as ledger_module
from uphold.evidence.ledger import Ledger

WRITERS = 8


def write_in_pieces(descriptor: int, content: bytes) -> None:
    """As the ledger writes, but in many system calls, so that a kill often lands in the middle of a line."""
    for start in range(0, len(content), 200):
        os.write(descriptor, content[start : start + 200])


def writer(run: Path, name: int) -> None:
    """Append batches for ever."""
    acks = os.open(run / "acks", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    ledger = Ledger(run)
    batch = 0
    while True:
        hashes = ledger.append_measurements(f"{name}-{batch}", [share(f"m{name}.{batch}.{i}", i, 10) for i in range(5)])
        os.write(acks, ("\n".join(hashes) + "\n").encode())
        batch += 1


def spawn(run: Path, name: int) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            writer(run, name)
        finally:
            os._exit(1)
    return pid


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status), "a writer stopped by itself"


def main(run: Path, kills: int, seed: int) -> None:
    rng = random.Random(seed)
    run.mkdir(parents=True, exist_ok=True)
    ledger_module._write_all = write_in_pieces
    pids = [spawn(run, name) for name in range(WRITERS)]
    for i in range(kills):
        time.sleep(rng.uniform(0.0, 0.03))
        victim = rng.randrange(WRITERS)
        kill(pids[victim])
        pids[victim] = spawn(run, WRITERS + i)
    for pid in pids:
        kill(pid)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
