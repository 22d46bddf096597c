"""Words and their hashed buckets: the same wherever the word stands, however the text was cut, on every machine."""

from __future__ import annotations

import itertools
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from uphold.guard import features
from uphold.guard.features import MAX_WORD, START, FeatureSpec

SPEC = FeatureSpec(bits=12, char_min=2, char_max=3)
# text with separators, invisible characters, long runs and unpaired surrogates in it
text = st.text(
    st.one_of(
        st.sampled_from("ab 'é-.,\n\u200b\u202e\u00ad中文😀\ud800"), st.characters(codec=None, max_codepoint=0x2FFF)
    ),
    max_size=200,
)


def buckets_of(word, spec=SPEC):
    return sorted(features.word_buckets([word], spec).buckets.tolist())


def test_words_are_what_stands_between_spaces_and_punctuation():
    assert features.words("How do I (really) make\tit, x_y?") == ["How", "do", "I", "really", "make", "it", "x", "y"]


def test_invisible_characters_neither_split_a_word_nor_make_one():
    assert features.words("bo\u200bmb \u200b \u200e") == ["bo\u200bmb"]
    assert buckets_of("bo\u200bm\u202eb") == buckets_of("bomb")


def test_case_and_compatibility_forms_are_folded():
    assert buckets_of("ＢＯＭＢ") == buckets_of("bomb") == buckets_of("Bomb")


def test_a_word_yields_itself_and_its_character_n_grams_with_edges():
    # "ab" with edges is 4 characters: three 2-grams, two 3-grams, and the word itself
    assert len(buckets_of("ab")) == 3 + 2 + 1


def test_an_endless_run_is_cut_into_words():
    assert [len(word) for word in features.words("x" * (2 * MAX_WORD + 3))] == [MAX_WORD, MAX_WORD, 3]


def test_many_words_at_once_get_the_buckets_each_gets_alone():
    many = ["how", "do", "i", "how", "naïve", "x" * MAX_WORD, "\ud800"]
    found = features.word_buckets(many, SPEC)
    for i, word in enumerate(many):
        assert sorted(found.buckets[found.edges[i] : found.edges[i + 1]].tolist()) == buckets_of(word)


@given(text.filter(bool), st.integers(1, 4), st.integers(4, 6))
def test_a_word_alone_is_hashed_like_many(word, low, high):
    spec = FeatureSpec(bits=16, char_min=low, char_max=high)
    many, one = features.word_buckets([word], spec), features.one_word(word, spec)
    assert sorted(one.buckets.tolist()) == sorted(many.buckets.tolist())
    assert (one.hashes.tolist(), one.edges.tolist()) == (many.hashes.tolist(), many.edges.tolist())


def test_buckets_are_the_same_in_another_process():
    code = (
        "from uphold.guard.features import *; s = FeatureSpec(bits=12, char_min=2, char_max=3); f = word_buckets(['Bomb', 'naïve'], s);"
        "print(f.buckets.tolist(), f.hashes.tolist(), pair_bucket(3, 5, s))"
    )
    runs = {
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env).stdout
        for env in ({"PYTHONHASHSEED": "1", **path()}, {"PYTHONHASHSEED": "2", **path()})
    }
    found = features.word_buckets(["Bomb", "naïve"], SPEC)
    assert runs == {f"{found.buckets.tolist()} {found.hashes.tolist()} {features.pair_bucket(3, 5, SPEC)}\n"}


def path():
    return {"PYTHONPATH": ":".join(p for p in sys.path if p)}


def test_hashing_never_changes_unnoticed():
    """Guards on disk depend on these numbers: a change of hashing needs a new format number."""
    found = features.word_buckets(["Bomb", "naïve"], FeatureSpec(bits=18, char_min=5, char_max=5))
    assert found.buckets.tolist() == FROZEN_BUCKETS
    assert features.pair_bucket(3, 5, FeatureSpec(bits=18)) == FROZEN_PAIR


FROZEN_BUCKETS = [245319, 81439, 255443, 183853, 220500, 128075, 182284]
FROZEN_PAIR = 113854


@given(text, st.lists(st.integers(0, 200)))
def test_words_do_not_depend_on_how_the_text_is_cut(text, cuts):
    edges = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    found, rest = [], ""
    for a, b in itertools.pairwise(edges):
        done, rest = features.split_complete(rest + text[a:b])
        assert len(rest) < MAX_WORD
        found += [word for word, _ in done]
    assert found + ([rest] if rest else []) == features.words(text)


@given(st.text(st.characters(max_codepoint=127), max_size=300))
def test_plain_ascii_is_cut_into_the_same_words_as_any_text(text):
    assert features.words(text) == features.words(text + " é")[:-1] == list(features.iter_words(text))


@given(text)
def test_the_end_of_the_nth_word_is_where_it_stands(text):
    for n, word in enumerate(features.words(text), start=1):
        end = features.word_end(text, n)
        assert text[end - len(word) : end] == word


@given(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=20))
def test_one_pair_hashes_like_many(hashes):
    after = np.array(hashes, dtype=np.uint64)
    before = features.before(after, np.array([len(hashes)]))
    expected = [features.pair_bucket(a, b, SPEC) for a, b in zip([START, *hashes], hashes, strict=False)]
    assert features.pair_buckets(before, after, SPEC).tolist() == expected


@given(st.lists(st.lists(st.sampled_from(["how", "do", "i", "é"]), max_size=6), min_size=1, max_size=5))
def test_counts_are_those_of_the_single_words_and_pairs(texts):
    matrix = features.count_matrix(texts, SPEC).toarray()
    for row, words in zip(matrix, texts, strict=True):
        expected = np.zeros(1 << SPEC.bits)
        hashes = [int(features.word_buckets([word], SPEC).hashes[0]) for word in words]
        for word in words:
            np.add.at(expected, features.word_buckets([word], SPEC).buckets, 1)
        for pair in zip([START, *hashes], hashes, strict=False):
            expected[features.pair_bucket(*pair, SPEC)] += 1
        assert row.tolist() == expected.tolist()


def test_a_spec_with_its_ends_swapped_is_refused():
    with pytest.raises(ValueError, match="char_min 5 exceeds char_max 3"):
        FeatureSpec(char_min=5, char_max=3)
