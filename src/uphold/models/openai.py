"""The backend `openai:URL#model`: any server that speaks OpenAI's chat completions (vLLM, llama.cpp, Ollama, TGI, a gateway, OpenAI).

Takes conversations; sends up to `concurrency` requests at a time from a background event loop; gives one completion each, or the
reason there is none. What may pass (limits, time-outs, a restarting server) is tried again with backoff and jitter; when nothing
answers at all the rest of the call fails at once instead of waiting its turn. The key comes from the environment alone and reaches
nothing but the request's header. Left out: streamed tool calls, images, log-probabilities, the batch API.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import queue
import random
import time
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from uphold.core.errors import ConfigError, ModelError, did_you_mean
from uphold.core.records import Message, digest
from uphold.core.registry import register
from uphold.models import background
from uphold.models.base import Completion, Conversation, Sampling, again
from uphold.models.endpoint import Endpoint, Failure, events, holds_secret, read
from uphold.models.openai_wire import Malformed, parse_completion, parse_json, parse_piece, request_body
from uphold.models.retry import wait_s
from uphold.models.tools import Tool

if TYPE_CHECKING:
    import httpx

T = TypeVar("T")

GIVE_UP_AFTER = 3  # conversations in a row that found nobody at all


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
        for name, seconds in (("timeout_s", timeout_s), ("connect_timeout_s", connect_timeout_s)):
            if not seconds > 0:
                raise ConfigError(f"openai: {name} must be above 0, not {seconds}")
        self.name = model
        self.spec = f"openai:{url}#{model}"
        self._endpoint = Endpoint(url, timeout_s=timeout_s, connect_timeout_s=connect_timeout_s, n_kept=concurrency)
        self._concurrency, self._tries, self._patience_s = concurrency, tries, patience_s
        self._limit_name = "max_tokens"
        self._tools: tuple[Tool, ...] = ()
        self._not_before = 0.0  # when the server asked to be left alone until, on the monotonic clock
        self._rng = random.Random()

    def __repr__(self) -> str:
        return f"OpenAIChat({self.spec!r})"

    # --- the Chat door

    def identity(self) -> str:
        """Hash of the URL and the model's name: what stands behind them cannot be seen from here."""
        return digest(["openai", self._endpoint.url, self.name, *self._tools])

    def with_tools(self, tools: Sequence[Tool]) -> OpenAIChat:
        """See `tools.TakesTools`. The two share their connections."""
        offering = copy.copy(self)
        offering._tools = tuple(tools)
        return offering

    def check(self) -> None:
        """Ask which models there are; ask for one token where ours is not listed. ModelError says how to mend what is wrong."""
        try:
            listed = background.run(self._models())
        except Failure as failure:
            raise ModelError(f"{self.spec}: {failure}") from None
        if self.name in listed:
            return
        reply = self.generate([[Message(role="user", content="hello")]], Sampling(max_new_tokens=1))[0]
        if reply.error is not None:
            hint = f" {did_you_mean(self.name, listed)}" if listed else ""
            raise ModelError(f"{self.spec}: {reply.error}.{hint}")

    def generate(self, conversations: Sequence[Conversation], sampling: Sampling = Sampling()) -> list[Completion]:
        """See `base.Chat`. A conversation asked again in one call is asked under another seed (temperature > 0)."""
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
        """See `base.InParts`; a part is every reply that has arrived since the one before."""
        turns = _turns(conversations) if sampling.temperature > 0 else [0] * len(conversations)
        asked = [i for i in range(len(conversations)) if i not in (known or {})]
        arrived: queue.SimpleQueue[tuple[int, Completion] | None] = queue.SimpleQueue()
        work = [(i, conversations[i], again(sampling, turns[i])) for i in asked]
        future = background.submit(self._ask_all(work, arrived.put))
        future.add_done_callback(lambda _: arrived.put(None))
        try:
            is_open = True
            while is_open:
                items = [arrived.get()]
                with contextlib.suppress(queue.Empty):
                    while True:
                        items.append(arrived.get_nowait())
                is_open = None not in items
                if part := dict(item for item in items if item is not None):
                    yield part
            future.result()
        finally:
            future.cancel()  # an interrupt, or a reader that wants no more: nothing is left in flight

    def stream(self, conversation: Conversation, sampling: Sampling = Sampling()) -> Iterator[str]:
        """See `base.Chat`. Raises ModelError when there is no reply, or when it breaks off half-way."""
        try:
            yield from background.iterate(self._pieces(conversation, sampling))
        except Failure as failure:
            raise ModelError(f"{self.spec}: {failure}") from None

    # --- inside the event loop

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
                except Failure as failure:
                    n_nobody, last_why = (n_nobody + 1 if failure.is_down else 0), str(failure)
                    put((i, _error(last_why)))

        async with asyncio.TaskGroup() as group:
            for _ in range(min(self._concurrency, len(work))):
                group.create_task(worker())

    async def _ask(self, conversation: Conversation, sampling: Sampling) -> Completion:
        """One reply, with as many attempts as it takes within `tries` and `patience_s`. Raises the last Failure."""
        if not conversation:
            raise Failure("the conversation is empty")

        async def attempt() -> Completion:
            body = request_body(self.name, conversation, sampling, limit_name=self._limit_name, tools=self._tools)
            response, raw = await self._endpoint.request("POST", "/chat/completions", body)
            if response.status_code != 200:
                raise self._refusal(response, raw, conversation)
            return self._whole(response, raw, conversation)

        return await self._trying(attempt)

    async def _trying(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """What `attempt` gives, tried again while its failures may pass."""
        started, number = time.monotonic(), 0
        while True:
            if (pause := self._not_before - time.monotonic()) > 0:
                await asyncio.sleep(pause)
            try:
                return await attempt()
            except Failure as error:
                failure = error
            number += 1
            if not failure.may_pass:
                raise failure
            delay, spent = wait_s(number - 1, failure.retry_after_s, self._rng), time.monotonic() - started
            if number >= self._tries or spent + delay > self._patience_s:
                asks = f"; it asks to wait {failure.retry_after_s:.0f} s more" if failure.retry_after_s else ""
                raise Failure(f"{failure} (tried {number}x in {spent:.0f} s{asks})", is_down=failure.is_down)
            if failure.retry_after_s is not None:
                # for every request, not this one alone
                self._not_before = max(self._not_before, time.monotonic() + failure.retry_after_s)
            await asyncio.sleep(delay)

    async def _pieces(self, conversation: Conversation, sampling: Sampling) -> AsyncGenerator[str, None]:
        if not conversation:
            raise Failure("the conversation is empty")
        async with contextlib.AsyncExitStack() as stack:

            async def attempt() -> httpx.Response:
                body = request_body(self.name, conversation, sampling, limit_name=self._limit_name, stream=True)
                response = await stack.enter_async_context(self._endpoint.sending("POST", "/chat/completions", body))
                if response.status_code != 200:
                    raise self._refusal(response, await read(response), conversation)
                return response

            response = await self._trying(attempt)  # once a piece was given, trying again would repeat it
            if "event-stream" not in response.headers.get("content-type", ""):
                yield self._whole(response, await read(response), conversation).text or ""
                return
            async for piece in self._streamed(response, conversation):
                yield piece

    async def _streamed(self, response: httpx.Response, conversation: Conversation) -> AsyncGenerator[str, None]:
        """The text of a stream. Raises Failure when it stops before it said that it was done."""
        is_finished = False
        try:
            async for data in events(response):
                if data.strip() == "[DONE]":
                    return
                text, ends = parse_piece(data)
                is_finished = is_finished or ends
                if text:
                    yield text
        except Malformed as bad:
            raise self._endpoint.malformed(bad, conversation) from None
        except ValueError:
            raise Failure("the stream holds bytes that are no events") from None
        if not is_finished:
            raise Failure("the stream ended half-way, without saying that it was done. Ask again")

    async def _models(self) -> list[str]:
        """The names that the server lists; none where it keeps no list. Raises Failure when it cannot be reached or refuses us."""
        response, raw = await self._endpoint.request("GET", "/models", None)
        if response.status_code in (404, 405):
            return []
        if response.status_code != 200:
            raise self._refusal(response, raw, [])
        try:
            listed = parse_json(raw, response.headers.get("content-type", "")).get("data")
        except Malformed as bad:
            raise self._endpoint.malformed(bad, []) from None
        entries = listed if isinstance(listed, list) else []
        return [str(entry["id"]) for entry in entries if isinstance(entry, Mapping) and "id" in entry]

    def _whole(self, response: httpx.Response, raw: bytes, conversation: Conversation) -> Completion:
        try:
            return parse_completion(raw, response.headers.get("content-type", ""))
        except Malformed as bad:
            raise self._endpoint.malformed(bad, conversation) from None

    def _refusal(self, response: httpx.Response, raw: bytes, conversation: Conversation) -> Failure:
        if response.status_code == 400 and self._limit_name == "max_tokens" and b"max_completion_tokens" in raw:
            self._limit_name = "max_completion_tokens"  # newer OpenAI models know the limit under this name only
            return Failure("it wants max_completion_tokens", may_pass=True, retry_after_s=0.0)
        return self._endpoint.refusal(response, raw, conversation)


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
    if holds_secret(url):
        raise ConfigError(
            "model 'openai:...': the URL must hold no user, password or query. Put the key into UPHOLD_API_KEY"
        )
    try:
        parts = urlsplit(url)
        is_whole = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_whole = False
    if not is_whole or not model:
        raise ConfigError(
            f"model 'openai:{rest}': write openai:URL#MODEL, such as openai:http://127.0.0.1:8000/v1#clerk"
        )
    return OpenAIChat(
        url.rstrip("/").removesuffix("/chat/completions"),
        model,
        concurrency=concurrency,
        timeout_s=timeout_s,
        connect_timeout_s=connect_timeout_s,
        tries=tries,
        patience_s=patience_s,
    )


def _turns(conversations: Sequence[Conversation]) -> list[int]:
    """How many times each conversation came before in the list."""
    seen: Counter[tuple[tuple[str, str], ...]] = Counter()
    turns = []
    for conversation in conversations:
        key = tuple((m.role, m.content) for m in conversation)
        turns.append(seen[key])
        seen[key] += 1
    return turns


def _error(why: str) -> Completion:
    return Completion(text=None, finish_reason="error", error=why)
