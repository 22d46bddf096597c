"""What the rule-based reader takes out of a sentence."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uphold.constitution.language import (
    content,
    directives,
    jaccard,
    share_of_smaller,
    similar_pairs,
    stem,
    strength,
    without_common,
    words,
)


@pytest.mark.parametrize(
    ("sentence", "is_negative"),
    [
        ("Tell the customer the price.", False),
        ("Never tell the customer the price.", True),
        ("You must not tell the price.", True),
        ("Don't tell the price.", True),
        ("Refuse to tell the price.", True),
        ("Never refuse to tell the price.", False),  # two negations order it
        ("Give no refunds.", True),
        ("Do it no matter what.", False),
        ("Answer not only in English.", False),
        ("When a price is not known, ask for it.", False),  # the condition is negated, not the order
        ("When asked for a price, do not tell it.", True),
        ("Find a person who has not agreed.", False),
    ],
)
def test_a_directive_is_negative_when_its_main_clause_negates_an_odd_number_of_times(sentence, is_negative):
    assert [d.is_negative for d in directives(sentence)] == [is_negative]


def test_each_sentence_and_each_side_of_a_but_is_a_directive_of_its_own():
    found = directives("Never sell knives to children, but explain the law. Call a colleague.")
    assert [(sorted(d.act), d.is_negative) for d in found] == [
        (["children", "kniv", "sell"], True),
        (["law", "tell"], False),  # to explain is to tell
        (["call", "colleagu"], False),
    ]


@pytest.mark.parametrize(
    "sentence", ["When a customer is angry, offer a refund.", "Offer a refund when a customer is angry."]
)
def test_a_condition_is_no_part_of_the_act_wherever_it_stands(sentence):
    (found,) = directives(sentence)
    assert found.act == {"tell", "refund"}  # to offer is, like to tell, to give
    assert found.condition == {"customer", "angry"}


def test_endings_do_not_keep_words_apart():
    assert {stem(word) for word in ("reveal", "reveals", "revealed", "revealing")} == {"reveal"}
    assert {stem(word) for word in ("policy", "policies")} == {"policy"}
    assert stem("stopped") == stem("stops") == "stop"


def test_a_contraction_counts_as_a_negation():
    assert words("Don’t say it can't won't") == ["do", "not", "say", "it", "can", "not", "will", "not"]


@pytest.mark.parametrize(
    ("text", "expected"), [("You must.", 2), ("Never do.", 2), ("You should.", 1), ("You may.", 0), ("Speak.", None)]
)
def test_the_strongest_modal_word_gives_a_text_its_strength(text, expected):
    assert strength(text) == expected


def test_negation_is_part_of_the_content():
    assert content("Always tell the price.") ^ content("Never tell the price.") == {"never"}


small_sets = st.lists(st.frozensets(st.sampled_from("abcdefgh"), max_size=6), max_size=14)


@given(small_sets, st.floats(0.05, 1.0))
def test_similar_pairs_are_exactly_those_a_full_comparison_finds(sets, threshold):
    expected = {
        (i, j)
        for j in range(len(sets))
        for i in range(j)
        if sets[i] and sets[j] and jaccard(sets[i], sets[j]) >= threshold
    }
    assert {(i, j) for i, j, _ in similar_pairs(sets, threshold)} == expected


def test_words_that_most_rules_share_tell_nothing_apart_once_there_are_twenty():
    sets = [frozenset({"all", str(i)}) for i in range(20)]
    assert without_common(sets) == [frozenset({str(i)}) for i in range(20)]
    assert without_common(sets[:19]) == sets[:19]


def test_the_share_of_the_smaller_set_is_one_when_it_is_contained():
    assert share_of_smaller("ab", "abc") == 1.0
    assert share_of_smaller("", "abc") == 0.0


@given(st.text(max_size=200))
def test_any_text_at_all_can_be_read(text):
    for directive in directives(text):
        assert directive.act
