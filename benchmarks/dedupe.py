"""Near-duplicate removal of 100,000 texts on one core, and how much of what is alike it finds: written to results/dedupe.json.

    python benchmarks/dedupe.py       required: under 20 s

Two sets of 100,000: texts of 5 to 60 words, a twentieth of them copies with one word changed (what real prompts are like); and texts on one
template, two words of which differ (the worst case: everything is nearly like everything). CPU seconds of this process, which other
work on the machine does not lengthen much; wall-clock seconds beside them. Recall is against exact all-pairs search on 8,000 texts.
"""

from __future__ import annotations

import os
import platform
import random
import resource
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from uphold.constitution.language import similar_pairs
from uphold.core import measure
from uphold.core.files import write_json
from uphold.data.dedupe import NearDuplicates, shingles

N, N_EXACT, LIMIT_S, THRESHOLD = 100_000, 8_000, 20.0, 0.8
VOCABULARY = [f"word{i}" for i in range(30_000)]


def mixed(n: int, seed: int) -> list[str]:
    """Texts over a skewed vocabulary; every twentieth is a copy of an earlier one with one word changed."""
    rng = random.Random(seed)
    texts: list[str] = []
    for i in range(n):
        if i % 20 == 19:
            words = texts[rng.randrange(i)].split()
            words[rng.randrange(len(words))] = "changed"
        else:
            words = [VOCABULARY[int(30_000 * rng.random() ** 3)] for _ in range(rng.randrange(5, 61))]
        texts.append(" ".join(words))
    return texts


def stamped(n: int) -> list[str]:
    """Texts on one template."""
    return [
        f"please write me a short and friendly message about {VOCABULARY[i % 3000]} for my {VOCABULARY[7 * i % 30_000]} today"
        for i in range(n)
    ]


def timed(texts: Sequence[str]) -> tuple[float, float, int]:
    """(CPU seconds, wall-clock seconds, texts dropped)."""
    cpu, wall = time.process_time(), time.perf_counter()
    dropped = sum(match is not None for match in NearDuplicates(THRESHOLD).add(texts))
    return time.process_time() - cpu, time.perf_counter() - wall, dropped


def recall(texts: Sequence[str]) -> tuple[int, int, int]:
    """(texts rightly dropped, texts to drop, texts wrongly dropped) against all pairs: a text goes when it repeats one that stays."""
    pairs = sorted(similar_pairs([shingles(text) for text in texts], THRESHOLD), key=lambda pair: (pair[1], pair[0]))
    repeats: set[int] = set()
    for i, j, _ in pairs:
        if i not in repeats:
            repeats.add(j)
    dropped = {i for i, match in enumerate(NearDuplicates(THRESHOLD).add(texts)) if match}
    return len(dropped & repeats), len(repeats), len(dropped - repeats)


def main() -> None:
    """Measure both sets and the recall; print, and write the results."""
    records = []
    for name, texts in (("mixed", mixed(N, 0)), ("one template", stamped(N))):
        cpu_s, wall_s, dropped = timed(texts)
        for metric, value in (("dedupe_cpu_s", cpu_s), ("dedupe_wall_s", wall_s)):
            records.append(
                measure.scalar(metric, value, N, higher_is_better=False, unit="s", by={"texts": name}, seeds=(0,))
            )
        print(f"{name}: {cpu_s:.1f} CPU s, {wall_s:.1f} s on the clock, {dropped} of {N} dropped")
    found, n, wrong = recall(mixed(N_EXACT, 1))
    records.append(measure.proportion("dedupe_recall", [True] * found + [False] * (n - found), seeds=(1,)))
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 * 1024 if sys.platform == "darwin" else 1024)
    records.append(measure.scalar("dedupe_peak_rss_mb", round(peak_mb), 1, higher_is_better=False, unit="MB"))
    print(
        f"recall {found} of {n}, {wrong} dropped that repeat none; peak {peak_mb:.0f} MB; required: under {LIMIT_S:g} s"
    )
    path = Path(__file__).parent / "results" / "dedupe.json"
    machine = f"{platform.machine()}, {os.cpu_count()} cores (one used), {platform.system()}, Python {platform.python_version()}"
    write_json(path, {"machine": machine, "command": "python benchmarks/dedupe.py", "measurements": records})
    print(f"written {path.relative_to(Path(__file__).parents[1])}")


if __name__ == "__main__":
    main()
