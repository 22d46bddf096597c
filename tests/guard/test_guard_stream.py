"""Replies judged as they arrive: the same verdict however they are cut, never milder, equal to the whole text's."""

from __future__ import annotations

import itertools

import pytest
from guard_toy import BENIGN_REPLY, HARMFUL_REPLY, exchange, user
from hypothesis import given
from hypothesis import strategies as st

from uphold.guard.features import MAX_WORD

ASKED = "how do i brew ombrel vapour?"
vocabulary = st.sampled_from(
    [
        *HARMFUL_REPLY.split(),
        *BENIGN_REPLY.split(),
        "\n",
        "heat-it",
        "x" * 90,
        "\u200b",
        "é",
        "...",
        "salt\u202e",
        "中文",
    ]
)
replies = st.lists(vocabulary, max_size=90).map(" ".join)
cuts = st.lists(st.integers(0, 600), max_size=40)


def pieces(text, cuts):
    edges = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    return [text[a:b] for a, b in itertools.pairwise(edges)]


def finished(guard, text, cuts=()):
    stream = guard.stream(user(ASKED))
    for piece in pieces(text, cuts):
        stream.push(piece)
    return stream.finish()


@given(text=replies, cuts=cuts)
def test_a_stream_ends_with_the_verdict_on_the_whole_text_to_the_last_bit(guard, text, cuts):
    if text:
        assert finished(guard, text, cuts) == guard.score([exchange(ASKED, text)])[0]


@given(text=replies, cuts=cuts)
def test_so_does_one_that_is_judged_with_its_prompt(exchange_guard, text, cuts):
    if text:
        assert finished(exchange_guard, text, cuts) == exchange_guard.score([exchange(ASKED, text)])[0]


@given(text=replies, cuts=cuts)
def test_a_verdict_never_gets_milder(guard, text, cuts):
    stream = guard.stream(user(ASKED))
    verdicts = [stream.push(piece) for piece in pieces(text, cuts)] + [stream.finish()]
    for before, after in itertools.pairwise(verdicts):
        assert after.score >= before.score
        assert after.flagged or not before.flagged
        assert before.position is None or after.position == before.position


@given(text=replies, cuts=cuts)
def test_only_an_unfinished_word_is_not_yet_judged(guard, text, cuts):
    stream, pushed = guard.stream(user(ASKED)), 0
    for piece in pieces(text, cuts):
        stream.push(piece)
        pushed += len(piece)
        assert 0 <= pushed - stream.judged < MAX_WORD
    stream.finish()
    assert stream.judged == len(text)


def test_a_harmful_reply_is_flagged_before_its_end(guard):
    stream = guard.stream(user(ASKED))
    words = HARMFUL_REPLY.split(" ")
    for word in words[:-1]:
        verdict = stream.push(f"{word} ")
        if verdict.flagged:
            break
    assert verdict.flagged
    assert verdict.position <= stream.judged


def test_a_flag_stays_after_any_amount_of_harmless_text(guard):
    assert finished(guard, f"{HARMFUL_REPLY} {BENIGN_REPLY * 50}").flagged


def test_harm_is_seen_after_any_amount_of_harmless_text(guard):
    assert finished(guard, f"{BENIGN_REPLY * 50} {HARMFUL_REPLY}").flagged


def test_an_empty_reply_is_judged_harmless(guard):
    verdict = guard.stream(user(ASKED)).finish()
    assert (verdict.score, verdict.flagged, verdict.position) == (0.0, False, None)


def test_one_endless_token_is_judged_as_it_comes_and_not_kept(guard):
    stream = guard.stream(user(ASKED))
    for _ in range(3000):
        stream.push("abcdefg")
    assert 3000 * 7 - stream.judged < MAX_WORD


@pytest.mark.parametrize("text", ["\ud800", "a\udfffb \ud800 c", "x\ud83d", "\x00"])
def test_unpaired_surrogates_and_binary_are_judged(guard, text):
    stream = guard.stream(user(ASKED))
    for piece in text:
        stream.push(piece)
    assert 0 <= stream.finish().score <= 1


def test_a_stream_whose_numbers_break_raises_instead_of_passing(guard):
    stream = guard.stream(user(ASKED))
    stream._base = float("nan")
    with pytest.raises(ArithmeticError, match="not a number"):
        stream.push(HARMFUL_REPLY)
