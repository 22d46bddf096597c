"""`uphold models`: check that a model answers, ask it something, put a small server in front of it."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from uphold.cli.common import Json, emit
from uphold.core.errors import ConfigError, MissingExtra, ModelError

app = typer.Typer(
    no_args_is_help=True,
    help="""Check a model, ask it something, or serve it.

\b
uphold models check builtin:clerk                       does it answer, and how fast?
uphold models chat builtin:clerk "where is my order?"   one reply
uphold models serve builtin:clerk --port 8000           an OpenAI-compatible server
uphold models check openai:http://127.0.0.1:8000/v1#clerk

A model is builtin:clerk, builtin:clerk+ADAPTER, hf:FOLDER, hf:FOLDER+ADAPTER, a folder, openai:URL#NAME or fake:echo.
""",
)

Spec = Annotated[
    str, typer.Argument(help="The model: builtin:clerk, hf:FOLDER, openai:URL#NAME, ...", show_default=False)
]
Options = Annotated[
    list[str] | None, typer.Option("--option", "-o", help="NAME=VALUE for the model's backend, such as timeout_s=30.")
]


@app.command()
def check(spec: Spec, option: Options = None, as_json: Json = False) -> None:
    """Open the model, ask it for a few tokens, and say what it is."""
    from uphold.core.records import Message
    from uphold.models import Sampling, Weights, load

    started = time.perf_counter()
    chat = load(spec, **parse_options(option))
    chat.check()
    ready_s = time.perf_counter() - started
    started = time.perf_counter()
    reply = chat.generate([[Message(role="user", content="hello")]], Sampling(max_new_tokens=16))[0]
    if reply.error is not None:
        raise ModelError(f"{chat.spec}: {reply.error}")
    reply_ms = 1000 * (time.perf_counter() - started)
    result = {
        "spec": chat.spec,
        "identity": chat.identity(),
        "has_weights": isinstance(chat, Weights),
        "n_context": getattr(chat, "n_context", None),
        "ready_s": round(ready_s, 3),
        "reply_ms": round(reply_ms, 1),
        "reply_tokens": reply.n_completion_tokens,
    }
    kind = "weights are here" if result["has_weights"] else "can be asked, not read or trained"
    context = f", context {result['n_context']} tokens" if result["n_context"] else ""
    text = (
        f"{chat.spec} answers ({kind}{context})\n"
        f"identity {result['identity']}\n"
        f"ready in {ready_s:.2f} s; {reply.n_completion_tokens} tokens in {reply_ms:.0f} ms"
    )
    emit(result, as_json, text)


@app.command()
def chat(
    spec: Spec,
    text: Annotated[str, typer.Argument(help="What to ask; - reads it from standard input.", show_default=False)],
    system: Annotated[str, typer.Option(help="A system message before it.")] = "",
    temperature: Annotated[float, typer.Option(min=0.0, max=5.0, help="0 takes the likeliest token each time.")] = 0.0,
    max_new_tokens: Annotated[int, typer.Option(min=1, max=131072, help="Longest reply.")] = 256,
    seed: Annotated[int, typer.Option(help="Of the draw, where the temperature is above 0.")] = 0,
    option: Options = None,
    as_json: Json = False,
) -> None:
    """Ask one thing and print the reply as it comes."""
    from uphold.core.records import Message
    from uphold.models import Sampling, load

    asked = sys.stdin.read() if text == "-" else text
    if not asked.strip():
        raise ConfigError("nothing to ask. Write the text after the model, or pipe it in and write -")
    messages = [Message(role="system", content=system)] if system else []
    messages.append(Message(role="user", content=asked))
    sampling = Sampling(temperature=temperature, max_new_tokens=max_new_tokens, seed=seed)
    model = load(spec, **parse_options(option))
    if as_json:
        reply = model.generate([messages], sampling)[0]
        if reply.error is not None:
            raise ModelError(f"{model.spec}: {reply.error}")
        emit(reply, True, "")
        return
    for piece in model.stream(messages, sampling):
        print(piece, end="", flush=True)
    print(flush=True)


@app.command()
def serve(
    spec: Spec,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any free one.")] = 8000,
    host: Annotated[
        str, typer.Option(help="Another than this machine alone needs UPHOLD_SERVE_KEY in the environment.")
    ] = "127.0.0.1",
    name: Annotated[str, typer.Option(help="What callers call the model; its last word by default.")] = "",
    max_body_bytes: Annotated[int, typer.Option(min=1, help="Larger requests are refused.")] = 2**20,
    option: Options = None,
    as_json: Json = False,
) -> None:
    """Put a small OpenAI-compatible server in front of the model, until Ctrl-C."""
    try:
        from uphold.models import serve as server
    except ModuleNotFoundError as error:
        raise MissingExtra(error.name or "starlette", "gateway") from None
    from uphold.models import load

    key = os.environ.get(server.KEY_NAME) or None
    bound = server.listen(host, port, key)  # before the model: a port that is taken should not cost its loading
    try:
        model = load(spec, **parse_options(option))
        model.check()
        called = name or spec.rstrip("/").replace("#", "/").replace(":", "/").split("/")[-1]
        shown = f"[{host}]" if ":" in host else host
        url = f"http://{shown}:{bound.getsockname()[1]}/v1"
        emit(
            {"url": url, "model": called, "spec": f"openai:{url}#{called}"},
            as_json,
            f"serving {spec} as openai:{url}#{called}",
        )
        server.run(server.make_app(model, called, key=key, max_body_bytes=max_body_bytes), bound)
    finally:
        bound.close()


def parse_options(pairs: Sequence[str] | None) -> dict[str, Any]:
    """NAME=VALUE pairs as keyword arguments; a value that is JSON is read as such. ConfigError for what is no pair."""
    options: dict[str, Any] = {}
    for pair in pairs or ():
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise ConfigError(f"--option {pair!r}: write NAME=VALUE")
        try:
            options[name] = json.loads(value)
        except ValueError:
            options[name] = value
    return options
