"""Intervals, tests and sample sizes agree with published tables, with SciPy, and with working by hand."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, false_discovery_control

from uphold.core.stats import (
    Interval,
    benjamini_hochberg,
    bootstrap_clustered,
    clopper_pearson,
    effective_n,
    effective_n_of_sums,
    lower_bound,
    mcnemar_exact,
    newcombe_paired,
    required_n_for_difference,
    required_n_for_upper_bound,
    upper_bound,
    wilson,
    wilson_clustered,
)

counts = st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
levels = st.sampled_from([0.8, 0.9, 0.95, 0.99])

# Newcombe 1998, Statistics in Medicine 17:857, Table I: k, n, Wilson score interval, Clopper-Pearson interval
TABLE_I = [
    (81, 263, (0.2553, 0.3662), (0.2527, 0.3676)),
    (15, 148, (0.0624, 0.1605), (0.0578, 0.1617)),
    (0, 20, (0.0000, 0.1611), (0.0000, 0.1684)),
    (1, 29, (0.0061, 0.1718), (0.0009, 0.1776)),
]


@pytest.mark.parametrize(("k", "n", "score", "exact"), TABLE_I)
def test_wilson_and_clopper_pearson_give_the_published_table(k, n, score, exact):
    assert wilson(k, n)[:2] == pytest.approx(score, abs=5e-5)
    assert clopper_pearson(k, n)[:2] == pytest.approx(exact, abs=5e-5)


@given(counts, levels)
def test_single_proportion_intervals_equal_scipys(pair, level):
    k, n = pair
    test = binomtest(k, n)
    reference = test.proportion_ci(level, method="wilson")
    assert wilson(k, n, level)[:2] == pytest.approx((reference.low, reference.high), abs=1e-9)
    reference = test.proportion_ci(level, method="exact")
    assert clopper_pearson(k, n, level)[:2] == pytest.approx((reference.low, reference.high), abs=1e-9)


@given(counts, levels)
def test_intervals_hold_the_estimate_and_stay_in_range(pair, level):
    k, n = pair
    for interval in (wilson(k, n, level), clopper_pearson(k, n, level)):
        assert 0 <= interval.low <= k / n <= interval.high <= 1
        assert interval.level == level


@given(counts, levels)
def test_intervals_of_failures_mirror_those_of_successes(pair, level):
    k, n = pair
    for make in (wilson, clopper_pearson):
        assert make(n - k, n, level).low == pytest.approx(1 - make(k, n, level).high, abs=1e-9)


def test_at_the_ends_the_bounds_are_exactly_zero_and_one():
    for n in (1, 2, 7, 100, 10**6):
        for make in (wilson, clopper_pearson):
            assert make(0, n).low == 0.0
            assert make(n, n).high == 1.0
        # with k = 0 Wilson's upper bound is z^2 / (n + z^2), z = 1.959964
        assert wilson(0, n).high == pytest.approx(3.841459 / (n + 3.841459), rel=1e-6)


def test_without_data_nothing_is_known():
    assert wilson(0, 0) == Interval(0.0, 1.0, "wilson", 0.95)
    assert clopper_pearson(0, 0) == Interval(0.0, 1.0, "clopper-pearson", 0.95)
    assert (lower_bound(0, 0), upper_bound(0, 0)) == (0.0, 1.0)
    assert newcombe_paired(0, 0, 0, 0) == Interval(-1.0, 1.0, "newcombe-paired", 0.95)


@pytest.mark.parametrize(("k", "n", "level"), [(-1, 5, 0.95), (6, 5, 0.95), (0, -1, 0.95), (1, 2, 0.0), (1, 2, 1.0)])
def test_impossible_counts_and_levels_are_refused(k, n, level):
    for make in (wilson, clopper_pearson, upper_bound, lower_bound):
        with pytest.raises(ValueError, match="need 0 <= k <= n|level must lie strictly between 0 and 1"):
            make(k, n, level)


def test_upper_bound_with_no_failure_is_the_rule_of_three():
    # (1 - p)^n = 0.05  =>  p = 1 - 0.05^(1/n);  n = 100: 1 - exp(-2.995732 / 100) = 0.029513
    assert upper_bound(0, 100) == pytest.approx(0.029513, abs=1e-6)
    assert upper_bound(0, 10**7) == pytest.approx(3.0 / 10**7, rel=0.002)
    assert upper_bound(5, 5) == 1.0
    assert lower_bound(0, 5) == 0.0
    assert lower_bound(100, 100) == pytest.approx(1 - 0.029513, abs=1e-6)


@given(counts, levels)
def test_a_one_sided_bound_is_the_end_of_the_two_sided_interval_of_twice_the_tail(pair, level):
    k, n = pair
    two_sided = clopper_pearson(k, n, 2 * level - 1)
    assert upper_bound(k, n, level) == pytest.approx(two_sided.high, abs=1e-12)
    assert lower_bound(k, n, level) == pytest.approx(two_sided.low, abs=1e-12)


def test_newcombe_paired_worked_by_hand():
    """20 both, 12 only first, 2 only second, 16 neither; n = 50, z^2 = 3.841459, p1 = 0.64, p2 = 0.44, difference 0.20.

    Wilson p1: (0.64 + 0.038415 -+ 1.959964 sqrt(0.64 0.36/50 + 3.841459/10000)) / 1.076829 = 0.50141, 0.75859
    Wilson p2: 0.31162, 0.57694.   phi: (20 16 - 12 2 - 25) / sqrt(32 18 22 28) = 271 / 595.667 = 0.454952
    down^2 = 0.13859^2 - 2 0.454952 0.13859 0.13694 + 0.13694^2 = 0.020691, so low  = 0.20 - 0.14384 = 0.05616
    up^2   = 0.11859^2 - 2 0.454952 0.11859 0.12838 + 0.12838^2 = 0.016693, so high = 0.20 + 0.12920 = 0.32920
    """
    interval = newcombe_paired(20, 12, 2, 16)
    assert interval[:2] == pytest.approx((0.05616, 0.32920), abs=2e-5)
    assert interval.method == "newcombe-paired"


def test_newcombe_paired_with_no_discordant_pair_still_has_width():
    # p1 = p2 = 0.5, Wilson -+ 0.0962 on both sides; phi = (2500 - 50) / 2500 = 0.98; sqrt(2 0.0962^2 0.02) = 0.01924
    low, high, _, _ = newcombe_paired(50, 0, 0, 50)
    assert (low, high) == pytest.approx((-0.01924, 0.01924), abs=1e-5)


cells = st.tuples(*[st.integers(0, 400)] * 4).filter(any)


@given(cells, levels)
def test_newcombe_paired_holds_the_difference_and_turns_with_its_sides(table, level):
    a, b, c, d = table
    low, high, _, _ = newcombe_paired(a, b, c, d, level)
    assert -1 <= low <= (b - c) / sum(table) <= high <= 1
    turned = newcombe_paired(a, c, b, d, level)
    assert (turned.low, turned.high) == pytest.approx((-high, -low), abs=1e-12)


def test_newcombe_paired_refuses_negative_counts():
    with pytest.raises(ValueError, match="counts must not be negative"):
        newcombe_paired(1, -1, 0, 0)


def test_mcnemar_exact_worked_by_hand():
    # 1 against 8: 2 P(X <= 1), X ~ Bin(9, 1/2): 2 (1 + 9) / 512 = 0.0390625
    assert mcnemar_exact(1, 8) == pytest.approx(0.0390625)
    assert mcnemar_exact(8, 1) == pytest.approx(0.0390625)
    assert mcnemar_exact(0, 5) == pytest.approx(2 / 32)
    assert mcnemar_exact(0, 0) == 1.0
    assert mcnemar_exact(3, 3) == 1.0


@given(st.integers(0, 300), st.integers(0, 300))
def test_mcnemar_exact_equals_scipys_sign_test(b, c):
    expected = binomtest(b, b + c).pvalue if b + c else 1.0
    assert mcnemar_exact(b, c) == pytest.approx(expected, rel=1e-9)


def test_mcnemar_refuses_negative_counts():
    with pytest.raises(ValueError, match="counts must not be negative"):
        mcnemar_exact(-1, 2)


def test_benjamini_hochberg_worked_by_hand():
    # sorted .005 .01 .03 .04, times 4 / rank: .02 .02 .04 .04
    assert benjamini_hochberg([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.02, 0.04, 0.04, 0.02])
    assert benjamini_hochberg([]) == []
    assert benjamini_hochberg([0.2]) == [0.2]
    with pytest.raises(ValueError, match=r"p-values must lie in \[0, 1\]"):
        benjamini_hochberg([0.5, float("nan")])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_benjamini_hochberg_equals_scipys(p_values):
    assert benjamini_hochberg(p_values) == pytest.approx(false_discovery_control(p_values).tolist(), abs=1e-12)


def test_effective_n_of_whole_clusters_counts_the_clusters():
    """40 groups of 5 equal values: deff = 5, so n_eff = 200/5 40-1/40 (the G/(G-1) of the variance) (z/t_39)^2.

    = 40 0.975 (1.959964 / 2.022691)^2 = 39 0.938939 = 36.6186
    """
    values = [float(g % 2) for g in range(40) for _ in range(5)]
    groups = [g for g in range(40) for _ in range(5)]
    assert effective_n(values, groups) == pytest.approx(36.6186, abs=1e-3)


def test_effective_n_edge_cases():
    assert effective_n([], []) == 0.0
    assert effective_n([1, 0, 1], ["a", "a", "a"]) == 0.0, "one group tells nothing of the spread between groups"
    assert effective_n([0.0] * 6, [1, 1, 2, 2, 3, 3]) == effective_n([1.0] + [0.0] * 5, [1, 1, 2, 2, 3, 3]), "all alike"
    # one success in each pair: the group means do not differ at all, yet n_eff is never above n (z/t)^2 = 6 (1.96/2.571)^2
    assert effective_n([1, 0] * 6, [g for g in range(6) for _ in range(2)]) == pytest.approx(
        12 * (1.959964 / 2.570582) ** 2
    )
    with pytest.raises(ValueError, match="need one group per value"):
        effective_n([1.0], [])


@given(st.lists(st.tuples(st.sampled_from([0.0, 1.0]), st.integers(0, 8)), min_size=1, max_size=60))
def test_wilson_clustered_is_never_narrower_than_wilson_on_the_same_share(rows):
    values, groups = [v for v, _ in rows], [g for _, g in rows]
    low, high, method, _ = wilson_clustered(values, groups)
    plain = wilson(int(sum(values)), len(values))
    assert low <= plain.low + 1e-12
    assert high >= plain.high - 1e-12
    assert method == "wilson-clustered"


def test_wilson_clustered_is_surer_of_no_success_than_of_one_and_never_surer_than_wilson():
    groups = [i % 10 for i in range(50)]
    none, one = wilson_clustered([0.0] * 50, groups), wilson_clustered([1.0] + [0.0] * 49, groups)
    assert wilson(0, 50).high < none.high < one.high


def test_wilson_clustered_edge_cases():
    assert wilson_clustered([1.0] * 5, ["one"] * 5)[:2] == (0.0, 1.0)
    assert wilson_clustered([], [])[:2] == (0.0, 1.0)
    with pytest.raises(ValueError, match="values must be 0 or 1"):
        wilson_clustered([0.5], [1])


def test_wilson_clustered_covers_the_truth_at_its_level():
    """60 groups of 5 items that share their group's rate, drawn around 0.1: 95% intervals, 400 draws.

    Binomial error of a coverage of 0.95 over 400 draws is 0.011. The plain interval, blind to groups, falls short.
    """
    import numpy as np

    rng = np.random.default_rng(0)
    groups = [g for g in range(60) for _ in range(5)]
    covered = naive = 0
    for _ in range(400):
        rates_G = rng.beta(0.1 * 1.5, 0.9 * 1.5, 60)  # correlation within a group 1 / (1 + 1.5) = 0.4
        values = (rng.random((60, 5)) < rates_G[:, None]).astype(float).ravel().tolist()
        low, high, _, _ = wilson_clustered(values, groups)
        covered += low <= 0.1 <= high
        plain = wilson(int(sum(values)), 300)
        naive += plain.low <= 0.1 <= plain.high
    assert covered / 400 == pytest.approx(0.95, abs=0.035)
    assert naive / 400 < 0.85


def test_bootstrap_of_independent_values_nears_the_normal_interval():
    # mean of 0..99 is 49.5, its standard error 28.866 / 10 = 2.887, so 49.5 -+ 5.66
    low, high, method, _ = bootstrap_clustered([float(i) for i in range(100)], range(100), n_boot=4000, seed=1)
    assert (low, high) == pytest.approx((49.5 - 5.66, 49.5 + 5.66), abs=0.4)
    assert method == "bootstrap-clustered"


def test_bootstrap_widens_when_values_repeat_within_groups():
    """Each of 25 values given 16 times: as 400 independent values the error would be 4 times too small."""
    values = [float(i) for i in range(25) for _ in range(16)]
    apart = bootstrap_clustered(values, range(400))
    together = bootstrap_clustered(values, [i for i in range(25) for _ in range(16)])
    assert (together.high - together.low) / (apart.high - apart.low) == pytest.approx(4, rel=0.1)


def test_bootstrap_repeats_with_its_seed_and_takes_any_statistic_of_rows():
    rows = [(float(i), float(i % 2)) for i in range(40)]

    def gap(drawn):
        return drawn[drawn[:, 1] == 1, 0].mean() - drawn[drawn[:, 1] == 0, 0].mean()

    first = bootstrap_clustered(rows, range(40), statistic=gap, n_boot=300, seed=3)
    assert first == bootstrap_clustered(rows, range(40), statistic=gap, n_boot=300, seed=3)
    assert first != bootstrap_clustered(rows, range(40), statistic=gap, n_boot=300, seed=4)
    assert first.low < 1.0 < first.high  # odd numbers are on average 1 above even ones


def test_bootstrap_edge_cases():
    assert bootstrap_clustered([0.3, 0.4], ["a", "a"])[:2] == (-math.inf, math.inf)
    assert bootstrap_clustered([0.3, 0.3], ["a", "b"])[:2] == pytest.approx((0.3, 0.3))
    with pytest.raises(ValueError, match="need at least one value"):
        bootstrap_clustered([], [])


def test_required_n_for_difference_gives_the_textbook_number():
    # p 0.5 against 0.6: (1.959964 sqrt(2 .55 .45) + 0.841621 sqrt(.25 + .24))^2 / .01 = (1.378972 + 0.589135)^2 / .01 = 387.3
    assert required_n_for_difference(0.5, 0.6) == 388
    assert required_n_for_difference(0.6, 0.5) == 388
    assert required_n_for_difference(0.5, 0.6, power=0.9) == 519
    for p1, p2 in ((0.3, 0.3), (-0.1, 0.3)):
        with pytest.raises(ValueError, match="need two different rates"):
            required_n_for_difference(p1, p2)


def test_required_n_for_upper_bound_worked_by_hand():
    # 0.99^n <= 0.05  =>  n >= log 0.05 / log 0.99 = 298.07
    assert required_n_for_upper_bound(0.01) == 299
    assert required_n_for_upper_bound(0.5, level=0.5) == 1
    with pytest.raises(ValueError, match="rate must lie strictly between 0 and 1"):
        required_n_for_upper_bound(0.0)


@given(st.floats(0.002, 0.9), st.integers(0, 6), levels)
def test_required_n_for_upper_bound_is_the_fewest_that_do(rate, failures, level):
    n = required_n_for_upper_bound(rate, level, failures)
    assert upper_bound(failures, n, level) <= rate
    assert n == failures + 1 or upper_bound(failures, n - 1, level) > rate


def test_a_spread_that_one_group_carries_has_few_degrees_of_freedom():
    sizes, sums = [10] * 20, [5] + [0] * 19
    # mean 0.025; d = 4.75, then -0.25 nineteen times: sum d^2 = 23.75, sum d^4 = 509.14, kurtosis 20 * 509.14 / 23.75^2 = 18.05
    # df = 40 / (18.05 - 17/19) = 2.3, held at 6; n_eff = 0.024375 / (20/19 * 23.75 / 200^2) * (1.95996 / 2.44691)^2 = 39 * 0.64159
    assert effective_n_of_sums(sizes, sums, 5) == pytest.approx(25.022, abs=0.001)
    # as a difference of pairs, df = 19: (1.95996 / 2.09302)^2 = 0.87690
    assert effective_n_of_sums(sizes, sums, 5, is_difference=True) == pytest.approx(34.199, abs=0.001)


def test_a_spread_that_all_groups_share_has_all_degrees_of_freedom():
    sizes, sums = [10] * 20, [0, 2] * 10  # kurtosis 1: df = 40 / (1 - 17/19) = 380, held at 19
    # mean 0.1; sum d^2 = 20; n_eff = 0.09 / (20/19 * 20 / 200^2) * 0.87690 = 171 * 0.87690
    assert effective_n_of_sums(sizes, sums, 20) == pytest.approx(149.950, abs=0.001)


def test_one_more_event_never_narrows_a_clustered_interval_of_rare_ones_below_none():
    sizes = [15] * 270
    highs = []
    for n_hit in range(12):  # one event in each of so many groups
        n = effective_n_of_sums(sizes, [1] * n_hit + [0] * (270 - n_hit), n_hit)
        highs.append(wilson(n_hit / 4050 * n, n).high)
    assert highs == sorted(highs)
