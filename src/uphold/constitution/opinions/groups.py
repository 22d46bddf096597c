"""Opinion groups: people whose votes are alike.

Takes votes; gives every participant who voted enough a group. k-means on the coordinates of `factors`, with the number of groups by mean
silhouette above that of votes shuffled within each statement, and one group when that lift is small. Memberships are then refined
by a latent class model (a naive Bayes mixture by EM), which uses every vote and not only its projection. Used by `collective`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from uphold.constitution.opinions.factors import MAX_DIMENSIONS, Bools, Floats, Ints, fit, shuffled
from uphold.constitution.opinions.votes import Votes
from uphold.core.seeds import derive

MAX_GROUPS = 5
MARGIN = 0.05  # silhouette above that of shuffled votes from which groups are believed
MIN_VOTES = 7  # as in Polis: fewer say too little about a person to place them
_SAMPLE = 1_000  # people whose silhouette is computed; it costs the square of that
_RESTARTS = 4
_HALVINGS = 3
_FEW = 400


@dataclass(frozen=True)
class Groups:
    """group_P: 0-based group of each participant, largest first; -1 for those who voted too little. n: groups, 1 when nobody parts.

    coordinates_PD: (participants, 2), for the map. dimensions: of the space they were grouped in. silhouettes: in that space, by number
    of groups; shuffled: the best that shuffled votes reach there. stability: mean adjusted Rand index between the groups found from one
    random half of the statements and from the other, a lower bound, as half the votes tell less; None for one group.
    """

    group_P: Ints
    n: int
    coordinates_PD: Floats
    dimensions: int
    silhouettes: dict[int, float]
    shuffled: float | None
    stability: float | None = None

    @property
    def sizes(self) -> list[int]:
        return [int((self.group_P == g).sum()) for g in range(self.n)]


class _Clustering(NamedTuple):
    """labels_M: groups of the people placed, in `dimensions` components; silhouettes by number of groups; null: of shuffled votes."""

    labels_M: Ints
    n: int
    dimensions: int
    silhouettes: dict[int, float]
    null: float

    @property
    def gain(self) -> float:
        return self.silhouettes.get(self.n, 0.0) - self.null


def find_groups(votes: Votes, *, n: int | None = None, min_votes: int = MIN_VOTES, seed: int = 0) -> Groups:
    """Group the participants with at least `min_votes` votes (fewer, where not two people have as many). n: force that many groups.

    The space has as many components, and the people as many groups, as lift the silhouette most above that of shuffled votes.
    """
    shape = (len(votes.participants), len(votes.statements))
    count_P = np.bincount(votes.row_V, minlength=shape[0])
    enough_P = count_P >= min(min_votes, int(np.sort(count_P)[-2]))
    used_V = enough_P[votes.row_V]
    triples = votes.row_V[used_V], votes.column_V[used_V], votes.value_V[used_V]
    most = max(1, min(MAX_DIMENSIONS, min(shape) - 1))
    tried = [_cluster_in(triples, shape, enough_P, d, n, seed) for d in range(1, most + 1)]
    best = max(tried, key=lambda clustering: clustering.gain)
    is_believed = best.n > 1 and (n is not None or best.gain >= MARGIN)
    group_P = np.full(shape[0], -1, dtype=np.int64)
    group_P[enough_P] = best.labels_M if is_believed else 0
    stability = None
    if is_believed:
        group_P = _refined(votes, group_P, best.n)
        stability = _stability(votes, enough_P, best.n, best.dimensions, seed)
    chosen = best.n if is_believed else 1
    null = best.null if best.silhouettes else None
    where = _for_map(triples, shape, seed)
    return Groups(_by_size(group_P, chosen), chosen, where, best.dimensions, best.silhouettes, null, stability)


def _cluster_in(
    triples: tuple[Ints, Ints, Floats],
    shape: tuple[int, int],
    enough_P: Bools,
    dimensions: int,
    n: int | None,
    seed: int,
) -> _Clustering:
    """Cluster the people in a space of `dimensions` components, and shuffled votes likewise."""
    row_V, column_V, value_V = triples
    points_MD = fit(row_V, column_V, value_V, shape, dimensions, seed=derive(seed, "factors")).coordinates_PD[enough_P]
    labels_M, chosen, silhouettes = _cluster(points_MD, n, seed)
    nulls = []
    for draw in range(3 if len(points_MD) <= _FEW else 1):  # many people leave little to chance
        dealt_V = shuffled(column_V, value_V, seed=derive(seed, "shuffle", draw))
        other_MD = fit(row_V, column_V, dealt_V, shape, dimensions, seed=derive(seed, "null", draw)).coordinates_PD[
            enough_P
        ]
        nulls.append(max(_cluster(other_MD, n, derive(seed, "null", draw))[2].values(), default=0.0))
    return _Clustering(labels_M, chosen, dimensions, silhouettes, float(np.mean(nulls)))


def _cluster(points_MD: Floats, n: int | None, seed: int) -> tuple[Ints, int, dict[int, float]]:
    """(labels, number of groups, silhouette of every number tried)."""
    distinct = len(np.unique(points_MD.round(9), axis=0))
    tried = [n] if n is not None else list(range(2, MAX_GROUPS + 1))
    tried = [k for k in tried if 2 <= k <= distinct]
    if not tried:
        return np.zeros(len(points_MD), dtype=np.int64), 1, {}
    labels = {k: k_means(points_MD, k, seed=derive(seed, "k-means", k)) for k in tried}
    silhouettes = {k: silhouette(points_MD, labels[k], seed=derive(seed, "silhouette")) for k in tried}
    chosen = max(silhouettes, key=lambda k: silhouettes[k])
    return labels[chosen], chosen, silhouettes


def _stability(votes: Votes, enough_P: Bools, n: int, dimensions: int, seed: int) -> float | None:
    """How far groups from one half of the statements agree with groups from the other, over the people who voted on both."""
    shape = (len(votes.participants), len(votes.statements))
    found = []
    for draw in range(_HALVINGS):
        first_S = np.random.default_rng(derive(seed, "half", draw)).random(shape[1]) < 0.5
        halves, present_P = [], enough_P.copy()
        for half_S in (first_S, ~first_S):
            in_V = half_S[votes.column_V] & enough_P[votes.row_V]
            present_P &= np.bincount(votes.row_V[in_V], minlength=shape[0]) > 0
            factors = fit(votes.row_V[in_V], votes.column_V[in_V], votes.value_V[in_V], shape, dimensions, seed=seed)
            halves.append(factors.coordinates_PD)
        if present_P.sum() > n:
            a, b = (k_means(half[present_P], n, seed=derive(seed, "half k-means", draw)) for half in halves)
            found.append(adjusted_rand(a, b))
    return float(np.mean(found)) if found else None


def _for_map(triples: tuple[Ints, Ints, Floats], shape: tuple[int, int], seed: int) -> Floats:
    """The first two components; people who were not placed stand at the origin."""
    dimensions = min(2, max(1, min(shape) - 1))
    found_PD = fit(*triples, shape, dimensions, seed=derive(seed, "factors")).coordinates_PD
    return found_PD if dimensions == 2 else np.column_stack([found_PD[:, 0], np.zeros(len(found_PD))])


def _refined(votes: Votes, group_P: Ints, n: int, *, steps: int = 15, prior: float = 3.0) -> Ints:
    """Memberships by EM on P(vote | group, statement), from the given ones; a statement's rates start at its overall rates."""
    shape = (len(votes.participants), len(votes.statements))
    level_V = (votes.value_V + 1).astype(np.int64)
    cell_V = votes.column_V * 3 + level_V
    overall_S3 = np.bincount(cell_V, minlength=3 * shape[1]).reshape(-1, 3) + 1.0
    overall_S3 /= overall_S3.sum(axis=1, keepdims=True)
    placed_P = group_P >= 0
    weight_PG = np.zeros((shape[0], n))
    weight_PG[placed_P] = 0.1 / n
    weight_PG[placed_P, group_P[placed_P]] += 0.9
    for _ in range(steps):
        log_G = np.log(weight_PG.sum(axis=0) / placed_P.sum() + 1e-9)
        score_PG = np.empty_like(weight_PG)
        for g in range(n):
            count_S3 = np.bincount(cell_V, weights=weight_PG[votes.row_V, g], minlength=3 * shape[1]).reshape(-1, 3)
            rate_S3 = (count_S3 + prior * overall_S3) / (count_S3.sum(axis=1, keepdims=True) + prior)
            score_PG[:, g] = log_G[g] + np.bincount(
                votes.row_V, weights=np.log(rate_S3).ravel()[cell_V], minlength=shape[0]
            )
        score_PG -= score_PG.max(axis=1, keepdims=True)
        weight_PG = np.exp(score_PG) * placed_P[:, None]
        weight_PG /= np.maximum(weight_PG.sum(axis=1, keepdims=True), 1e-12)
    refined_P = np.where(placed_P, weight_PG.argmax(axis=1), -1)
    emptied = any(not (refined_P == g).any() for g in range(n))
    return group_P if emptied else refined_P


