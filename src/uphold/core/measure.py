"""From outcomes to Measurements: the one place where a number gets its n, its interval and its worst case.

Takes the outcomes of single samples (True, False, a score in [0, 1], or None where there was no answer to score); gives a
`Measurement` for the ledger. An unscored sample is never counted as a zero and never dropped in silence: `value` is over the scored
ones, `worst` and `best` say what it would be had every unscored one come out badly or well. Gates judge by `worst_case_interval`:
the interval computed with every unscored sample counted as bad, of which they take the bad end.
"""

from __future__ import annotations

import functools
import subprocess
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

from uphold.core import environment, stats
from uphold.core.files import finite
from uphold.core.records import Measurement

Outcome = bool | float | None


@functools.cache
def code_version() -> str:
    """The package version, with the git commit when run from a checkout: '0.1.0+g1a2b3c4d5e6f' ('.dirty' when src was edited)."""
    from uphold import __version__

    root = Path(__file__).resolve().parents[3]
    if not (root / ".git").exists():
        return __version__
    commit = _git(root, "rev-parse", "--short=12", "HEAD")
    dirty = commit and _git(root, "status", "--porcelain", "--untracked-files=no", "--", "src")
    return f"{__version__}+g{commit}{'.dirty' if dirty else ''}" if commit else __version__


def _git(root: Path, *arguments: str) -> str:
    """What git answers, or '' when it is not there, slow or unwilling: a version must never stop a measurement."""
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=5, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _interval(values: Sequence[float], groups: Sequence[Hashable], level: float, seed: int) -> stats.Interval | None:
    """The interval of a mean in [0, 1]; None when there is no value.

    0/1 values: Wilson, by effective count where groups repeat. Scores between: a bootstrap over groups.
    """
    if not values:
        return None
    if all(value in (0.0, 1.0) for value in values):
        if len(set(groups)) == len(groups):
            return stats.wilson(int(sum(values)), len(values), level)
        return stats.wilson_clustered(values, groups, level)
    found = stats.bootstrap_clustered(values, groups, seed=seed, level=level)
    return stats.Interval(max(0.0, found.low), min(1.0, found.high), found.method, level)


def proportion(
    metric: str,
    outcomes: Sequence[Outcome],
    *,
    groups: Sequence[Hashable] | None = None,
    higher_is_better: bool = True,
    subject: Mapping[str, str] | None = None,
    data: str = "",
    seeds: Sequence[int] = (),
    by: Mapping[str, str] | None = None,
    baseline: str | None = None,
    note: str = "",
    level: float = 0.95,
) -> Measurement:
    """The share of outcomes that are true (or the mean score in [0, 1]).

    outcomes: one per sample asked; None = unscored. groups: what repeats across samples, one per outcome (default: all distinct);
    where they repeat, the interval allows for it. No outcome scored gives value None, status 'unscored'. Raises ValueError on a
    score outside [0, 1] (NaN too) or on groups of another length.
    """
    groups = list(range(len(outcomes))) if groups is None else list(groups)
    if len(groups) != len(outcomes):
        raise ValueError(f"{metric}: {len(groups)} groups for {len(outcomes)} outcomes")
    if any(o is not None and not 0 <= o <= 1 for o in outcomes):
        raise ValueError(f"{metric}: outcomes must be None, a bool or a number in [0, 1]")
    kept = [(float(o), g) for o, g in zip(outcomes, groups, strict=True) if o is not None]
    values = [value for value, _ in kept]
    seed = seeds[0] if seeds else 0
    bad = 0.0 if higher_is_better else 1.0
    all_bad = [bad if o is None else float(o) for o in outcomes]
    return _share(
        metric,
        (len(outcomes), len(values), sum(values)),
        _interval(values, [group for _, group in kept], level, seed),
        _interval(all_bad, groups, level, seed),
        higher_is_better=higher_is_better,
        subject=subject,
        data=data,
        seeds=seeds,
        by=by,
        baseline=baseline,
        note=note,
        level=level,
    )


