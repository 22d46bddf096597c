"""When to try again, and what may come back from an endpoint, piece by piece."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uphold.core.records import Message
from uphold.models.base import Completion, Sampling
from uphold.models.openai_wire import Malformed, error_text, parse_completion, parse_piece, request_body
from uphold.models.retry import CEILING_S, is_transient, parse_retry_after, wait_s
from uphold.models.sse import EventDecoder


def test_what_may_pass_is_tried_again_and_what_will_not_is_not():
    assert [s for s in (400, 401, 403, 404, 408, 409, 413, 422, 425, 429, 500, 501, 502, 503, 504, 529) if is_transient(s)] == [
        408, 409, 425, 429, 500, 502, 503, 504, 529,
    ]  # fmt: skip


def test_waits_are_drawn_evenly_below_a_ceiling_that_doubles():
    rng = random.Random(0)
    for attempt, ceiling in ((0, 0.5), (1, 1.0), (3, 4.0), (20, CEILING_S), (10_000, CEILING_S)):
        waits = [wait_s(attempt, None, rng) for _ in range(400)]
        assert 0 <= min(waits) < 0.05 * ceiling
        assert 0.95 * ceiling < max(waits) <= ceiling
        assert sum(waits) / 400 == pytest.approx(ceiling / 2, rel=0.15)


def test_a_wait_is_never_shorter_than_the_server_asked_for():
    rng = random.Random(0)
    assert all(7.0 <= wait_s(2, 7.0, rng) <= 7.5 for _ in range(100))  # up to a quarter of the ceiling of 2 s on top


def test_retry_after_in_seconds_and_as_a_date():
    now = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
    assert parse_retry_after("120") == 120.0
    assert parse_retry_after(" 0 ") == 0.0
    assert parse_retry_after("Sun, 01 Mar 2026 12:00:30 GMT", now) == 30.0
    assert parse_retry_after("Sun, 01 Mar 2026 11:59:00 GMT", now) == 0.0  # already past
    assert parse_retry_after("Sun, 01 Mar 2026 13:00:30 +0100", now) == 30.0


@pytest.mark.parametrize("value", [None, "", "soon", "-5", "1.5e", "٣", "Sun, 99 Mar 2026"])
def test_a_retry_after_that_cannot_be_read_is_none(value):
    assert parse_retry_after(value) is None


@given(st.text(max_size=40))
def test_no_retry_after_crashes(value):
    found = parse_retry_after(value)
    assert found is None or found >= 0


DATA = st.text(st.characters(blacklist_characters="\r\n", blacklist_categories=("Cs",)), min_size=1, max_size=12)


@given(st.lists(st.lists(DATA, min_size=1, max_size=3), max_size=4), st.sampled_from(["\n", "\r\n", "\r"]), st.data())
def test_events_are_the_same_however_the_bytes_are_cut(events, newline, data):
    raw = "".join(
        f": comment{newline}" + "".join(f"data: {line}{newline}" for line in lines) + newline for lines in events
    )
    stream = raw.encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    decoder, found = EventDecoder(), []
    for low, high in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        found += decoder.feed(stream[low:high])
    assert found == ["\n".join(lines) for lines in events]


def test_an_event_without_its_blank_line_is_not_given():
    decoder = EventDecoder()
    assert decoder.feed(b"data: one\n\ndata: tw") == ["one"]
    assert decoder.feed(b"o\n") == []
    assert decoder.feed(b"\n") == ["two"]


def test_a_line_separator_inside_json_is_text():
    assert EventDecoder().feed('data: {"a": "x\u2028y\x85z"}\n\n'.encode()) == ['{"a": "x\u2028y\x85z"}']


def test_bytes_that_are_no_text_or_never_end_are_refused():
    with pytest.raises(ValueError, match="utf-8"):
        EventDecoder().feed(b"data: \xff\n\n")
    decoder = EventDecoder()
    with pytest.raises(ValueError, match=r"^a line of the stream is too long$"):
        for _ in range(9):
            decoder.feed(b"x" * 2**20)


TURNS = [Message(role=role, content=role[0]) for role in ("system", "user", "assistant", "tool")]


def test_a_request_carries_the_roles_and_only_the_settings_that_matter():
    assert request_body("m", TURNS, Sampling(max_new_tokens=9)) == {
        "model": "m",
        "messages": [
            {"role": "system", "content": "s"},
            {"role": "user", "content": "u"},
            {"role": "assistant", "content": "a"},
            {"role": "tool", "content": "t", "tool_call_id": "call_3"},
        ],
        "temperature": 0.0,
        "max_tokens": 9,
    }
    drawn = request_body("m", TURNS[:1], Sampling(temperature=0.5, top_p=0.9, seed=2**31 + 3, stop=("x",)), stream=True)
    assert {k: drawn[k] for k in ("temperature", "top_p", "seed", "stop", "stream")} == {
        "temperature": 0.5, "top_p": 0.9, "seed": 3, "stop": ["x"], "stream": True,
    }  # fmt: skip


def whole(message, finish="stop", **rest) -> bytes:
    return json.dumps({"choices": [{"message": message, "finish_reason": finish}], **rest}).encode()


def test_a_whole_answer():
    found = parse_completion(whole({"content": "hi"}, "length", usage={"prompt_tokens": 4, "completion_tokens": 1}))
    assert found == Completion(text="hi", finish_reason="length", n_prompt_tokens=4, n_completion_tokens=1)
    assert parse_completion(whole({"content": ""})).text == ""
    assert (
        parse_completion(whole({"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]})).text
        == "ab"
    )
    refusal = parse_completion(whole({"content": None, "refusal": "no"}))
    assert (refusal.text, refusal.meta) == ("no", {"is_refusal": True})
    filtered = parse_completion(whole({"content": None}, "content_filter"))
    assert (filtered.text, filtered.finish_reason) == ("", "blocked")
    assert (
        parse_completion(
            whole({"content": "x"}, usage={"prompt_tokens": -1, "completion_tokens": "many"})
        ).n_prompt_tokens
        == 0
    )


@pytest.mark.parametrize(
    ("raw", "kind", "said"),
    [
        (b"<html>", "", "it answered with a web page, not JSON"),
        (b"{}", "text/html; charset=utf-8", "it answered with a web page, not JSON"),
        (b"", "", "its answer is empty"),
        (b'{"choices": [', "", "it answered with damaged JSON"),
        (b"[" * 100_000, "", "it answered with damaged JSON"),
        (b"[]", "", "it answered with a JSON list, not an object"),
        (b"{}", "", "its answer holds no choices"),
        (b'{"choices": []}', "", "its answer holds no choices"),
        (b'{"error": {"message": "over\\n capacity"}}', "", "its answer holds no choices: over capacity"),
        (b'{"choices": [3]}', "", "its choice is not an object"),
        (b'{"choices": [{"text": "x"}]}', "", "its choice holds no message"),
        (b'{"choices": [{"message": {"content": null}}]}', "", "its message holds no text"),
        (b'{"choices": [{"message": {"content": [{"type": "image"}]}}]}', "", "its message holds no text"),
    ],
)
def test_answers_that_are_not_in_the_format(raw, kind, said):
    with pytest.raises(Malformed) as caught:
        parse_completion(raw, kind)
    assert str(caught.value) == said


@given(st.binary(max_size=60))
def test_any_bytes_are_an_answer_or_malformed(raw):
    try:
        assert parse_completion(raw).text is not None
    except Malformed as bad:
        assert str(bad)


def test_streamed_pieces():
    assert parse_piece('{"choices": [{"delta": {"content": "hi"}, "finish_reason": null}]}') == ("hi", False)
    assert parse_piece('{"choices": [{"delta": {}, "finish_reason": "stop"}]}') == ("", True)
    assert parse_piece('{"choices": [], "usage": {}}') == ("", False)
    with pytest.raises(Malformed, match=r"^it broke off with an error: gone$"):
        parse_piece('{"error": {"message": "gone"}}')
    with pytest.raises(Malformed, match=r"^it answered with damaged JSON$"):
        parse_piece('{"choices"')


@pytest.mark.parametrize(
    ("payload", "said"),
    [
        ({"error": {"message": "a\nb"}}, "a b"),
        ({"error": "plain"}, "plain"),
        ({"detail": "not found"}, "not found"),
        ({"error": {"type": "t"}}, "t"),
        ({}, ""),
    ],
)
def test_what_an_error_answer_says(payload, said):
    assert error_text(payload) == said
