"""Isotonic calibration: pooled steps by hand, a strictly rising and invertible scale, taken only where it predicts better."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from uphold.guard import isotonic
from uphold.guard.scale import Scale, fit_scale


def test_neighbours_that_fall_are_pooled_to_their_mean():
    # 1, 3, 2 -> 3 and 2 pool to 2.5; 0 then pools with both: 5 / 3, which is above 1
    assert isotonic.pool_adjacent_violators([1, 3, 2], [1, 1, 1]) == [(1, 1), (2, 2.5)]
    assert isotonic.pool_adjacent_violators([1, 3, 2, 0], [1, 1, 1, 1]) == [(1, 1), (3, pytest.approx(5 / 3))]


def test_weights_pull_the_mean():
    assert isotonic.pool_adjacent_violators([2, 1], [3, 1]) == [(2, 1.75)]


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0.1, 5)), min_size=1, max_size=40))
def test_levels_rise_and_keep_the_weighted_mean_and_agree_with_scikit_learn(pairs):
    sklearn = pytest.importorskip("sklearn.isotonic")
    values, weights = zip(*pairs, strict=True)
    blocks = isotonic.pool_adjacent_violators(values, weights)
    levels = [level for size, level in blocks for _ in range(size)]
    assert levels == sorted(levels)
    assert np.average(levels, weights=weights) == pytest.approx(np.average(values, weights=weights))
    other = sklearn.IsotonicRegression().fit_transform(range(len(values)), values, sample_weight=weights)
    assert levels == pytest.approx(other.tolist(), abs=1e-9)


def test_without_one_of_the_classes_there_are_no_knots():
    assert isotonic.fit(np.array([0.0, 1.0]), np.array([True, True])) == ()


def bent(n: int = 3000, seed: int = 0) -> tuple[list[float], list[bool], list[int]]:
    """Outcomes whose true probability is 0.1 below a logit of 0 and 0.9 above: no sigmoid fits that."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, n)
    return logits.tolist(), (rng.random(n) < np.where(logits > 0, 0.9, 0.1)).tolist(), list(range(n))


def test_isotonic_is_taken_where_a_sigmoid_does_not_fit():
    scale, _ = fit_scale(*bent(), budget=0.2)
    assert scale.knots
    assert scale.score(-3) == pytest.approx(0.1, abs=0.06)
    assert scale.score(3) == pytest.approx(0.9, abs=0.06)


def test_platt_stays_where_examples_are_few_or_a_sigmoid_fits():
    assert fit_scale(*bent(300), budget=0.2)[0].knots == ()
    rng = np.random.default_rng(1)
    logits = rng.normal(0, 2, 2000)
    outcome = rng.random(2000) < 1 / (1 + np.exp(-logits))
    assert fit_scale(logits.tolist(), outcome.tolist(), list(range(2000)), budget=0.2)[0].knots == ()


@given(st.lists(st.floats(-10, 10), min_size=2, max_size=20))
def test_scores_never_fall_and_follow_from_what_numpy_interpolates(points):
    scale = Scale(slope=0.7, shift=-0.2, knots=((-1.0, 0.0), (0.0, 0.2), (0.5, 0.2), (2.0, 0.9)))
    ordered = sorted(points)
    scores = [scale.score(z) for z in ordered]
    assert scores == sorted(scores)
    assert scores == pytest.approx(isotonic.probability(np.array(ordered), scale.knots, 0.7, -0.2).tolist())


@given(st.floats(0.05, 0.9))
def test_a_threshold_is_found_again(score):
    scale = Scale(slope=0.7, shift=-0.2, knots=((-1.0, 0.0), (0.0, 0.2), (0.5, 0.2), (2.0, 0.9)))
    assert scale.at(score).threshold == pytest.approx(score, abs=1e-6)


def test_a_logit_that_is_no_number_stays_none():
    scale = Scale(knots=((0.0, 0.0), (1.0, 1.0)))
    with pytest.raises(ArithmeticError):
        scale.verdict(float("nan"), "input", "g")