Counts = tuple[int, int, int]
"""(asked, scored, true) of one group's outcomes: 0 <= true <= scored <= asked."""


def proportion_of_counts(
    metric: str,
    counts: Mapping[Hashable, Counts],
    *,
    higher_is_better: bool = True,
    subject: Mapping[str, str] | None = None,
    data: str = "",
    seeds: Sequence[int] = (),
    by: Mapping[str, str] | None = None,
    baseline: str | None = None,
    note: str = "",
    level: float = 0.95,
) -> Measurement:
    """`proportion` of yes-or-no outcomes that were only counted, per group: what a run too long to keep in memory can give.

    counts: group -> (asked, scored, true). Raises ValueError on counts that cannot be.
    """
    if any(not 0 <= true <= scored <= asked for asked, scored, true in counts.values()):
        raise ValueError(f"{metric}: counts must hold 0 <= true <= scored <= asked")
    n_asked, n_scored, n_true = (sum(c[i] for c in counts.values()) for i in range(3))
    missing_is = 0 if higher_is_better else 1
    return _share(
        metric,
        (n_asked, n_scored, float(n_true)),
        _counted_interval([(scored, true) for _, scored, true in counts.values()], level),
        _counted_interval([(a, t + missing_is * (a - s)) for a, s, t in counts.values()], level),
        higher_is_better=higher_is_better,
        subject=subject,
        data=data,
        seeds=seeds,
        by=by,
        baseline=baseline,
        note=note,
        level=level,
    )


def _counted_interval(counts: Sequence[tuple[int, int]], level: float) -> stats.Interval | None:
    """The interval of a share from (n, true) of each group; None when n is 0 everywhere."""
    counts = [(n, true) for n, true in counts if n]
    n, true = sum(n for n, _ in counts), sum(true for _, true in counts)
    if not n:
        return None
    if len(counts) == n:
        return stats.wilson(true, n, level)
    effective = stats.effective_n_of_sums([n for n, _ in counts], [true for _, true in counts], true, level)
    low, high, _, _ = stats.wilson(true / n * effective, effective, level)
    return stats.Interval(low, high, "wilson-clustered", level)


def _share(
    metric: str,
    totals: tuple[int, int, float],
    interval: stats.Interval | None,
    worst_interval: stats.Interval | None,
    *,
    higher_is_better: bool,
    level: float,
    subject: Mapping[str, str] | None,
    data: str,
    seeds: Sequence[int],
    by: Mapping[str, str] | None,
    baseline: str | None,
    note: str,
) -> Measurement:
    """The Measurement of a share; totals: (asked, scored, sum of the scored)."""
    n_asked, n_scored, total = totals
    bad, good = (0.0, 1.0) if higher_is_better else (1.0, 0.0)
    missing = n_asked - n_scored
    return Measurement(
        metric=metric,
        value=total / n_scored if n_scored else None,
        n_asked=n_asked,
        n_scored=n_scored,
        interval=(interval.low, interval.high) if interval else None,
        interval_method=interval.method if interval else None,
        level=level,
        worst=(total + bad * missing) / n_asked if n_asked else None,
        best=(total + good * missing) / n_asked if n_asked else None,
        worst_interval=(worst_interval.low, worst_interval.high) if worst_interval else None,
        higher_is_better=higher_is_better,
        subject=dict(subject or {}),
        data=data,
        seeds=tuple(seeds),
        code=code_version(),
        environment=environment.digest(),
        by=dict(by or {}),
        baseline=baseline,
        note=note,
        status=_status(n_asked, n_scored),
    )


def _status(n_asked: int, n_scored: int) -> Any:
    return "unscored" if n_scored == 0 else "ok" if n_scored == n_asked else "partial"


