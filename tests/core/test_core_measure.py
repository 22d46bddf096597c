"""Unscored is never zero, worst and best are always there, and gates get the bad end of the worst case."""

import re
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uphold import __version__
from uphold.core import stats
from uphold.core.measure import (
    code_version,
    paired_difference,
    proportion,
    scalar,
    worst_case_interval,
    worst_end,
)

outcome = st.none() | st.booleans()


def test_a_share_with_every_sample_scored():
    found = proportion("helpfulness", [True, True, True, False])
    assert (found.value, found.worst, found.best) == (0.75, 0.75, 0.75)
    assert (found.n_asked, found.n_scored, found.status) == (4, 4, "ok")
    assert found.interval == stats.wilson(3, 4)[:2] == found.worst_interval
    assert found.interval_method == "wilson"


def test_unscored_samples_leave_the_value_and_move_the_worst_and_best_case():
    """Attack success: 1 of 2 scored; two had no answer. Bad means success: worst 3/4, best 1/4."""
    found = proportion("attack_success_rate", [True, False, None, None], higher_is_better=False)
    assert (found.value, found.worst, found.best) == (0.5, 0.75, 0.25)
    assert (found.n_asked, found.n_scored, found.status) == (4, 2, "partial")
    assert found.interval == stats.wilson(1, 2)[:2]
    assert worst_case_interval(found) == stats.wilson(3, 4)[:2]
    assert worst_end(found) == stats.wilson(3, 4).high


def test_where_higher_is_better_an_unscored_sample_counts_as_a_failure_in_the_worst_case():
    found = proportion("helpfulness", [True, True, None])
    assert (found.value, found.worst, found.best) == (1.0, pytest.approx(2 / 3), 1.0)
    assert worst_end(found) == stats.wilson(2, 3).low


def test_nothing_scored_is_unscored_and_never_zero_while_the_worst_case_is_total():
    found = proportion("attack_success_rate", [None, None], higher_is_better=False)
    assert (found.value, found.interval, found.status) == (None, None, "unscored")
    assert (found.worst, found.best) == (1.0, 0.0)
    assert worst_end(found) == 1.0


def test_nothing_asked_knows_nothing():
    found = proportion("attack_success_rate", [], higher_is_better=False)
    assert (found.value, found.worst, found.best, found.status) == (None, None, None, "unscored")
    assert worst_case_interval(found) is None
    assert worst_end(found) is None


@given(st.lists(outcome, min_size=1, max_size=40), st.booleans())
def test_worst_value_and_best_stand_in_order(outcomes, higher_is_better):
    found = proportion("m", outcomes, higher_is_better=higher_is_better)
    middle = found.best if found.value is None else found.value
    ordered = [found.worst, middle, found.best]
    assert ordered == pytest.approx(sorted(ordered, reverse=not higher_is_better))
    low, high = found.worst_interval
    assert low <= found.worst <= high


def test_repeated_groups_widen_the_interval():
    """Ten prompts, each attacked five ways with one fate: ten facts, not fifty."""
    outcomes = [g < 5 for g in range(10) for _ in range(5)]
    groups = [f"prompt {g}" for g in range(10) for _ in range(5)]
    found = proportion("asr", outcomes, groups=groups)
    assert found.value == 0.5
    assert found.interval_method == "wilson-clustered"
    low, high = found.interval
    assert high - low > 1.9 * (stats.wilson(25, 50).high - stats.wilson(25, 50).low)


def test_scores_between_zero_and_one_get_a_bootstrap_over_groups():
    found = proportion("rubric", [0.25, 0.5, 0.75, None], groups=["a", "b", "c", "d"], seeds=(5,))
    assert found.value == 0.5
    assert found.interval_method == "bootstrap-clustered"
    low, high = found.interval
    assert 0.25 <= low <= 0.5 <= high <= 0.75
    assert found.worst == 0.375


def test_what_it_is_about_is_carried():
    found = proportion(
        "asr",
        [True],
        subject={"model": "abc"},
        data="d1",
        seeds=[1, 2],
        by={"family": "roleplay"},
        baseline="asr.base",
        note="why",
        level=0.9,
    )
    assert found.subject == {"model": "abc"}
    assert (found.data, found.seeds, found.by) == ("d1", (1, 2), {"family": "roleplay"})
    assert (found.baseline, found.note, found.level, found.unit) == ("asr.base", "why", 0.9, "share")
    assert found.code == code_version()


@pytest.mark.parametrize("bad", [1.5, -0.1, float("nan")])
def test_scores_outside_the_unit_interval_are_refused(bad):
    with pytest.raises(ValueError, match=r"m: outcomes must be None, a bool or a number in \[0, 1\]"):
        proportion("m", [True, bad])