def _by_size(group_P: Ints, n: int) -> Ints:
    """Numbered so that group 0 is the largest."""
    order = sorted(range(n), key=lambda g: (-int((group_P == g).sum()), g))
    renamed = {old: new for new, old in enumerate(order)}
    return np.array([renamed.get(int(g), -1) for g in group_P], dtype=np.int64)


def k_means(points_MD: Floats, k: int, *, seed: int, steps: int = 60) -> Ints:
    """Labels in [0, k) by Lloyd's algorithm from k-means++ starts (Arthur & Vassilvitskii 2007), the best of a few."""
    rng = np.random.default_rng(seed)
    best: tuple[float, Ints] | None = None
    for _ in range(_RESTARTS):
        centres_KD = _spread(points_MD, k, rng)
        for _ in range(steps):
            distance_MK = _squared(points_MD, centres_KD)
            labels_M = distance_MK.argmin(axis=1)
            moved_KD = centres_KD.copy()
            for g in range(k):
                mine = labels_M == g
                moved_KD[g] = (
                    points_MD[mine].mean(axis=0) if mine.any() else points_MD[distance_MK.min(axis=1).argmax()]
                )
            if np.allclose(moved_KD, centres_KD):
                break
            centres_KD = moved_KD
        cost = float(distance_MK.min(axis=1).sum())
        if best is None or cost < best[0]:
            best = cost, labels_M
    assert best is not None
    return best[1]