def paired_difference(
    metric: str,
    before: Sequence[Outcome],
    after: Sequence[Outcome],
    *,
    groups: Sequence[Hashable] | None = None,
    higher_is_better: bool = True,
    subject: Mapping[str, str] | None = None,
    data: str = "",
    seeds: Sequence[int] = (),
    by: Mapping[str, str] | None = None,
    baseline: str | None = None,
    note: str = "",
    level: float = 0.95,
) -> Measurement:
    """after - before on the same samples, in [-1, 1] (unit 'difference').

    Only pairs scored on both sides count. 0/1 outcomes: Newcombe's interval, by effective counts where groups repeat, and, where
    they do not, McNemar's exact p in `note`. Scores between: a bootstrap over groups of the differences. worst: every unscored
    side came out so that the difference is as bad as it can be. Raises ValueError when the two sides differ in length.
    """
    if len(before) != len(after):
        raise ValueError(f"{metric}: {len(before)} outcomes before, {len(after)} after: they must be the same samples")
    groups = list(range(len(before))) if groups is None else list(groups)
    if len(groups) != len(before):
        raise ValueError(f"{metric}: {len(groups)} groups for {len(before)} pairs")
    bad, good = (0.0, 1.0) if higher_is_better else (1.0, 0.0)
    seed = seeds[0] if seeds else 0
    pairs = [
        (float(b), float(a), g)
        for b, a, g in zip(before, after, groups, strict=True)
        if b is not None and a is not None
    ]
    interval, p_value = _paired_interval(pairs, level, seed)
    worst_pairs = [(_or(b, good), _or(a, bad), g) for b, a, g in zip(before, after, groups, strict=True)]
    best_pairs = [(_or(b, bad), _or(a, good), g) for b, a, g in zip(before, after, groups, strict=True)]
    worst_interval, _ = _paired_interval(worst_pairs, level, seed)
    p_text = "" if p_value is None else f"McNemar exact p = {p_value:.3g}"
    return Measurement(
        metric=metric,
        value=_mean_difference(pairs),
        n_asked=len(before),
        n_scored=len(pairs),
        interval=(interval.low, interval.high) if interval else None,
        interval_method=interval.method if interval else None,
        level=level,
        worst=_mean_difference(worst_pairs),
        best=_mean_difference(best_pairs),
        worst_interval=(worst_interval.low, worst_interval.high) if worst_interval else None,
        higher_is_better=higher_is_better,
        unit="difference",
        subject=dict(subject or {}),
        data=data,
        seeds=tuple(seeds),
        code=code_version(),
        environment=environment.digest(),
        by=dict(by or {}),
        baseline=baseline,
        note="; ".join(part for part in (note, p_text) if part),
        status=_status(len(before), len(pairs)),
    )


Pair = tuple[float, float, Hashable]


def _or(outcome: Outcome, otherwise: float) -> float:
    return otherwise if outcome is None else float(outcome)


def _mean_difference(pairs: Sequence[Pair]) -> float | None:
    return sum(a - b for b, a, _ in pairs) / len(pairs) if pairs else None


def _paired_interval(pairs: Sequence[Pair], level: float, seed: int) -> tuple[stats.Interval | None, float | None]:
    """(interval of after - before, McNemar p or None)."""
    if not pairs:
        return None, None
    groups = [g for _, _, g in pairs]
    differences = [a - b for b, a, _ in pairs]
    if not all(b in (0.0, 1.0) and a in (0.0, 1.0) for b, a, _ in pairs):
        found = stats.bootstrap_clustered(differences, groups, seed=seed, level=level)
        return stats.Interval(max(-1.0, found.low), min(1.0, found.high), found.method, level), None
    counts: dict[Hashable, list[int]] = {}
    for b, a, g in pairs:
        counts.setdefault(g, [0, 0, 0, 0])[_CELL[bool(b), bool(a)]] += 1
    return _counted_paired_interval(list(counts.values()), level)


_CELL = {(True, True): 0, (True, False): 1, (False, True): 2, (False, False): 3}


