"""How far each group stands behind each statement, with what the number of votes leaves open.

Takes votes and groups; gives for every statement and group the posterior of the share that agrees and disagrees (Beta(1, 1) prior, as
in Polis), the group-aware consensus (the product of the groups' agreement, so that one group against sinks it, whatever its size: Small
et al. 2021, Recerca 26:2), and for each group the statements it differs on most. Used by `collective`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from uphold.constitution.opinions.factors import Bools, Floats, Ints
from uphold.constitution.opinions.votes import Votes
from uphold.core.stats import Interval, benjamini_hochberg

_DRAWS = 400  # from each posterior, for the interval of a product of them


@dataclass(frozen=True)
class Support:
    """Counts and posteriors. G groups, S statements.

    agree_GS, disagree_GS, n_GS: votes. p_agree_GS, p_disagree_GS: posterior means. interval_GS2: of the share that agrees, at `level`.
    majority_GS: posterior probability that more than half agree. consensus_S, consensus_interval_S2: the product over groups of the share
    that agrees. Where nobody of a group voted, its posterior is the prior: mean 1/2, the interval nearly all of [0, 1].
    """

    agree_GS: Ints
    disagree_GS: Ints
    n_GS: Ints
    p_agree_GS: Floats
    p_disagree_GS: Floats
    interval_GS2: Floats
    majority_GS: Floats
    consensus_S: Floats
    consensus_interval_S2: Floats
    level: float

    def interval(self, group: int, statement: int) -> Interval:
        low, high = self.interval_GS2[group, statement]
        return Interval(float(low), float(high), "beta(1,1) posterior", self.level)


@dataclass(frozen=True)
class Distinctive:
    """A statement on which a group differs from everybody else. p_value: one-sided two-proportion test, adjusted (BH) within the group."""

    statement: int
    direction: Literal["agree", "disagree"]
    share_in: float
    share_out: float
    n_in: int
    n_out: int
    p_value: float


def measure_support(votes: Votes, group_P: Ints, n_groups: int, *, level: float = 0.95, seed: int = 0) -> Support:
    """Posteriors for every group and statement; people without a group (-1) are left out."""
    from scipy.special import betainc, betaincinv

    n_statements = len(votes.statements)
    placed_V = group_P[votes.row_V] >= 0
    cell_V = group_P[votes.row_V[placed_V]] * n_statements + votes.column_V[placed_V]
    value_V = votes.value_V[placed_V]

    def count(chosen_V: Bools) -> Ints:
        return np.bincount(cell_V[chosen_V], minlength=n_groups * n_statements).reshape(n_groups, n_statements)

    agree, disagree = count(value_V > 0), count(value_V < 0)
    n = count(np.ones(len(value_V), dtype=bool))
    a, b = agree + 1.0, n - agree + 1.0
    tail = (1 - level) / 2
    rng = np.random.default_rng(seed)
    log_S = np.zeros((_DRAWS, n_statements))
    for g in range(n_groups):
        log_S += np.log(rng.beta(a[g], b[g], size=(_DRAWS, n_statements)))
    return Support(
        agree,
        disagree,
        n,
        a / (a + b),
        (disagree + 1.0) / (n + 2.0),
        np.stack([betaincinv(a, b, tail), betaincinv(a, b, 1 - tail)], axis=-1),
        1 - betainc(a, b, 0.5),
        (a / (a + b)).prod(axis=0),
        np.exp(np.quantile(log_S, [tail, 1 - tail], axis=0)).T,
        level,
    )


def distinctive(support: Support, group: int, *, most: int = 5, q: float = 0.05) -> list[Distinctive]:
    """At most `most` statements that set a group apart, the clearest first, at a false discovery rate below `q`."""
    if len(support.n_GS) < 2:
        return []
    others = [g for g in range(len(support.n_GS)) if g != group]
    n_in, n_out = support.n_GS[group], support.n_GS[others].sum(axis=0)
    tests = []
    directions: tuple[tuple[Literal["agree", "disagree"], Ints], ...] = (
        ("agree", support.agree_GS),
        ("disagree", support.disagree_GS),
    )
    for direction, counts_GS in directions:
        k_in, k_out = counts_GS[group], counts_GS[others].sum(axis=0)
        for s in np.flatnonzero((n_in > 0) & (n_out > 0)):
            z = _two_proportions(int(k_in[s]), int(n_in[s]), int(k_out[s]), int(n_out[s]))
            tests.append((z, int(s), direction, k_in[s] / n_in[s], k_out[s] / n_out[s]))
    adjusted = benjamini_hochberg([0.5 * math.erfc(z / math.sqrt(2)) for z, *_ in tests])
    found = [
        Distinctive(s, direction, float(p_in), float(p_out), int(n_in[s]), int(n_out[s]), p_value)
        for (z, s, direction, p_in, p_out), p_value in sorted(
            zip(tests, adjusted, strict=True), key=lambda pair: -pair[0][0]
        )
        if p_value <= q and z > 0
    ]
    return found[:most]


def _two_proportions(k1: int, n1: int, k2: int, n2: int) -> float:
    """z of the pooled two-proportion test, with one added vote either way against certainty from few votes."""
    p1, p2, p = (k1 + 1) / (n1 + 2), (k2 + 1) / (n2 + 2), (k1 + k2 + 2) / (n1 + n2 + 4)
    return (p1 - p2) / math.sqrt(p * (1 - p) * (1 / (n1 + 2) + 1 / (n2 + 2)))
