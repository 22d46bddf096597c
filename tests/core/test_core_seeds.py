"""Seeds are derived by name and splits by content, the same everywhere and for ever."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uphold.core.seeds import derive, seed_everything, split_of, uniform

SHARES = {"train": 0.8, "validation": 0.1, "test": 0.1}


def test_derived_seeds_never_change_between_versions():
    """Fixed values: a change here would change every result ever made."""
    assert derive(0) == 5002178623122376926
    assert derive(7, "dpo", 3) == 2042964484619670466


def test_derive_tells_names_numbers_and_their_grouping_apart():
    seeds = {
        derive(1, "a", "b"),
        derive(1, "ab"),
        derive(1, "b", "a"),
        derive(2, "a", "b"),
        derive(1, "1"),
        derive(1, 1),
    }
    assert len(seeds) == 6


@given(st.integers(), st.lists(st.text() | st.integers(), max_size=4))
def test_derived_seeds_fit_in_63_bits(seed, names):
    assert 0 <= derive(seed, *names) < 2**63


def test_splits_come_in_the_asked_shares():
    counts = dict.fromkeys(SHARES, 0)
    for i in range(20_000):
        counts[split_of(f"prompt {i}", SHARES)] += 1
    # standard error of a share of 0.1 at n = 20,000 is 0.0021
    assert counts["train"] / 20_000 == pytest.approx(0.8, abs=0.01)
    assert counts["test"] / 20_000 == pytest.approx(0.1, abs=0.01)


def test_a_key_keeps_its_split_and_a_salt_makes_another_division():
    keys = [f"prompt {i}" for i in range(200)]
    assert [split_of(key, SHARES) for key in keys] == [split_of(key, SHARES) for key in reversed(keys)][::-1]
    assert [split_of(key, SHARES) for key in keys] != [split_of(key, SHARES, salt="other") for key in keys]


def test_weights_need_not_sum_to_one():
    assert [split_of(str(i), {"a": 3, "b": 1}) for i in range(50)] == [
        split_of(str(i), {"a": 0.75, "b": 0.25}) for i in range(50)
    ]


@given(st.text())
def test_a_share_of_zero_gets_nothing(key):
    assert split_of(key, {"none": 0.0, "all": 1.0, "empty": 0.0}) == "all"


@pytest.mark.parametrize("shares", [{}, {"a": 0.0}, {"a": -1.0, "b": 2.0}])
def test_impossible_shares_are_refused(shares):
    with pytest.raises(ValueError, match="shares must be non-negative, with a positive sum"):
        split_of("x", shares)


@given(st.text(), st.text())
def test_uniform_lies_in_the_unit_interval(key, salt):
    assert 0 <= uniform(key, salt) < 1


def test_seed_everything_makes_global_draws_repeat():
    import numpy as np

    seed_everything(2**62 + 5)
    first = random.random(), np.random.rand()
    seed_everything(2**62 + 5)
    assert (random.random(), np.random.rand()) == first
