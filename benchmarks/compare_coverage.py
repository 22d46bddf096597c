"""Do comparisons hold what they promise? Simulated, with the truth known. Writes results/compare_coverage.json.

    python benchmarks/compare_coverage.py

Targets: 95% intervals of differences, paired and unpaired, contain the true difference in 94% to 97% of runs; of all differences reported
after the correction, at most 5% are false on average (false discovery rate), also where metrics share their items; an unchanged
system is called worse in at most 5% of whole comparisons. Tests are to reject a true null in at most 5% of runs.
Everything is made up here; nothing is a result about any model. A cell's own noise at 2,000 runs is about half a point;
false discovery rates give theirs, and are held to the target plus twice that.
"""

from __future__ import annotations

import itertools
import os
import platform
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src")]

import numpy as np  # noqa: E402
from scipy.special import gammaln  # noqa: E402

from uphold.core import contrasts, stats  # noqa: E402
from uphold.core.files import write_json  # noqa: E402
from uphold.core.measure import paired_difference, proportion, proportion_of_counts  # noqa: E402
from uphold.evidence.compare import Settings, compare  # noqa: E402
from uphold.evidence.compare_items import Items  # noqa: E402
from uphold.evidence.compare_subject import Subject  # noqa: E402

RUNS, FAMILIES, NULLS, METRICS = 2000, 600, 20_000, 20
FEW = 10  # expected pairs that moved; where there are fewer, Newcombe's interval is wider than it need be
LOW, HIGH, FDR = 0.94, 0.97, 0.05
Cell = dict[str, Any]


def pairs(rng: Any, n: int, p1: float, p2: float, agree: float) -> tuple[Any, Any]:
    """n yes-or-no outcomes of two systems: with chance `agree` both are decided by one draw, else each by its own."""
    shared, first, second = rng.random(n), rng.random(n), rng.random(n)
    same = rng.random(n) < agree
    return np.where(same, shared, first) < p1, np.where(same, shared, second) < p2


def paired(rng: Any) -> Iterator[Cell]:
    for n, (p1, p2), agree in itertools.product(
        (50, 200, 600), ((0.05, 0.05), (0.1, 0.2), (0.5, 0.5), (0.9, 0.7)), (0.3, 0.8)
    ):
        hits = 0
        for _ in range(RUNS):
            before, after = pairs(rng, n, p1, p2, agree)
            both, only_after = int((before & after).sum()), int((after & ~before).sum())
            only_before = int((before & ~after).sum())
            low, high, _, _ = stats.newcombe_paired(both, only_after, only_before, n - both - only_after - only_before)
            hits += low <= p2 - p1 <= high
        moved = n * ((1 - agree) * (p1 * (1 - p2) + p2 * (1 - p1)) + agree * abs(p1 - p2))
        method = "paired" if moved >= FEW else f"paired, under {FEW} moved"
        yield {
            **cell(method, f"n={n}, {p1} and {p2}, {agree:.0%} decided alike", hits / RUNS),
            "moved": round(moved, 1),
        }


def topics(rng: Any, groups: int, size: int, p: tuple[float, float], rho: float) -> tuple[Any, Any]:
    """Outcomes of two systems on `groups` topics: a topic is hard or easy for both."""
    ease = rng.random(groups)
    quantiles = [_beta(rng, share, rho, ease) for share in p]
    before, after = (rng.random((groups, size)) < q[:, None] for q in quantiles)
    return before, after


def _beta(rng: Any, p: float, rho: float, ease: Any) -> Any:
    from scipy.special import betaincinv

    return betaincinv(p * (1 / rho - 1), (1 - p) * (1 / rho - 1), ease)


