"""One request to an HTTP endpoint: the connection, the key, and what is said of it when it goes wrong.

Used by `openai.py`. Every way a request can fail becomes a `Failure` with a text of our own: what the libraries below
and the server say may hold the key or the prompt, so it is shown only after `shown` has looked at it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import weakref
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from uphold.core.errors import ConfigError
from uphold.models import background
from uphold.models.base import Conversation
from uphold.models.openai_wire import Malformed, error_text, parse_json
from uphold.models.retry import is_transient, parse_retry_after
from uphold.models.sse import EventDecoder

if TYPE_CHECKING:
    import httpx

KEY_NAMES = ("UPHOLD_API_KEY", "OPENAI_API_KEY")
ANSWER_LIMIT_BYTES = 32 * 2**20
_SHOWN = 200  # letters of a server's message
_REPEATED = 24  # letters in common with a prompt from which on a server's message counts as repeating it
_TOLD = 12  # letters below which a prompt tells nothing, and its words are found anywhere
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_KEY_SHAPE = re.compile(r"\b(?:sk|pk|key)[-_][\w\-.*]{6,}|\bBearer +\S+")


class Failure(Exception):
    """One attempt that failed. may_pass: the same request may succeed later. is_down: nobody was there to answer.
    retry_after_s: what the server asked to wait."""

    def __init__(
        self, why: str, *, may_pass: bool = False, is_down: bool = False, retry_after_s: float | None = None
    ) -> None:
        super().__init__(why)
        self.may_pass, self.is_down, self.retry_after_s = may_pass, is_down, retry_after_s


def key_from_environment() -> str | None:
    """The key, from the first of KEY_NAMES that is set. ConfigError when it cannot be sent."""
    for name in KEY_NAMES:
        key = os.environ.get(name, "").strip()
        if key:
            if not key.isascii() or not key.isprintable():
                raise ConfigError(f"{name} holds characters that cannot be sent in a header. Set it again.")
            return key
    return None


def holds_secret(url: str) -> bool:
    """Whether a URL has a place where keys are put, a user part or a query; such a URL is refused and never shown."""
    return "@" in url or "?" in url


class Endpoint:
    """A base URL with the key for it. Times are in seconds; n_kept: idle connections kept open for the next request."""

    def __init__(self, url: str, *, timeout_s: float, connect_timeout_s: float, n_kept: int) -> None:
        self.url = url
        self._timeout_s, self._connect_timeout_s, self._n_kept = timeout_s, connect_timeout_s, n_kept
        self._key = key_from_environment()
        self._client_: tuple[asyncio.AbstractEventLoop, httpx.AsyncClient] | None = None

    async def request(self, method: str, path: str, body: Mapping[str, Any] | None) -> tuple[httpx.Response, bytes]:
        """The response and its whole body, within the time limit. Raises Failure when there is none."""
        try:
            async with (
                asyncio.timeout(self._connect_timeout_s + self._timeout_s),  # of the whole: a server may also drip
                self.sending(method, path, body) as response,
            ):
                return response, await read(response)
        except TimeoutError:
            raise self._too_slow() from None

    @contextlib.asynccontextmanager
    async def sending(self, method: str, path: str, body: Mapping[str, Any] | None) -> AsyncIterator[httpx.Response]:
        """The response with its body still unread. What breaks in here, reading it included, becomes a Failure."""
        import httpx

        content = None if body is None else json.dumps(body).encode()
        try:
            async with self._client().stream(method, f"{self.url}{path}", content=content) as response:
                yield response
        except httpx.ConnectTimeout:
            why = f"cannot connect within {self._connect_timeout_s:g} s. Check the URL and the network"
            raise Failure(why, may_pass=True, is_down=True) from None
        except httpx.ConnectError:
            why = "cannot connect. Is the server running, and the URL right?"
            raise Failure(why, may_pass=True, is_down=True) from None
        except httpx.TimeoutException:
            raise self._too_slow() from None
        except (httpx.TransportError, httpx.DecodingError):
            raise Failure("the connection broke off during the answer", may_pass=True) from None
        except httpx.HTTPError as error:
            raise Failure(f"the request failed ({type(error).__name__})") from None

    def refusal(self, response: httpx.Response, raw: bytes, conversation: Conversation) -> Failure:
        """What a response that is no success means."""
        status = response.status_code
        try:
            said = self.shown(error_text(parse_json(raw, response.headers.get("content-type", ""))), conversation)
        except Malformed:
            said = ""
        return Failure(
            f"HTTP {status}{f': {said}' if said else ''}{_mend(status)}",
            may_pass=is_transient(status),
            retry_after_s=parse_retry_after(response.headers.get("retry-after")),
        )

    def malformed(self, bad: Malformed, conversation: Conversation) -> Failure:
        """What an answer means that is not in the format."""
        is_page = "web page" in str(bad)
        hint = ". Check the URL: it usually ends in /v1" if is_page else ""
        return Failure(f"{self.shown(str(bad), conversation)}{hint}", may_pass=not is_page)

    def shown(self, text: str, conversation: Conversation) -> str:
        """A server's message without keys, short, and only when it does not repeat what was asked."""
        if self._key:
            text = text.replace(self._key, "[key]")
        text = _KEY_SHAPE.sub("[key]", text)
        for message in conversation:
            content = " ".join(message.content.split())
            starts = range(max(1, len(content) - _REPEATED + 1))
            if len(content) >= _TOLD and any(content[i : i + _REPEATED] in text for i in starts):
                return "(message withheld: it repeats the prompt)"
        text = text.rstrip(". ")
        return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."

    def _too_slow(self) -> Failure:
        why = f"no answer within {self._timeout_s:g} s. Is the server busy or stuck? See the option timeout_s"
        return Failure(why, may_pass=True, is_down=True)

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
                limits=httpx.Limits(max_connections=None, max_keepalive_connections=self._n_kept),
                trust_env=urlsplit(self.url).hostname not in _LOOPBACK,  # no proxy on the way to this machine
            )
            self._client_ = (loop, client)
            weakref.finalize(self, background.finish, loop, client.aclose)
        return self._client_[1]


async def read(response: httpx.Response) -> bytes:
    """The whole body. Raises Failure beyond ANSWER_LIMIT_BYTES."""
    raw = bytearray()
    async for chunk in response.aiter_bytes():
        raw += chunk
        if len(raw) > ANSWER_LIMIT_BYTES:
            raise Failure(f"its answer is larger than {ANSWER_LIMIT_BYTES // 2**20} MB")
    return bytes(raw)


async def events(response: httpx.Response) -> AsyncIterator[str]:
    """The data of each server-sent event."""
    decoder = EventDecoder()
    async for chunk in response.aiter_bytes():
        for data in decoder.feed(chunk):
            yield data


def _mend(status: int) -> str:
    if status in (401, 403):
        return f". Set {KEY_NAMES[0]} (or {KEY_NAMES[1]}) to a key that this server accepts"
    if status in (404, 405):
        return ". Check the URL (it usually ends in /v1) and the model's name"
    if 300 <= status < 400:
        return ". The server redirects: give the URL it redirects to"
    return ""