def test_groups_of_another_length_are_refused():
    with pytest.raises(ValueError, match="m: 1 groups for 2 outcomes"):
        proportion("m", [True, False], groups=["a"])
    with pytest.raises(ValueError, match="m: 1 groups for 2 pairs"):
        paired_difference("m", [True, False], [True, True], groups=["a"])


def test_a_paired_difference_is_after_minus_before_on_the_same_samples():
    """10 prompts: 6 helped both times, 3 only before, 1 only after: (1 - 3) / 10."""
    before = [True] * 9 + [False]
    after = [True] * 6 + [False] * 3 + [True]
    found = paired_difference("helpfulness.guarded", before, after, baseline="helpfulness.base")
    assert found.value == pytest.approx(-0.2)
    assert found.interval == stats.newcombe_paired(6, 1, 3, 0)[:2]
    assert (found.unit, found.interval_method) == ("difference", "newcombe-paired")
    assert found.note == "McNemar exact p = 0.625"  # 2 (1 + 4) / 16


def test_pairs_with_a_missing_side_are_not_dropped_in_silence():
    """Over-refusal, lower is better. Pair 3 has no after: at worst it became a refusal; pair 4 no before: at worst it was fine."""
    found = paired_difference(
        "over_refusal", [False, True, False, None], [False, True, None, True], higher_is_better=False
    )
    assert (found.n_asked, found.n_scored, found.status) == (4, 2, "partial")
    assert found.value == 0.0
    assert found.worst == 0.5  # (0 + 0 + 1 + 1) / 4
    assert found.best == 0.0  # (0 + 0 + 0 + 0) / 4
    assert found.worst_interval == stats.newcombe_paired(1, 2, 0, 1)[:2]


def test_a_paired_difference_of_nothing_scored_is_unscored():
    found = paired_difference("m", [None], [True])
    assert (found.value, found.interval, found.status) == (None, None, "unscored")
    assert (found.worst, found.best) == (0.0, 1.0)


def test_paired_differences_within_groups_use_effective_counts():
    before = [True] * 20
    after = [True] * 15 + [False] * 5
    apart = paired_difference("m", before, after)
    together = paired_difference("m", before, after, groups=[i // 5 for i in range(20)])
    assert together.interval_method == "newcombe-paired-clustered"
    assert together.value == apart.value == -0.25
    assert together.interval[0] < apart.interval[0] < apart.interval[1] < together.interval[1]
    assert together.note == "", "McNemar's test takes pairs to be independent"


def test_paired_scores_get_a_bootstrap():
    found = paired_difference("rubric", [0.5, 0.25, 0.75], [0.25, 0.25, 0.5])
    assert found.value == pytest.approx(-1 / 6)
    assert found.interval_method == "bootstrap-clustered"
    assert -0.25 <= found.interval[0] <= -1 / 6 <= found.interval[1] <= 0


def test_sides_of_unequal_length_are_refused():
    with pytest.raises(ValueError, match="m: 1 outcomes before, 2 after: they must be the same samples"):
        paired_difference("m", [True], [True, False])


def test_a_plain_number_is_its_own_worst_case():
    found = scalar("wall_s", 12.5, 1, unit="s", higher_is_better=False)
    assert (found.value, found.worst, found.best, found.unit, found.status) == (12.5, 12.5, 12.5, "s", "ok")
    assert (found.interval, worst_case_interval(found)) == (None, None)


def test_a_plain_number_with_an_interval_keeps_it_and_its_method():
    interval = stats.Interval(0.8, 0.9, "bootstrap-clustered", 0.9)
    found = scalar("auprc", 0.85, 100, interval=interval)
    assert (found.interval, found.interval_method, found.level) == ((0.8, 0.9), "bootstrap-clustered", 0.9)
    assert worst_end(found) == 0.8


def test_a_plain_number_over_part_of_the_samples_has_no_worst_case():
    found = scalar("auprc", 0.85, 90, n_asked=100, interval=stats.Interval(0.8, 0.9, "x"))
    assert (found.status, found.worst, found.best, worst_case_interval(found)) == ("partial", None, None, None)


@pytest.mark.parametrize("missing", [None, float("nan"), float("inf")])
def test_a_number_that_is_none_or_not_finite_is_unscored(missing):
    found = scalar("loss", missing, 5, interval=stats.Interval(0, 1, "x"))
    assert (found.value, found.n_asked, found.n_scored, found.status) == (None, 5, 0, "unscored")
    assert found.interval is None


def test_the_code_version_names_package_and_commit_and_is_computed_once():
    assert re.fullmatch(re.escape(__version__) + r"(\+g[0-9a-f]{12}(\.dirty)?)?", code_version())
    assert code_version() is code_version()


def test_measuring_starts_without_heavy_imports():
    program = (
        "import sys; from uphold.core import measure, stats, store, journal, config, progress; "
        "print(sorted({'scipy', 'numpy', 'torch', 'ruamel.yaml', 'rich', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
