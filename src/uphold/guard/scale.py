"""From a logit to a verdict: calibration to a probability, the threshold, and how both are fitted on held-out examples.

Shared by the kinds of guard that give one logit per exchange (LM head, probe, judge, cascade); `stage.py` keeps its own for the linear
guard's many windows. Takes logits and labels; gives a `Scale` and the `Threshold` it was certified with. A logit that is no number is
refused here, so that no such guard can pass it on. Left out: the calibrations' own fits (`logistic.py`, `isotonic.py`).
"""

from __future__ import annotations

import math
from bisect import bisect
from collections.abc import Hashable, Mapping, Sequence

import numpy as np
from pydantic import Field

from uphold.core.errors import ConfigError, DataError, did_you_mean
from uphold.core.records import Record
from uphold.guard import isotonic, logistic
from uphold.guard.base import Stage, Verdict
from uphold.guard.threshold import Threshold, choose_threshold

LIMIT = 30.0  # logits beyond this are probabilities of 0 and 1 to a double's eye


def sigmoid(x: float) -> float:
    """1 / (1 + e^-x), without overflow; NaN stays NaN."""
    return 1.0 / (1.0 + math.exp(-x)) if x >= 0 else math.exp(x) / (1.0 + math.exp(x))


def log_odds(p: float) -> float:
    """The logit of a probability, within plus or minus LIMIT."""
    if p <= 0.0 or p >= 1.0:
        return -LIMIT if p <= 0.0 else LIMIT
    return max(-LIMIT, min(LIMIT, math.log(p) - math.log1p(-p)))


class Scale(Record):
    """score = sigmoid(slope * logit + shift), bent by isotonic `knots` (logit, probability) where it has some; strictly rising in the
    logit up to a double's eye; flagged from the logit `flag_at` on."""

    slope: float = Field(1.0, gt=0.0, allow_inf_nan=False)
    shift: float = Field(0.0, allow_inf_nan=False)
    flag_at: float = Field(0.0, allow_inf_nan=False)
    knots: isotonic.Knots = Field((), exclude_if=lambda knots: not knots)  # guards without keep their identity

    def score(self, logit: float) -> float:
        platt = sigmoid(self.slope * logit + self.shift)
        if not self.knots or math.isnan(platt):
            return platt
        at = bisect(self.knots, (logit, math.inf))
        (x0, y0), (x1, y1) = self.knots[max(at - 1, 0)], self.knots[min(at, len(self.knots) - 1)]
        level = y0 if x1 <= x0 else y0 + (y1 - y0) * (logit - x0) / (x1 - x0)
        return isotonic.PLATT_SHARE * platt + (1 - isotonic.PLATT_SHARE) * level

    def logit(self, score: float) -> float:
        """The logit whose score this is, or of the nearest score that there is."""
        if not self.knots:
            return (log_odds(score) - self.shift) / self.slope
        low, high = ((sign * LIMIT - self.shift) / self.slope for sign in (-1, 1))
        for _ in range(100):
            middle = (low + high) / 2
            low, high = (middle, high) if self.score(middle) < score else (low, middle)
        return high

    @property
    def threshold(self) -> float:
        """The score that flags."""
        return self.score(self.flag_at)

    def at(self, score: float) -> Scale:
        """The same scale flagging from `score` on. Raises ConfigError outside (0, 1)."""
        if not 0 < score < 1:
            raise ConfigError(f"a threshold is {score}: it must lie strictly between 0 and 1")
        return self.model_copy(update={"flag_at": self.logit(score)})

    def verdict(
        self,
        logit: float,
        stage: Stage,
        guard: str,
        *,
        shares: Mapping[str, float] | None = None,
        position: int | None = None,
    ) -> Verdict:
        """The verdict on a text with this logit. shares: odds of each clause relative to the strongest, in [0, 1].

        Raises ArithmeticError when the logit is no number: what cannot be judged does not pass.
        """
        if math.isnan(logit):
            raise ArithmeticError("the guard's score is not a number")
        score = self.score(logit)
        return Verdict(
            score=score,
            by_clause={clause: score * share for clause, share in (shares or {}).items()},
            flagged=logit >= self.flag_at,
            threshold=self.threshold,
            stage=stage,
            position=position,
            guard=guard,
        )


def moved(scales: Mapping[Stage, Scale], thresholds: Mapping[Stage, float]) -> dict[Stage, Scale]:
    """The scales flagging at other scores. Raises ConfigError for a stage that is not there."""
    for name in thresholds:
        if name not in scales:
            raise ConfigError(f"this guard has no stage {name!r}. {did_you_mean(name, scales)}")
    return {name: scale.at(thresholds[name]) if name in thresholds else scale for name, scale in scales.items()}


def fit_scale(
    logits: Sequence[float],
    harmful: Sequence[bool],
    groups: Sequence[Hashable],
    *,
    budget: float,
    level: float = 0.95,
) -> tuple[Scale, Threshold]:
    """Platt's calibration on all of the held-out examples, or an isotonic one where that predicts better across folds of groups, and
    the threshold certified on the benign ones (its value as a score).

    Raises DataError without benign examples.
    """
    logit_N, harmful_N = np.array(logits, dtype=float), np.array(harmful, dtype=bool)
    benign = np.flatnonzero(~harmful_N).tolist()
    if not benign:
        raise DataError(f"no benign examples to set a threshold on ({len(logits)} examples, all harmful). Add some.")
    slope, shift = logistic.platt(logit_N, harmful_N)
    chosen = choose_threshold(logit_N[benign].tolist(), budget, level, [groups[i] for i in benign])
    knots = isotonic.choose(logit_N, harmful_N, groups)
    scale = Scale(slope=slope, shift=shift, flag_at=chosen.value, knots=knots)
    return scale, chosen.model_copy(update={"value": scale.threshold})
