"""Bridging score: how well a statement is liked beyond what people's leaning explains.

Takes votes; fits y_ij ~ mu + b_i + c_j + f_i g_j, y = 0 (disagree), 1/2 (pass), 1 (agree), one factor for the leaning of people and
statements; c_j is the score (Wojcik et al. 2022, Birdwatch/Community Notes, arXiv:2210.15723, eq. 1, which regularises intercepts five
times as much as factors). Fitted by alternating ridge regression; intervals by the bootstrap over participants. Used by `collective`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from uphold.constitution.opinions.factors import Floats
from uphold.constitution.opinions.votes import Votes
from uphold.core.progress import progress
from uphold.core.seeds import derive

INTERCEPT_RIDGE = 0.15  # of a mean squared parameter against the mean squared error, as published
FACTOR_RIDGE = 0.03
_STEPS = 30
_BOOTSTRAP_STEPS = 8  # from the full fit


@dataclass(frozen=True)
class Bridging:
    """score_S: c_j, on the scale where disagree to agree is 0 to 1; NaN without votes. interval_S2: at `level`, from `n_boot` draws.

    leaning_S: g_j, how far liking the statement goes with the main divide; its sign means nothing by itself.
    """

    score_S: Floats
    interval_S2: Floats
    leaning_S: Floats
    level: float
    n_boot: int


@dataclass
class _Model:
    mean: float
    person_P2: Floats  # intercept and leaning
    statement_S2: Floats


def measure_bridging(votes: Votes, *, n_boot: int = 200, level: float = 0.95, seed: int = 0) -> Bridging:
    """Scores of all statements, with percentile intervals from `n_boot` resamples of the participants."""
    n_people, n_statements = len(votes.participants), len(votes.statements)
    fitter = _Fitter(votes)
    start = np.random.default_rng(derive(seed, "bridging")).normal(scale=0.1, size=(n_statements, 2))
    full = _Model(float((votes.value_V.mean() + 1) / 2), np.zeros((n_people, 2)), start)
    full = fitter.fit(full, np.ones(n_people), _STEPS)
    draws_BS = np.empty((n_boot, n_statements))
    rng = np.random.default_rng(derive(seed, "bootstrap"))
    with progress("bridging scores", n_boot, unit="resamples") as bar:
        for draw in range(n_boot):
            weight_P = rng.multinomial(n_people, np.full(n_people, 1 / n_people)).astype(float)
            draws_BS[draw] = fitter.fit(full, weight_P, _BOOTSTRAP_STEPS).statement_S2[:, 0]
            bar.advance()
    tail = (1 - level) / 2
    interval_S2 = np.quantile(draws_BS, [tail, 1 - tail], axis=0).T
    voted_S = np.bincount(votes.column_V, minlength=n_statements) > 0
    score_S = np.where(voted_S, full.statement_S2[:, 0], np.nan)
    return Bridging(score_S, np.where(voted_S[:, None], interval_S2, np.nan), full.statement_S2[:, 1], level, n_boot)


class _Fitter:
    """Alternates between people and statements; each solves its intercept and leaning at once, as a 2 x 2 ridge regression.

    The published loss takes means over votes and over parameters, so a parameter's ridge is the constant times votes per parameter.
    Resampling people only weighs them, so the two sparse matrices serve every draw: somebody drawn twice is two people with the same votes,
    and so the same intercept and leaning.
    """

    def __init__(self, votes: Votes) -> None:
        from scipy.sparse import csr_array

        shape = (len(votes.participants), len(votes.statements))
        cells = (votes.row_V, votes.column_V)
        self._mask: Any = csr_array((np.ones(votes.n), cells), shape=shape)
        self._rating: Any = csr_array(((votes.value_V + 1) / 2, cells), shape=shape)
        self._mask_t, self._rating_t = self._mask.T.tocsr(), self._rating.T.tocsr()
        self._count_P = np.bincount(votes.row_V, minlength=shape[0]).astype(float)
        self._total_P = self._rating @ np.ones(shape[1])

    def fit(self, model: _Model, weight_P: Floats, steps: int) -> _Model:
        """The model after `steps` rounds from `model`, each participant counted `weight_P` times."""
        mean, people_P2, statements_S2 = model.mean, model.person_P2, model.statement_S2
        n = float((weight_P * self._count_P).sum())
        count_S = self._mask_t @ weight_P
        rated_S = self._rating_t @ weight_P
        for _ in range(steps):
            people_P2 = self._people(mean, statements_S2, n / weight_P.sum())
            statements_S2 = self._statements(mean, people_P2, weight_P, count_S, rated_S, n)
            intercept_P, lean_P = people_P2.T
            theirs_P2 = self._mask @ statements_S2
            rest_P = self._total_P - self._count_P * intercept_P - theirs_P2[:, 0] - lean_P * theirs_P2[:, 1]
            mean = float((weight_P * rest_P).sum() / (n * (1 + INTERCEPT_RIDGE)))
            mean, people_P2, statements_S2 = _shifted(mean, people_P2, statements_S2, weight_P)
        return _Model(mean, people_P2, statements_S2)

    def _people(self, mean: float, statements_S2: Floats, per_person: float) -> Floats:
        intercept_S, lean_S = statements_S2.T
        sums_P4 = self._mask @ np.stack([lean_S, lean_S**2, intercept_S, intercept_S * lean_S], axis=1)
        u_P = self._total_P - mean * self._count_P - sums_P4[:, 2]
        v_P = self._rating @ lean_S - mean * sums_P4[:, 0] - sums_P4[:, 3]
        return _solve(self._count_P, sums_P4[:, 0], sums_P4[:, 1], u_P, v_P, per_person)

    def _statements(
        self, mean: float, people_P2: Floats, weight_P: Floats, count_S: Floats, rated_S: Floats, n: float
    ) -> Floats:
        intercept_P, lean_P = people_P2.T
        leaned_P = weight_P * lean_P
        sums_S4 = self._mask_t @ np.stack(
            [leaned_P, leaned_P * lean_P, weight_P * intercept_P, leaned_P * intercept_P], axis=1
        )
        u_S = rated_S - mean * count_S - sums_S4[:, 2]
        v_S = self._rating_t @ leaned_P - mean * sums_S4[:, 0] - sums_S4[:, 3]
        return _solve(count_S, sums_S4[:, 0], sums_S4[:, 1], u_S, v_S, n / len(count_S))


def _shifted(mean: float, people_P2: Floats, statements_S2: Floats, weight_P: Floats) -> tuple[float, Floats, Floats]:
    """The same predictions at the least ridge: moves between mean, intercepts and leanings that alternation makes only slowly.

    (f + t) g + (c - t g), f (g + s) + (b - s f), mu + m + (b - m), (k f) (g / k) predict what f g + b + c + mu does.
    """
    b_P, f_P = people_P2.T
    c_S, g_S = statements_S2.T
    share_P = weight_P / weight_P.sum()
    t = (INTERCEPT_RIDGE * (c_S * g_S).mean() - FACTOR_RIDGE * (share_P * f_P).sum()) / (
        INTERCEPT_RIDGE * (g_S**2).mean() + FACTOR_RIDGE
    )
    f_P, c_S = f_P + t, c_S - t * g_S
    s = (INTERCEPT_RIDGE * (share_P * b_P * f_P).sum() - FACTOR_RIDGE * g_S.mean()) / (
        INTERCEPT_RIDGE * (share_P * f_P**2).sum() + FACTOR_RIDGE
    )
    g_S, b_P = g_S + s, b_P - s * f_P
    m = ((share_P * b_P).sum() - mean) / 2
    mean, b_P = mean + m, b_P - m
    m = (c_S.mean() - mean) / 2
    mean, c_S = mean + m, c_S - m
    k = np.sqrt(np.sqrt(((g_S**2).mean() + 1e-12) / ((share_P * f_P**2).sum() + 1e-12)))
    return float(mean), np.stack([b_P, k * f_P], axis=1), np.stack([c_S, g_S / k], axis=1)


def _solve(a_N: Floats, b_N: Floats, d_N: Floats, u_N: Floats, v_N: Floats, per_row: float) -> Floats:
    """(intercept, leaning) of every row from its sums of 1, lean, lean^2, rest, rest * lean; per_row: votes per parameter."""
    a_N = a_N + INTERCEPT_RIDGE * per_row
    d_N = d_N + FACTOR_RIDGE * per_row
    determinant_N = a_N * d_N - b_N * b_N
    return np.stack([(d_N * u_N - b_N * v_N) / determinant_N, (a_N * v_N - b_N * u_N) / determinant_N], axis=1)
