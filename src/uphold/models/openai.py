"""The backend `openai:URL#model`: any server that speaks OpenAI's chat completions (vLLM, llama.cpp, Ollama, TGI, a
gateway, OpenAI).

Takes conversations; sends up to `concurrency` requests at a time from a background event loop; gives one completion
each, or the reason there is none. What may pass (limits, time-outs, a restarting server) is tried again with backoff
and jitter; when nothing answers at all the rest of the call fails at once instead of waiting its turn. The key comes
from the environment alone and reaches nothing but the request's header. Left out: tool schemas, images,
log-probabilities, the batch API.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import queue
import random
import re
import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from uphold.core.errors import ConfigError, ModelError, did_you_mean
from uphold.core.records import Message, digest
from uphold.core.registry import register
from uphold.models import background
from uphold.models.base import Completion, Conversation, Sampling, again
from uphold.models.openai_wire import Malformed, error_text, parse_completion, parse_json, parse_piece, request_body
from uphold.models.retry import is_transient, parse_retry_after, wait_s
from uphold.models.sse import EventDecoder

if TYPE_CHECKING:
    import httpx

KEY_NAMES = ("UPHOLD_API_KEY", "OPENAI_API_KEY")
ANSWER_LIMIT_BYTES = 32 * 2**20
GIVE_UP_AFTER = 3  # conversations in a row that found nobody at all
_REPEATED = 24  # letters in common with a prompt from which on a server's message counts as repeating it
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_KEY_SHAPE = re.compile(r"\b(?:sk|pk|key|Bearer)[-_ ][A-Za-z0-9_\-.*]{6,}")


class _Failure(Exception):
    """One attempt that failed. is_down: nobody was there to answer. retry_after_s: what the server asked to wait."""

    def __init__(
        self, why: str, *, may_pass: bool = False, is_down: bool = False, retry_after_s: float | None = None
    ) -> None:
        super().__init__(why)
        self.may_pass, self.is_down, self.retry_after_s = may_pass, is_down, retry_after_s


class OpenAIChat:
    """See the module. url: up to and including `/v1`. concurrency: requests in flight. timeout_s: for one whole answer, and
    between two pieces of a streamed one. tries: attempts per conversation. patience_s: longest time on one conversation.
    """

    def __init__(
        self,
        url: str,
        model: str,
        *,
        concurrency: int = 8,
        timeout_s: float = 120.0,
        connect_timeout_s: float = 10.0,
        tries: int = 7,
        patience_s: float = 300.0,
    ) -> None:
        for name, value in (("concurrency", concurrency), ("tries", tries)):
            if value < 1:
                raise ConfigError(f"openai: {name} must be at least 1, not {value}")
        self.url, self.name = url, model
        self.spec = f"openai:{url}#{model}"
        self._key = _key_from_environment()
        self._concurrency, self._tries = concurrency, tries
        self._timeout_s, self._connect_timeout_s, self._patience_s = timeout_s, connect_timeout_s, patience_s
        self._limit_name = "max_tokens"
        self._not_before = 0.0  # when the server asked to be left alone until, on the monotonic clock
        self._rng = random.Random()
        self._client_: tuple[asyncio.AbstractEventLoop, httpx.AsyncClient] | None = None

    def __repr__(self) -> str:
        return f"OpenAIChat({self.spec!r})"

    # --- the Chat door

    def identity(self) -> str:
        """Hash of the URL and the model's name: what stands behind them cannot be seen from here."""
        return digest(["openai", self.url, self.name])

    def check(self) -> None:
        """Ask which models there are; ask for one token where that is not offered. ModelError says how to mend what is wrong."""
        known = background.run(self._models())
        if known is None or self.name not in known:
            reply = self.generate([[Message(role="user", content="hello")]], Sampling(max_new_tokens=1))[0]
            if reply.error is not None:
                hint = f" {did_you_mean(self.name, known)}" if known else ""
                raise ModelError(f"{self.spec}: {reply.error}{hint}")

    def generate(self, conversations: Sequence[Conversation], sampling: Sampling = Sampling()) -> list[Completion]:
        found: dict[int, Completion] = {}
        for part in self.generate_parts(conversations, sampling):
            found |= part
        return [found[i] for i in range(len(conversations))]

    def generate_parts(
        self,
        conversations: Sequence[Conversation],
        sampling: Sampling = Sampling(),
        known: Mapping[int, Completion] | None = None,
    ) -> Iterator[dict[int, Completion]]:
        """See `base.InParts`; one reply is one part, given as soon as it is there."""
        turns = _turns(conversations)
        asked = [i for i in range(len(conversations)) if i not in (known or {})]
        arrived: queue.SimpleQueue[tuple[int, Completion] | None] = queue.SimpleQueue()
        work = [
            (i, conversations[i], again(sampling, turns[i]) if sampling.temperature > 0 else sampling) for i in asked
        ]
        future = background.submit(self._ask_all(work, arrived.put))
        future.add_done_callback(lambda _: arrived.put(None))
        try:
            while (item := arrived.get()) is not None:
                yield {item[0]: item[1]}
            future.result()
        finally:
            future.cancel()

    def stream(self, conversation: Conversation, sampling: Sampling = Sampling()) -> Iterator[str]:
        """See `base.Chat`. Raises ModelError when there is no reply, or when it breaks off half-way."""
        try:
            yield from background.iterate(self._pieces(conversation, sampling))
        except _Failure as failure:
            raise ModelError(f"{self.spec}: {failure}") from None

    # --- many conversations

    async def _ask_all(
        self, work: list[tuple[int, Conversation, Sampling]], put: Callable[[tuple[int, Completion]], None]
    ) -> None:
        todo = iter(work)
        n_nobody, last_why = 0, ""  # conversations in a row that found nobody, and what the last one met

        async def worker() -> None:
            nonlocal n_nobody, last_why
            for i, conversation, sampling in todo:
                if n_nobody >= GIVE_UP_AFTER:
                    put((i, _error(f"not asked, because the server stopped answering: {last_why}")))
                    continue
                try:
                    put((i, await self._ask(conversation, sampling)))
                    n_nobody = 0
                except _Failure as failure:
                    n_nobody, last_why = (n_nobody + 1 if failure.is_down else 0), str(failure)
                    put((i, _error(last_why)))

        async with asyncio.TaskGroup() as group:
            for _ in range(min(self._concurrency, len(work))):
                group.create_task(worker())

    async def _ask(self, conversation: Conversation, sampling: Sampling) -> Completion:
        """One reply, with as many attempts as it takes within `tries` and `patience_s`. Raises the last _Failure."""

        async def attempt() -> Completion:
            async with asyncio.timeout(self._timeout_s + self._connect_timeout_s):
                status, headers, raw = await self._post(self._body(conversation, sampling, False))
            self._refuse_bad(status, headers, raw, conversation)
            try:
                return parse_completion(raw, headers.get("content-type", ""))
            except Malformed as bad:
                raise self._malformed(bad, conversation) from None

        if not conversation:
            return _error("the conversation is empty")
        return await self._trying(attempt)

    async def _trying(self, attempt: Callable[[], Any]) -> Any:
        """What `attempt` gives, tried again while its failures may pass."""
        started = time.monotonic()
        number = 0
        while True:
            if (pause := self._not_before - time.monotonic()) > 0:
                await asyncio.sleep(pause)
            try:
                return await attempt()
            except _Failure as error:
                failure = error
            except TimeoutError:
                failure = _Failure(f"no answer within {self._timeout_s:g} s", may_pass=True, is_down=True)
            number += 1
            if not failure.may_pass:
                raise failure
            delay = wait_s(number - 1, failure.retry_after_s, self._rng)
            spent = time.monotonic() - started
            if number >= self._tries or spent + delay > self._patience_s:
                asks = f"; it asks to wait {failure.retry_after_s:.0f} s more" if failure.retry_after_s else ""
                raise _Failure(f"{failure} (tried {number}x in {spent:.0f} s{asks})", is_down=failure.is_down) from None
            if failure.retry_after_s is not None:
                self._not_before = max(self._not_before, time.monotonic() + failure.retry_after_s)  # for all in flight
            await asyncio.sleep(delay)

    # --- one stream

    async def _pieces(self, conversation: Conversation, sampling: Sampling) -> AsyncGenerator[str, None]:
        async with contextlib.AsyncExitStack() as stack:

            async def attempt() -> httpx.Response:
                body = self._body(conversation, sampling, True)
                response = await stack.enter_async_context(self._sending("POST", "/chat/completions", body))
                if response.status_code != 200:
                    raw = await _read(response)
                    self._refuse_bad(response.status_code, response.headers, raw, conversation)
                return response

            response = await self._trying(attempt)
            kind = response.headers.get("content-type", "")
            if "event-stream" not in kind:
                try:
                    yield parse_completion(await _read(response), kind).text or ""
                except Malformed as bad:
                    raise self._malformed(bad, conversation) from None
                return
            decoder, is_finished = EventDecoder(), False
            try:
                async for data in _events(response, decoder):
                    if data.strip() == "[DONE]":
                        return
                    text, ends = parse_piece(data)
                    is_finished = is_finished or ends
                    if text:
                        yield text
            except Malformed as bad:
                raise self._malformed(bad, conversation) from None
            except (_Failure, ValueError):
                if not is_finished:
                    raise _Failure("the stream broke off half-way. Ask again") from None
            if not is_finished:
                raise _Failure("the stream ended half-way, without saying that it was done. Ask again")

    # --- one request

    def _body(self, conversation: Conversation, sampling: Sampling, stream: bool) -> dict[str, Any]:
        return request_body(self.name, conversation, sampling, limit_name=self._limit_name, stream=stream)

    async def _post(self, body: Mapping[str, Any]) -> tuple[int, Mapping[str, str], bytes]:
        async with self._sending("POST", "/chat/completions", body) as response:
            return response.status_code, response.headers, await _read(response)

    async def _models(self) -> list[str] | None:
        """The names that the server lists, or None when it lists none. ModelError when it cannot be reached or refuses us."""

        async def attempt() -> list[str] | None:
            async with asyncio.timeout(self._timeout_s), self._sending("GET", "/models", None) as response:
                raw = await _read(response)
            if response.status_code in (404, 405):
                return None
            self._refuse_bad(response.status_code, response.headers, raw, [])
            try:
                listed = parse_json(raw, response.headers.get("content-type", "")).get("data")
            except Malformed as bad:
                raise self._malformed(bad, []) from None
            entries = listed if isinstance(listed, list) else []
            return [str(entry["id"]) for entry in entries if isinstance(entry, Mapping) and "id" in entry] or None

        try:
            found: list[str] | None = await attempt()
        except _Failure as failure:
            raise ModelError(f"{self.spec}: {failure}") from None
        except TimeoutError:
            raise ModelError(
                f"{self.spec}: no answer within {self._timeout_s:g} s. Is the server busy or stuck?"
            ) from None
        return found

    @contextlib.asynccontextmanager
    async def _sending(self, method: str, path: str, body: Mapping[str, Any] | None) -> AsyncIterator[httpx.Response]:
        """The response with its body still unread. Failures of the connection become _Failure; their own texts are never shown."""
        import httpx

        content = None if body is None else json.dumps(body).encode()
        try:
            async with self._client().stream(method, f"{self.url}{path}", content=content) as response:
                yield response
        except httpx.ConnectTimeout:
            why = f"cannot connect within {self._connect_timeout_s:g} s. Check the URL and the network"
            raise _Failure(why, may_pass=True, is_down=True) from None
        except httpx.ConnectError:
            raise _Failure(
                "cannot connect. Is the server running, and the URL right?", may_pass=True, is_down=True
            ) from None
        except httpx.TimeoutException:
            why = f"no answer within {self._timeout_s:g} s. Is the server busy or stuck? See the option timeout_s"
            raise _Failure(why, may_pass=True, is_down=True) from None
        except (httpx.TransportError, httpx.DecodingError):
            raise _Failure("the connection broke off during the answer", may_pass=True) from None
        except httpx.HTTPError as error:
            raise _Failure(f"the request failed ({type(error).__name__})") from None

    def _client(self) -> httpx.AsyncClient:
        """One pool of connections per event loop."""
        import httpx

        loop = asyncio.get_running_loop()
        if self._client_ is None or self._client_[0] is not loop:
            headers = {"Content-Type": "application/json", "User-Agent": "uphold"}
            if self._key:
                headers["Authorization"] = f"Bearer {self._key}"
            client = httpx.AsyncClient(
                headers=headers,
                timeout=httpx.Timeout(self._timeout_s, connect=self._connect_timeout_s, pool=None),
                limits=httpx.Limits(max_connections=None, max_keepalive_connections=self._concurrency),
                trust_env=urlsplit(self.url).hostname not in _LOOPBACK,  # no proxy on the way to this machine
            )
            self._client_ = (loop, client)
        return self._client_[1]

    # --- what went wrong

    def _refuse_bad(self, status: int, headers: Mapping[str, str], raw: bytes, conversation: Conversation) -> None:
        """Raise the _Failure for a status that is no success."""
        if status == 200:
            return
        try:
            said = error_text(parse_json(raw, headers.get("content-type", "")))
        except Malformed:
            said = ""
        if status == 400 and self._limit_name == "max_tokens" and "max_completion_tokens" in said:
            self._limit_name = "max_completion_tokens"  # newer OpenAI models know the limit under this name only
            raise _Failure("it wants max_completion_tokens", may_pass=True, retry_after_s=0.0)
        said = self._shown(said, conversation)
        raise _Failure(
            f"HTTP {status}{f': {said}' if said else ''}{_mend(status)}",
            may_pass=is_transient(status),
            retry_after_s=parse_retry_after(headers.get("retry-after")),
        )

    def _malformed(self, bad: Malformed, conversation: Conversation) -> _Failure:
        is_page = "web page" in str(bad)
        hint = ". Check the URL: it usually ends in /v1" if is_page else ""
        return _Failure(f"{self._shown(str(bad), conversation)}{hint}", may_pass=not is_page)

    def _shown(self, text: str, conversation: Conversation) -> str:
        """A server's message without keys, short, and only when it does not repeat what was asked."""
        if self._key:
            text = text.replace(self._key, "[key]")
        text = _KEY_SHAPE.sub("[key]", text)
        for message in conversation:
            content = " ".join(message.content.split())
            last = max(1, len(content) - _REPEATED + 1)
            if content and any(content[i : i + _REPEATED] in text for i in range(last)):
                return "(message withheld: it repeats the prompt)"
        return text if len(text) <= 200 else f"{text[:200]}..."


