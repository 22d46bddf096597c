"""The `openai:` door against a real server process on loopback, and against one that misbehaves in every way known."""

from __future__ import annotations

import json
import logging
import re
import socket
import threading
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from uphold.core.errors import ConfigError, ModelError
from uphold.core.records import Message
from uphold.models import Chat, InParts, Sampling, Weights, load
from uphold.models import endpoint as endpoint_module

KEY = "sk-very-secret-0123456789"


def untimed(error: str | None) -> str:
    """The error with the seconds it took as 0: how busy the machine is plays no part here."""
    return re.sub(r"x in \d+ s", "x in 0 s", error or "")


def asked(*texts: str):
    return [(Message(role="user", content=text),) for text in texts]


@pytest.fixture
def chat(trouble):
    """A door to the misbehaving server that gives up early."""
    return load(f"openai:{trouble.url}#m", tries=3, timeout_s=5.0, patience_s=20.0)


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    monkeypatch.setattr("uphold.models.retry.BASE_S", 0.01)


# --- a real server


def test_replies_over_http_equal_the_local_model(tiny, tiny_server):
    local, remote = load(str(tiny)), load(tiny_server)
    remote.check()
    conversations = [
        *asked("w1 w2", "w3", "w4 w5 w6"),
        tuple(Message(role=role, content="w7") for role in ("system", "user", "assistant", "tool")),
    ]
    greedy = Sampling(max_new_tokens=12, stop=("w9",))
    drawn = Sampling(temperature=1.0, top_p=0.9, seed=7, max_new_tokens=12)
    for sampling in (greedy, drawn):
        found = remote.generate(conversations, sampling)
        assert {c.meta["served"] for c in found} == {"tiny"}  # who answered, as the endpoint says
        assert [c.model_copy(update={"meta": {}}) for c in found] == local.generate(conversations, sampling)


def test_a_stream_over_http_equals_the_whole_reply(tiny_server):
    remote = load(tiny_server)
    sampling = Sampling(max_new_tokens=12)
    pieces = list(remote.stream(asked("w1 w2")[0], sampling))
    assert len(pieces) > 1
    assert "".join(pieces) == remote.generate(asked("w1 w2"), sampling)[0].text


def test_a_prompt_that_is_too_long_is_an_error_for_that_one_alone(tiny_server):
    long, fine = load(tiny_server).generate(asked("w1 " * 300, "w1"), Sampling(max_new_tokens=4))
    assert long.error == "HTTP 400: the prompt has 304 tokens and the model's context is 128: no room for a reply"
    assert fine.error is None


def test_a_model_the_server_does_not_have_is_named_with_the_one_it_has(tiny_server):
    with pytest.raises(ModelError) as caught:
        load(tiny_server.replace("#tiny", "#tinny")).check()
    assert str(caught.value) == (
        f"{tiny_server.replace('#tiny', '#tinny')}: HTTP 404: no model 'tinny' here; there is 'tiny'. "
        "Check the URL (it usually ends in /v1) and the model's name. Did you mean 'tiny'?"
    )


def test_an_endpoint_is_a_chat_without_weights_known_by_url_and_name(tiny_server):
    remote = load(tiny_server)
    assert isinstance(remote, Chat)
    assert isinstance(remote, InParts)
    assert not isinstance(remote, Weights)
    assert remote.spec == tiny_server
    assert remote.identity() == load(tiny_server).identity() != load(tiny_server + "2").identity()


def test_the_same_conversation_twice_is_drawn_twice(tiny_server):
    drawn = load(tiny_server).generate(asked("w1", "w1"), Sampling(temperature=1.5, max_new_tokens=20))
    assert drawn[0].text != drawn[1].text


def test_nothing_asked_is_nothing_answered(tiny_server):
    assert load(tiny_server).generate([]) == []
    assert load(tiny_server).generate([()])[0].error == "the conversation is empty"
    with pytest.raises(ModelError, match=r"the conversation is empty$"):
        list(load(tiny_server).stream(()))


# --- nobody there


@pytest.fixture
def closed_port():
    with socket.socket() as held:  # bound but not listening: connections are refused, and nobody else can take it
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


