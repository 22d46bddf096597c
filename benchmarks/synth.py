"""What a generation run itself costs per row, from a model that answers at once: written to results/synth.json.

    python benchmarks/synth.py       required: under 1 ms a row on a 10,000-row run

The fake model's own time, measured apart by asking it the same again, is taken off. What remains: prompts, parsing, filters,
near-duplicates, the journal with its disk syncs, and the rows on disk. A second start on the finished folder shows what resuming
costs. CPU seconds, and beside them wall-clock seconds, which other work on the machine lengthens; the best of a few rounds of each.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import tempfile
import time
from pathlib import Path

from uphold.constitution import Constitution
from uphold.core import measure, progress
from uphold.core.files import write_json
from uphold.data.synth import Settings, synthesise
from uphold.models import Conversation, FakeChat

ROWS, ROUNDS, LIMIT_MS = 834, 3, 1.0  # for each label of six clauses: 10,008 rows
WORDS = [f"word{i}" for i in range(256)]


def answer(conversation: Conversation) -> str:
    """Lists, conversations, twins, labels and replies in the right format, of words that are a hash of the prompt."""
    said = conversation[-1].content
    if "YES or NO" in said:
        return "YES"
    if "verdict: guilty" in said:
        return "verdict: innocent"
    if "changed request" in said:
        return said.split(":\n", 1)[1].split("\nChange")[0] + " instead"
    if "Start each turn" in said:
        return f"User: {drawn(said + 'a')}\nAssistant: {drawn(said + 'b')}\nUser: {drawn(said + 'c')}"
    if "numbered list" in said:
        match = re.search(r"(?:List|Write) (\d+) ", said)
        return "\n".join(f"{i}. {drawn(f'{said}{i}')}" for i in range(int(match[1]) if match else 1))
    return drawn(said)


def drawn(key: str) -> str:
    return " ".join(WORDS[byte] for byte in hashlib.sha256(key.encode()).digest()[:20])


def timed(folder: Path) -> tuple[dict[str, float], int]:
    """({clock: seconds without the model's}, rows) of one start on the folder."""
    chat = FakeChat(answer, name="instant")
    cpu, wall = time.process_time(), time.perf_counter()
    n = synthesise(Constitution.load("storefront"), chat, folder, Settings(rows=ROWS)).n_rows
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    asked = list(chat.asked)
    began_cpu, began_wall = time.process_time(), time.perf_counter()
    for conversation in asked:
        chat.generate([conversation])
    return {"cpu": cpu - time.process_time() + began_cpu, "wall": wall - time.perf_counter() + began_wall}, n


def main() -> None:
    """Run and run again, a few times; print, and write the results."""
    progress.quiet()
    best: dict[tuple[str, str], float] = {}
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory() as folder:
            for what in ("run", "resume"):
                seconds, n = timed(Path(folder))
                for clock, value in seconds.items():
                    best[what, clock] = min(best.get((what, clock), value), value)
    records = []
    for (what, clock), seconds_s in best.items():
        value = 1000 * seconds_s / n
        records.append(
            measure.scalar(
                f"synth_{clock}_ms_per_row", value, n, higher_is_better=False, unit="ms", by={"what": what}, seeds=(0,)
            )
        )
        print(f"{what}: {value:.2f} ms a row on the {clock} clock (n={n})")
    print(f"required: under {LIMIT_MS:g} ms a row")
    path = Path(__file__).parent / "results" / "synth.json"
    machine = f"{platform.machine()}, {os.cpu_count()} cores (one used), {platform.system()}, Python {platform.python_version()}"
    write_json(path, {"machine": machine, "command": "python benchmarks/synth.py", "measurements": records})
    print(f"written {path.relative_to(Path(__file__).parents[1])}")


if __name__ == "__main__":
    main()
