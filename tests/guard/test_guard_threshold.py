"""Thresholds that refuse at most a stated share of benign traffic, or say why they cannot promise it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from uphold.core.errors import DataError
from uphold.core.stats import upper_bound
from uphold.guard.threshold import choose_threshold

THOUSAND = [i / 1000 for i in range(1000)]


def test_the_threshold_lies_just_above_the_highest_benign_score_that_may_pass():
    # upper bounds of k of 1,000 at 95%: k = 4 gives 0.91%, k = 5 gives 1.05%. So four may be flagged: 0.996 to 0.999
    chosen = choose_threshold(THOUSAND, 0.01)
    assert chosen.n_flagged == 4
    assert 0.995 < chosen.value < 0.996
    assert chosen.upper_bound == pytest.approx(upper_bound(4, 1000))
    assert chosen.upper_bound <= 0.01 < upper_bound(5, 1000)
    assert chosen.is_certified
    assert chosen.sentence() == (
        "refuses at most 0.91% of benign traffic like these 1000 samples (95% confidence; 4 flagged, budget 1.00%)"
    )


def test_too_few_benign_samples_are_not_certified_and_the_missing_are_counted():
    # none flagged of n proves 1% from n = 299 on: log(0.05) / log(0.99) = 298.07
    chosen = choose_threshold(THOUSAND[:200], 0.01)
    assert not chosen.is_certified
    assert chosen.n_missing == 99
    assert chosen.n_flagged == 2  # 1% of these very samples, without a guarantee
    with pytest.raises(
        DataError, match=r"not certified .* 99 more are needed\. Add benign samples or raise the budget\."
    ):
        chosen.certified()


def test_a_tenth_of_a_percent_needs_about_three_thousand():
    assert not choose_threshold([0.1] * 2994, 0.001).is_certified
    assert choose_threshold([0.1] * 2995, 0.001).is_certified


def test_samples_that_belong_together_count_as_one():
    groups = [i // 100 for i in range(1000)]  # ten topics of a hundred phrasings
    chosen = choose_threshold(THOUSAND, 0.01, groups=groups)
    assert (chosen.is_certified, chosen.n_groups, chosen.n_missing) == (False, 10, 289)
    assert chosen.n_flagged == 10
    assert "1000 samples in 10 groups" in chosen.sentence()
    assert choose_threshold(THOUSAND, 0.5, groups=groups).is_certified


def test_tied_scores_are_flagged_together_or_not_at_all():
    chosen = choose_threshold([0.2] * 500 + [0.9] * 500, 0.01)
    assert chosen.value > 0.9
    assert chosen.n_flagged == 0


@pytest.mark.parametrize("scores", [[], [0.1, math.nan], [math.inf]])
def test_scores_that_say_nothing_are_refused(scores):
    with pytest.raises(DataError):
        choose_threshold(scores, 0.01)


@given(
    scores=st.lists(st.floats(-50, 50), min_size=1, max_size=300),
    budget=st.sampled_from([0.5, 0.1, 0.02]),
    n_groups=st.integers(1, 300),
)
def test_what_is_said_of_a_threshold_is_true_of_the_samples(scores, budget, n_groups):
    groups = [i % n_groups for i in range(len(scores))]
    chosen = choose_threshold(scores, budget, groups=groups)
    flagged = [score >= chosen.value for score in scores]
    assert sum(flagged) == chosen.n_flagged <= budget * len(scores)
    hit = len({g for g, f in zip(groups, flagged, strict=True) if f})
    assert chosen.upper_bound == pytest.approx(upper_bound(hit, chosen.n_groups))
    assert chosen.is_certified == (chosen.upper_bound <= budget) == (chosen.n_missing == 0)


def test_the_guarantee_holds_in_simulation():
    """Benign scores are uniform, so the true refusal rate is 1 - value. It may exceed 5% in at most 5% of draws."""
    rng = np.random.default_rng(0)
    broken = sum(1 - choose_threshold(rng.random(400).tolist(), 0.05).value > 0.05 for _ in range(600))
    assert broken <= 45  # 30 expected at the worst; 45 is beyond three standard deviations
