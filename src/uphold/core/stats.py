"""Intervals, tests and sample sizes: pure functions on numbers.

Every `Measurement` gets its interval here. Each function names its equation and source, and stays right at the ends (k = 0, k = n)
and for n = 0, where nothing is known and the interval is the whole range. SciPy is imported on first use, for the beta and normal
quantiles only. Left out: asymptotic (Wald) intervals, which are wrong where safety numbers live, near 0 and 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from statistics import NormalDist
from typing import Any, NamedTuple


class Interval(NamedTuple):
    """A confidence interval: low <= high, how it was made, and its level (e.g. 0.95)."""

    low: float
    high: float
    method: str
    level: float = 0.95


def _check_counts(k: float, n: float, level: float) -> None:
    if n < 0 or not 0 <= k <= n:
        raise ValueError(f"need 0 <= k <= n, got k={k}, n={n}")
    _check_level(level)


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ValueError(f"level must lie strictly between 0 and 1, got {level}")


def _z(level: float) -> float:
    """Two-sided standard normal quantile: 1.95996 at level 0.95."""
    return NormalDist().inv_cdf(0.5 + level / 2)


def wilson(k: float, n: float, level: float = 0.95) -> Interval:
    """Score interval for a proportion k/n.

    (p + z^2/2n -+ z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n), p = k/n (Wilson 1927, JASA 22:209). n = 0 gives (0, 1).
    k and n may be effective counts, which are not whole (see `effective_n`).
    """
    _check_counts(k, n, level)
    if n == 0:
        return Interval(0.0, 1.0, "wilson", level)
    z, p = _z(level), k / n
    centre = p + z * z / (2 * n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    low = 0.0 if k == 0 else max(0.0, (centre - half) / scale)  # exact at the ends, where rounding would leave 1e-17
    high = 1.0 if k == n else min(1.0, (centre + half) / scale)
    return Interval(low, high, "wilson", level)


def clopper_pearson(k: int, n: int, level: float = 0.95) -> Interval:
    """Exact interval for a proportion: coverage is at least `level` for every true rate. n = 0 gives (0, 1).

    low = Beta^-1(a/2; k, n-k+1), high = Beta^-1(1-a/2; k+1, n-k), a = 1 - level (Clopper & Pearson 1934, Biometrika 26:404).
    """
    _check_counts(k, n, level)
    tail = (1 - level) / 2
    return Interval(_beta_low(k, n, tail), _beta_high(k, n, tail), "clopper-pearson", level)


def upper_bound(k: float, n: float, level: float = 0.95) -> float:
    """One-sided exact upper bound of a rate: the true rate is below it with confidence `level`. 1.0 for n = 0 or k = n.

    Beta^-1(level; k+1, n-k). With k = 0 this is 1 - (1-level)^(1/n), about 3/n at 95%. k and n may be effective counts, which are not
    whole (Korn & Graubard 1998, Survey Methodology 24:193).
    """
    _check_counts(k, n, level)
    return _beta_high(k, n, 1 - level)


def lower_bound(k: int, n: int, level: float = 0.95) -> float:
    """One-sided exact lower bound of a rate: Beta^-1(1-level; k, n-k+1). 0.0 for n = 0 or k = 0."""
    _check_counts(k, n, level)
    return _beta_low(k, n, 1 - level)


def _beta_low(k: int, n: int, tail: float) -> float:
    from scipy.special import betaincinv

    return 0.0 if k == 0 else float(betaincinv(k, n - k + 1, tail))


def _beta_high(k: float, n: float, tail: float) -> float:
    from scipy.special import betainccinv

    return 1.0 if k == n else float(betainccinv(k + 1, n - k, tail))


def newcombe_paired(a: float, b: float, c: float, d: float, level: float = 0.95) -> Interval:
    """Interval for p1 - p2, two proportions of the same items. n = 0 gives (-1, 1).

    a: both true; b: only the first; c: only the second; d: neither. p1 - p2 = (b - c)/n. Method 10 of Newcombe 1998
    (Statistics in Medicine 17:2635): the two Wilson intervals joined by the correlation phi, corrected for continuity.
    Counts may be effective counts, which are not whole (see `effective_n`).
    """
    n = a + b + c + d
    if min(a, b, c, d) < 0:
        raise ValueError(f"counts must not be negative, got {(a, b, c, d)}")
    _check_level(level)
    if n == 0:
        return Interval(-1.0, 1.0, "newcombe-paired", level)
    first, second = wilson(a + b, n, level), wilson(a + c, n, level)
    p1, p2 = (a + b) / n, (a + c) / n
    phi = _phi(a, b, c, d)
    low_1, high_1 = p1 - first.low, first.high - p1
    low_2, high_2 = p2 - second.low, second.high - p2
    down = math.sqrt(max(0.0, low_1**2 - 2 * phi * low_1 * high_2 + high_2**2))
    up = math.sqrt(max(0.0, high_1**2 - 2 * phi * high_1 * low_2 + low_2**2))
    difference = (b - c) / n
    return Interval(max(-1.0, difference - down), min(1.0, difference + up), "newcombe-paired", level)


def _phi(a: float, b: float, c: float, d: float) -> float:
    """Newcombe's corrected correlation: numerator ad - bc, brought n/2 closer to zero (not past it) when positive; 0 if a margin is 0."""
    margins = (a + b) * (c + d) * (a + c) * (b + d)
    if margins == 0:
        return 0.0
    numerator = a * d - b * c
    if numerator > 0:
        numerator = max(0.0, numerator - (a + b + c + d) / 2)
    return numerator / math.sqrt(margins)


