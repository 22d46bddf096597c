"""How many texts a second every transform handles, applying and undoing, on one core: written to results/transforms.json.

    python benchmarks/transforms.py          required: 20,000 texts/s for the median transform

Each text is a question of 60 to 75 characters; the time includes seeding the random generator (`transforms.apply`).
"""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from uphold.core import measure, stats
from uphold.core.files import write_json
from uphold.data.transforms import apply, compose, transform_names

N_TEXTS, ROUNDS, REQUIRED_PER_S = 1000, 5, 20_000
TEXTS = [f"how do i get long sheet number {i} through a door that is shut and locked?" for i in range(N_TEXTS)]


def per_second(work: Callable[[], object], n: int) -> float:
    """Items a second, the best of a few rounds: noise of other processes only ever slows it down."""
    taken = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        work()
        taken.append(time.perf_counter() - started)
    return n / min(taken)


def main() -> None:
    """Measure every transform, print the slowest and the medians, write all."""
    apply_per_s: dict[str, float] = {}
    invert_per_s: dict[str, float] = {}
    for name in transform_names():
        outputs = [apply(name, text, i) for i, text in enumerate(TEXTS)]
        apply_per_s[name] = per_second(lambda name=name: [apply(name, t, i) for i, t in enumerate(TEXTS)], N_TEXTS)  # type: ignore[misc]
        if inverse := compose(name).inverse:
            invert_per_s[name] = per_second(lambda f=inverse, o=outputs: [f(text) for text in o], N_TEXTS)  # type: ignore[misc]
    records = []
    for metric, rates in (("transform_texts_per_s", apply_per_s), ("inverse_texts_per_s", invert_per_s)):
        values = list(rates.values())
        interval = stats.bootstrap_clustered(
            values, range(len(values)), statistic=lambda drawn: statistics.median(drawn)
        )
        median = statistics.median(values)
        records.append(
            measure.scalar(
                metric,
                median,
                len(values),
                interval=interval,
                unit="texts/s",
                seeds=(0,),
                note="median over transforms",
            )
        )
        slowest = ", ".join(f"{name} {rate:,.0f}" for name, rate in sorted(rates.items(), key=lambda item: item[1])[:5])
        print(
            f"{metric} median {median:,.0f} (n={len(values)}, 95% bootstrap {interval.low:,.0f}-{interval.high:,.0f}); slowest: {slowest}"
        )
    print(f"required: {REQUIRED_PER_S:,} for the median transform")
    path = Path(__file__).parent / "results" / "transforms.json"
    machine = f"{platform.machine()}, {os.cpu_count()} cores (one used), {platform.system()}, Python {platform.python_version()}"
    write_json(
        path,
        {
            "machine": machine,
            "command": "python benchmarks/transforms.py",
            "measurements": records,
            "apply_texts_per_s": {name: round(rate) for name, rate in apply_per_s.items()},
            "inverse_texts_per_s": {name: round(rate) for name, rate in invert_per_s.items()},
        },
    )
    print(f"written {path.relative_to(Path(__file__).parents[1])}")


if __name__ == "__main__":
    main()