def test_a_server_that_refuses(closed_port):
    chat = load(f"openai:http://127.0.0.1:{closed_port}/v1#m", tries=2)
    said = "cannot connect. Is the server running, and the URL right?"
    with pytest.raises(ModelError) as caught:
        chat.check()
    assert str(caught.value) == f"{chat.spec}: {said}"
    assert untimed(chat.generate(asked("a"))[0].error) == f"{said} (tried 2x in 0 s)"
    with pytest.raises(ModelError, match=r"cannot connect"):
        list(chat.stream(asked("a")[0]))


def test_when_nobody_is_there_the_rest_is_not_tried_one_by_one(closed_port):
    chat = load(f"openai:http://127.0.0.1:{closed_port}/v1#m", tries=2, concurrency=1)
    replies = chat.generate(asked(*"abcdefgh"))
    said = "cannot connect. Is the server running, and the URL right? (tried 2x in 0 s)"
    assert [untimed(r.error) for r in replies] == [said] * 3 + [
        f"not asked, because the server stopped answering: {said}"
    ] * 5


def test_a_server_that_hangs(trouble):
    trouble.script = [lambda handler: trouble.let_go.wait(20)]
    chat = load(f"openai:{trouble.url}#m", timeout_s=0.2, tries=2)
    said = "no answer within 0.2 s. Is the server busy or stuck? See the option timeout_s"
    started = time.monotonic()
    assert untimed(chat.generate(asked("a"))[0].error) == f"{said} (tried 2x in 0 s)"
    with pytest.raises(ModelError) as caught:
        chat.check()
    assert str(caught.value) == f"{chat.spec}: {said}"
    assert time.monotonic() - started < 60


def test_a_server_that_drips_forever(trouble):
    def drip(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", "1000000")
        handler.end_headers()
        while not trouble.let_go.wait(0.05):
            handler.wfile.write(b" ")

    trouble.script = [drip]
    chat = load(f"openai:{trouble.url}#m", timeout_s=0.3, connect_timeout_s=0.2, tries=1)
    assert chat.generate(asked("a"))[0].error.startswith("no answer within 0.3 s.")


# --- limits and failures that pass


def test_a_limit_with_retry_after_is_waited_out(trouble, chat, wire):
    trouble.script = [wire.reply(429, {"error": {"message": "slow down"}}, Retry_After="1"), wire.says("hi")]
    started = time.monotonic()
    assert chat.generate(asked("a"))[0].text == "hi"
    assert time.monotonic() - started >= 1.0


def test_a_retry_after_as_a_date_is_waited_out(trouble, chat, wire):
    when = datetime.now(UTC) + timedelta(seconds=3)  # a date has whole seconds
    trouble.script = [wire.reply(503, b"", Retry_After=format_datetime(when, usegmt=True)), wire.says("hi")]
    started = time.monotonic()
    assert chat.generate(asked("a"))[0].text == "hi"
    assert time.monotonic() - started >= 1.5


def test_a_limit_holds_back_every_request_not_only_the_one_that_met_it(trouble, wire):
    trouble.script = [wire.reply(429, {}, Retry_After="1"), wire.says("hi")]
    chat = load(f"openai:{trouble.url}#m", concurrency=1)
    first = chat.generate(asked("a", "b"))
    assert [reply.text for reply in first] == ["hi", "hi"]
    assert len(trouble.seen) == 3


def test_a_wait_beyond_our_patience_is_not_waited(trouble, chat, wire):
    trouble.script = [wire.reply(429, {"error": "quota used up"}, Retry_After="3600")]
    assert (
        chat.generate(asked("a"))[0].error == "HTTP 429: quota used up (tried 1x in 0 s; it asks to wait 3600 s more)"
    )


def test_failures_of_the_server_are_tried_again_and_then_said(trouble, chat, wire):
    trouble.script = [
        wire.reply(500, {"error": {"message": "boom"}}),
        wire.reply(502, b"<html>bad gateway</html>", "text/html"),
        wire.says("hi"),
    ]
    assert chat.generate(asked("a"))[0].text == "hi"
    trouble.script = [wire.reply(500, {"error": {"message": "boom"}})]
    assert untimed(chat.generate(asked("a"))[0].error) == "HTTP 500: boom (tried 3x in 0 s)"
    assert len(trouble.seen) == 6


def test_a_connection_that_breaks_off_is_tried_again(trouble, chat, wire):
    def half(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        handler.wfile.write(b'{"choices"')
        handler.close_connection = True

    trouble.script = [half, wire.says("hi")]
    assert chat.generate(asked("a"))[0].text == "hi"
    trouble.script = [half]
    assert untimed(chat.generate(asked("a"))[0].error) == "the connection broke off during the answer (tried 3x in 0 s)"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"choices": [', "it answered with damaged JSON (tried 3x in 0 s)"),
        (b"", "its answer is empty (tried 3x in 0 s)"),
        (b'{"choices": []}', "its answer holds no choices (tried 3x in 0 s)"),
        (b'{"choices": [{"message": {"content": null}}]}', "its message holds no text (tried 3x in 0 s)"),
    ],
)
def test_answers_that_are_not_in_the_format_are_tried_again_and_then_said(trouble, chat, wire, body, said):
    trouble.script = [wire.reply(200, body)]
    assert untimed(chat.generate(asked("a"))[0].error) == said
    assert len(trouble.seen) == 3


# --- failures that do not pass


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (400, {"error": {"message": "temperature too high"}}, "HTTP 400: temperature too high"),
        (401, {"error": "who are you"}, "HTTP 401: who are you. Set UPHOLD_API_KEY (or OPENAI_API_KEY) to a key that this server accepts"),
        (403, {}, "HTTP 403. Set UPHOLD_API_KEY (or OPENAI_API_KEY) to a key that this server accepts"),
        (404, {"detail": "Not Found"}, "HTTP 404: Not Found. Check the URL (it usually ends in /v1) and the model's name"),
        (301, {}, "HTTP 301. The server redirects: give the URL it redirects to"),
        (413, {}, "HTTP 413"),
    ],
)  # fmt: skip
def test_refusals_are_said_at_once(trouble, chat, wire, status, body, said):
    trouble.script = [wire.reply(status, body)]
    assert untimed(chat.generate(asked("a"))[0].error) == said
    assert len(trouble.seen) == 1


