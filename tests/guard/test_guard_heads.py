"""Windows over words, and the worst of them by whole-number sums."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from uphold.guard import features, heads
from uphold.guard.features import FeatureSpec
from uphold.guard.heads import Head, Table

SPEC = FeatureSpec(bits=10, char_min=3, char_max=3, pairs=False)


def head(weights, window=4, q0=1.0, clauses=()):
    """A head that gives each word of `weights` its weight, and every feature q = 1 step of 0.25."""
    main = np.zeros((1 << SPEC.bits, 2), dtype=np.int16)
    main[:, 1] = 1
    for word, weight in weights.items():
        main[features.word_buckets([word], SPEC).buckets[0], 0] += weight  # on one of its features
    table = np.zeros((1 << SPEC.bits, len(clauses)), dtype=np.int16)
    for k, word in enumerate(clauses):
        table[features.word_buckets([word], SPEC).buckets[0], k] = 10
    return Head(Table(main, table, np.array([0.5, 0.25, *[1.0] * len(clauses)])), SPEC, window, q0)


def windows(segments):
    """(low, high) of every window in words of the whole text."""
    return [(int(a) + s.offset, int(b) + s.offset) for s in segments for a, b in zip(s.low, s.high, strict=True)]


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(heads, "BLOCK", 7)


@given(n=st.integers(0, 60), window=st.integers(1, 12))
def test_a_stream_is_judged_at_every_word_over_the_last_words(n, window):
    block, heads.BLOCK = heads.BLOCK, 7
    try:
        segments = list(heads.running(0, map(str, range(n)), window))
    finally:
        heads.BLOCK = block
    assert windows(segments) == [(max(0, end - window), end) for end in range(1, n + 1)]
    for s in segments:
        for a, b in zip(s.low, s.high, strict=True):
            assert s.words[a:b] == [str(i) for i in range(a + s.offset, b + s.offset)]
            assert s.offset == 0 or a > 0  # the first word of a later block has no right pair


@given(n=st.integers(0, 60), window=st.integers(2, 12))
def test_a_whole_text_is_judged_every_half_window_and_at_its_end(n, window):
    block, heads.BLOCK = heads.BLOCK, 7
    try:
        segments = list(heads.stepping(0, map(str, range(n)), window))
    finally:
        heads.BLOCK = block
    ends = list(range(window, n, window // 2)) + [n] * (n > 0)
    assert windows(segments) == [(max(0, end - window), end) for end in ends]


def test_a_windows_logit_is_its_weights_over_the_root_of_its_idf():
    # 'bad' has 3 three-grams with edges ('^ba', 'bad', 'ad$') and itself: 4 features, q = 4 x 0.25 = 1; w = 6 x 0.5 = 3
    [peak] = head({"bad": 6}).peaks([heads.whole(0, ["bad"], 4)], [0.25], math.inf)
    assert peak.logit == pytest.approx(3 / math.sqrt(1 + 1) + 0.25)


def test_the_worst_window_decides_however_much_is_harmless():
    bad = head({"bad": 6}, window=2)
    alone = bad.peaks(list(heads.running(0, ["bad", "fine"], 2)), [0.0], 1.0)[0]
    among = bad.peaks(list(heads.running(0, ["fine"] * 40 + ["bad"] + ["fine"] * 40, 2)), [0.0], 1.0)[0]
    assert among.logit <= alone.logit
    assert among.logit == pytest.approx(bad.peaks([heads.whole(0, ["fine", "bad"], 2)], [0.0], 1.0)[0].logit)


def test_the_first_window_to_reach_the_flag_is_named_by_the_words_read():
    bad = head({"bad": 6}, window=2)
    words = ["fine"] * 20 + ["bad"] + ["fine"] * 5
    found = [p for p in bad.peaks(list(heads.running(0, words, 2)), [0.0], 1.0) if p]
    assert [p.first for p in found] == [21]


def test_texts_side_by_side_do_not_touch_each_other():
    bad = head({"bad": 6, "good": -6}, window=4)
    texts = [["bad"], ["good", "bad", "good"], [], ["good"]]
    together = bad.peaks([heads.whole(i, t, 4) for i, t in enumerate(texts)], [0.0] * 4, 1.0)
    alone = [bad.peaks([heads.whole(0, t, 4)], [0.0], 1.0)[0] for t in texts]
    assert [p and p.logit for p in together] == [p and p.logit for p in alone]
    assert together[2] is None


def test_clause_heads_are_read_at_the_worst_window():
    bad = head({"bad": 6}, window=2, clauses=("bad", "fine"))
    found = bad.peaks(list(heads.running(0, ["fine", "fine", "fine", "bad", "so"], 2)), [0.0], math.inf)[0]
    assert found.clauses[0] > 0  # 'bad' is in the worst window, with one 'fine' or 'so'


def test_a_full_cache_of_words_is_replaced_and_changes_no_score(monkeypatch):
    monkeypatch.setattr(heads, "CACHED_WORDS", 50)
    bad = head({"bad": 6})
    texts = [[f"w{i}", f"w{i + 1}", "bad"] for i in range(300)]
    peaks = [bad.peaks([heads.whole(0, text, 4)], [0.0], 1.0)[0].logit for text in texts]
    fresh = [head({"bad": 6}).peaks([heads.whole(0, text, 4)], [0.0], 1.0)[0].logit for text in texts]
    assert peaks == fresh
