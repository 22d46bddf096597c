"""Thresholds with a guarantee: refuse at most a stated share of benign traffic, with stated confidence.

Takes the scores of held-out benign samples; gives the lowest threshold whose one-sided Clopper-Pearson upper bound on the benign
refusal rate stays within the budget. Setting the threshold just above the (k+1)-th highest benign score and bounding k of n is exactly
the Neyman-Pearson umbrella rule (Tong, Feng & Li 2018, arXiv:1608.03109), so choosing on the same data costs no validity; what it
needs is that future benign traffic looks like these samples. Samples that belong together (phrasings of one topic) count as one,
flagged when any of them is: the bound then holds for the share of topics with a refusal. A budget that the samples are too few to prove
is not certified: the threshold then keeps the share on these very samples within the budget, and says that this is no guarantee and
how many samples are missing.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence

from pydantic import Field

from uphold.core.errors import DataError
from uphold.core.records import Record
from uphold.core.stats import required_n_for_upper_bound, upper_bound


class Threshold(Record):
    """A score from which on to flag, and what is known of the benign refusals it causes.

    n_flagged of n_benign held-out benign samples are flagged; n_groups: groups they come in. upper_bound: the true rate (of groups with
    a refusal, where samples come in groups) is below this with confidence `level`. is_certified: upper_bound <= budget. n_missing:
    further benign samples (or groups of them), none of them flagged, that certifying would need.
    """

    value: float
    budget: float = Field(gt=0.0, lt=1.0)
    level: float
    n_benign: int
    n_groups: int
    n_flagged: int
    upper_bound: float
    is_certified: bool
    n_missing: int = 0

    def sentence(self) -> str:
        """The guarantee, or why there is none, in one sentence."""
        samples = f"{self.n_benign} samples" + (f" in {self.n_groups} groups" if self.n_groups < self.n_benign else "")
        if self.is_certified:
            return (
                f"refuses at most {self.upper_bound:.2%} of benign traffic like these {samples} "
                f"({self.level:.0%} confidence; {self.n_flagged} flagged, budget {self.budget:.2%})"
            )
        return (
            f"not certified for a budget of {self.budget:.2%}: {samples} with {self.n_flagged} flagged prove no less than "
            f"{self.upper_bound:.2%} at {self.level:.0%} confidence; {self.n_missing} more"
            f"{' groups' if self.n_groups < self.n_benign else ''} are needed"
        )

    def certified(self) -> Threshold:
        """Itself. Raises DataError, saying how many benign samples are missing, when it is not certified."""
        if not self.is_certified:
            raise DataError(f"The threshold is {self.sentence()}. Add benign samples or raise the budget.")
        return self


def choose_threshold(
    benign_scores: Sequence[float], budget: float, level: float = 0.95, groups: Sequence[Hashable] | None = None
) -> Threshold:
    """The lowest score to flag from so that the benign refusal rate is within `budget` with confidence `level`.

    Scores at or above `value` are flagged; it lies just above a benign score. groups: what repeats, one per score (default: nothing).
    Raises DataError without benign scores or when one is not finite.
    """
    if not benign_scores:
        raise DataError("no benign samples to set a threshold on. Add held-out benign prompts.")
    if not all(math.isfinite(score) for score in benign_scores):
        raise DataError("a benign sample has no finite score, so no threshold can be set on these samples.")
    if not 0 < budget < 1:
        raise DataError(f"the benign refusal budget must lie strictly between 0 and 1, got {budget}")
    groups = list(range(len(benign_scores))) if groups is None else list(groups)
    if len(groups) != len(benign_scores):
        raise ValueError(f"{len(groups)} groups for {len(benign_scores)} scores")
    order = sorted(range(len(groups)), key=lambda i: -benign_scores[i])
    falling, groups = [benign_scores[i] for i in order], [groups[i] for i in order]
    n, n_groups = len(falling), len(set(groups))
    most = min(math.floor(budget * n), n - 1)  # flagging more exceeds the budget on these very samples
    k = next((k for k in range(most, -1, -1) if _bound(k, falling, groups, n_groups, level) <= budget), None)
    value = math.nextafter(falling[most if k is None else k], math.inf)
    bound = _bound(most if k is None else k, falling, groups, n_groups, level)
    missing = max(1, required_n_for_upper_bound(budget, level) - n_groups) if k is None else 0
    return Threshold(
        value=value,
        budget=budget,
        level=level,
        n_benign=n,
        n_groups=n_groups,
        n_flagged=sum(score >= value for score in falling),
        upper_bound=bound,
        is_certified=k is not None,
        n_missing=missing,
    )


def _bound(k: int, falling: Sequence[float], groups: Sequence[Hashable], n_groups: int, level: float) -> float:
    """Upper bound of the benign rate when scores above the (k+1)-th highest are flagged."""
    n = len(falling)
    flagged = next(i for i in range(k + 1) if falling[i] == falling[k])  # ties with it are not
    if n_groups == n:
        return upper_bound(flagged, n, level)
    return upper_bound(len(set(groups[:flagged])), n_groups, level)