def test_a_web_page_is_no_answer(trouble, chat, wire):
    trouble.script = [wire.reply(200, b"<!doctype html><title>hello</title>", "text/html")]
    said = "it answered with a web page, not JSON. Check the URL: it usually ends in /v1"
    assert untimed(chat.generate(asked("a"))[0].error) == said
    with pytest.raises(ModelError) as caught:
        chat.check()
    assert str(caught.value) == f"{chat.spec}: {said}"
    assert len(trouble.seen) == 2


def test_a_server_without_a_list_of_models_is_asked_for_a_token(trouble, chat, wire):
    trouble.script = [wire.reply(404, {}), wire.says("hi")]
    chat.check()
    assert [path for path, _, _ in trouble.seen] == ["/v1/models", "/v1/chat/completions"]


def test_a_server_that_knows_the_limit_under_its_newer_name(trouble, chat, wire):
    said = {"error": {"message": "Unsupported parameter: use 'max_completion_tokens' instead."}}
    trouble.script = [wire.reply(400, said), wire.says("hi")]
    assert [reply.text for reply in chat.generate(asked("a"))] == ["hi"]
    assert "max_completion_tokens" in trouble.seen[-1][2]
    chat.generate(asked("b"))
    assert len(trouble.seen) == 3  # remembered


def test_an_answer_without_end_is_cut_off(trouble, chat, wire, monkeypatch):
    monkeypatch.setattr(endpoint_module, "ANSWER_LIMIT_BYTES", 2**20)
    trouble.script = [wire.reply(200, b" " * (2**20 + 1))]
    assert chat.generate(asked("a"))[0].error == "its answer is larger than 1 MB"


# --- streams


def test_half_a_stream_is_an_error_and_is_not_asked_again(trouble, chat, wire):
    for script in (
        wire.streams(wire.event("one "), wire.event("two")),
        wire.streams(wire.event("one "), wire.event("two"), then_cut=True),
    ):
        trouble.script, trouble.seen[:] = [script], []
        pieces = []
        with pytest.raises(ModelError) as caught:
            pieces.extend(chat.stream(asked("a")[0]))
        assert "".join(pieces) == "one two"
        assert str(caught.value) in (
            f"{chat.spec}: the stream ended half-way, without saying that it was done. Ask again",
            f"{chat.spec}: the connection broke off during the answer",
        )
        assert len(trouble.seen) == 1


