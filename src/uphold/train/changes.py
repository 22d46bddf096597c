"""One number before and after a change of the model, and whether it got worse by more than was allowed.

Takes the outcomes of the same samples on both sides (`compared`) or a statistic of paired rows (`compared_statistic`); gives
`Change`s with paired intervals, judged together by `judged`. `check.py` and `tax/` stand on it. A change is

    degraded                worse by more than its limit, and not by chance (Benjamini-Hochberg over all that are judged together)
    ok                      the bad end of its interval, unscored samples counted as bad, stays within its limit
    insufficient evidence   anything else: ask more prompts

Left out: gates over a ledger (`uphold.evidence`), which read the differences that this gives.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, Literal

from uphold.core import measure, stats
from uphold.core.measure import Outcome, paired_difference, proportion, worst_end
from uphold.core.records import Measurement, Record

Verdict = Literal["ok", "degraded", "insufficient evidence"]


class Change(Record):
    """One metric before and after. difference: after - before, paired. p_value: of being worse, adjusted over what was judged
    together; None where the metric is no mean over samples, and its interval decides. limit: largest worsening that is still ok, None
    where none was stated; then there is no verdict. either_way: a change in either direction counts as worse.
    """

    metric: str
    before: Measurement
    after: Measurement
    difference: Measurement
    p_value: float | None
    limit: float | None = None
    either_way: bool = False
    verdict: Verdict | None = None

    @property
    def worsening(self) -> float | None:
        """How much worse it got, > 0 when it did; None when no prompt was scored on both sides."""
        value = self.difference.value
        if value is None or self.either_way:
            return value if value is None else abs(value)
        return -value if self.difference.higher_is_better else value

    @property
    def worst(self) -> float | None:
        """The bad end of its interval, unscored samples counted as bad, > 0 when worse; None when it is not known."""
        interval = measure.worst_case_interval(self.difference)
        if interval is None or self.either_way:
            return None if interval is None else max(map(abs, interval))
        end = worst_end(self.difference)
        return None if end is None else -end if self.difference.higher_is_better else end

    @property
    def is_beyond_chance(self) -> bool:
        """Whether the interval leaves no change out: the test of a metric without a p-value."""
        interval = self.difference.interval
        return interval is not None and not interval[0] <= 0 <= interval[1]


def compared(
    metric: str,
    before: Sequence[Outcome],
    after: Sequence[Outcome],
    groups: Sequence[Hashable],
    models: tuple[str, str],
    *,
    higher_is_better: bool = True,
    limit: float | None = None,
    seed: int = 0,
    subject: dict[str, str] | None = None,
    **about: Any,
) -> Change:
    """The change of a share or of a mean score in [0, 1]. models: hashes of the two. about: data, level, by, note."""
    law = dict(subject or {})
    shared = {"groups": groups, "higher_is_better": higher_is_better, "seeds": (seed,), **about}
    rates = [
        proportion(metric, side, subject={"model": model, **law}, **shared)
        for side, model in zip((before, after), models, strict=True)
    ]
    difference = paired_difference(
        metric, before, after, subject={"model": models[1], **law}, baseline=models[0], **shared
    )
    return Change(
        metric=metric,
        before=rates[0],
        after=rates[1],
        difference=difference,
        p_value=_p_worse(before, after, groups, higher_is_better, seed),
        limit=limit,
    )


def compared_statistic(
    metric: str,
    rows: Sequence[Sequence[float]],
    groups: Sequence[Hashable],
    models: tuple[str, str],
    *,
    sides: Callable[[Any], tuple[float, float]],
    change: Callable[[float, float], float] = lambda b, a: a - b,
    n_asked: int,
    higher_is_better: bool = True,
    limit: float | None = None,
    either_way: bool = False,
    unit: str = "",
    change_unit: str = "difference",
    seed: int = 0,
    n_boot: int = 1000,
    level: float = 0.95,
    subject: dict[str, str] | None = None,
    **about: Any,
) -> Change:
    """The change of a number that is no mean over samples: an error of calibration, an entropy, a ratio of lengths.

    rows: floats of every sample that was scored on both sides; sides: the rows as an array -> (before, after); groups are drawn
    whole for the interval of `change(before, after)`. n_asked: samples asked. Rows may be none: nothing is measured then.
    """
    law = dict(subject or {})
    shared: dict[str, Any] = {"higher_is_better": higher_is_better, "seeds": (seed,), "n_asked": n_asked, **about}
    values: list[float | None] = [None, None]
    found: list[stats.Interval | None] = [None, None, None]
    value = None
    if rows:
        import numpy as np

        values = list(sides(np.asarray(rows, dtype=float)))
        value = change(*sides(np.asarray(rows, dtype=float)))
        found = _intervals(rows, groups, sides, change, n_boot, seed, level)
    ends = [
        measure.scalar(metric, v, len(rows), interval=i, unit=unit, subject={"model": model, **law}, **shared)
        for v, i, model in zip(values, found[:2], models, strict=True)
    ]
    difference = measure.scalar(
        metric, value, len(rows), interval=found[2], unit=change_unit, subject={"model": models[1], **law},
        baseline=models[0], **shared,
    )  # fmt: skip
    return Change(
        metric=metric, before=ends[0], after=ends[1], difference=difference, p_value=None, limit=limit, either_way=either_way
    )  # fmt: skip


def _intervals(
    rows: Sequence[Sequence[float]],
    groups: Sequence[Hashable],
    sides: Callable[[Any], tuple[float, float]],
    change: Callable[[float, float], float],
    n_boot: int,
    seed: int,
    level: float,
) -> list[stats.Interval | None]:
    """Of before, after and the change. Equal seeds give equal draws, so the two sides are worked out once."""
    drawn_sides: list[tuple[float, float]] = []

    def both(drawn: Any) -> float:
        drawn_sides.append(sides(drawn))
        return change(*drawn_sides[-1])

    def one_side(side: int) -> stats.Interval:
        known = iter(drawn_sides)
        return stats.bootstrap_clustered(rows, groups, lambda drawn: next(known)[side], n_boot, seed, level)

    of_change = stats.bootstrap_clustered(rows, groups, both, n_boot, seed, level)
    if not drawn_sides:  # one group alone: nothing is drawn
        return [of_change] * 3
    return [one_side(0), one_side(1), of_change]


def judged(changes: Sequence[Change], alpha: float) -> list[Change]:
    """The changes with p-values adjusted over those that have a limit, and verdicts. alpha: chance of a false alarm in all."""
    tested = [i for i, c in enumerate(changes) if c.limit is not None and c.p_value is not None]
    adjusted = dict(zip(tested, stats.benjamini_hochberg([changes[i].p_value or 0.0 for i in tested]), strict=True))
    found = [c.model_copy(update={"p_value": adjusted.get(i, c.p_value)}) for i, c in enumerate(changes)]
    return [c.model_copy(update={"verdict": _verdict(c, alpha)}) for c in found]


def verdict_of(changes: Sequence[Change]) -> Verdict:
    """`degraded` if any change is, `ok` if all that have a limit are."""
    verdicts = {c.verdict for c in changes if c.verdict is not None}
    if "degraded" in verdicts:
        return "degraded"
    return "insufficient evidence" if "insufficient evidence" in verdicts else "ok"


def _p_worse(
    before: Sequence[Outcome], after: Sequence[Outcome], groups: Sequence[Hashable], higher_is_better: bool, seed: int
) -> float:
    """One-sided p-value that the metric got worse, over the pairs scored on both sides; 1 when there are none."""
    sign = -1.0 if higher_is_better else 1.0
    scored = [
        (sign * (float(a) - float(b)), g)
        for b, a, g in zip(before, after, groups, strict=True)
        if b is not None and a is not None
    ]
    return stats.sign_flip([d for d, _ in scored], [g for _, g in scored], seed=seed) if scored else 1.0


def _verdict(change: Change, alpha: float) -> Verdict | None:
    if change.limit is None:
        return None
    if change.worsening is None:
        return "insufficient evidence"
    is_real = change.is_beyond_chance if change.p_value is None else change.p_value <= alpha
    if change.worsening > change.limit and is_real:
        return "degraded"
    return "ok" if change.worst is not None and change.worst <= change.limit else "insufficient evidence"


def reason(change: Change) -> str:
    """The verdict in words."""
    d = change.difference
    if d.value is None:
        return f"{change.metric} cannot be told: no reply of the tuned model could be scored (n={d.n_asked})"
    interval = f", {d.level:.0%} interval {d.interval[0]:+.3f} to {d.interval[1]:+.3f}" if d.interval else ""
    p = "" if change.p_value is None else f", adjusted p of being worse {change.p_value:.3g}"
    words = {
        None: "has no limit",
        "degraded": f"got worse by more than {change.limit or 0:g}",
        "ok": f"not worse by more than {change.limit or 0:g}",
        "insufficient evidence": f"may have got worse by more than {change.limit or 0:g}; ask more prompts",
    }
    return (
        f"{change.metric} {words[change.verdict]}: {change.before.value:.3f} -> {change.after.value:.3f} "
        f"({d.value:+.3f}{interval}; n={d.n_scored}{p})"
    )
