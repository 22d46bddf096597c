"""The small server: real requests over loopback, whole and streamed, and everything it refuses."""

from __future__ import annotations

import json
import urllib.error
import urllib.request

import pytest

from uphold.core.errors import ConfigError
from uphold.models.serve import listen


@pytest.fixture(scope="module")
def base(tiny_server) -> str:
    return tiny_server.removeprefix("openai:").partition("#")[0]


def call(url: str, body: object = None, **headers: str) -> tuple[int, dict[str, str], bytes]:
    raw = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=raw, headers={"Content-Type": "application/json", **headers})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=30) as response:
            return response.status, dict(response.headers), response.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, dict(error.headers), error.read()


OFFERED = {"type": "function", "function": {"name": "look", "description": "looks", "parameters": {"type": "object"}}}


def ask(**fields: object) -> dict[str, object]:
    return {
        "model": "tiny",
        "messages": [{"role": "user", "content": "w1 w2"}],
        "temperature": 0,
        "max_tokens": 8,
        **fields,
    }


def test_it_lists_its_model_and_says_it_is_well(base):
    status, _, raw = call(f"{base}/models")
    assert status == 200
    assert [entry["id"] for entry in json.loads(raw)["data"]] == ["tiny"]
    assert json.loads(call(base.replace("/v1", "/health"))[2]) == {"status": "ok"}


def test_a_whole_reply_has_the_shape_that_clients_expect(base):
    status, _, raw = call(f"{base}/chat/completions", ask())
    reply = json.loads(raw)
    assert status == 200
    assert reply["object"] == "chat.completion"
    assert reply["model"] == "tiny"
    assert reply["choices"][0]["message"]["role"] == "assistant"
    usage = reply["usage"]
    assert usage["prompt_tokens"] == 6  # <s> <user> w1 w2 <end> <assistant>
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert reply["choices"][0]["finish_reason"] in ("stop", "length")


def test_a_streamed_reply_is_the_same_reply_in_events(base):
    whole = json.loads(call(f"{base}/chat/completions", ask())[2])["choices"][0]
    status, headers, raw = call(f"{base}/chat/completions", ask(stream=True))
    assert status == 200
    assert headers["content-type"].startswith("text/event-stream")
    *events, done, end = raw.decode().split("\n\n")
    assert (done, end) == ("data: [DONE]", "")
    chunks = [json.loads(event.removeprefix("data: "))["choices"][0] for event in events]
    assert chunks[0]["delta"] == {"role": "assistant", "content": ""}
    assert "".join(chunk["delta"].get("content", "") for chunk in chunks) == whole["message"]["content"]
    assert [chunk["finish_reason"] for chunk in chunks] == [None] * (len(chunks) - 1) + [whole["finish_reason"]]


def test_a_stream_that_cannot_begin_ends_in_an_error_without_done(base):
    raw = call(f"{base}/chat/completions", ask(stream=True, messages=[{"role": "user", "content": "w1 " * 200}]))[
        2
    ].decode()
    assert '"error": {"message": "hf:' in raw
    assert "no room for a reply" in raw
    assert "[DONE]" not in raw


def test_parts_of_text_the_developer_role_and_one_stop_are_understood(base):
    plain = ask(messages=[{"role": "system", "content": "w1"}, {"role": "user", "content": "w2 w3"}], stop=["zz"])
    parts = [{"type": "text", "text": "w2 "}, {"type": "text", "text": "w3"}]
    other = ask(messages=[{"role": "developer", "content": "w1"}, {"role": "user", "content": parts}], stop="zz")
    texts = [
        json.loads(call(f"{base}/chat/completions", body)[2])["choices"][0]["message"]["content"]
        for body in (plain, other)
    ]
    assert texts[0] == texts[1]


ROLE = "messages.0.role: Input should be 'system', 'developer', 'user', 'assistant' or 'tool'"
LONG = "the prompt has 204 tokens and the model's context is 128: no room for a reply"


@pytest.mark.parametrize(
    ("body", "status", "code", "said"),
    [
        (b"{", 400, "bad_json", "the request is not JSON"),
        (b"[" * 100_000, 400, "bad_json", "the request is not JSON"),
        (b"\xff", 400, "bad_json", "the request is not JSON"),
        ([1], 400, "bad_request", "body: Input should be a valid dictionary or instance of _Ask"),
        (ask(model="other"), 404, "model_not_found", "no model 'other' here; there is 'tiny'"),
        (ask(messages=[]), 400, "bad_request", "messages: List should have at least 1 item after validation, not 0"),
        (ask(n=2), 400, "bad_request", "n: Input should be 1"),
        (ask(tools=[OFFERED]), 400, "no_tools", "tools: this model takes none"),
        (ask(messages=[{"role": "assistant"}]), 400, "bad_request", "messages.0: Value error, content is missing"),
        (ask(max_tokens=0), 400, "bad_request", "max_tokens: Input should be greater than or equal to 1"),
        (ask(messages=[{"role": "robot", "content": "x"}]), 400, "bad_request", ROLE),
        (ask(messages=[{"role": "user", "content": "w1 " * 200}]), 400, "no_reply", LONG),
        (b'"' + b"x" * 2**20 + b'"', 413, "too_large", "the request is larger than 1048576 bytes"),
    ],
)  # fmt: skip
def test_what_it_does_not_do_it_refuses(base, body, status, code, said):
    found, _, raw = call(f"{base}/chat/completions", body)
    error = json.loads(raw)["error"]
    assert (found, error["code"], error["message"]) == (status, code, said)
    assert error["type"] == "invalid_request_error"


def test_a_refusal_does_not_repeat_the_prompt(base):
    raw = call(f"{base}/chat/completions", ask(messages=[{"role": "user", "content": {"secret": "tibbles"}}]))[2]
    assert b"tibbles" not in raw


def test_a_key_is_asked_for_when_one_is_set(wire):
    with wire.served("fake:echo", env={"UPHOLD_SERVE_KEY": "open sesame"}) as spec:
        base, _, name = spec.removeprefix("openai:").partition("#")
        assert name == "echo"
        body = ask(model=name)
        assert call(f"{base}/models")[0] == 401
        assert call(f"{base}/chat/completions", body)[0] == 401
        assert call(f"{base}/chat/completions", body, Authorization="Bearer wrong")[0] == 401
        status, _, raw = call(f"{base}/chat/completions", body, Authorization="Bearer open sesame")
        assert (status, json.loads(raw)["choices"][0]["message"]["content"]) == (200, "w1 w2")


def test_it_does_not_listen_to_others_without_a_key():
    with pytest.raises(ConfigError) as caught:
        listen("0.0.0.0", 0, None)
    assert str(caught.value) == (
        "0.0.0.0: would answer anybody who reaches this machine. "
        "Set UPHOLD_SERVE_KEY to a key that callers must send, or use 127.0.0.1"
    )
    listen("0.0.0.0", 0, "key").close()


def test_a_port_that_is_taken_is_named():
    with listen("127.0.0.1", 0, None) as held:
        port = held.getsockname()[1]
        with pytest.raises(ConfigError) as caught:
            listen("127.0.0.1", port, None)
    assert (
        str(caught.value)
        == f"cannot listen on 127.0.0.1 port {port}: Address already in use. Choose another with --port"
    )
