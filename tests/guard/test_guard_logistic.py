"""Logistic regression on counts, against scikit-learn; Platt's calibration; the optimiser."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from sklearn.linear_model import LogisticRegression

from uphold.guard import logistic


def data(n=300, columns=40, seed=0):
    rng = np.random.default_rng(seed)
    counts = rng.poisson(0.3, size=(n, columns)).astype(np.float32)
    counts[:, 0] = 0  # a column that never occurs
    harmful = counts[:, 1] + rng.normal(0, 0.5, n) > counts[:, 2]
    return csr_matrix(counts), harmful, rng.uniform(0.5, 2.0, n)


def test_squared_idf_by_hand():
    counts = csr_matrix(np.array([[1.0, 0.0, 2.0], [1.0, 0.0, 0.0]]))
    # n = 2; df 2, 0, 1: (log(3/3) + 1)^2, nothing, (log(3/2) + 1)^2
    assert logistic.squared_idf(counts).tolist() == pytest.approx([1.0, 0.0, (np.log(1.5) + 1) ** 2])


def test_the_fit_is_scikit_learns_on_the_same_features():
    counts, harmful, weights = data()
    q = logistic.squared_idf(counts)
    found = logistic.fit([(counts, q)], harmful, weights, q0=2.0, c=3.0, max_iter=500)
    x = logistic.scaled(counts, q, 2.0)
    reference = LogisticRegression(C=3.0, tol=1e-10, max_iter=5000).fit(x, harmful, sample_weight=weights)
    mine = counts @ found.w[0] / np.sqrt(counts @ q + 2.0) + found.bias
    assert mine == pytest.approx(reference.decision_function(x), abs=2e-3)


def test_two_blocks_are_fitted_side_by_side():
    counts, harmful, weights = data()
    left, right = counts[:, :20], counts[:, 20:]
    blocks = [(part, logistic.squared_idf(part)) for part in (left, right)]
    found = logistic.fit(blocks, harmful, weights, q0=1.0, c=1.0, max_iter=300)
    assert [len(w) for w in found.w] == [20, 20]
    assert found.w[0][1] > 0 > found.w[0][2]  # the columns that decide


def test_both_classes_weigh_alike_and_large_files_do_not_drown_small_ones():
    harmful = np.array([True] * 2 + [False] * 20)
    kinds = ["a"] * 2 + ["big"] * 16 + ["small"] * 4
    weights = logistic.balanced(harmful, kinds, np.ones(22))
    assert weights[:2].sum() == pytest.approx(weights[2:].sum())
    assert weights[2:18].sum() / weights[18:].sum() == pytest.approx(2.0)  # sqrt(16) to sqrt(4)
    assert weights.mean() == pytest.approx(1.0)


def test_a_text_in_several_rows_weighs_as_one():
    whole = logistic.balanced(np.array([True, False]), ["a", "a"], np.ones(2))
    parts = logistic.balanced(np.array([True, False, False]), ["a", "a", "a"], np.array([1.0, 0.5, 0.5]))
    assert parts[1:].sum() / parts[0] == pytest.approx(whole[1] / whole[0])


def test_calibrated_probabilities_match_what_happens_where_classes_are_equally_common():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, 20000)
    harmful = rng.random(20000) < 1 / (1 + np.exp(-(2 * logits - 1)))  # truth: slope 2, shift -1 at this mix
    slope, shift = logistic.platt(logits, harmful)
    assert slope == pytest.approx(2.0, rel=0.1)
    mix = np.log(harmful.mean() / (1 - harmful.mean()))  # balancing takes the mix of classes out of the shift
    assert shift == pytest.approx(-1.0 - mix, abs=0.15)


def test_calibration_never_turns_a_ranking_round():
    slope, _ = logistic.platt(np.array([3.0, 2.0, -2.0, -3.0]), np.array([False, False, True, True]))
    assert slope > 0


def test_one_class_alone_is_not_calibrated():
    assert logistic.platt(np.array([1.0, 2.0]), np.array([True, True])) == (1.0, 0.0)


def test_the_optimiser_finds_the_minimum_of_a_badly_scaled_bowl():
    scale = np.logspace(0, 4, 30)
    goal = np.linspace(-1, 1, 30)
    found = logistic.minimise(
        lambda x: (0.5 * float(scale @ (x - goal) ** 2), scale * (x - goal)), np.zeros(30), 500, 1e-9
    )
    assert found == pytest.approx(goal, abs=1e-4)
