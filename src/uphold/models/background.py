"""One event loop in a daemon thread, so that synchronous code can have many requests in flight and Ctrl-C still works at
once.

The doors of `models` are synchronous; `openai.py` runs its asyncio inside here. The thread starts on first use and
again after a fork.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")

_THREAD = "uphold-requests"
_lock = threading.Lock()
_loop: asyncio.AbstractEventLoop | None = None
_pid = 0


def loop() -> asyncio.AbstractEventLoop:
    """The running loop of this process."""
    global _loop, _pid
    with _lock:
        if _loop is None or _pid != os.getpid():
            _loop, _pid = asyncio.new_event_loop(), os.getpid()
            threading.Thread(target=_loop.run_forever, name=_THREAD, daemon=True).start()
        return _loop


def submit(work: Coroutine[Any, Any, T]) -> Future[T]:
    """Start `work`; its result comes through the future, whose `cancel` stops it."""
    return asyncio.run_coroutine_threadsafe(work, loop())


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run `work` to its end. An interrupt here (Ctrl-C) cancels it."""
    future = submit(work)
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise


def finish(where: asyncio.AbstractEventLoop, close: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Close something that belongs to a loop, from a finalizer in any thread, waiting a moment at most."""
    if not where.is_running():
        return
    future = asyncio.run_coroutine_threadsafe(close(), where)
    if threading.current_thread().name != _THREAD:
        with contextlib.suppress(Exception):  # nobody is left to tell, and the process may be ending
            future.result(1.0)


def iterate(source: AsyncGenerator[T, None]) -> Iterator[T]:
    """The items of an asynchronous generator, one by one; leaving early closes it."""

    async def following() -> tuple[T] | None:
        async for item in source:
            return (item,)
        return None

    try:
        while (item := run(following())) is not None:
            yield item[0]
    finally:
        with contextlib.suppress(RuntimeError):  # interrupted while an item was on its way: cancelling closes it
            run(source.aclose())