@pytest.mark.parametrize("end", [b"data: [DONE]\n\n", None])
def test_a_stream_is_whole_with_done_or_with_a_finish_reason(trouble, chat, wire, end):
    last = end if end is not None else wire.event(finish="stop")
    trouble.script = [wire.streams(b": hello\n\n", wire.event("a ")[:20], wire.event("a ")[20:], wire.event("b"), last)]
    assert list(chat.stream(asked("x")[0])) == ["a ", "b"]
    assert trouble.seen[0][2]["stream"] is True


def test_a_stream_that_breaks_off_with_an_error_says_it(trouble, chat, wire):
    trouble.script = [wire.streams(wire.event("a"), b'data: {"error": {"message": "out of memory"}}\n\n')]
    with pytest.raises(ModelError, match=r"it broke off with an error: out of memory$"):
        list(chat.stream(asked("x")[0]))


def test_a_stream_is_asked_again_as_long_as_nothing_came(trouble, chat, wire):
    trouble.script = [wire.reply(503, {}), wire.streams(wire.event("a"), b"data: [DONE]\n\n")]
    assert list(chat.stream(asked("x")[0])) == ["a"]


def test_a_server_that_does_not_stream_gives_its_reply_in_one_piece(trouble, chat, wire):
    trouble.script = [wire.says("whole")]
    assert list(chat.stream(asked("x")[0])) == ["whole"]


def test_a_stream_that_stops_coming_is_an_error(trouble, wire):
    def stall(handler):
        wire.streams(wire.event("a"), then_cut=True)(handler)
        handler.wfile.flush()
        trouble.let_go.wait(20)

    trouble.script = [stall]
    chat = load(f"openai:{trouble.url}#m", timeout_s=0.3, tries=1)
    stream = chat.stream(asked("x")[0])
    assert next(stream) == "a"
    with pytest.raises(ModelError, match=r"no answer within 0\.3 s"):
        next(stream)


def test_a_reader_that_leaves_early_closes_the_stream(trouble, chat, wire):
    trouble.script = [wire.streams(*[wire.event("a")] * 50, b"data: [DONE]\n\n"), wire.says("next")]
    stream = chat.stream(asked("x")[0])
    assert next(stream) == "a"
    stream.close()
    assert chat.generate(asked("y"))[0].text == "next"


# --- many at once


def test_no_more_requests_are_in_flight_than_allowed_and_replies_keep_their_order(trouble, wire):
    lock, now, most = threading.Lock(), [0], [0]

    def echo(handler):
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        time.sleep(0.02)
        text = trouble.seen[-1][2]["messages"][0]["content"]
        with lock:
            now[0] -= 1
        wire.says(text)(handler)

    trouble.script = [echo]
    chat = load(f"openai:{trouble.url}#m", concurrency=4)
    replies = chat.generate(asked(*(str(i) for i in range(30))))
    assert most[0] <= 4
    assert most[0] > 1
    assert all(reply.error is None for reply in replies)
    chat_one = load(
        f"openai:{trouble.url}#m", concurrency=1
    )  # with one at a time the last seen is the one being answered
    assert [r.text for r in chat_one.generate(asked(*"abcdef"))] == list("abcdef")


def test_replies_that_arrive_together_come_in_one_part_and_all_of_them_come(trouble, wire):
    trouble.script = [wire.says("x")]
    chat = load(f"openai:{trouble.url}#m", concurrency=8)
    parts = []
    for part in chat.generate_parts(asked(*(str(i) for i in range(40)))):
        parts.append(part)
        time.sleep(0.02)  # a reader that is busy writing the last part down
    assert sorted(i for part in parts for i in part) == list(range(40))
    assert len(parts) < 40


def test_a_part_comes_as_soon_as_it_is_there_and_what_is_known_is_not_asked(trouble, chat, wire):
    trouble.script = [wire.says("first"), lambda handler: trouble.let_go.wait(20)]
    known = {1: None}
    one = load(f"openai:{trouble.url}#m", concurrency=1)
    parts = one.generate_parts(asked("a", "b", "c"), Sampling(), known)
    part = next(parts)
    assert list(part) == [0]
    assert part[0].text == "first"
    parts.close()  # stops what is in flight
    assert all(body["messages"][0]["content"] != "b" for _, _, body in trouble.seen)


# --- keys and prompts


