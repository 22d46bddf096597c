"""`uphold constitution compile`: a written policy to clauses. The work is done in `uphold.constitution.compile`."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from uphold.cli.common import Json, emit, warn

if TYPE_CHECKING:
    from uphold.constitution.compile import Compilation


def command(
    file: Annotated[Path, typer.Argument(metavar="FILE.md", help="The policy: Markdown or plain text, UTF-8.")],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE.yaml", help="Write the clauses as a constitution.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", metavar="SPEC", help="Let a model refine every paragraph, e.g. openai:URL#name."),
    ] = None,
    journal: Annotated[
        Path | None,
        typer.Option(
            "--journal", metavar="FILE", help="Where the model's replies are kept. Default: FILE.calls.jsonl here."
        ),
    ] = None,
    include: Annotated[
        list[str] | None,
        typer.Option("--include", metavar="KIND", help="Read these too: commentary, example, quote. May be repeated."),
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", help="Name of the constitution. Default: that of the file.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Split a written policy into atomic clauses, each with the sentence it came from.

    \b
    uphold constitution compile policy.md
    uphold constitution compile policy.md --out policy.yaml --json
    uphold constitution compile policy.md --model openai:http://127.0.0.1:8000/v1#name --out policy.yaml

    Exit codes: 0 done, 1 no clause found, 2 the file or model cannot be used.
    """
    from uphold.constitution.compile import compile_file, to_constitution
    from uphold.core.config import dump_yaml

    started = time.perf_counter()
    with _refiner(model, journal or Path(f"{file.name}.calls.jsonl")) as refiner:
        compilation = compile_file(file, include=_roles(include or []), refiner=refiner)
    if out is not None:
        dump_yaml(to_constitution(compilation, name=name), out)
    for warning in compilation.warnings:
        warn(warning)
    emit(_result(compilation, out, time.perf_counter() - started), as_json, _text(compilation, out))
    if not compilation.clauses:
        raise typer.Exit(1)


@contextlib.contextmanager
def _refiner(model: str | None, journal: Path) -> Any:
    if model is None:
        yield None
        return
    from uphold.constitution.prose.refine import Refiner
    from uphold.core.journal import Journal
    from uphold.models.doors import load

    chat = load(model)
    with Journal(journal) as kept:
        yield Refiner(chat, kept)


def _roles(include: list[str]) -> Any:
    from uphold.core.errors import ConfigError, did_you_mean

    known = ("commentary", "example", "quote")
    for kind in include:
        if kind not in known:
            raise ConfigError(f"--include: unknown kind {kind!r}. {did_you_mean(kind, known)}")
    return ("body", *include)


def _result(compilation: Compilation, out: Path | None, wall_s: float) -> dict[str, Any]:
    return {
        "file": compilation.file,
        "digest": compilation.digest,
        "out": str(out) if out else None,
        "n_clauses": len(compilation.clauses),
        "n_sentences": compilation.n_sentences,
        "n_paragraphs": compilation.n_paragraphs,
        "skipped": compilation.skipped,
        "warnings": compilation.warnings,
        "model": compilation.model,
        "wall_s": round(wall_s, 3),
        "clauses": compilation.clauses,
    }


def _text(compilation: Compilation, out: Path | None) -> str:
    lines = [
        f"{compilation.file}:{clause.lines[0]}: {clause.modality:6} {clause.text}  [{clause.category or '-'}]"
        for clause in compilation.clauses
    ]
    lines.append(
        f"{len(compilation.clauses)} clauses from {compilation.n_sentences} sentences"
        + "".join(f"; {n} {what} passed over" for what, n in compilation.skipped.items())
    )
    if model := compilation.model:
        left = ", ".join(f"{n} {why}" for why, n in model["fallbacks"].items()) or "none"
        lines.append(
            f"model {model['spec']}: {model['refined']} of {model['asked']} paragraphs refined; left to the rules: {left}"
        )
    if out and compilation.clauses:
        lines.append(f"written {out}    next: uphold constitution check {out}")
    return "\n".join(lines)
