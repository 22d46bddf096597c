"""Differences between systems: intervals, p-values and letters, against published and independent values."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from uphold.core.contrasts import compact_letters, mover_difference, p_of_interval, paired_p
from uphold.core.stats import Interval, benjamini_hochberg, mcnemar_exact, wilson


def of_counts(k1, n1, k2, n2, level=0.95):
    """The difference k2/n2 - k1/n1 from the two Wilson intervals."""
    first, second = wilson(k1, n1, level), wilson(k2, n2, level)
    return mover_difference(k1 / n1, first[:2], k2 / n2, second[:2], level)


def test_an_unpaired_difference_is_newcombes_published_example():
    # Newcombe 1998 (Statistics in Medicine 17:873), table II: 56/70 - 48/80 by method 10 is 0.0524 to 0.3339
    found = of_counts(48, 80, 56, 70)
    assert (round(found.low, 4), round(found.high, 4)) == (0.0524, 0.3339)
    # and 9/10 - 3/10: 0.1705 to 0.8090
    found = of_counts(3, 10, 9, 10)
    assert (round(found.low, 4), round(found.high, 4)) == (0.1705, 0.8090)


def test_an_unpaired_difference_worked_by_hand():
    # lower: 0.2 - sqrt((0.5-0.4)^2 + (0.37-0.3)^2) = 0.2 - 0.12207; upper: 0.2 + sqrt((0.62-0.5)^2 + (0.3-0.25)^2) = 0.2 + 0.13
    found = mover_difference(0.3, (0.25, 0.37), 0.5, (0.4, 0.62))
    assert found.low == pytest.approx(0.2 - math.sqrt(0.0149))
    assert found.high == pytest.approx(0.33)
    assert found.method == "mover"


def test_a_value_outside_its_own_interval_is_refused():
    with pytest.raises(ValueError, match=r"0\.9 lies outside its interval 0\.2 to 0\.4"):
        mover_difference(0.9, (0.2, 0.4), 0.5, (0.4, 0.6))


@given(*(st.integers(1, 200) for _ in range(2)), st.floats(0, 1), st.floats(0, 1))
def test_an_unpaired_difference_stays_within_minus_one_and_one_and_turns_with_its_sides(n1, n2, share1, share2):
    k1, k2 = round(share1 * n1), round(share2 * n2)
    there, back = of_counts(k1, n1, k2, n2), of_counts(k2, n2, k1, n1)
    assert -1 - 1e-9 <= there.low <= k2 / n2 - k1 / n1 + 1e-9
    assert k2 / n2 - k1 / n1 - 1e-9 <= there.high <= 1 + 1e-9
    assert (back.low, back.high) == (pytest.approx(-there.high), pytest.approx(-there.low))


@given(*(st.integers(1, 80) for _ in range(2)), st.floats(0, 1), st.floats(0, 1), st.sampled_from([0.8, 0.95, 0.99]))
def test_p_is_small_exactly_when_the_interval_leaves_zero_out(n1, n2, share1, share2, level):
    k1, k2 = round(share1 * n1), round(share2 * n2)
    found = of_counts(k1, n1, k2, n2, level)
    p = p_of_interval(k2 / n2 - k1 / n1, found)
    assert 0 <= p <= 1
    if min(abs(found.low), abs(found.high)) > 1e-9:
        assert (p < 1 - level) == (found.low > 0 or found.high < 0)


def test_p_of_a_normal_interval_is_the_normal_p():
    # 2 standard errors from 0: p = erfc(2 / sqrt 2) = 0.0455
    z = 1.959963984540054
    assert p_of_interval(2.0, Interval(2 - z, 2 + z, "normal")) == pytest.approx(0.04550026, abs=1e-7)
    assert p_of_interval(-2.0, Interval(-2 - z, -2 + z, "normal")) == pytest.approx(0.04550026, abs=1e-7)
    assert p_of_interval(0.0, Interval(-1, 1, "normal")) == 1.0


def test_paired_yes_or_no_outcomes_are_tested_by_mcnemar():
    before, after = [1.0] * 10 + [0.0] * 10, [0.0] * 8 + [1.0] * 3 + [0.0] * 9
    assert paired_p(before, after, range(20)) == mcnemar_exact(1, 8)


def test_paired_scores_are_tested_as_scipys_permutation_test_does():
    differences = [0.3, -0.1, 0.25, 0.4, 0.05, 0.15, -0.02, 0.3]
    expected = scipy_stats.permutation_test(
        (np.array(differences),), np.mean, permutation_type="samples", n_resamples=np.inf, alternative="two-sided"
    ).pvalue
    assert paired_p([0.0] * 8, differences, range(8)) == pytest.approx(expected)


def test_paired_outcomes_of_one_group_are_flipped_together():
    # three groups moved, all the same way: of 2^3 signs two are as extreme, p = 1/4; item by item it would be 2/2^9
    groups = [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert paired_p([0.0] * 9, [1.0] * 9, groups) == pytest.approx(0.25)
    assert paired_p([0.0] * 9, [1.0] * 9, range(9)) == pytest.approx(2 / 2**9)


def test_drawn_signs_come_near_to_all_signs():
    rng = np.random.default_rng(1)
    values = rng.normal(0.25, 1, 40).tolist()
    t = scipy_stats.ttest_1samp(values, 0).pvalue
    assert paired_p([0.0] * 40, values, range(40)) == pytest.approx(t, abs=0.02)
    assert paired_p([0.0] * 40, values, range(40)) == paired_p([0.0] * 40, values, range(40))


def test_pairs_that_never_moved_or_are_not_there_give_one():
    assert paired_p([0.5, 1.0], [0.5, 1.0], ["a", "a"]) == 1.0
    assert paired_p([], [], []) == 1.0
    with pytest.raises(ValueError, match="1 before, 2 after, 2 groups"):
        paired_p([1.0], [1.0, 0.0], [1, 2])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_benjamini_hochberg_is_scipys(p_values):
    assert benjamini_hochberg(p_values) == pytest.approx(list(scipy_stats.false_discovery_control(p_values)))


def test_letters_of_three_systems_where_only_the_ends_differ():
    assert compact_letters(3, [(0, 2)]) == ["a", "ab", "b"]


def test_letters_when_nothing_and_when_everything_differs():
    assert compact_letters(3, []) == ["a", "a", "a"]
    assert compact_letters(3, [(0, 1), (1, 2), (0, 2)]) == ["a", "b", "c"]
    assert compact_letters(0, []) == []


def test_letters_of_piephos_kind_of_example():
    # 4 systems; 0 differs from 2 and 3, 1 differs from 3: groups {0,1}, {1,2}, {2,3}
    assert compact_letters(4, [(0, 2), (3, 0), (1, 3)]) == ["a", "ab", "bc", "c"]


def test_a_pair_of_one_system_is_refused():
    with pytest.raises(ValueError, match="two of the systems 0 to 1"):
        compact_letters(2, [(1, 1)])


@given(
    st.integers(2, 7).flatmap(
        lambda n: st.tuples(st.just(n), st.sets(st.sampled_from(list(itertools.combinations(range(n), 2)))))
    )
)
def test_two_systems_share_a_letter_exactly_when_they_were_not_found_to_differ(case):
    n, differ = case
    letters = compact_letters(n, differ)
    for i, j in itertools.combinations(range(n), 2):
        assert bool(set(letters[i]) & set(letters[j])) == ((i, j) not in differ)
