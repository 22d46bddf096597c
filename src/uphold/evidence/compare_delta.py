"""One run against another in one metric: the difference, its interval, and its p-values with missing scores counted three ways.

Takes two `Subject`s and what is compared; gives a `Contrast`, from which `compare.py` makes a verdict. Paired when both keep outcomes on
the same items, or on nearly the same (SHARED of the larger set); otherwise from the two intervals. The three ways:
scored: only where both have a score. lost: a missing score of the run counts as bad; where the baseline has none, the item says nothing.
strict: the same, and a missing score of the baseline counts as good: all that is unknown speaks against the run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from uphold.core.contrasts import mover_difference, p_of_interval, paired_p
from uphold.core.measure import Outcome, paired_difference, scalar
from uphold.core.records import Measurement
from uphold.core.stats import Interval
from uphold.evidence.compare_items import Items
from uphold.evidence.compare_subject import Name, Subject

SHARED = 0.9
"""share of the larger set of items that both must have been asked, to be paired on those"""
SHARE = ("share", "difference")


@dataclass(frozen=True)
class Contrast:
    """run - baseline. delta: over the scored; p: two-sided, over the scored; gains: the difference turned so that below 0 is worse.

    gain_low: the bad end of the interval, strictly. why: why there is no verdict ('' when there may be one). is_whole: nothing
    unscored on either side."""

    delta: Measurement | None = None
    how: Literal["paired", "unpaired", "none"] = "none"
    n_pairs: int = 0
    p: float | None = None
    p_lost: float | None = None
    gain_lost: float = 0.0
    p_strict: float | None = None
    gain_strict: float = 0.0
    gain_low: float | None = None
    is_whole: bool = True
    why: str = ""


def contrast(baseline: Subject, run: Subject, name: Name) -> Contrast:
    """`run` against `baseline` in the metric and slice `name`."""
    before, after = baseline.measurements.get(name), run.measurements.get(name)
    if before is None or after is None:
        gone = [one.name for one, m in ((baseline, before), (run, after)) if m is None]
        return Contrast(why=f"not measured by {' nor '.join(gone)}")
    if before.higher_is_better != after.higher_is_better or before.unit != after.unit:
        return Contrast(why="the runs mean different things by it: its unit or direction differs")
    shared = _shared(baseline.items.get(name), run.items.get(name))
    if shared is not None:
        return _paired(before, after, baseline.name, *shared)
    return _unpaired(before, after, baseline.name)


def _shared(before: Items | None, after: Items | None) -> tuple[Items, Items, list[str]] | None:
    """Both sides' outcomes and the ids of the items to pair, or None when they were asked too different things."""
    if before is None or after is None:
        return None
    ids = [key for key in after.outcomes if key in before.outcomes]
    most = max(len(before.outcomes), len(after.outcomes))
    return (before, after, ids) if ids and len(ids) >= SHARED * most else None


def _paired(
    before: Measurement, after: Measurement, baseline: str, first: Items, second: Items, ids: list[str]
) -> Contrast:
    was: list[Outcome] = [first.outcomes[key] for key in ids]
    is_now: list[Outcome] = [second.outcomes[key] for key in ids]
    groups = [second.groups[key] for key in ids]
    left_out = max(len(first.outcomes), len(second.outcomes)) - len(ids)
    delta = paired_difference(
        after.metric,
        was,
        is_now,
        groups=groups,
        higher_is_better=after.higher_is_better,
        subject=after.subject,
        data=after.data,
        seeds=after.seeds,
        by=after.by,
        baseline=baseline,
        note=f"{left_out} items that only one run was asked are left out" if left_out else "",
        level=after.level,
    )
    sign, bad = (1.0, 0.0) if after.higher_is_better else (-1.0, 1.0)
    rows = list(zip(was, is_now, groups, strict=True))
    is_whole = delta.n_scored == delta.n_asked
    p, gain = _test([(b, a, g) for b, a, g in rows if b is not None and a is not None], sign)
    p_lost, gain_lost, p_strict, gain_strict = p, gain, p, gain
    if not is_whole:
        p_lost, gain_lost = _test([(b, bad if a is None else a, g) for b, a, g in rows if b is not None], sign)
        strict = [(1 - bad if b is None else b, bad if a is None else a, g) for b, a, g in rows]
        p_strict, gain_strict = _test(strict, sign)
    low, high = delta.worst_interval or (-1.0, 1.0)
    return Contrast(
        delta=delta,
        how="paired",
        n_pairs=delta.n_scored,
        p=p if delta.n_scored else None,
        p_lost=p_lost,
        gain_lost=gain_lost,
        p_strict=p_strict,
        gain_strict=gain_strict,
        gain_low=low if sign > 0 else -high,
        is_whole=is_whole,
    )