@register("backend", "openai")
def open_endpoint(
    rest: str,
    *,
    concurrency: int = 8,
    timeout_s: float = 120.0,
    connect_timeout_s: float = 10.0,
    tries: int = 7,
    patience_s: float = 300.0,
) -> OpenAIChat:
    """openai:URL#MODEL: any server that speaks OpenAI's chat completions; key in UPHOLD_API_KEY or OPENAI_API_KEY"""
    url, _, model = rest.partition("#")
    parts = urlsplit(url)
    if parts.username or parts.password or parts.query:
        raise ConfigError(
            "model 'openai:...': a URL must hold no user, password or query. Put the key into UPHOLD_API_KEY"
        )
    try:
        is_whole = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_whole = False
    if not is_whole or not model:
        raise ConfigError(
            f"model 'openai:{rest}': write openai:URL#MODEL, such as openai:http://127.0.0.1:8000/v1#clerk"
        )
    url = url.rstrip("/").removesuffix("/chat/completions")
    return OpenAIChat(
        url,
        model,
        concurrency=concurrency,
        timeout_s=timeout_s,
        connect_timeout_s=connect_timeout_s,
        tries=tries,
        patience_s=patience_s,
    )


def _key_from_environment() -> str | None:
    for name in KEY_NAMES:
        key = os.environ.get(name, "").strip()
        if key:
            if not key.isascii() or not key.isprintable():
                raise ConfigError(f"{name} holds characters that cannot be sent in a header. Set it again.")
            return key
    return None


