"""Differences between systems: intervals and p-values where nothing is paired, tests where it is, and letters for who differs.

Pure functions on numbers, beside `core.stats` (whose intervals they join). Paired intervals are in `stats.newcombe_paired` and
`stats.bootstrap_clustered`, the correction for many comparisons in `stats.benjamini_hochberg`. Left out: post-hoc procedures that need
normal data and equal variances (Tukey, Dunnett), which rates near 0 and 1 do not have.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Hashable, Sequence
from statistics import NormalDist

from uphold.core.stats import Interval, mcnemar_exact

N_FLIPS = 9999
Span = tuple[float, float]


def mover_difference(first: float, first_span: Span, second: float, second_span: Span, level: float = 0.95) -> Interval:
    """Interval for second - first, of two systems measured apart, from the interval of each at the same level.

    d - sqrt((x2-l2)^2 + (u1-x1)^2) to d + sqrt((u2-x2)^2 + (x1-l1)^2) (Zou & Donner 2008, Statistics in Medicine 27:1693; with Wilson
    intervals it is method 10 of Newcombe 1998, ibid. 17:873). Needs only the intervals, so clustered and bootstrap ones serve too.
    Raises ValueError when a value lies outside its interval.
    """
    for value, (low, high) in ((first, first_span), (second, second_span)):
        if not low - 1e-9 <= value <= high + 1e-9:
            raise ValueError(f"{value} lies outside its interval {low} to {high}")
    d = second - first
    down = math.hypot(second - second_span[0], first_span[1] - first)
    up = math.hypot(second_span[1] - second, first - first_span[0])
    return Interval(d - down, d + up, "mover", level)


def p_of_interval(value: float, interval: Interval) -> float:
    """Two-sided p-value that a difference is 0, which is below 1 - level exactly when the interval leaves 0 out.

    The distance from `value` to the end that faces 0 is taken as z standard errors (Altman & Bland 2011, BMJ 343:d2304, with the end
    facing 0 in place of the half width). 1.0 for value 0.
    """
    if value == 0:
        return 1.0
    distance = value - interval.low if value > 0 else interval.high - value
    if distance <= 0:
        return 0.0
    z = NormalDist().inv_cdf(0.5 + interval.level / 2) * abs(value) / distance
    return math.erfc(z / math.sqrt(2))


def paired_p(before: Sequence[float], after: Sequence[float], groups: Sequence[Hashable], *, seed: int = 0) -> float:
    """Two-sided p-value that paired outcomes have the same mean; 1.0 without pairs.

    Yes-or-no outcomes in distinct groups: McNemar's exact test. Otherwise signs of whole groups are flipped at random, N_FLIPS times
    (so p is at least 1 / (1 + N_FLIPS)), or each way there is when the groups that moved are 13 or fewer.
    """
    if not len(before) == len(after) == len(groups):
        raise ValueError(f"{len(before)} before, {len(after)} after, {len(groups)} groups: give as many of each")
    is_binary = all(value in (0.0, 1.0) for value in (*before, *after))
    if is_binary and len(set(groups)) == len(groups):
        lost = sum(b > a for b, a in zip(before, after, strict=True))
        won = sum(a > b for b, a in zip(before, after, strict=True))
        return mcnemar_exact(won, lost)
    return _sign_flip_two_sided([a - b for b, a in zip(before, after, strict=True)], groups, seed)


def _sign_flip_two_sided(differences: Sequence[float], groups: Sequence[Hashable], seed: int) -> float:
    import numpy as np

    sums: dict[Hashable, float] = {}
    for value, group in zip(differences, groups, strict=True):
        sums[group] = sums.get(group, 0.0) + value
    moved_G = np.array([value for value in sums.values() if value])
    n_groups = len(moved_G)
    if not n_groups:
        return 1.0
    least = abs(float(moved_G.sum())) - 1e-12
    if n_groups <= 13:  # every sign there is: exact
        signs_FG = ((np.arange(1 << n_groups)[:, None] >> np.arange(n_groups)) & 1) * 2 - 1
        return float((np.abs(signs_FG @ moved_G) >= least).mean())
    rng = np.random.default_rng(seed)
    extreme = 0
    for start in range(0, N_FLIPS, 1000):  # a thousand at a time: N_FLIPS x groups signs at once could be gigabytes
        flips = min(1000, N_FLIPS - start)
        signs_FG = rng.integers(0, 2, (flips, n_groups), dtype=np.int8) * 2 - 1
        extreme += int((np.abs(signs_FG @ moved_G) >= least).sum())
    return (1 + extreme) / (1 + N_FLIPS)


def compact_letters(n: int, differ: Collection[tuple[int, int]]) -> list[str]:
    """Letters for systems 0 to n-1, in order of rank: two share a letter exactly when they were not found to differ.

    differ: pairs (either way round) that were. Insert and absorb (Piepho 2004, J. Computational and Graphical Statistics 13:456).
    Raises ValueError on a pair that names one system twice or one that is not there.
    """
    if any(i == j or not (0 <= i < n and 0 <= j < n) for i, j in differ):
        raise ValueError(f"pairs must name two of the systems 0 to {n - 1}")
    columns: list[frozenset[int]] = [frozenset(range(n))] if n else []
    for i, j in sorted(tuple(sorted(pair)) for pair in differ):
        split = [
            part for column in columns for part in ((column - {i}, column - {j}) if {i, j} <= column else (column,))
        ]
        unique = list(dict.fromkeys(split))
        columns = [one for one in unique if not any(one < other for other in unique)]
    columns.sort(key=sorted)
    return ["".join(_letter(k) for k, column in enumerate(columns) if i in column) for i in range(n)]


def _letter(k: int) -> str:
    """a, b, ..., z, then a1, b1, ..."""
    return chr(ord("a") + k % 26) + (str(k // 26) if k >= 26 else "")
