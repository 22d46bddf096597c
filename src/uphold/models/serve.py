"""A small OpenAI-compatible server in front of any model: `uphold models serve builtin:clerk --port 8000`.

For trying things out, for tests of the `openai:` door, and for users with no other server. Takes a `Chat`; answers
`/v1/models`, `/v1/chat/completions` (whole and streamed) and `/health`. Requests are checked field by field: what this
server does not do is refused, not passed over. It listens on this machine alone unless a key is set. Left out: batching
across requests, streamed tool calls, several choices, log-probabilities; for load, use vLLM. For guarded answers, use the gateway.
"""

from __future__ import annotations

import hmac
import json
import os
import secrets
import socket
import time
import uuid
from collections.abc import Iterator
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from uphold.core.errors import ConfigError, MissingExtra, UpholdError
from uphold.core.records import Message
from uphold.models.base import Chat, Completion, Sampling
from uphold.models.tools import CALLS, CallTurn, ResultTurn, TakesTools, Tool, ToolCall, calls_of

KEY_NAME = "UPHOLD_SERVE_KEY"
MAX_BODY_BYTES = 2**20
DEFAULT_NEW_TOKENS = 256
SHUTDOWN_S = 5
LOOPBACK = ("127.0.0.1", "localhost", "::1")


class _Refused(Exception):
    """A request that is not answered, with its HTTP status and the code that says why."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")
    type: Literal["text"]
    text: str


class _Called(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str
    arguments: str


class _Call(BaseModel):
    model_config = ConfigDict(extra="forbid")
    id: str
    type: Literal["function"] = "function"
    function: _Called


class _Offered(BaseModel):
    model_config = ConfigDict(extra="forbid")
    type: Literal["function"]
    function: Tool


class _Turn(BaseModel):
    model_config = ConfigDict(extra="forbid")
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[_Part] | None = None
    name: str | None = None
    tool_call_id: str | None = None
    tool_calls: list[_Call] | None = None

    @model_validator(mode="after")
    def _says_something(self) -> _Turn:
        if self.tool_calls and self.role != "assistant":
            raise ValueError("only the assistant calls tools")
        if self.content is None and not self.tool_calls:
            raise ValueError("content is missing")
        return self

    def message(self) -> Message:
        parts = self.content or ""
        text = parts if isinstance(parts, str) else "".join(part.text for part in parts)
        if self.tool_calls:
            calls = [ToolCall(id=c.id, name=c.function.name, arguments=c.function.arguments) for c in self.tool_calls]
            return CallTurn.of(calls, text)
        if self.role == "tool" and self.tool_call_id:
            return ResultTurn(content=text, call_id=self.tool_call_id)
        return Message(role="system" if self.role == "developer" else self.role, content=text)


class _Ask(BaseModel):
    """The fields this server acts on, and those whose only accepted value changes nothing."""

    model_config = ConfigDict(extra="forbid")
    model: str
    messages: list[_Turn] = Field(min_length=1)
    temperature: float = Field(1.0, ge=0, le=2)
    top_p: float = Field(1.0, gt=0, le=1)
    max_tokens: int | None = Field(None, ge=1, le=131072)
    max_completion_tokens: int | None = Field(None, ge=1, le=131072)
    seed: int | None = None
    stop: str | list[str] | None = None
    stream: bool = False
    tools: list[_Offered] = []
    n: Literal[1] = 1
    presence_penalty: Literal[0] = 0
    frequency_penalty: Literal[0] = 0
    user: str | None = None

    def sampling(self) -> Sampling:
        stop = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return Sampling(
            temperature=self.temperature,
            top_p=self.top_p,
            max_new_tokens=self.max_completion_tokens or self.max_tokens or DEFAULT_NEW_TOKENS,
            seed=secrets.randbelow(2**31) if self.seed is None else self.seed,
            stop=tuple(s for s in stop if s),
        )


def make_app(chat: Chat, name: str, *, key: str | None = None, max_body_bytes: int = MAX_BODY_BYTES) -> Starlette:
    """The server as an ASGI application. name: what it calls the model. key: what callers must send as `Authorization: Bearer`."""

    async def health(request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def models(request: Request) -> Response:
        _check_key(request, key)
        return JSONResponse({"object": "list", "data": [{"id": name, "object": "model", "owned_by": "uphold"}]})

    async def completions(request: Request) -> Response:
        _check_key(request, key)
        ask = _parse(await _body(request, max_body_bytes))
        if ask.model != name:
            raise _Refused(404, "model_not_found", f"no model {ask.model!r} here; there is {name!r}")
        messages = tuple(turn.message() for turn in ask.messages)
        asked = _offering(chat, ask)
        if ask.stream:
            events = _events(chat, messages, ask.sampling(), name)
            return StreamingResponse(events, media_type="text/event-stream", headers={"Cache-Control": "no-cache"})
        reply = (await run_in_threadpool(asked.generate, [messages], ask.sampling()))[0]
        if reply.text is None:
            raise _Refused(400, "no_reply", reply.error or "no reply")
        return JSONResponse(_whole(reply, name))

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, _Refused)
        return _error(error.status, error.code, str(error))

    async def failed(request: Request, error: Exception) -> Response:
        return _error(500, "model_error", str(error) if isinstance(error, UpholdError) else "the model failed")

    return Starlette(
        routes=[
            Route("/health", health),
            Route("/v1/models", models),
            Route("/v1/chat/completions", completions, methods=["POST"]),
        ],
        exception_handlers={_Refused: refused, UpholdError: failed, Exception: failed},
    )


def listen(host: str, port: int, key: str | None) -> socket.socket:
    """A socket bound to host and port (0: any free one). ConfigError when it is taken, or open to others without a key."""
    if host not in LOOPBACK and not key:
        raise ConfigError(
            f"{host}: would answer anybody who reaches this machine. Set {KEY_NAME} to a key that callers must send, or use 127.0.0.1"
        )
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        number = getattr(error, "errno", None)
        why = os.strerror(number) if number is not None and number > 0 else str(error)
        raise ConfigError(f"cannot listen on {host} port {port}: {why}. Choose another with --port") from None


def run(app: Starlette, bound: socket.socket) -> None:
    """Serve until interrupted."""
    try:
        import uvicorn
    except ImportError:
        raise MissingExtra("uvicorn", "gateway") from None
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        lifespan="off",
        server_header=False,
        timeout_graceful_shutdown=SHUTDOWN_S,  # a reader that never finishes its stream must not keep us alive
    )
    uvicorn.Server(config).run(sockets=[bound])


def _check_key(request: Request, key: str | None) -> None:
    sent = request.headers.get("authorization", "").removeprefix("Bearer ")
    if key is not None and not hmac.compare_digest(sent.encode(), key.encode()):
        raise _Refused(401, "invalid_api_key", "a key is needed: send it as Authorization: Bearer KEY")


async def _body(request: Request, limit: int) -> bytes:
    raw = bytearray()
    async for chunk in request.stream():
        raw += chunk
        if len(raw) > limit:
            raise _Refused(413, "too_large", f"the request is larger than {limit} bytes")
    return bytes(raw)


def _parse(raw: bytes) -> _Ask:
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        raise _Refused(400, "bad_json", "the request is not JSON") from None
    try:
        return _Ask.model_validate(value)
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, e['loc'])) or 'body'}: {e['msg']}" for e in error.errors(include_input=False)]
        raise _Refused(400, "bad_request", "; ".join(problems[:5])) from None


def _offering(chat: Chat, ask: _Ask) -> Chat:
    """The model with the tools of the request; refused where it takes none, or where calls would have to be streamed."""
    if not ask.tools:
        return chat
    if not isinstance(chat, TakesTools):
        raise _Refused(400, "no_tools", "tools: this model takes none")
    if ask.stream:
        raise _Refused(400, "no_streamed_tools", "stream: calls of tools are not streamed here")
    return chat.with_tools([offered.function for offered in ask.tools])


def _events(chat: Chat, messages: tuple[Message, ...], sampling: Sampling, name: str) -> Iterator[str]:
    """The server-sent events of one streamed reply; one that fails half-way ends in an error and without [DONE]."""
    made = _stamp("chat.completion.chunk", name)

    def event(delta: dict[str, str], finish: str | None = None) -> str:
        return f"data: {json.dumps(made | {'choices': [{'index': 0, 'delta': delta, 'finish_reason': finish}]})}\n\n"

    yield event({"role": "assistant", "content": ""})
    pieces = chat.stream(messages, sampling)
    finish = "stop"
    try:
        while True:
            yield event({"content": next(pieces)})
    except StopIteration as end:
        if isinstance(end.value, Completion):
            finish = end.value.finish_reason
    except UpholdError as error:
        yield f"data: {json.dumps({'error': {'message': str(error), 'type': 'model_error', 'code': 'no_reply'}})}\n\n"
        return
    yield event({}, _finish(finish))
    yield "data: [DONE]\n\n"


def _whole(reply: Completion, name: str) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": reply.text}
    finish = _finish(reply.finish_reason)
    if calls := calls_of(reply):
        finish = "tool_calls"
        message |= {"content": reply.text or None, CALLS: [call.wire() for call in calls]}
    return _stamp("chat.completion", name) | {
        "choices": [{"index": 0, "message": message, "finish_reason": finish}],
        "usage": {
            "prompt_tokens": reply.n_prompt_tokens,
            "completion_tokens": reply.n_completion_tokens,
            "total_tokens": reply.n_prompt_tokens + reply.n_completion_tokens,
        },
    }


def _finish(reason: str) -> str:
    return "content_filter" if reason == "blocked" else reason


def _stamp(kind: str, name: str) -> dict[str, Any]:
    return {"id": f"chatcmpl-{uuid.uuid4().hex}", "object": kind, "created": int(time.time()), "model": name}


def _error(status: int, code: str, message: str) -> Response:
    kind = "server_error" if status >= 500 else "invalid_request_error"
    return JSONResponse({"error": {"message": message, "type": kind, "code": code}}, status_code=status)