def _test(rows: list[tuple[float, float, str]], sign: float) -> tuple[float, float]:
    """(two-sided p, mean gain) of pairs; (1.0, 0.0) without any."""
    if not rows:
        return 1.0, 0.0
    before, after, groups = [b for b, _, _ in rows], [a for _, a, _ in rows], [g for _, _, g in rows]
    gain = sign * sum(a - b for b, a, _ in rows) / len(rows)
    return paired_p([float(b) for b in before], [float(a) for a in after], groups), gain


def _unpaired(before: Measurement, after: Measurement, baseline: str) -> Contrast:
    """From the two intervals. A side without an interval, or a partial number without a worst case, leaves no verdict."""
    sign = 1.0 if after.higher_is_better else -1.0
    scored = _apart(before.value, before.interval, after.value, after.interval, after.level)
    lost = _apart(before.value, before.interval, after.worst, after.worst_interval, after.level)
    strict = _apart(before.best, _best_interval(before), after.worst, after.worst_interval, after.level)
    value, interval = scored if scored is not None else (None, None)
    if value is None and before.value is not None and after.value is not None:
        value = after.value - before.value
    delta = scalar(
        after.metric,
        value,
        after.n_scored,
        n_asked=after.n_asked,
        interval=interval,
        higher_is_better=after.higher_is_better,
        unit="difference" if after.unit in SHARE else after.unit,
        subject=after.subject,
        data=after.data,
        seeds=after.seeds,
        by=after.by,
        baseline=baseline,
        note="unpaired",
    )
    is_whole = before.n_scored == before.n_asked and after.n_scored == after.n_asked
    if lost is None or strict is None:
        no_worst = not is_whole and after.interval is not None and before.interval is not None
        why = (
            "some of it was not scored, and what that could hide is not known"
            if no_worst
            else "no interval was recorded"
        )
        return Contrast(delta=delta, how="unpaired", is_whole=is_whole, why=why)
    return Contrast(
        delta=delta,
        how="unpaired",
        p=p_of_interval(*scored) if scored is not None else None,
        p_lost=p_of_interval(*lost),
        gain_lost=sign * lost[0],
        p_strict=p_of_interval(*strict),
        gain_strict=sign * strict[0],
        gain_low=strict[1].low if sign > 0 else -strict[1].high,
        is_whole=is_whole,
    )


Span = tuple[float, float]


def _apart(
    before: float | None, before_span: Span | None, after: float | None, after_span: Span | None, level: float
) -> tuple[float, Interval] | None:
    if before is None or before_span is None or after is None or after_span is None:
        return None
    return after - before, mover_difference(before, before_span, after, after_span, level)


def _best_interval(m: Measurement) -> Span | None:
    """The interval of `best`: that of the value, moved as far as the value moves and widened to what the worst case's is."""
    if m.n_scored == m.n_asked or m.best is None or m.interval is None or m.value is None:
        return m.interval if m.n_scored == m.n_asked else None
    spans = [m.interval, *([m.worst_interval] if m.worst_interval else [])]
    half = max(high - low for low, high in spans) / 2
    low, high = m.best - half, m.best + half
    return (min(m.best, max(0.0, low)), max(m.best, min(1.0, high))) if m.unit == "share" else (low, high)
