"""Made-up evidence for the tests of this room. None of these numbers was measured on any model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

from uphold.core.records import Measurement
from uphold.core.stats import wilson


def share(
    metric: str,
    k: int,
    n: int,
    *,
    unscored: int = 0,
    higher_is_better: bool = False,
    by: dict[str, str] | None = None,
    **more: object,
) -> Measurement:
    """k of n scored came out true, and `unscored` more were asked and not scored. Independent samples, Wilson intervals."""
    asked = n + unscored
    found = wilson(k, n)
    bad = k if higher_is_better else k + unscored
    at_worst = wilson(bad, asked)
    fields = {
        "metric": metric,
        "value": k / n if n else None,
        "n_asked": asked,
        "n_scored": n,
        "interval": (found.low, found.high) if n else None,
        "interval_method": "wilson" if n else None,
        "worst": bad / asked if asked else None,
        "best": (k + unscored if higher_is_better else k) / asked if asked else None,
        "worst_interval": (at_worst.low, at_worst.high) if asked else None,
        "higher_is_better": higher_is_better,
        "by": by or {},
        "status": "unscored" if not n else "partial" if unscored else "ok",
        "code": "test",
    }
    return Measurement(**{**fields, **more})  # type: ignore[arg-type]


class Clock:
    """A clock that starts at a fixed time and moves one second a look, or by the steps given."""

    def __init__(self, steps_s: Iterable[float] = ()) -> None:
        self.now = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
        self.steps: Sequence[float] = list(steps_s)

    def __call__(self) -> datetime:
        step, self.steps = (self.steps[0], self.steps[1:]) if self.steps else (1.0, [])
        self.now += timedelta(seconds=step)
        return self.now