def _spread(points_MD: Floats, k: int, rng: np.random.Generator) -> Floats:
    chosen = [points_MD[rng.integers(len(points_MD))]]
    while len(chosen) < k:
        nearest_M = _squared(points_MD, np.array(chosen)).min(axis=1)
        total = nearest_M.sum()
        chosen.append(
            points_MD[rng.choice(len(points_MD), p=nearest_M / total) if total > 0 else rng.integers(len(points_MD))]
        )
    return np.array(chosen)


def _squared(points_MD: Floats, others_ND: Floats) -> Floats:
    cross = points_MD @ others_ND.T
    return np.maximum((points_MD**2).sum(axis=1)[:, None] - 2 * cross + (others_ND**2).sum(axis=1), 0)


def silhouette(points_MD: Floats, labels_M: Ints, *, seed: int = 0) -> float:
    """Mean silhouette in [-1, 1] (Rousseeuw 1987), over at most 1,000 people drawn by `seed`; 0 for one group, and for lone members."""
    if len(points_MD) > _SAMPLE:
        drawn = np.random.default_rng(seed).choice(len(points_MD), _SAMPLE, replace=False)
        points_MD, labels_M = points_MD[drawn], labels_M[drawn]
    present, labels_M = np.unique(labels_M, return_inverse=True)
    if len(present) < 2:
        return 0.0
    member_MK = np.eye(len(present))[labels_M]
    count_K = member_MK.sum(axis=0)
    total_MK = np.sqrt(_squared(points_MD, points_MD)) @ member_MK
    people = np.arange(len(labels_M))
    own_M = total_MK[people, labels_M] / np.maximum(count_K[labels_M] - 1, 1)
    other_MK = total_MK / count_K
    other_MK[people, labels_M] = np.inf
    nearest_M = other_MK.min(axis=1)
    width_M = (nearest_M - own_M) / np.maximum(np.maximum(own_M, nearest_M), 1e-12)
    width_M[count_K[labels_M] == 1] = 0
    return float(width_M.mean())


def adjusted_rand(a_N: Ints, b_N: Ints) -> float:
    """Agreement of two groupings: 1 when equal, about 0 when unrelated (Hubert & Arabie 1985). Both trivial: 1."""
    _, a_N = np.unique(a_N, return_inverse=True)
    _, b_N = np.unique(b_N, return_inverse=True)
    table = np.zeros((a_N.max() + 1, b_N.max() + 1))
    np.add.at(table, (a_N, b_N), 1)

    def pairs(counts: Floats) -> float:
        return float((counts * (counts - 1) / 2).sum())

    together, in_a, in_b = pairs(table), pairs(table.sum(axis=1)), pairs(table.sum(axis=0))
    expected = in_a * in_b / max(1.0, len(a_N) * (len(a_N) - 1) / 2)
    most = (in_a + in_b) / 2
    return 1.0 if most == expected else (together - expected) / (most - expected)
