"""Do the intervals hold what they promise, and does the gate? Simulated, with the truth known. Writes results/gate_simulation.json.

    python benchmarks/gate_simulation.py

Targets: 95% intervals contain the truth in 94% to 97% of runs, for each method used (sequential ones: at least 95%, at every look at once);
the gate passes a system that truly misses its bound in at most 5% of runs (1 - level), also when it is looked at early and often.
Everything is made up here; nothing is a result about any model. A cell's own noise at 4,000 runs is about 0.35 points (one standard error).
For binomial methods coverage is also computed exactly, by summing over all counts; there no noise is left.
"""

from __future__ import annotations

import itertools
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src")]

import numpy as np  # noqa: E402
from scipy.special import bdtr, gammaln  # noqa: E402

from uphold.core import sequential, stats  # noqa: E402
from uphold.core.files import write_json  # noqa: E402
from uphold.core.measure import paired_difference_of_counts, proportion, proportion_of_counts  # noqa: E402
from uphold.core.records import Measurement  # noqa: E402
from uphold.evidence.correction import Calibration, ppi, rogan_gladen  # noqa: E402
from uphold.evidence.entry import Entry, key_of  # noqa: E402
from uphold.evidence.facts import Facts  # noqa: E402
from uphold.evidence.gate import decide  # noqa: E402
from uphold.evidence.policy import Policy, Rule  # noqa: E402

RUNS = 4000
FEW = 5  # events, in independent samples' worth: n p / (1 + (size - 1) correlation)
LOW, HIGH = 0.94, 0.97
Cell = dict[str, Any]


def cell(method: str, setting: str, hits: float, runs: int | None = None) -> Cell:
    return {"method": method, "setting": setting, "coverage": round(hits, 4), "runs": runs or "exact"}


def binomial_pmf(n: int, p: float) -> Any:
    k_N = np.arange(n + 1)
    return np.exp(gammaln(n + 1) - gammaln(k_N + 1) - gammaln(n - k_N + 1) + k_N * np.log(p) + (n - k_N) * np.log1p(-p))


def binomial(method: str, interval: Callable[[int, int], stats.Interval]) -> Iterator[Cell]:
    """Exact coverage, at single rates and averaged over rates around them (single rates jump, for counts are whole)."""
    for n in (50, 200, 1000):
        ends = np.array([interval(k, n)[:2] for k in range(n + 1)])
        for p in (0.01, 0.05, 0.2, 0.5):
            near_P = p * np.exp(np.linspace(-0.25, 0.25, 41))
            covers = [binomial_pmf(n, x)[(ends[:, 0] <= x) & (x <= ends[:, 1])].sum() for x in near_P]
            yield cell(method, f"n={n}, rates within a quarter of {p}", float(np.mean(covers)))


def grouped(rng: Any, n_groups: int, size: int, p: float, rho: float) -> Any:
    """True counts of each group; groups differ by a beta with intraclass correlation rho."""
    a, b = p * (1 / rho - 1), (1 - p) * (1 / rho - 1)
    return rng.binomial(size, rng.beta(a, b, n_groups))


def clustered(rng: Any) -> Iterator[Cell]:
    """Event rate by likeness of groups by their number and size. Where fewer than five independent events' worth is expected, no
    interval can learn the spread between groups from the data; those cells are shown and not held to the target."""
    for n_groups, size, p, rho in itertools.product((15, 45, 100), (10, 30), (0.01, 0.03, 0.1, 0.3), (0.02, 0.1, 0.3)):
        hits, events = 0, n_groups * size * p / (1 + (size - 1) * rho)
        if events < 2:
            continue
        for _ in range(RUNS):
            counts = {g: (size, size, int(k)) for g, k in enumerate(grouped(rng, n_groups, size, p, rho))}
            low, high = ends(proportion_of_counts("m", counts))
            hits += low <= p <= high
        setting = f"{n_groups} groups of {size}, p={p}, correlation {rho}"
        method = "wilson-clustered" if events >= FEW else f"wilson-clustered, under {FEW} events"
        yield {**cell(method, setting, hits / RUNS, RUNS), "effective_events": round(events, 1)}


