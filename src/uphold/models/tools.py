"""Tools that a model may call: what is offered, what it calls, what came back, in the form of OpenAI's function calling.

A `Tool` has a name and a JSON schema. A `Chat` that takes tools (`TakesTools`) gives a copy of itself that offers them with every
request; its calls come back in `Completion.meta["tool_calls"]` and are read with `calls_of`. `CallTurn` and `ResultTurn` are the turns of
a conversation in which tools were used; their `content` holds the same as text, so that journals tell them apart and models without
tools can read them. Left out: parallel-call settings, forced tools, schemas beyond flat objects of text and numbers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol, runtime_checkable

from pydantic import Field

from uphold.core.records import Message, Record
from uphold.models.base import Chat, Completion

CALLS = "tool_calls"


class Tool(Record):
    """name: letters, digits and underscores. parameters: JSON schema of the arguments, an object."""

    name: str = Field(pattern=r"^[A-Za-z0-9_]{1,64}$")
    description: str
    parameters: dict[str, Any] = Field(default_factory=lambda: {"type": "object", "properties": {}})

    def wire(self) -> dict[str, Any]:
        """The tool as one entry of a request's `tools`."""
        return {"type": "function", "function": self.model_dump(mode="json")}


class ToolCall(Record):
    """One call as the model wrote it; `arguments` is its text, which need not be JSON."""

    id: str = ""
    name: str
    arguments: str

    def wire(self) -> dict[str, Any]:
        """The call as one entry of a message's `tool_calls`."""
        return {"id": self.id, "type": "function", "function": {"name": self.name, "arguments": self.arguments}}


class CallTurn(Message):
    """The assistant's turn that calls tools. said: what it said beside; content: calls as text."""

    role: Literal["assistant"] = "assistant"
    calls: tuple[ToolCall, ...]
    said: str = ""

    @classmethod
    def of(cls, calls: Sequence[ToolCall], said: str = "") -> CallTurn:
        """The turn, with each call as a line `call NAME ARGUMENTS` of its content."""
        lines = [*([said] if said else []), *(f"call {call.name} {call.arguments}" for call in calls)]
        return cls(content="\n".join(lines), calls=tuple(calls), said=said)

    def wire(self) -> dict[str, Any]:
        """The turn as a message of a request."""
        return {"role": "assistant", "content": self.said or None, CALLS: [call.wire() for call in self.calls]}


class ResultTurn(Message):
    """What a tool answered to the call with `call_id`."""

    role: Literal["tool"] = "tool"
    call_id: str

    def wire(self) -> dict[str, Any]:
        """The turn as a message of a request."""
        return {"role": "tool", "tool_call_id": self.call_id, "content": self.content}


@runtime_checkable
class TakesTools(Protocol):
    """A Chat whose wire has a place for tools."""

    def with_tools(self, tools: Sequence[Tool]) -> Chat:
        """The same model, offered these tools with every request; another identity."""
        ...


def calls_of(completion: Completion) -> tuple[ToolCall, ...]:
    """The tool calls in a completion; () when there are none."""
    return tuple(ToolCall.model_validate(call) for call in completion.meta.get(CALLS, ()))


def read_calls(raw: Any) -> list[dict[str, str]] | None:
    """The `tool_calls` of an answer's message as plain values, [] where there are none; None when they are damaged."""
    if raw is None:
        return []
    if not isinstance(raw, list):
        return None
    found = []
    for number, entry in enumerate(raw):
        function = entry.get("function") if isinstance(entry, Mapping) else None
        if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
            return None
        written = function.get("arguments", "")
        text = written if isinstance(written, str) else json.dumps(written)  # some servers send the object itself
        found.append({"id": str(entry.get("id") or f"call_{number}"), "name": function["name"], "arguments": text})
    return found