def _counted_paired_interval(
    counts: Sequence[Sequence[int]], level: float
) -> tuple[stats.Interval | None, float | None]:
    """(interval of after - before, McNemar p or None) from each group's pairs: both, only before, only after, neither."""
    counts = [cells for cells in counts if sum(cells)]
    both, only_before, only_after, neither = (sum(cells[i] for cells in counts) for i in range(4))
    n = both + only_before + only_after + neither
    if not n:
        return None, None
    if len(counts) == n:
        interval = stats.newcombe_paired(both, only_after, only_before, neither, level)
        return interval, stats.mcnemar_exact(only_after, only_before)
    sums = [cells[2] - cells[1] for cells in counts]
    sizes, squares = [sum(c) for c in counts], only_before + only_after
    scale = stats.effective_n_of_sums(sizes, sums, squares, level, is_difference=True) / n
    a, b, c, d = (scale * k for k in (both, only_after, only_before, neither))
    low, high, _, _ = stats.newcombe_paired(a, b, c, d, level)
    return stats.Interval(low, high, "newcombe-paired-clustered", level), None


def paired_difference_of_counts(
    metric: str, counts: Mapping[Hashable, Sequence[int]], *, higher_is_better: bool = True, **about: Any
) -> Measurement:
    """`paired_difference` of yes-or-no pairs that were only counted, all scored: group -> (both, only before, only after, neither).

    about: subject, data, seeds, by, baseline, note, as in `paired_difference`.
    """
    interval, p_value = _counted_paired_interval(list(counts.values()), 0.95)
    n = sum(sum(cells) for cells in counts.values())
    value = sum(cells[2] - cells[1] for cells in counts.values()) / n if n else None
    found = scalar(metric, value, n, interval=interval, higher_is_better=higher_is_better, unit="difference", **about)
    p_text = "" if p_value is None else f"McNemar exact p = {p_value:.3g}"
    return found.model_copy(update={"note": "; ".join(part for part in (found.note, p_text) if part)})


def scalar(
    metric: str,
    value: float | None,
    n: int,
    *,
    n_asked: int | None = None,
    interval: stats.Interval | None = None,
    higher_is_better: bool = True,
    unit: str = "",
    subject: Mapping[str, str] | None = None,
    data: str = "",
    seeds: Sequence[int] = (),
    by: Mapping[str, str] | None = None,
    baseline: str | None = None,
    note: str = "",
) -> Measurement:
    """A number that is not a share: seconds, nats, an AUPRC. NaN and infinities become None, status 'unscored'.

    n: samples behind it; n_asked: samples asked (default n). worst and best stay None when some were not scored: a plain number
    says nothing of what they might have been.
    """
    value = finite(value)
    n_asked = n if n_asked is None else n_asked
    is_whole = value is not None and n == n_asked
    return Measurement(
        metric=metric,
        value=value,
        n_asked=n_asked,
        n_scored=n if value is not None else 0,
        interval=(interval.low, interval.high) if interval and value is not None else None,
        interval_method=interval.method if interval and value is not None else None,
        level=interval.level if interval else 0.95,
        worst=value if is_whole else None,
        best=value if is_whole else None,
        worst_interval=(interval.low, interval.high) if interval and is_whole else None,
        higher_is_better=higher_is_better,
        unit=unit,
        subject=dict(subject or {}),
        data=data,
        seeds=tuple(seeds),
        code=code_version(),
        environment=environment.digest(),
        by=dict(by or {}),
        baseline=baseline,
        note=note,
        status="unscored" if value is None else "ok" if n == n_asked else "partial",
    )


def worst_case_interval(measurement: Measurement) -> tuple[float, float] | None:
    """The interval with every unscored sample counted as bad: what a gate judges by. None when none is known (nothing asked, or
    a partial number that has no worst case): evidence is then insufficient."""
    return measurement.worst_interval


def worst_end(measurement: Measurement) -> float | None:
    """The bad end of `worst_case_interval`: its low end where higher is better, else its high end."""
    interval = worst_case_interval(measurement)
    return None if interval is None else interval[0] if measurement.higher_is_better else interval[1]