async def _read(response: httpx.Response) -> bytes:
    """The whole body. Raises _Failure beyond ANSWER_LIMIT_BYTES."""
    raw = bytearray()
    async for chunk in response.aiter_bytes():
        raw += chunk
        if len(raw) > ANSWER_LIMIT_BYTES:
            raise _Failure(f"its answer is larger than {ANSWER_LIMIT_BYTES // 2**20} MB")
    return bytes(raw)


async def _events(response: httpx.Response, decoder: EventDecoder) -> AsyncIterator[str]:
    async for chunk in response.aiter_bytes():
        for data in decoder.feed(chunk):
            yield data


def _turns(conversations: Sequence[Conversation]) -> list[int]:
    """How many times each conversation came before in the list."""
    seen: Counter[tuple[tuple[str, str], ...]] = Counter()
    turns = []
    for conversation in conversations:
        key = tuple((m.role, m.content) for m in conversation)
        turns.append(seen[key])
        seen[key] += 1
    return turns


def _mend(status: int) -> str:
    if status in (401, 403):
        return f". Set {KEY_NAMES[0]} (or {KEY_NAMES[1]}) to a key that this server accepts"
    if status in (404, 405):
        return ". Check the URL (it usually ends in /v1) and the model's name"
    if 300 <= status < 400:
        return ". The server redirects: give the URL it redirects to"
    return ""


def _error(why: str) -> Completion:
    return Completion(text=None, finish_reason="error", error=why)
