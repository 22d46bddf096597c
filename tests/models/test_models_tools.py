"""Tools on the wire: what an endpoint is offered, what it calls, and a real server that passes both on."""

from __future__ import annotations

import json

import pytest

from uphold.core.records import Message
from uphold.models import load
from uphold.models.openai_wire import Malformed, parse_completion, request_body
from uphold.models.tools import CallTurn, ResultTurn, TakesTools, Tool, ToolCall, calls_of

LOOK = Tool(name="look", description="Looks.", parameters={"type": "object", "properties": {"at": {"type": "string"}}})
CALL = ToolCall(id="c1", name="look", arguments='{"at": "sky"}')


def answer(**message: object) -> bytes:
    return json.dumps({"choices": [{"message": {"role": "assistant", "content": None, **message}}]}).encode()


def test_turns_with_tools_go_out_in_the_form_of_function_calling():
    turns = [
        Message(role="user", content="look"),
        CallTurn.of([CALL]),
        ResultTurn(content="blue", call_id="c1"),
    ]
    from uphold.models import Sampling

    body = request_body("m", turns, Sampling(), tools=[LOOK])
    assert body["tools"] == [{"type": "function", "function": LOOK.model_dump()}]
    assert body["messages"][1] == {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"at": "sky"}'}}],
    }
    assert body["messages"][2] == {"role": "tool", "tool_call_id": "c1", "content": "blue"}


def test_without_tools_a_request_names_none():
    from uphold.models import Sampling

    assert "tools" not in request_body("m", [Message(role="user", content="hi")], Sampling())


def test_calls_are_read_off_an_answer_that_says_nothing():
    found = parse_completion(answer(tool_calls=[CALL.wire()]))
    assert (found.text, calls_of(found)) == ("", (CALL,))


def test_arguments_sent_as_an_object_are_read_as_their_text():
    raw = {"function": {"name": "look", "arguments": {"at": "sky"}}}
    assert calls_of(parse_completion(answer(tool_calls=[raw]))) == (
        ToolCall(id="call_0", name="look", arguments='{"at": "sky"}'),
    )


@pytest.mark.parametrize("calls", ["look", [1], [{}], [{"function": {"arguments": "{}"}}], [{"function": "look"}]])
def test_damaged_calls_are_malformed_and_not_an_answer(calls):
    with pytest.raises(Malformed, match="its tool calls are damaged"):
        parse_completion(answer(tool_calls=calls))


def test_an_answer_with_neither_words_nor_calls_is_malformed():
    with pytest.raises(Malformed, match="holds no text"):
        parse_completion(answer(tool_calls=[]))


def test_the_text_of_a_turn_tells_other_calls_apart():
    other = CallTurn.of([ToolCall(name="look", arguments='{"at": "sea"}')], "well")
    assert CallTurn.of([CALL]).content == 'call look {"at": "sky"}'
    assert other.content == 'well\ncall look {"at": "sea"}'


def test_a_model_offered_tools_is_another_subject_than_the_model():
    chat = load("openai:http://127.0.0.1:9/v1#m")
    assert isinstance(chat, TakesTools)
    assert chat.with_tools([LOOK]).identity() != chat.identity() == chat.with_tools([]).identity()


def test_an_agent_calls_tools_through_a_real_server(wire):
    with wire.served("scripted:careful", "--name", "shop") as spec:
        chat = load(spec)
        desk = Tool(name="get_desk", description="")
        turns = [Message(role="user", content="i am anna. what is my address?")]
        first = chat.with_tools([desk]).generate([turns])[0]
        (call,) = calls_of(first)
        assert (call.name, call.arguments, first.text) == ("get_desk", "{}", "")
        turns += [CallTurn.of([call]), ResultTurn(content="address of anna: 12 pine street.", call_id=call.id)]
        second = chat.with_tools([desk]).generate([turns])[0]
        assert (second.text, calls_of(second)) == ("address of anna: 12 pine street.", ())
        third = chat.generate([turns[:1]])[0]  # without tools the same agent answers in text
        assert third.text == "call get_desk {}"