def mcnemar_exact(b: int, c: int) -> float:
    """Two-sided exact p-value that discordant pairs split evenly: min(1, 2 P(X <= min(b, c))), X ~ Binomial(b + c, 1/2).

    b, c: items only the first, only the second got right (McNemar 1947; exact form, Liddell 1976). 1.0 when b + c = 0.
    """
    if b < 0 or c < 0:
        raise ValueError(f"counts must not be negative, got {(b, c)}")
    if b == c:
        return 1.0
    from scipy.special import bdtr

    return min(1.0, 2 * float(bdtr(min(b, c), b + c, 0.5)))


def effective_n(values: Sequence[float], groups: Sequence[Hashable], level: float = 0.95) -> float:
    """How many independent values say as much about the mean as these do, in (0, n]: n / design effect, corrected for few groups.

    var = G/(G-1) sum_g d_g^2 / n^2, d_g = sum_{i in g} (x_i - mean) (linearised, between groups); n_eff = s^2 / var, s^2 = mean squared
    deviation; times (z/t_df)^2 (Korn & Graubard 1998, Survey Methodology 24:193), and never above n. When events are rare in groups
    that are alike, a few groups carry all the spread, and G groups tell less of it than G - 1 degrees of freedom say. So df comes from
    the fourth moment: a variance of G values with kurtosis k = G sum d^4 / (sum d^2)^2 has df = 2G / (k - (G-3)/(G-1))
    (Satterthwaite 1946, Biometrics Bulletin 2:110), held between 6 (fewer are not told apart by so few events, and would let a bad
    sample more narrow the interval) and G - 1. Values all alike show no spread to go by: one value of the largest group is then taken
    to differ, so that a perfect score is never held less sure than one with a single failure. One group or none gives 0.0: nothing is
    known of the spread between groups.
    """
    import numpy as np

    values_N, group_N, n_groups = _grouped(values, groups)
    size_G = np.bincount(group_N, minlength=n_groups)
    sum_G = np.bincount(group_N, weights=values_N, minlength=n_groups)
    return effective_n_of_sums(size_G, sum_G, float((values_N**2).sum()), level)


