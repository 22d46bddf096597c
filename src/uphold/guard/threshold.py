"""Thresholds with a guarantee: refuse at most a stated share of benign traffic, with stated confidence.

Takes the scores of held-out benign samples; gives the lowest threshold whose one-sided Clopper-Pearson upper bound on the benign
refusal rate stays within the budget. Setting the threshold just above the (k+1)-th highest benign score and bounding k of n is exactly
the Neyman-Pearson umbrella rule (Tong, Feng & Li 2018, arXiv:1608.03109), so choosing on the same data costs no validity; what it
needs is that future benign traffic looks like these samples. A budget that the samples are too few to prove is not certified, and the
choice says how many are missing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from pydantic import Field

from uphold.core.errors import DataError
from uphold.core.records import Record
from uphold.core.stats import required_n_for_upper_bound, upper_bound


class Threshold(Record):
    """A score from which on to flag, and what is known of the benign refusals it causes.

    n_flagged of n_benign held-out benign samples are flagged; upper_bound: their true rate is below this with confidence `level`.
    is_certified: upper_bound <= budget. n_missing: further benign samples, none of them flagged, that certifying would need.
    """

    value: float
    budget: float = Field(gt=0.0, lt=1.0)
    level: float
    n_benign: int
    n_flagged: int
    upper_bound: float
    is_certified: bool
    n_missing: int = 0

    def sentence(self) -> str:
        """The guarantee, or why there is none, in one sentence."""
        if self.is_certified:
            return (
                f"refuses at most {self.upper_bound:.2%} of benign traffic like these {self.n_benign} samples "
                f"({self.level:.0%} confidence; {self.n_flagged} flagged, budget {self.budget:.2%})"
            )
        return (
            f"not certified for a budget of {self.budget:.2%}: {self.n_benign} benign samples prove no less than "
            f"{self.upper_bound:.2%} at {self.level:.0%} confidence; {self.n_missing} more are needed"
        )

    def certified(self) -> Threshold:
        """Itself. Raises DataError, saying how many benign samples are missing, when it is not certified."""
        if not self.is_certified:
            raise DataError(
                self.sentence()[0].upper() + self.sentence()[1:] + ". Add benign samples or raise the budget."
            )
        return self


def choose_threshold(benign_scores: Sequence[float], budget: float, level: float = 0.95) -> Threshold:
    """The lowest score to flag from so that the benign refusal rate is within `budget` with confidence `level`.

    Scores at or above `value` are flagged; it lies just above a benign score. With too few samples to certify `budget` the threshold
    lies above every benign score, the strictest they support. Raises DataError without benign scores or when one is not finite.
    """
    if not benign_scores:
        raise DataError("no benign samples to set a threshold on. Add held-out benign prompts.")
    if not all(math.isfinite(score) for score in benign_scores):
        raise DataError("a benign sample has no finite score, so no threshold can be set on these samples.")
    if not 0 < budget < 1:
        raise DataError(f"the benign refusal budget must lie strictly between 0 and 1, got {budget}")
    falling = sorted(benign_scores, reverse=True)
    n = len(falling)
    k = _allowed(n, budget, level)
    value = math.nextafter(falling[max(k, 0)], math.inf) if max(k, 0) < n else falling[-1]
    flagged = sum(score >= value for score in falling)
    bound = upper_bound(flagged, n, level)
    missing = 0 if k >= 0 else required_n_for_upper_bound(budget, level) - n
    return Threshold(
        value=value,
        budget=budget,
        level=level,
        n_benign=n,
        n_flagged=flagged,
        upper_bound=bound,
        is_certified=bound <= budget,
        n_missing=missing,
    )


def _allowed(n: int, budget: float, level: float) -> int:
    """The most benign samples of n that may be flagged with the upper bound within the budget; -1 when not even none may."""
    low, high = -1, n
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if upper_bound(middle, n, level) <= budget else (low, middle - 1)
    return low
