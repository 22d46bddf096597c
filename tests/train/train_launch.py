"""Several processes of one training, as a launcher starts them: gloo, one thread each, forked from a server that has torch loaded."""

from __future__ import annotations

import multiprocessing
import os
import socket
import sys
from collections.abc import Callable, Sequence
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from typing import Any

import pytest

CONTEXT = multiprocessing.get_context("forkserver")


def preload(*modules: str) -> None:
    """Start the server with these modules loaded, where none runs yet."""
    CONTEXT.set_forkserver_preload(list(modules))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
        forkserver.ensure_running()


def start(function: Callable[..., Any], *arguments: Any, n: int = 2) -> list[BaseProcess]:
    """`n` processes that call the function of a test module together."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    processes = [CONTEXT.Process(target=_one, args=(rank, n, port, function, arguments)) for rank in range(n)]
    for process in processes:
        process.start()
    return processes


def _one(rank: int, n: int, port: int, function: Callable[..., Any], arguments: Sequence[Any]) -> None:
    import torch

    torch.set_num_threads(1)
    os.environ |= {
        "WORLD_SIZE": str(n),
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "ACCELERATE_USE_CPU": "true",
    }
    function(*arguments)


def end(processes: Sequence[BaseProcess], *, kill: bool = False, wait_s: float = 300) -> list[int | None]:
    """Exit codes once all have ended; killed first when asked, and whatever happens none is left."""
    try:
        for process in processes:
            if kill:
                process.kill()
            process.join(wait_s)
    finally:
        codes = [process.exitcode for process in processes]
        for process in processes:
            process.kill()
    return codes