def effective_n_of_sums(
    sizes: Any, sums: Any, sum_of_squares: float, level: float = 0.95, *, is_difference: bool = False
) -> float:
    """`effective_n` of values known only by each group's size (>= 1) and sum (sequences of equal length), and the sum of all squares.

    is_difference: values are differences of pairs, for `newcombe_paired`: df stays G - 1, since that method errs to the safe side by
    itself (simulated: benchmarks/gate_simulation.py).
    """
    import numpy as np

    size_G, sum_G = np.asarray(sizes, dtype=float), np.array(sums, dtype=float)
    if len(size_G) < 2:
        return 0.0
    n, square = float(size_G.sum()), sum_of_squares
    spread = max(0.0, square / n - (float(sum_G.sum()) / n) ** 2)
    if spread <= 1e-12 * max(1.0, square / n):  # rounding may leave a trace of a spread that is none
        largest = int(np.argmax(size_G))
        square += 2 * float(sum_G[largest] / size_G[largest]) + 1
        sum_G[largest] += 1
        spread = square / n - (float(sum_G.sum()) / n) ** 2
    deviation_G = sum_G - size_G * (float(sum_G.sum()) / n)
    squared_G = deviation_G**2
    n_groups, total = len(size_G), float(squared_G.sum())
    if total <= 1e-18 * n**2:  # groups exactly alike
        return n * (_z(level) / _t(level, n_groups - 1)) ** 2
    variance = n_groups / (n_groups - 1) * total / n**2
    kurtosis = n_groups * float((squared_G**2).sum()) / total**2
    df = n_groups - 1 if is_difference else _degrees_of_freedom(n_groups, kurtosis)
    plain = spread / variance if n_groups >= MIN_GROUPS_FOR_LUCK else min(n, spread / variance)
    return min(n, plain * (_z(level) / _t(level, df)) ** 2)


MIN_GROUPS_FOR_LUCK = 10
"""fewer groups that came out more alike than independent values would are taken for chance: no credit is given for it"""
MIN_DF = 6
"""of a spread that a few groups carry; see `effective_n`"""


def _degrees_of_freedom(n_groups: int, kurtosis: float) -> float:
    """Of a variance between groups (Satterthwaite): n_groups - 1 for normal deviations, fewer the heavier their tails."""
    found = 2 * n_groups / max(1e-12, kurtosis - (n_groups - 3) / (n_groups - 1))
    return min(n_groups - 1, max(MIN_DF, found))


def _t(level: float, df: float) -> float:
    """Two-sided quantile of Student's t."""
    from scipy.special import stdtrit

    return float(stdtrit(df, 0.5 + level / 2))


def _grouped(values: Sequence[Any], groups: Sequence[Hashable]) -> tuple[Any, Any, int]:
    """(float array of n rows, group number of each, number of groups)."""
    import numpy as np

    if len(values) != len(groups):
        raise ValueError(f"need one group per value, got {len(values)} values and {len(groups)} groups")
    index: dict[Hashable, int] = {}
    group_N = np.array([index.setdefault(group, len(index)) for group in groups], dtype=np.int64)
    return np.asarray(values, dtype=float), group_N, len(index)


def wilson_clustered(values: Sequence[float], groups: Sequence[Hashable], level: float = 0.95) -> Interval:
    """Wilson interval for a proportion whose items repeat within groups: `wilson` on the effective count.

    values: 0 or 1 each. Dean & Pagano 2015 (J. Survey Statistics and Methodology 3:484) find it near its level where the bootstrap
    falls short: rare events and few groups.
    """
    if any(value not in (0, 1) for value in values):
        raise ValueError("values must be 0 or 1")
    n = effective_n(values, groups, level)
    p = sum(values) / len(values) if values else 0.0
    low, high, _, _ = wilson(p * n, n, level)
    return Interval(low, high, "wilson-clustered", level)


