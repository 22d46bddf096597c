"""How fast a consultation of published size is analysed, and how well known groups are found; to results/collective.json.

    python benchmarks/collective.py        required: 1,000 people x 1,100 statements, 38,000 votes, with intervals, < 5 s

Populations are simulated: half the statements divide the groups (agreement in each from Beta(0.6, 0.6)), half do not (Beta(3, 1.5)), one
vote in ten is a pass. Real people divide less cleanly. The published consultation of this size (arXiv:2406.07814) had 38,252 votes.
"""

from __future__ import annotations

import csv
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from startup import machine

from uphold.constitution.collective import Opinions, read_opinions
from uphold.constitution.opinions.bridging import measure_bridging
from uphold.constitution.opinions.groups import adjusted_rand, find_groups
from uphold.constitution.opinions.votes import Statement, Votes
from uphold.core import measure, stats
from uphold.core.files import write_json
from uphold.core.progress import quiet
from uphold.core.records import Measurement

SEEDS = range(8)
SPARSE = (1_000, 1_100, 38_000)


def population(
    people: int, shape: int, votes: int, groups: int, seed: int, taste: int | None = None
) -> tuple[Votes, np.ndarray]:
    """Simulated votes and the true groups. taste: seed of the groups' opinions, where several samples of one population are wanted."""
    opinions = np.random.default_rng(seed if taste is None else taste)
    agree_GS = np.where(
        np.arange(shape) % 2 == 0, opinions.beta(0.6, 0.6, (groups, shape)), opinions.beta(3, 1.5, shape)
    )
    rng = np.random.default_rng([seed, 1])
    group_P = rng.integers(groups, size=people)
    cells_V = rng.choice(people * shape, size=votes, replace=False)
    row_V, column_V = np.divmod(np.sort(cells_V), shape)
    agrees_V = rng.random(votes) < agree_GS[group_P[row_V], column_V]
    value_V = np.where(rng.random(votes) < 0.1, 0.0, np.where(agrees_V, 1.0, -1.0))
    texts = tuple(Statement(str(j), f"The AI should do thing number {j}.") for j in range(shape))
    return Votes(tuple(f"p{i}" for i in range(people)), texts, row_V, column_V, value_V), group_P


def written(folder: Path, votes: Votes) -> tuple[Path, Path]:
    """The votes as the two CSV files of an export."""
    with open(folder / "votes.csv", "w", newline="", encoding="utf-8") as file:
        rows = zip(votes.row_V, votes.column_V, votes.value_V, strict=True)
        csv.writer(file).writerows(
            [("voter-id", "comment-id", "vote"), *((votes.participants[r], c, int(v)) for r, c, v in rows)]
        )
    with open(folder / "comments.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("comment-id", "comment-body"), *votes.statements])
    return folder / "votes.csv", folder / "comments.csv"


def timed(groups: int) -> tuple[list[float], list[float], list[float], list[Opinions]]:
    """(wall seconds, CPU seconds, adjusted Rand index, results) of whole analyses from files, one a seed."""
    wall, cpu, rand, results = [], [], [], []
    for seed in SEEDS:
        votes, truth_P = population(*SPARSE, groups, seed)
        with tempfile.TemporaryDirectory() as folder:
            paths = written(Path(folder), votes)
            started, worked = time.perf_counter(), time.process_time()
            found = read_opinions(*paths)
            wall.append(time.perf_counter() - started)
            cpu.append(time.process_time() - worked)
        order = [votes.participants.index(name) for name in found.votes.participants]
        rand.append(adjusted_rand(truth_P[order], found.groups.group_P))
        results.append(found)
    return wall, cpu, rand, results


def coverage(missing: float) -> Measurement:
    """Share of 95% bridging intervals from 300 people that hold the score of a population of 8,000, over 60 statements and 10 samples."""
    truth_S = measure_bridging(population(8_000, 60, 8_000 * 60, 2, 99, taste=5)[0], n_boot=10).score_S
    held = []
    for seed in range(10):
        votes = population(300, 60, int(300 * 60 * (1 - missing)), 2, seed, taste=5)[0]
        interval_S2 = measure_bridging(votes, seed=seed).interval_S2
        held += list((interval_S2[:, 0] <= truth_S) & (truth_S <= interval_S2[:, 1]))
    names = [s for _ in range(10) for s in range(60)]
    return measure.proportion(
        "bridging_interval_coverage",
        [bool(x) for x in held],
        groups=names,
        higher_is_better=True,
        by={"missing": f"{missing:.0%}"},
    )


def mean_of(
    metric: str, values: list[float], unit: str, *, higher: bool, by: dict[str, str], note: str = "mean"
) -> Measurement:
    """One record for repeated numbers, with the bootstrap interval of their mean or median."""
    middle = statistics.median if note == "median" else statistics.fmean
    interval = stats.bootstrap_clustered(values, range(len(values)), statistic=lambda drawn: float(middle(drawn)))
    return measure.scalar(
        metric,
        middle(values),
        len(values),
        interval=interval,
        higher_is_better=higher,
        unit=unit,
        seeds=tuple(SEEDS),
        by=by,
        note=note,
    )


def main() -> None:
    """Measure and write."""
    quiet()
    timed(2)  # once for imports and caches
    records = []
    for groups in (2, 3, 4):
        by = {"groups": str(groups), "votes": "38,000 of 1,100,000 (96.5% missing)"}
        wall, cpu, rand, results = timed(groups)
        records += [
            mean_of("wall_s", wall, "s", higher=False, by=by, note="median"),
            mean_of("cpu_s", cpu, "s", higher=False, by=by, note="median"),
            mean_of("adjusted_rand", rand, "index", higher=True, by=by),
            measure.proportion(
                "number_of_groups_found", [r.groups.n == groups for r in results], higher_is_better=True, by=by
            ),
            mean_of("proposals", [float(len(r.proposals)) for r in results], "clauses", higher=True, by=by),
        ]
    for groups in (2, 3, 4, 5):
        by = {"groups": str(groups), "votes": "300 people x 120 statements, 30% missing"}
        rand = []
        for seed in SEEDS:
            votes, truth_P = population(300, 120, int(300 * 120 * 0.7), groups, seed)
            rand.append(adjusted_rand(truth_P, find_groups(votes).group_P))
        records.append(mean_of("adjusted_rand", rand, "index", higher=True, by=by))
    records += [coverage(0.3), coverage(0.8)]
    for record in records:
        low, high = record.interval or (float("nan"), float("nan"))
        print(f"{record.metric} {record.value:.3f} (n={record.n_scored}, 95% {low:.3f}-{high:.3f})  {record.by}")
    result = {"machine": machine(), "command": "python benchmarks/collective.py", "measurements": records}
    write_json(Path(__file__).parent / "results" / "collective.json", result)
    print("written benchmarks/results/collective.json")


if __name__ == "__main__":
    main()