def ends(m: Measurement) -> tuple[float, float]:
    assert m.interval is not None
    return m.interval


def paired(rng: Any) -> Iterator[Cell]:
    for n, p_first, p_only_first, p_only_second in (
        (200, 0.1, 0.05, 0.05),
        (1000, 0.03, 0.005, 0.02),
        (600, 0.7, 0.1, 0.04),
    ):
        cells = (p_first - p_only_first, p_only_first, p_only_second, 1 - p_first - p_only_second)
        draws = rng.multinomial(n, cells, RUNS)
        truth = p_only_first - p_only_second
        found = [stats.newcombe_paired(*row) for row in draws.tolist()]
        hits = sum(one.low <= truth <= one.high for one in found)
        setting = f"n={n}, both {cells[0]:.3f}, one only {p_only_first} and {p_only_second}"
        yield cell("newcombe-paired", setting, hits / RUNS, RUNS)
    n_groups, size = 60, 10
    for shift in (0.0, 0.05):
        hits = 0
        for _ in range(RUNS):
            rates = rng.beta(2, 18, n_groups)
            before = rng.random((n_groups, size)) < rates[:, None]
            after = np.where(before, rng.random((n_groups, size)) < 0.8, rng.random((n_groups, size)) < 0.02 + shift)
            counts = {
                g: (int((b & a).sum()), int((b & ~a).sum()), int((~b & a).sum()), int((~b & ~a).sum()))
                for g, (b, a) in enumerate(zip(before, after, strict=True))
            }
            truth = 0.1 * 0.8 + 0.9 * (0.02 + shift) - 0.1
            low, high = ends(paired_difference_of_counts("d", counts))
            hits += low <= truth <= high
        setting = f"{n_groups} groups of {size}, difference {truth:+.3f}"
        yield cell("newcombe-paired-clustered", setting, hits / RUNS, RUNS)


def bootstrap(rng: Any, runs: int = 2000) -> Iterator[Cell]:
    """Scores between 0 and 1, as graded replies have."""
    for n_groups, size in ((15, 10), (40, 10), (200, 1), (1000, 1)):
        hits = 0
        for i in range(runs):
            centre_G = rng.beta(2, 6, n_groups)
            values = rng.beta(20 * centre_G, 20 * (1 - centre_G), (size, n_groups)).T.ravel()
            groups = np.repeat(np.arange(n_groups), size).tolist()
            low, high = ends(proportion("m", values.tolist(), groups=groups, seeds=(i,)))
            hits += low <= 0.25 <= high
        yield cell("bootstrap-clustered", f"{n_groups} groups of {size}, mean 0.25", hits / runs, runs)


def calibrated(rng: Any, n: int, p: float, se: float, sp: float, n_known: int) -> tuple[int, Calibration]:
    """(how many of n the judge calls true, a calibration set of the same kind of samples)."""
    k = int(rng.binomial(n, p * se + (1 - p) * (1 - sp)))
    a, b, c, d = rng.multinomial(n_known, (p * se, (1 - p) * (1 - sp), p * (1 - se), (1 - p) * sp)).tolist()
    return k, Calibration(hits=a, false_alarms=b, misses=c, rejections=d)


def corrections(rng: Any) -> Iterator[Cell]:
    for n, p, se, sp, n_known in (
        (1000, 0.2, 0.9, 0.95, 300),
        (1000, 0.05, 0.85, 0.98, 400),
        (400, 0.4, 0.8, 0.85, 200),
    ):
        hits = {"rogan-gladen": 0, "ppi": 0}
        judge_hits = done = 0
        for _ in range(RUNS):
            k, known = calibrated(rng, n, p, se, sp, n_known)
            plain = stats.wilson(k, n)
            first, second = rogan_gladen(k, n, known), ppi(k / n, (plain.low, plain.high), known)
            judge_hits += plain.low <= p <= plain.high
            if first is None or second is None:
                continue
            done += 1
            hits["rogan-gladen"] += first.low <= p <= first.high
            hits["ppi"] += second.low <= p <= second.high
        setting = f"n={n}, p={p}, judge {se}/{sp}, {n_known} calibration rows"
        for method, found in hits.items():
            yield cell(method, setting, found / done, done)
        yield {
            **cell("uncorrected", setting, judge_hits / RUNS, RUNS),
            "note": "the judge's share as it is, for comparison",
        }