def bootstrap_clustered(
    values: Sequence[Any],
    groups: Sequence[Hashable],
    statistic: Callable[[Any], float] | None = None,
    n_boot: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Bootstrap interval of `statistic` (default: mean) when values of one group belong together.

    Whole groups are drawn with replacement, so the spread is that between groups (Davison & Hinkley 1997, section 3.8). A mean over eight
    groups or more: bootstrap-t, with the linearised standard error of the mean (ibid. 5.2.1), for percentiles alone cover 86% to 92% with
    15 groups. Otherwise percentiles, moved outwards as for Student: tail = Phi(-sqrt(G/(G-1)) t_{G-1}) (Hesterberg 2015, arXiv:1411.5279).
    values: n numbers, or n rows of numbers (e.g. score and label, for a statistic of both); statistic: takes the drawn rows as a
    float array, and its NaNs are left out. One group tells nothing of the spread: (-inf, inf). Raises ValueError without values.
    """
    import numpy as np

    _check_level(level)
    values_N, group_N, n_groups = _grouped(values, groups)
    if n_groups == 0:
        raise ValueError("need at least one value")
    if n_groups == 1:
        return Interval(-math.inf, math.inf, "bootstrap-clustered", level)
    rng = np.random.default_rng(seed)
    if statistic is None:
        mean, error, stats_B, error_B = _resampled_means(values_N, group_N, n_groups, n_boot, rng)
        if n_groups >= MIN_GROUPS_FOR_T:
            t_B = ((stats_B - mean) / np.where(error_B > 0, error_B, np.nan))[error_B > 0]
            if not len(t_B):  # no draw shows any spread
                return Interval(mean, mean, "bootstrap-clustered", level)
            low, high = mean - error * np.quantile(t_B, [0.5 + level / 2, 0.5 - level / 2])
            return Interval(float(low), float(high), "bootstrap-clustered", level)
    else:
        members = [values_N[group_N == g] for g in range(n_groups)]
        draws = (rng.integers(n_groups, size=n_groups) for _ in range(n_boot))
        stats_B = np.array([statistic(np.concatenate([members[g] for g in draw])) for draw in draws], dtype=float)
    tail = NormalDist().cdf(-math.sqrt(n_groups / (n_groups - 1)) * _t(level, n_groups - 1))
    low, high = np.nanquantile(stats_B, [tail, 1 - tail])
    return Interval(float(low), float(high), "bootstrap-clustered", level)


MIN_GROUPS_FOR_T = 8
"""below it the standard errors of draws are too wild to divide by"""


def _resampled_means(
    values_N: Any, group_N: Any, n_groups: int, n_boot: int, rng: Any
) -> tuple[float, float, Any, Any]:
    """(mean, its standard error, both of `n_boot` draws of whole groups): each needs only the groups' sums and sizes."""
    import numpy as np

    sum_G = np.bincount(group_N, weights=values_N)
    size_G = np.bincount(group_N).astype(float)

    def of(sum_BG: Any, size_BG: Any) -> tuple[Any, Any]:
        n_B = size_BG.sum(axis=-1, keepdims=True)
        mean_B = sum_BG.sum(axis=-1, keepdims=True) / n_B
        squares_B = ((sum_BG - size_BG * mean_B) ** 2).sum(axis=-1, keepdims=True)
        return mean_B[..., 0], np.sqrt(n_groups / (n_groups - 1) * squares_B)[..., 0] / n_B[..., 0]

    mean, error = of(sum_G, size_G)
    means, errors = [], []
    step = max(1, 1_000_000 // n_groups)  # n_boot x n_groups numbers at once could be gigabytes
    for start in range(0, n_boot, step):
        draw_BG = rng.integers(n_groups, size=(min(step, n_boot - start), n_groups))
        mean_B, error_B = of(sum_G[draw_BG], size_G[draw_BG])
        means.append(mean_B)
        errors.append(error_B)
    return float(mean), float(error), np.concatenate(means), np.concatenate(errors)


def sign_flip(differences: Sequence[float], groups: Sequence[Hashable], *, seed: int = 0, n_flips: int = 9999) -> float:
    """One-sided p-value that paired differences have a mean above 0: signs of whole groups flipped at random.

    differences: after - before, one a pair; groups: what repeats, flipped together. p is (1 + flips at least as extreme) / (1 +
    n_flips), so never 0; 1.0 when no group differs. Raises ValueError when the lengths differ or nothing is given.
    """
    import numpy as np

    if len(differences) != len(groups) or not differences:
        raise ValueError(f"{len(differences)} differences for {len(groups)} groups: give as many, and at least one")
    sums: dict[Hashable, float] = {}
    for value, group in zip(differences, groups, strict=True):
        sums[group] = sums.get(group, 0.0) + value
    moved_G = np.array([value for value in sums.values() if value])
    if not len(moved_G):
        return 1.0
    rng = np.random.default_rng(seed)
    extreme = 0
    for start in range(0, n_flips, 1000):  # a thousand at a time: n_flips x groups signs at once could be gigabytes
        flips = min(1000, n_flips - start)
        signs_FG = rng.integers(0, 2, (flips, len(moved_G)), dtype=np.int8) * 2 - 1
        extreme += int((signs_FG @ moved_G >= moved_G.sum() - 1e-12).sum())
    return (1 + extreme) / (1 + n_flips)


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for testing many at once; reject those <= q to keep the expected share of false alarms below q.

    adjusted_(i) = min over j >= i of p_(j) m / j, ranks ascending (Benjamini & Hochberg 1995, JRSS B 57:289). Order is kept.
    """
    if any(not 0 <= p <= 1 for p in p_values):
        raise ValueError("p-values must lie in [0, 1]")
    m = len(p_values)
    adjusted, running = [1.0] * m, 1.0
    for rank, i in sorted(enumerate(sorted(range(m), key=lambda i: p_values[i]), start=1), reverse=True):
        running = min(running, p_values[i] * m / rank)
        adjusted[i] = running
    return adjusted


def required_n_for_difference(p1: float, p2: float, power: float = 0.8, level: float = 0.95) -> int:
    """Items per arm so that a two-sided test at `level` sees p1 against p2 with probability `power`.

    n = (z_a sqrt(2 q(1-q)) + z_b sqrt(p1(1-p1) + p2(1-p2)))^2 / (p1-p2)^2, q = (p1+p2)/2 (Fleiss, Levin & Paik 2003, eq. 4.14,
    without continuity correction). Raises ValueError when p1 = p2: no number of items would do.
    """
    if p1 == p2 or not (0 <= p1 <= 1 and 0 <= p2 <= 1):
        raise ValueError(f"need two different rates in [0, 1], got {p1} and {p2}")
    _check_level(level)
    _check_level(power)
    q = (p1 + p2) / 2
    z_power = NormalDist().inv_cdf(power)
    root = _z(level) * math.sqrt(2 * q * (1 - q)) + z_power * math.sqrt(p1 * (1 - p1) + p2 * (1 - p2))
    return math.ceil((root / (p1 - p2)) ** 2)


def required_n_for_upper_bound(rate: float, level: float = 0.95, failures: int = 0) -> int:
    """Fewest items with which `failures` failures or fewer prove, at confidence `level`, that the true rate is below `rate`.

    The smallest n with `upper_bound(failures, n, level) <= rate`; for 0 failures ceil(log(1-level) / log(1-rate)).
    """
    if not 0 < rate < 1:
        raise ValueError(f"rate must lie strictly between 0 and 1, got {rate}")
    _check_level(level)
    low, high = failures, max(1, failures + 1)
    while upper_bound(failures, high, level) > rate:
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if upper_bound(failures, middle, level) <= rate else (middle, high)
    return high
