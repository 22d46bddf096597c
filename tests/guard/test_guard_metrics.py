"""AUPRC, AUROC, recall at a false-positive rate and F1: worked by hand, and against scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as reference

from uphold.guard.metrics import (
    auprc,
    auroc,
    ranking,
    ranking_measurements,
    rate_measurements,
    recall_at_fpr,
    resampled,
)

# falling: 0.9 harmful, 0.8 benign, 0.7 harmful, 0.1 benign
SCORES, HARMFUL = [0.9, 0.8, 0.7, 0.1], [True, False, True, False]

labelled = st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=2, max_size=40).filter(
    lambda rows: len({label for _, label in rows}) == 2
)


def test_average_precision_of_a_hand_worked_ranking():
    # recall steps of 1/2 at precision 1/1 and 2/3: (1 + 2/3) / 2
    assert float(auprc(ranking(SCORES, HARMFUL))) == pytest.approx(5 / 6)


def test_auroc_is_the_share_of_pairs_in_the_right_order():
    # pairs: 0.9 > 0.8, 0.9 > 0.1, 0.7 > 0.1 right, 0.7 < 0.8 wrong
    assert float(auroc(ranking(SCORES, HARMFUL))) == pytest.approx(3 / 4)


def test_ties_count_half_in_auroc():
    assert float(auroc(ranking([0.5, 0.5], [True, False]))) == 0.5


def test_recall_at_a_false_positive_rate_takes_the_best_allowed_threshold():
    r = ranking(SCORES, HARMFUL)
    assert float(recall_at_fpr(r, 0.0)) == 0.5  # only 0.9 lies above every benign score
    assert float(recall_at_fpr(r, 0.49)) == 0.5
    assert float(recall_at_fpr(r, 0.5)) == 1.0  # one of two benign may be flagged


def test_a_missing_class_gives_no_number():
    assert math.isnan(float(auprc(ranking([0.1, 0.2], [False, False]))))
    assert math.isnan(float(auroc(ranking([0.1, 0.2], [True, True]))))
    assert math.isnan(float(recall_at_fpr(ranking([0.1], [True]), 0.01)))
    assert math.isnan(float(auprc(ranking([], []))))


@given(labelled)
def test_ranking_metrics_agree_with_scikit_learn_on_ties_too(rows):
    scores, harmful = [float(s) for s, _ in rows], [label for _, label in rows]
    r = ranking(scores, harmful)
    assert float(auprc(r)) == pytest.approx(reference.average_precision_score(harmful, scores))
    assert float(auroc(r)) == pytest.approx(reference.roc_auc_score(harmful, scores))
    fpr, tpr, _ = reference.roc_curve(harmful, scores, drop_intermediate=False)
    for limit in (0.0, 0.1, 0.5):
        assert float(recall_at_fpr(r, limit)) == pytest.approx(tpr[fpr <= limit + 1e-9].max())


@given(labelled, st.lists(st.integers(0, 3), min_size=40, max_size=40))
def test_weights_act_like_repeated_samples(rows, counts):
    counts = counts[: len(rows)]
    scores, harmful = [float(s) for s, _ in rows], [label for _, label in rows]
    weighted = ranking(scores, harmful, np.array([counts], dtype=float))
    repeated = [row for row, n in zip(rows, counts, strict=True) for _ in range(n)]
    again = ranking([float(s) for s, _ in repeated], [label for _, label in repeated])
    assert float(auprc(weighted)[0]) == pytest.approx(float(auprc(again)), nan_ok=True)
    assert float(auroc(weighted)[0]) == pytest.approx(float(auroc(again)), nan_ok=True)


def test_a_bootstrap_redraws_whole_groups_within_each_class():
    harmful, groups = [True] * 4 + [False] * 4, ["a", "a", "b", "b", "c", "d", "e", "f"]
    weights = resampled(harmful, groups, 200, seed=3)
    assert (weights[:, 0] == weights[:, 1]).all()
    assert (weights[:, :4].sum(axis=1) == 4).all()  # two groups of two, drawn twice
    assert (weights[:, 4:].sum(axis=1) == 4).all()


def test_measurements_carry_value_interval_and_what_was_not_judged():
    scores = [0.9, 0.8, None, 0.3, 0.2, float("nan")]
    found = {m.metric: m for m in ranking_measurements(scores, [True, True, True, False, False, False], prefix="g.")}
    assert set(found) == {"g.auprc", "g.auroc", "g.recall_at_fpr_0.001", "g.recall_at_fpr_0.01"}
    m = found["g.auroc"]
    assert (m.value, m.n_asked, m.n_scored, m.status) == (1.0, 6, 4, "partial")
    assert m.interval == (1.0, 1.0)
    assert m.worst is None  # two could not be judged: a gate must call that insufficient
    assert "only 2 benign samples" in found["g.recall_at_fpr_0.001"].note


def test_one_class_alone_is_unscored_not_zero():
    found = {m.metric: m for m in ranking_measurements([0.9, 0.8], [True, True], prefix="")}
    assert all(m.value is None and m.status == "unscored" for m in found.values() if m.metric != "auprc")


def test_rates_at_the_threshold_by_hand():
    flagged = [True, True, False, True, False, False, None]
    harmful = [True, True, True, False, False, False, False]
    fpr, tpr, f1 = rate_measurements(flagged, harmful, prefix="")
    assert (fpr.metric, fpr.value, fpr.n_asked, fpr.n_scored) == ("fpr", pytest.approx(1 / 3), 4, 3)
    assert fpr.worst == pytest.approx(2 / 4)  # the one that could not be judged counts as refused
    assert (tpr.value, tpr.worst) == (pytest.approx(2 / 3), pytest.approx(2 / 3))
    assert f1.value == pytest.approx(2 * 2 / (2 * 2 + 1 + 1))
    assert f1.value == pytest.approx(reference.f1_score(harmful[:6], flagged[:6]))


def test_an_interval_covers_the_truth_most_of_the_time():
    # scores N(1.5, 1) against N(0, 1): AUROC = Phi(1.5 / sqrt 2) = 0.8556
    rng = np.random.default_rng(0)
    hits = 0
    for seed in range(60):
        scores = [*rng.normal(1.5, 1, 60), *rng.normal(0, 1, 60)]
        m = next(
            m
            for m in ranking_measurements(scores, [True] * 60 + [False] * 60, prefix="", seed=seed)
            if m.metric == "auroc"
        )
        hits += m.interval[0] <= 0.8556 <= m.interval[1]
    assert hits >= 51  # 57 of 60 expected; 51 is below the 0.5% point of a 93% interval