def test_the_key_is_sent_and_shown_nowhere(trouble, wire, monkeypatch, caplog):
    monkeypatch.setenv("UPHOLD_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_API_KEY", "another")
    caplog.set_level(logging.DEBUG)
    trouble.script = [wire.reply(401, {"error": {"message": f"Incorrect API key provided: {KEY}."}})]
    chat = load(f"openai:{trouble.url}#m")
    error = chat.generate(asked("a"))[0].error
    assert (
        error
        == "HTTP 401: Incorrect API key provided: [key]. Set UPHOLD_API_KEY (or OPENAI_API_KEY) to a key that this server accepts"
    )
    with pytest.raises(ModelError) as caught:
        chat.check()
    assert trouble.seen[0][1]["Authorization"] == f"Bearer {KEY}"
    shown = [
        repr(chat),
        chat.spec,
        chat.identity(),
        str(caught.value),
        caplog.text,
        repr(vars(chat)),
        repr(vars(chat._endpoint)["_client_"]),
    ]
    assert not any(KEY in text for text in (*shown[:5], shown[6]))


def test_the_other_variable_is_used_when_the_first_is_not_set_and_none_sends_none(trouble, wire, monkeypatch):
    trouble.script = [wire.says("hi")]
    load(f"openai:{trouble.url}#m").generate(asked("a"))
    assert "Authorization" not in trouble.seen[0][1]
    monkeypatch.setenv("OPENAI_API_KEY", "k2")
    load(f"openai:{trouble.url}#m").generate(asked("a"))
    assert trouble.seen[1][1]["Authorization"] == "Bearer k2"


def test_a_key_that_cannot_be_sent_is_refused_unshown(monkeypatch):
    monkeypatch.setenv("UPHOLD_API_KEY", "abc\nX-Evil: 1")
    with pytest.raises(ConfigError) as caught:
        load("openai:http://127.0.0.1:1/v1#m")
    assert str(caught.value) == "UPHOLD_API_KEY holds characters that cannot be sent in a header. Set it again."


def test_a_message_that_repeats_the_prompt_is_withheld(trouble, chat, wire):
    private = "my account number is 4411 and my cat is called Tibbles"
    trouble.script = [wire.reply(400, {"error": {"message": f"bad input: {private[:40]}..."}})]
    assert chat.generate(asked(private))[0].error == "HTTP 400: (message withheld: it repeats the prompt)"


SECRET = "model 'openai:...': the URL must hold no user, password or query. Put the key into UPHOLD_API_KEY"


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("openai:", "model 'openai:': write openai:URL#MODEL, such as openai:http://127.0.0.1:8000/v1#clerk"),
        ("openai:http://h/v1", "model 'openai:http://h/v1': write openai:URL#MODEL, such as openai:http://127.0.0.1:8000/v1#clerk"),
        ("openai:ftp://h/v1#m", "model 'openai:ftp://h/v1#m': write openai:URL#MODEL, such as openai:http://127.0.0.1:8000/v1#clerk"),
        ("openai:http://h:99999/v1#m", "model 'openai:http://h:99999/v1#m': write openai:URL#MODEL, such as openai:http://127.0.0.1:8000/v1#clerk"),
        ("openai:http://me:pw@h/v1#m", SECRET),
        ("openai:http://me:pw@h:x/v1#m", SECRET),
        ("openai:http://h/v1?key=s#m", SECRET),
    ],
)  # fmt: skip
def test_urls_that_cannot_be_meant(spec, said):
    with pytest.raises(ConfigError) as caught:
        load(spec)
    assert str(caught.value) == said


def test_an_unknown_option_of_a_secret_url_does_not_show_it():
    with pytest.raises(
        ConfigError, match=r"^model 'openai:\.\.\.': unknown option 'retries'\. Did you mean 'tries'\?$"
    ):
        load("openai:http://me:pw@h/v1#m", retries=1)


@pytest.mark.parametrize("name", ["concurrency", "tries", "timeout_s", "connect_timeout_s"])
def test_settings_below_their_least_are_refused(name):
    with pytest.raises(ConfigError, match=rf"^openai: {name} must be "):
        load("openai:http://h/v1#m", **{name: 0})


def test_a_url_up_to_chat_completions_is_understood():
    assert load("openai:http://h/v1/chat/completions#m").spec == "openai:http://h/v1#m"
    assert json.dumps(load("openai:http://h/v1/#m").spec) == '"openai:http://h/v1#m"'