def paired_by_topic(rng: Any) -> Iterator[Cell]:
    for groups, size, p, rho in itertools.product((15, 45), (6, 15), ((0.3, 0.3), (0.2, 0.4), (0.6, 0.5)), (0.1, 0.4)):
        hits, ids = 0, np.repeat(np.arange(groups), size).tolist()
        for _ in range(RUNS // 4):
            before, after = topics(rng, groups, size, p, rho)
            found = paired_difference("m", before.ravel().tolist(), after.ravel().tolist(), groups=ids)
            assert found.interval is not None
            hits += found.interval[0] <= p[1] - p[0] <= found.interval[1]
        yield cell(
            "paired, by topic",
            f"{groups} topics of {size}, {p[0]} and {p[1]}, correlation {rho}",
            hits / (RUNS // 4),
            RUNS // 4,
        )


def unpaired() -> Iterator[Cell]:
    """Exact: summed over all counts of both systems, averaged over rates a quarter around (single rates jump, for counts are whole)."""
    for (n1, n2), (p1, p2) in itertools.product(
        ((50, 50), (200, 200), (200, 60)), ((0.05, 0.05), (0.1, 0.2), (0.5, 0.5), (0.9, 0.7))
    ):
        first, second = ([stats.wilson(k, n)[:2] for k in range(n + 1)] for n in (n1, n2))
        spans = [
            [contrasts.mover_difference(i / n1, first[i], j / n2, second[j])[:2] for j in range(n2 + 1)]
            for i in range(n1 + 1)
        ]
        ends = np.array(spans)
        covers = []
        for shift in np.exp(np.linspace(-0.25, 0.1, 15)):
            a, b = p1 * shift, p2 * shift
            inside = (ends[..., 0] <= b - a) & (b - a <= ends[..., 1])
            covers.append(float(binomial(n1, a) @ inside @ binomial(n2, b)))
        yield cell("unpaired", f"n={n1} and {n2}, rates near {p1} and {p2}", float(np.mean(covers)), "exact")


def binomial(n: int, p: float) -> Any:
    k_N = np.arange(n + 1)
    return np.exp(gammaln(n + 1) - gammaln(k_N + 1) - gammaln(n - k_N + 1) + k_N * np.log(p) + (n - k_N) * np.log1p(-p))


def unpaired_by_topic(rng: Any) -> Iterator[Cell]:
    for groups, size, p, rho in itertools.product((15, 45), (6, 15), ((0.3, 0.3), (0.2, 0.4)), (0.1, 0.4)):
        hits = 0
        for _ in range(RUNS):
            found = []
            for share in p:
                rates = rng.beta(share * (1 / rho - 1), (1 - share) * (1 / rho - 1), groups)
                counts = {g: (size, size, int(k)) for g, k in enumerate(rng.binomial(size, rates))}
                found.append(proportion_of_counts("m", counts))
            (a, b) = found
            low, high, _, _ = contrasts.mover_difference(a.value, a.interval, b.value, b.interval)  # type: ignore[arg-type]
            hits += low <= p[1] - p[0] <= high
        yield cell(
            "unpaired, by topic", f"{groups} topics of {size}, {p[0]} and {p[1]}, correlation {rho}", hits / RUNS
        )


def cell(method: str, setting: str, share: float, runs: Any = RUNS) -> Cell:
    return {
        "method": method,
        "setting": setting,
        "coverage": round(share, 4),
        "runs": runs,
        "in_target": LOW <= share <= HIGH,
    }


def size_of_tests(rng: Any) -> Iterator[Cell]:
    """How often p <= 0.05 where nothing differs: at most 5% wanted."""
    for n, p, agree in itertools.product((50, 200), (0.1, 0.5), (0.3, 0.8)):
        hits = 0
        for _ in range(RUNS):
            before, after = pairs(rng, n, p, p, agree)
            hits += contrasts.paired_p(before.astype(float).tolist(), after.astype(float).tolist(), range(n)) <= 0.05
        yield {"test": "McNemar exact", "setting": f"n={n}, rate {p}, {agree:.0%} alike", "rejects": hits / RUNS}
    for groups, rho in itertools.product((10, 45), (0.1, 0.4)):
        hits, runs = 0, RUNS // 4
        ids = np.repeat(np.arange(groups), 6).tolist()
        for run in range(runs):
            before, after = topics(rng, groups, 6, (0.3, 0.3), rho)
            flat = [x.ravel().astype(float).tolist() for x in (before, after)]
            hits += contrasts.paired_p(*flat, ids, seed=run) <= 0.05
        yield {"test": "signs of topics", "setting": f"{groups} topics of 6, correlation {rho}", "rejects": hits / runs}
    for n, p in itertools.product((50, 200), (0.1, 0.5)):
        hits = 0
        for _ in range(RUNS):
            k1, k2 = int(rng.binomial(n, p)), int(rng.binomial(n, p))
            found = contrasts.mover_difference(k1 / n, stats.wilson(k1, n)[:2], k2 / n, stats.wilson(k2, n)[:2])
            hits += contrasts.p_of_interval((k2 - k1) / n, found) <= 0.05
        yield {"test": "from the interval (unpaired)", "setting": f"n={n}, rate {p}", "rejects": hits / RUNS}


def subject(name: str, columns: list[Any], is_paired: bool) -> Subject:
    """A side with a metric per column of outcomes."""
    one = Subject(name, name, "", "", 0)
    ids = [str(i) for i in range(len(columns[0]))]
    for j, outcomes in enumerate(columns):
        values = outcomes.astype(float).tolist()
        one.measurements[f"metric_{j}", ()] = proportion(f"metric_{j}", values)
        if is_paired:
            one.items[f"metric_{j}", ()] = Items(dict(zip(ids, values, strict=True)), {i: i for i in ids})
    return one


def discoveries(rng: Any) -> Iterator[Cell]:
    """Whole comparisons of METRICS metrics on 200 items, of which some truly differ: false shares among what is reported."""
    for n_true, is_paired, is_shared in itertools.product((0, 5, 15), (True, False), (False, True)):
        false_shares, found_true, any_worse = [], 0, 0
        for _ in range(FAMILIES):
            before, after = zip(*family(rng, n_true, is_shared), strict=True)
            found = compare(
                [subject("a", list(before), is_paired), subject("b", list(after), is_paired)], Settings(fdr=FDR)
            )
            said = [row.deltas[0].verdict in ("worse", "better") for row in found.rows]
            false_shares.append(sum(said[n_true:]) / max(1, sum(said)))
            found_true += sum(said[:n_true])
            any_worse += any(row.deltas[0].verdict == "worse" for row in found.rows[n_true:])
        yield {
            "differing": f"{n_true} of {METRICS}",
            "pairing": "paired" if is_paired else "unpaired",
            "metrics": "on the same items, alike" if is_shared else "independent",
            "false_discovery_rate": round(float(np.mean(false_shares)), 4),
            "false_worse": round(any_worse / FAMILIES, 4),
            "found": round(found_true / (n_true * FAMILIES), 3) if n_true else None,
            **_held(float(np.mean(false_shares)), FAMILIES),
        }


def _held(rate: float, runs: int) -> Cell:
    """Its noise (at most: the standard error of a yes-or-no share of that size), and whether it keeps to the target within twice that."""
    noise = (rate * (1 - rate) / runs) ** 0.5
    return {"noise": round(noise, 4), "in_target": rate <= FDR + 2 * noise}


def unpaired_nulls(rng: Any) -> Iterator[Cell]:
    """Families of METRICS unpaired comparisons where nothing differs, many enough to tell 5.0% from 5.5%."""
    for n, p in ((200, 0.7), (200, 0.1), (60, 0.3)):
        spans = [stats.wilson(k, n)[:2] for k in range(n + 1)]
        known: dict[tuple[int, int], float] = {}
        hits = 0
        for _ in range(NULLS):
            pairs_M = rng.binomial(n, p, (METRICS, 2)).tolist()
            for a, b in pairs_M:
                if (a, b) not in known:
                    found = contrasts.mover_difference(a / n, spans[a], b / n, spans[b])
                    known[a, b] = contrasts.p_of_interval((b - a) / n, found)
            hits += min(stats.benjamini_hochberg([known[a, b] for a, b in pairs_M])) <= FDR
        yield {
            "differing": f"0 of {METRICS}",
            "pairing": "unpaired",
            "metrics": f"independent, n={n}, rate {p}, {NULLS:,} families",
            "false_discovery_rate": round(hits / NULLS, 4),
            **_held(hits / NULLS, NULLS),
        }


def family(rng: Any, n_true: int, is_shared: bool) -> Iterator[tuple[Any, Any]]:
    """Outcomes before and after for each metric; the first n_true fall from 70% to 55%. is_shared: each item is hard or easy in all."""
    common = rng.random((2, 200))
    for j in range(METRICS):
        own = rng.random((2, 200))
        draw = np.where(rng.random(200) < 0.5, common, own) if is_shared else own
        yield draw[0] < 0.7, draw[1] < (0.55 if j < n_true else 0.7)


def main() -> None:
    started = time.perf_counter()
    rng = np.random.default_rng(11)
    coverage, sizes, rates = [], [], []
    for source in (paired(rng), paired_by_topic(rng), unpaired(), unpaired_by_topic(rng)):
        for found in source:
            coverage.append(found)
            print(
                f"{found['method']:24s} {found['setting']:55s} {found['coverage']:.3f} {'' if found['in_target'] else '<- outside'}",
                flush=True,
            )
    for found in size_of_tests(rng):
        sizes.append({**found, "in_target": found["rejects"] <= 0.06})
        print(f"{found['test']:30s} {found['setting']:45s} {found['rejects']:.4f}", flush=True)
    for found in itertools.chain(discoveries(rng), unpaired_nulls(np.random.default_rng(12))):
        rates.append(found)
        print(found, flush=True)
    methods = sorted({found["method"] for found in coverage})
    result = {
        "machine": f"{platform.machine()}, {os.cpu_count()} processors, Python {platform.python_version()}",
        "targets": {
            "coverage": "0.94 to 0.97",
            "false_discovery_rate": "at most 0.05, plus twice the cell's noise",
            "tests": "a true null rejected in at most 5% (6% in a simulated cell)",
        },
        "seconds": round(time.perf_counter() - started, 1),
        "mean_coverage": {
            m: round(float(np.mean([c["coverage"] for c in coverage if c["method"] == m])), 4) for m in methods
        },
        "in_target": {
            m: f"{sum(c['in_target'] for c in coverage if c['method'] == m)} of {sum(c['method'] == m for c in coverage)}"
            for m in methods
        },
        "lowest_coverage": min(c["coverage"] for c in coverage),
        "worst_false_discovery_rate": max(found["false_discovery_rate"] for found in rates),
        "coverage": coverage,
        "tests": sizes,
        "discoveries": rates,
    }
    write_json(ROOT / "benchmarks" / "results" / "compare_coverage.json", result)


if __name__ == "__main__":
    main()