def always_valid(rng: Any, runs: int = 1000, n: int = 1000) -> Iterator[Cell]:
    """Coverage at every look at once: missed if the truth was ever outside."""
    for p in (0.01, 0.1, 0.5):
        sums = np.cumsum(rng.random((runs, n)) < p, axis=1)
        edges: dict[tuple[int, int], bool] = {}

        def covers(k: int, t: int, p: float = p, edges: dict[tuple[int, int], bool] = edges) -> bool:
            if (k, t) not in edges:
                found = sequential.bernoulli(k, t)
                edges[k, t] = found.low <= p <= found.high
            return edges[k, t]

        missed = sum(not all(covers(int(k), t) for t, k in enumerate(row, start=1)) for row in sums)
        yield cell("sequential-beta", f"p={p}, every one of {n} looks", 1 - missed / runs, runs)
        peeked = sum(any(_wilson_misses(int(row[t - 1]), t, p) for t in range(10, n + 1, 10)) for row in sums)
        yield {
            **cell("wilson, looked at 100 times", f"p={p}, n up to {n}", 1 - peeked / runs, runs),
            "note": "what looking early does without a sequential rule, for comparison",
        }
    few = 300
    for a, b in ((2.0, 6.0), (0.2, 1.8)):
        missed = sum(
            not (low <= a / (a + b) <= high)
            for low, high, _, _ in (sequential.betting(rng.beta(a, b, 500).tolist(), grid=200) for _ in range(few))
        )
        yield cell("sequential-betting", f"beta({a:g}, {b:g}), every one of 500 looks", 1 - missed / few, few)


def _wilson_misses(k: int, n: int, p: float) -> bool:
    found = stats.wilson(k, n)
    return not found.low <= p <= found.high


def passes(measured: Measurement, facts: Facts | None = None, **rule: Any) -> bool:
    body = measured.model_dump(mode="json")
    entry = Entry(seq=0, time="", kind="measurement", stage="s", prev="", body=body, hash="h")
    policy = Policy(name="p", rules=(Rule(metric=measured.metric, reason="R.", **rule),))
    return decide(policy, {key_of(body): entry}, facts=facts).verdict == "pass"


def false_passes(rng: Any) -> Iterator[Cell]:
    """How often the gate passes a system whose true rate lies just beyond the bound (in all but the first rows a thousandth of it)."""
    for n, bound in ((200, 0.02), (500, 0.05), (1000, 0.2), (200, 0.95)):
        for word in ("at_most", "at_least"):
            truth = bound * (1.001 if word == "at_most" else 0.999)
            verdicts = [
                passes(
                    proportion_of_counts(
                        "m", {i: (1, 1, int(i < k)) for i in range(n)}, higher_is_better=word == "at_least"
                    ),
                    **{word: bound},
                )
                for k in range(n + 1)
            ]
            rate = float(binomial_pmf(n, truth)[np.array(verdicts)].sum())
            yield {
                "rule": f"{word} {bound}",
                "setting": f"n={n}, independent",
                "false_pass": round(rate, 4),
                "runs": "exact",
            }
    for n_groups, size, bound, rho in ((45, 30, 0.05, 0.1), (20, 10, 0.1, 0.1)):
        hits = 0
        for _ in range(RUNS):
            counts = {g: (size, size, int(k)) for g, k in enumerate(grouped(rng, n_groups, size, bound * 1.001, rho))}
            hits += passes(proportion_of_counts("m", counts, higher_is_better=False), at_most=bound)
        yield {
            "rule": f"at_most {bound}",
            "setting": f"{n_groups} groups of {size}",
            "false_pass": round(hits / RUNS, 4),
            "runs": RUNS,
        }
    for way in ("rogan-gladen", "ppi"):
        hits = 0
        for _ in range(RUNS):
            k, known = calibrated(rng, 800, 0.1001, 0.85, 0.97, 300)
            measured = proportion_of_counts("m", {i: (1, 1, int(i < k)) for i in range(800)}, higher_is_better=False)
            hits += passes(measured, Facts(calibrations={"m": known}), at_most=0.1, correct=way)
        yield {
            "rule": f"at_most 0.1, correct: {way}",
            "setting": "n=800, 300 calibration rows",
            "false_pass": round(hits / RUNS, 4),
            "runs": RUNS,
        }
    yield from _looking_early(rng)


