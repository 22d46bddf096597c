"""The OpenAI chat-completions format: what is sent, and what may come back.

Pure functions between our records and the JSON of `/v1/chat/completions`; `openai.py` does the sending and `serve.py`
speaks the other side. Whatever an endpoint gets wrong is told apart here: `Malformed` says what it was, without
repeating what was asked.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from uphold.core.records import Message
from uphold.models.base import Completion, Conversation, Sampling
from uphold.models.tools import CALLS, CallTurn, ResultTurn, Tool, read_calls

_FINISH = {"stop": "stop", "length": "length", "content_filter": "blocked"}


class Malformed(Exception):
    """An answer that is not what the format promises; the message says in which way."""


def request_body(
    model: str,
    conversation: Conversation,
    sampling: Sampling,
    *,
    limit_name: str = "max_tokens",
    stream: bool = False,
    tools: Sequence[Tool] = (),
) -> dict[str, Any]:
    """The JSON of one request. Settings that leave the server's default alone are not sent: some servers refuse what they do not know."""
    body: dict[str, Any] = {
        "model": model,
        "messages": [_message(m, i) for i, m in enumerate(conversation)],
        "temperature": sampling.temperature,
        limit_name: sampling.max_new_tokens,
    }
    if sampling.temperature > 0:
        body["seed"] = sampling.seed % 2**31  # the widest range that all servers take
    if sampling.top_p < 1:
        body["top_p"] = sampling.top_p
    if sampling.stop:
        body["stop"] = list(sampling.stop)
    if stream:
        body["stream"] = True
    if tools:
        body["tools"] = [tool.wire() for tool in tools]
    return body


def parse_completion(raw: bytes, content_type: str = "") -> Completion:
    """The completion in a whole answer. Raises Malformed for HTML, other text, damaged JSON, no choices or no text.

    A reply that calls tools needs no text; the calls are in `meta["tool_calls"]`. The model that the server says answered is in
    `meta["served"]`, where it says so.
    """
    payload = parse_json(raw, content_type)
    choice = _first_choice(payload)
    message = choice.get("message")
    if not isinstance(message, Mapping):
        raise Malformed("its choice holds no message")
    meta: dict[str, Any] = {}
    text = _text(message.get("content"))
    if text is None and isinstance(message.get("refusal"), str):
        text, meta = message["refusal"], {"is_refusal": True}
    finish = _FINISH.get(str(choice.get("finish_reason")), "stop")
    if text is None and finish == "blocked":
        text = ""
    calls = read_calls(message.get(CALLS))
    if calls is None:
        raise Malformed("its tool calls are damaged")
    if calls:
        text, meta = text or "", meta | {CALLS: calls}
    if text is None:
        raise Malformed("its message holds no text")
    if isinstance(served := payload.get("model"), str):
        meta = meta | {"served": served}
    usage = payload.get("usage")
    counts = usage if isinstance(usage, Mapping) else {}
    return Completion(
        text=text,
        finish_reason=finish,
        n_prompt_tokens=_count(counts.get("prompt_tokens")),
        n_completion_tokens=_count(counts.get("completion_tokens")),
        meta=meta,
    )


def parse_piece(data: str) -> tuple[str, bool]:
    """The text in one streamed chunk, and whether it says that the reply is finished. Raises Malformed for an error or damage."""
    payload = parse_json(data.encode("utf-8", "surrogatepass"))
    if payload.get("error"):
        raise Malformed(f"it broke off with an error: {error_text(payload)}")
    choices = payload.get("choices")
    if not choices:
        return "", False  # a chunk with usage alone
    choice = _first_choice(payload)
    delta = choice.get("delta")
    text = (_text(delta.get("content")) or _text(delta.get("refusal"))) if isinstance(delta, Mapping) else None
    return text or "", choice.get("finish_reason") is not None


def parse_json(raw: bytes, content_type: str = "") -> Mapping[str, Any]:
    """The JSON object in an answer. Raises Malformed when there is none."""
    if "html" in content_type.lower() or raw.lstrip()[:1] == b"<":
        raise Malformed("it answered with a web page, not JSON")
    try:
        payload = json.loads(raw)
    except (ValueError, RecursionError):
        raise Malformed("it answered with damaged JSON" if raw.strip() else "its answer is empty") from None
    if not isinstance(payload, Mapping):
        raise Malformed(f"it answered with a JSON {type(payload).__name__}, not an object")
    return payload


def error_text(payload: Mapping[str, Any]) -> str:
    """What an error answer says, in one line; '' when it says nothing. May repeat a prompt: clean it before it is shown."""
    error = payload.get("error", payload.get("detail", payload.get("message")))
    if isinstance(error, Mapping):
        error = error.get("message") or error.get("type") or error.get("code")
    return " ".join(str(error).split()) if error else ""


def _message(turn: Message, number: int) -> dict[str, Any]:
    if isinstance(turn, CallTurn | ResultTurn):
        return turn.wire()
    message = {"role": turn.role, "content": turn.content}
    return (
        message | {"tool_call_id": f"call_{number}"} if turn.role == "tool" else message
    )  # strict servers ask for an id


def _first_choice(payload: Mapping[str, Any]) -> Mapping[str, Any]:
    choices = payload.get("choices")
    if not isinstance(choices, list) or not choices:
        said = error_text(payload)
        raise Malformed(f"its answer holds no choices{f': {said}' if said else ''}")
    if not isinstance(choices[0], Mapping):
        raise Malformed("its choice is not an object")
    return choices[0]


def _text(content: Any) -> str | None:
    """Content as text: a string, or the text parts of a list."""
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, Mapping)]
        texts = [part for part in parts if isinstance(part, str)]
        return "".join(texts) if texts else None
    return content if isinstance(content, str) else None


def _count(value: Any) -> int:
    return value if isinstance(value, int) and value >= 0 else 0
