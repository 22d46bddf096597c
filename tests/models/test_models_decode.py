"""The batch plan, the draw, and the text of a growing reply."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from uphold.models.base import Sampling
from uphold.models.decode import Row, _closed_up, decode, draw, plan
from uphold.models.prompts import Unroller, cut


def row(length: int, key: str = "k", room: int = 10) -> Row:
    return Row(list(range(length)), key, 0, room)


def test_a_plan_takes_the_longest_prompts_first_and_fills_batches_up_to_the_token_budget():
    rows = [row(5, "a"), row(20, "b"), row(10, "c"), row(18, "d")]
    # with 10 for the reply: 30, 28, 20, 15 tokens; two rows of 30 make 60, a third would make 90
    assert plan(rows, batch_tokens=60) == [[1, 3], [2, 0]]
    assert plan(rows, batch_tokens=90) == [[1, 3, 2], [0]]
    assert plan(rows, batch_tokens=1) == [[1], [3], [2], [0]]  # one row at least
    assert plan(rows, batch_tokens=1000, max_rows=3) == [[1, 3, 2], [0]]
    assert plan([], batch_tokens=10) == []


@given(st.lists(st.integers(1, 50), min_size=1, max_size=30), st.integers(1, 400), st.randoms(use_true_random=False))
def test_a_plan_holds_every_row_once_within_budget_and_does_not_depend_on_order(lengths, budget, rng):
    rows = [row(length, f"k{i}") for i, length in enumerate(lengths)]
    batches = plan(rows, budget)
    assert sorted(i for batch in batches for i in batch) == list(range(len(rows)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * (max(lengths[i] for i in batch) + 10) <= budget
    shuffled = rows[:]
    rng.shuffle(shuffled)
    keys = [[rows[i].key for i in batch] for batch in batches]
    assert [[shuffled[i].key for i in batch] for batch in plan(shuffled, budget)] == keys


def test_gaps_are_filled_from_the_end():
    assert _closed_up([0, 2, 3], 4) == [0, 3, 2]
    assert _closed_up([3], 4) == [3]
    assert _closed_up([0, 1], 4) == [0, 1]


@given(st.sets(st.integers(0, 20), min_size=1))
def test_closing_up_keeps_every_row_and_moves_only_those_beyond_the_end(left):
    kept = _closed_up(sorted(left), 21)
    assert sorted(kept) == sorted(left)
    assert all(place == came or came >= len(kept) for place, came in enumerate(kept))


def test_a_draw_inverts_the_cumulative_distribution():
    logits = torch.log(torch.tensor([[0.2, 0.5, 0.3]])).repeat(5, 1)
    # cumulated: 0.2, 0.7, 1.0
    uniform = torch.tensor([0.0, 0.19, 0.21, 0.69, 0.71])
    assert draw(logits, uniform, temperature=1.0).tolist() == [0, 0, 1, 1, 2]


def test_temperature_sharpens_and_flattens():
    logits = torch.log(torch.tensor([[0.2, 0.8]])).repeat(2, 1)
    # at temperature 0.5 the odds 1:4 become 1:16, so the first token has 1/17 = 0.0588
    assert draw(logits, torch.tensor([0.058, 0.060]), temperature=0.5).tolist() == [0, 1]
    # at temperature 2 they become 1:2, so it has 1/3
    assert draw(logits, torch.tensor([0.33, 0.34]), temperature=2.0).tolist() == [0, 1]


def test_top_p_draws_from_the_likeliest_tokens_that_first_reach_it():
    logits = torch.log(torch.tensor([[0.1, 0.5, 0.15, 0.25]])).repeat(3, 1)
    # by probability: token 1 (0.5), 3 (0.25), 2 (0.15), 0 (0.1); 0.5 + 0.25 first reaches 0.7; renormalised 2/3, 1/3
    assert draw(logits, torch.tensor([0.66, 0.67, 0.9999]), 1.0, top_p=0.7).tolist() == [1, 3, 3]
    assert draw(logits, torch.tensor([0.0, 0.5, 0.9999]), 1.0, top_p=0.5).tolist() == [1, 1, 1]


@given(st.integers(2, 200), st.floats(0.05, 1.0), st.floats(0.0, 1.0, exclude_max=True), st.integers(0, 1000))
def test_a_draw_is_always_a_token_that_may_be_drawn(n_vocab, top_p, uniform, seed):
    logits = torch.randn(4, n_vocab, generator=torch.Generator().manual_seed(seed)) * 5
    probs = torch.softmax(logits, -1)
    tokens = draw(logits, torch.full((4,), uniform), 1.0, top_p)
    for p, token in zip(probs, tokens.tolist(), strict=True):
        likelier = p[p > p[token]].sum().item()
        assert likelier < top_p + 1e-5


def test_draws_have_the_distribution_they_are_drawn_from():
    logits = torch.log(torch.tensor([[0.1, 0.6, 0.3]])).repeat(3000, 1)
    uniform = torch.rand(3000, generator=torch.Generator().manual_seed(0))
    counts = torch.bincount(draw(logits, uniform, 1.0), minlength=3) / 3000
    assert counts.tolist() == pytest.approx([0.1, 0.6, 0.3], abs=0.03)  # three standard errors of 0.6: 0.027


class Counting:
    """An engine over 5 tokens that says in each row: its prompt's first token times, then 4 (the end). Records its batch sizes."""

    n_context, n_vocab, kv_bytes_per_token, device = None, 5, 1, "cpu"

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def begin(self, prompts, room):
        self.left = [prompt[0] for prompt in prompts]
        return self._logits()

    def step(self, tokens):
        return self._logits()

    def keep(self, rows):
        self.left = [self.left[r] for r in rows]

    def _logits(self):
        self.sizes.append(len(self.left))
        logits = torch.zeros(len(self.left), 5)
        for i, n in enumerate(self.left):
            logits[i, 4 if n == 0 else 1] = 1.0
            self.left[i] = n - 1
        return logits


def test_rows_leave_the_batch_when_they_are_done():
    engine = Counting()
    rows = [Row([n], str(n), 0, room) for n, room in ((2, 9), (0, 9), (3, 9), (9, 2))]
    *_, replies = decode(engine, rows, Sampling(), frozenset({4}))
    assert [(len(r.tokens), r.finish) for r in replies] == [(2, "stop"), (0, "stop"), (3, "stop"), (2, "length")]
    assert engine.sizes == [4, 3, 2, 1]


class Letters:
    """A chat text whose tokens are bytes, with one space before each reply."""

    head = " "

    def raw(self, ids):
        return bytes(ids).decode("utf-8", errors="replace")

    def without_head(self, text):
        return text.removeprefix(" ")


@given(st.text("ab\x80é€\ufffd", max_size=12), st.lists(st.text("ab\x80é", min_size=1, max_size=3), max_size=2))
def test_pieces_never_change_once_given_and_join_to_the_whole(text, stop):
    chat, raw = Letters(), f" {text}".encode()
    whole = cut(text, stop)
    unroll, pieces = Unroller(chat, stop), []
    for n in range(1, len(raw) + 1):
        pieces.append(unroll.push(list(raw[:n])))
        if any(s in chat.without_head(chat.raw(list(raw[:n]))) for s in stop):
            break  # the loop stops at the first token that completes a stop text
    pieces.append(unroll.close(whole))
    assert "".join(pieces) == whole


def test_a_letter_is_held_back_until_all_its_bytes_are_there():
    unroll = Unroller(Letters())
    raw = " é!".encode()
    assert [unroll.push(list(raw[:n])) for n in range(1, 5)] == ["", "", "é", "!"]
