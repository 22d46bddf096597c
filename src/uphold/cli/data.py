"""`uphold data`: make, transform and describe prompts."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from uphold.cli.common import Json, emit

app = typer.Typer(help="Transform prompts.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Keeps `transform` a command of its own."""


@app.command()
def transform(
    name: Annotated[str, typer.Argument(help="A transform, or several joined with +: the first is applied first.")],
    file: Annotated[Path | None, typer.Argument(help="Texts, one a line; standard input when left out.")] = None,
    seed: Annotated[int, typer.Option(help="Which phrasings and draws; equal seeds give equal texts.")] = 0,
    inverse: Annotated[bool, typer.Option("--inverse", help="Undo the transform instead.")] = False,
    as_json: Json = False,
) -> None:
    """Put every line through a transform. With --json, results with line breaks stay whole.

    \b
    echo "how do i open a jar?" | uphold data transform roleplay
    uphold data transform rot13+story prompts.txt --seed 3
    uphold data transform base64 --inverse coded.txt
    uphold list transforms
    """
    from uphold.core.errors import ConfigError
    from uphold.data.transforms import apply, compose

    chosen = compose(name)
    if inverse and chosen.inverse is None:
        raise ConfigError(f"transform {name!r} has no inverse: what it changes is lost. See docs/transforms.md")
    undo = chosen.inverse if inverse else None
    texts = [undo(line) if undo else apply(name, line, seed) for line in _lines(file)]
    emit({"transform": chosen.name, "inverse": inverse, "seed": seed, "texts": texts}, as_json, "\n".join(texts))


def _lines(file: Path | None) -> list[str]:
    """The lines of the file or of standard input, without their ends. Raises DataError when they are not UTF-8."""
    from uphold.core.errors import DataError
    from uphold.core.files import read_text

    if file is not None:
        text = read_text(file)
    else:
        try:
            text = sys.stdin.buffer.read().decode("utf-8")
        except UnicodeDecodeError as error:
            raise DataError(f"standard input: not UTF-8 at byte {error.start}. Convert it first.") from None
    return text.removesuffix("\n").split("\n") if text else []