def _looking_early(rng: Any, runs: int = 1000) -> Iterator[Cell]:
    """Passed at any of 40 looks, with a sequential rule and, for comparison, without."""
    bound, looks = 0.1, range(50, 2001, 50)
    sums = np.cumsum(rng.random((runs, 2000)) < bound * 1.001, axis=1)
    for is_sequential in (True, False):
        known: dict[tuple[int, int], bool] = {}

        def passed(k: int, n: int, on: bool = is_sequential, known: dict[tuple[int, int], bool] = known) -> bool:
            if (k, n) not in known:
                m = proportion_of_counts("m", {i: (1, 1, int(i < k)) for i in range(n)}, higher_is_better=False)
                known[k, n] = passes(m, at_most=bound, sequential=on)
            return known[k, n]

        hits = sum(any(passed(int(row[n - 1]), n) for n in looks) for row in sums)
        rule = f"at_most {bound}{', sequential' if is_sequential else ' (not sequential, for comparison)'}"
        yield {
            "rule": rule,
            "setting": "looked at 40 times, up to n=2,000",
            "false_pass": round(hits / runs, 4),
            "runs": runs,
        }


def unadjusted_low_end() -> Cell:
    """What the gate would do at the far end of Wilson's interval, had it not been made exact there (see `judging._exact_where_needed`)."""
    n, bound = 200, stats.wilson(1, 200).low
    return {
        "rule": f"at_least {bound:.5f} by Wilson alone",
        "setting": "n=200, for comparison",
        "false_pass": round(1 - float(bdtr(0, n, bound)), 4),
    }


def main() -> None:
    started = time.perf_counter()
    rng = np.random.default_rng(7)
    sources = (
        binomial("wilson", stats.wilson),
        binomial("clopper-pearson", stats.clopper_pearson),
        clustered(rng),
        paired(rng),
        bootstrap(rng),
        corrections(rng),
        always_valid(rng),
    )
    coverage: list[Cell] = []
    for source in sources:
        for found in source:
            is_sequential = found["method"].startswith("sequential")
            found["in_target"] = found["coverage"] >= 0.95 if is_sequential else LOW <= found["coverage"] <= HIGH
            coverage.append(found)
            print(
                f"{found['method']:28s} {found['setting']:55s} {found['coverage']:.3f} {'' if found['in_target'] else '<- outside'}",
                flush=True,
            )
    gate = [*false_passes(rng), unadjusted_low_end()]
    for found in gate:
        print(f"{found['rule']:45s} {found['setting']:40s} {found['false_pass']:.4f}", flush=True)
    result = {
        "machine": f"{platform.machine()}, {os.cpu_count()} processors, Python {platform.python_version()}",
        "targets": "coverage 0.94 to 0.97 (sequential: at least 0.95); false passes at most 0.05",
        "seconds": round(time.perf_counter() - started, 1),
        "coverage": coverage,
        "false_passes": gate,
    }
    write_json(ROOT / "benchmarks" / "results" / "gate_simulation.json", result)


if __name__ == "__main__":
    main()
