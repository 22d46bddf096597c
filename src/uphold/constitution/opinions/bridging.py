"""Bridging score: how well a statement is liked beyond what people's leaning explains.

Takes votes; fits y_ij ~ mu + b_i + c_j + f_i g_j, y = 0 (disagree), 1/2 (pass), 1 (agree), one factor for the leaning of people and
statements; c_j is the score (Wojcik et al. 2022, Birdwatch/Community Notes, arXiv:2210.15723, eq. 1, which regularises intercepts five
times as much as factors). Fitted by alternating ridge regression; intervals by the bootstrap over participants. Used by `collective`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from uphold.constitution.opinions.factors import Floats, Ints
from uphold.constitution.opinions.votes import Votes
from uphold.core.progress import progress
from uphold.core.seeds import derive

INTERCEPT_RIDGE = 0.15  # of a mean squared parameter against the mean squared error, as published
FACTOR_RIDGE = 0.03
_STEPS = 25
_BOOTSTRAP_STEPS = 5  # from the full fit


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


def measure_bridging(votes: Votes, *, n_boot: int = 100, level: float = 0.95, seed: int = 0) -> Bridging:
    """Scores of all statements, with percentile intervals from `n_boot` resamples of the participants."""
    n_people, n_statements = len(votes.participants), len(votes.statements)
    start = np.random.default_rng(derive(seed, "bridging")).normal(scale=0.1, size=(n_statements, 2))
    ones_V = np.ones(votes.n)
    full = _fit(votes, ones_V, _Model(float((votes.value_V.mean() + 1) / 2), np.zeros((n_people, 2)), start), _STEPS)
    draws_BS = np.empty((n_boot, n_statements))
    rng = np.random.default_rng(derive(seed, "bootstrap"))
    with progress("bridging scores", n_boot, unit="resamples") as bar:
        for draw in range(n_boot):
            weight_P = rng.multinomial(n_people, np.full(n_people, 1 / n_people)).astype(float)
            model = _Model(full.mean, full.person_P2, full.statement_S2)
            draws_BS[draw] = _fit(votes, weight_P[votes.row_V], model, _BOOTSTRAP_STEPS).statement_S2[:, 0]
            bar.advance()
    tail = (1 - level) / 2
    interval = np.quantile(draws_BS, [tail, 1 - tail], axis=0).T if n_boot else np.full((n_statements, 2), np.nan)
    voted_S = np.bincount(votes.column_V, minlength=n_statements) > 0
    score_S = np.where(voted_S, full.statement_S2[:, 0], np.nan)
    return Bridging(score_S, np.where(voted_S[:, None], interval, np.nan), full.statement_S2[:, 1], level, n_boot)


def _fit(votes: Votes, weight_V: Floats, model: _Model, steps: int) -> _Model:
    """Alternate between people and statements; each solves its intercept and leaning at once.

    The published loss takes means over votes and over parameters, so a parameter's ridge is the constant times votes per parameter.
    """
    rating_V = (votes.value_V + 1) / 2
    n = weight_V.sum()
    people, statements = model.person_P2, model.statement_S2
    mean = model.mean
    for _ in range(steps):
        people = _solve(votes.row_V, votes.column_V, rating_V - mean, weight_V, statements, len(people), n)
        statements = _solve(votes.column_V, votes.row_V, rating_V - mean, weight_V, people, len(statements), n)
        rest_V = rating_V - people[votes.row_V, 0] - statements[votes.column_V, 0]
        rest_V -= people[votes.row_V, 1] * statements[votes.column_V, 1]
        mean = float((weight_V * rest_V).sum() / (n * (1 + INTERCEPT_RIDGE)))
    return _Model(mean, people, statements)


def _solve(
    mine_V: Ints, theirs_V: Ints, rating_V: Floats, weight_V: Floats, other_N2: Floats, size: int, n: float
) -> Floats:
    """(intercept, leaning) of every row, given the other side's: a 2 x 2 ridge regression each."""
    lean_V = other_N2[theirs_V, 1]
    rest_V = rating_V - other_N2[theirs_V, 0]

    def total(values_V: Floats) -> Floats:
        return np.bincount(mine_V, weights=weight_V * values_V, minlength=size).astype(float)

    per_row = n / size
    a = np.bincount(mine_V, weights=weight_V, minlength=size) + INTERCEPT_RIDGE * per_row
    b, d = total(lean_V), total(lean_V**2) + FACTOR_RIDGE * per_row
    u, v = total(rest_V), total(rest_V * lean_V)
    determinant = a * d - b * b
    return np.stack([(d * u - b * v) / determinant, (a * v - b * u) / determinant], axis=1)
