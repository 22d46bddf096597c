"""A tiny random Llama folder, its plain transformers twin, a real server process, and a server that misbehaves on demand."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from uphold.core.records import Message
from uphold.models.tiny import write_tiny_llama


def user(text: str) -> tuple[Message, ...]:
    return (Message(role="user", content=text),)


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    monkeypatch.delenv("UPHOLD_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    torch = sys.modules.get("torch")
    before = torch.get_num_threads() if torch else None
    if torch:
        torch.set_num_threads(1)
    yield
    if torch:
        torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> Path:
    """A folder with a random two-layer Llama: 60 words, context 128."""
    return write_tiny_llama(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def ask():
    """A conversation of one user message."""
    return user


@contextlib.contextmanager
def served(*arguments: str, env: dict[str, str] | None = None) -> Iterator[str]:
    """`uphold models serve` in a process of its own; gives the spec that opens it."""
    import os

    main = "from uphold.cli.main import main; main()"
    command = [sys.executable, "-c", main, "models", "serve", *arguments, "--port", "0", "--json"]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", **(env or {})},
    )
    try:
        line = process.stdout.readline()
        assert line, process.stderr.read()
        yield json.loads(line)["spec"]
    finally:
        process.terminate()
        try:
            process.wait(60)
        finally:
            process.kill()
            process.wait()
        process.stdout.close()
        process.stderr.close()


@pytest.fixture(scope="session")
def tiny_server(tiny) -> Iterator[str]:
    with served(str(tiny), "--name", "tiny") as spec:
        yield spec


class Trouble:
    """A loopback server whose answers are scripted. `script`: one entry per request, the last one again and again.

    An entry is a function of the handler that writes whatever it likes. `seen`: (path, headers, JSON body) of every request.
    """

    def __init__(self) -> None:
        self.script: list[Callable[[BaseHTTPRequestHandler], None]] = []
        self.seen: list[tuple[str, dict[str, str], object]] = []
        self.let_go = threading.Event()  # set at the end, so that a hanging answer does not hold up the test
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                raw = self.rfile.read(int(self.headers.get("content-length", 0)))
                outer.seen.append((self.path, dict(self.headers), json.loads(raw) if raw else None))
                entry = outer.script[min(len(outer.seen) - 1, len(outer.script) - 1)]
                with contextlib.suppress(OSError):
                    entry(self)

            do_GET = do_POST

            def log_message(self, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def close(self) -> None:
        self.let_go.set()
        self._server.shutdown()
        self._server.server_close()


def reply(
    status: int, body: object, kind: str = "application/json", **headers: str
) -> Callable[[BaseHTTPRequestHandler], None]:
    """A whole answer; `body` is sent as JSON unless it is bytes."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()

    def write(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        handler.send_header("Content-Type", kind)
        handler.send_header("Content-Length", str(len(raw)))
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(raw)

    return write


def says(text: str | None, finish: str = "stop") -> Callable[[BaseHTTPRequestHandler], None]:
    """A well-formed completion."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}
    return reply(200, {"choices": [choice], "usage": {"prompt_tokens": 3, "completion_tokens": 2}})


def streams(*chunks: bytes, then_cut: bool = False) -> Callable[[BaseHTTPRequestHandler], None]:
    """Server-sent bytes, after which the connection closes; with `then_cut` before the chunked encoding is finished."""

    def write(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "text/event-stream")
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        for chunk in chunks:
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
            handler.wfile.flush()
        if not then_cut:
            handler.wfile.write(b"0\r\n\r\n")
        handler.close_connection = True

    return write


def event(text: str | None = None, finish: str | None = None) -> bytes:
    delta = {} if text is None else {"content": text}
    return f"data: {json.dumps({'choices': [{'index': 0, 'delta': delta, 'finish_reason': finish}]})}\n\n".encode()


@pytest.fixture
def trouble() -> Iterator[Trouble]:
    server = Trouble()
    yield server
    server.close()


@pytest.fixture(scope="session")
def wire():
    """The makers of scripted answers, for tests that cannot import this file."""

    class Wire:
        pass

    for maker in (reply, says, streams, event, served):
        setattr(Wire, maker.__name__, staticmethod(maker))
    return Wire
