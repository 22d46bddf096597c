"""`uphold constitution`: check a written constitution, and see what it amounts to. The work is done in `uphold.constitution`."""

from __future__ import annotations

import importlib
import json
from importlib.util import find_spec
from typing import Annotated, Any

import typer

from uphold.cli.common import Json, emit

app = typer.Typer(no_args_is_help=True, help="Check a written constitution.")

# sub-commands that live in modules of their own: name -> module with a function `command`
ELSEWHERE = {
    "compile": "uphold.cli.constitution_compile",
    "opinions": "uphold.cli.constitution_opinions",
    "coverage": "uphold.cli.constitution_coverage",
}

File = Annotated[str, typer.Argument(metavar="FILE", help="A constitution file, or the name of a shipped one.")]


@app.command("check")
def check_command(
    file: File,
    as_json: Json = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit 1 when there are warnings.")] = False,
) -> None:
    """List every problem of a constitution, with file and line.

    \b
    uphold constitution check constitutions/assistant.yaml
    uphold constitution check my.yaml --json

    Exit codes: 0 usable, 2 not usable, 1 warnings with --strict.
    """
    from uphold.constitution.lint import inspect
    from uphold.constitution.reading import shown

    resolution = inspect(file)
    problems = resolution.problems
    errors = len(resolution.errors)
    clauses = resolution.constitution.clauses if resolution.constitution else ()
    result = {
        "file": shown(resolution.path),
        "name": resolution.constitution.name if resolution.constitution else None,
        "clauses": len(clauses),
        "errors": errors,
        "warnings": len(problems) - errors,
        "problems": problems,
    }
    lines = [f"{p.severity}: {p} [{p.code}]" for p in problems]
    counts = (_count(len(clauses), "clause"), _count(errors, "error"), _count(len(problems) - errors, "warning"))
    lines.append(f"{shown(resolution.path)}: {', '.join(counts)}")
    emit(result, as_json, "\n".join(lines))
    if errors:
        raise typer.Exit(2)
    if strict and problems:
        raise typer.Exit(1)


@app.command("resolve")
def resolve_command(file: File, as_json: Json = False) -> None:
    """Print the clauses in force, after every `extends:` and override, with the origin of each.

    \b
    uphold constitution resolve shop.yaml > resolved.yaml
    """
    from uphold.constitution.render import clause_fields, to_yaml
    from uphold.constitution.resolution import resolve
    from uphold.core.errors import ConfigError

    resolution = resolve(file)
    made = resolution.constitution
    if resolution.errors or made is None:
        raise ConfigError("\n".join(str(problem) for problem in resolution.errors))
    origins = resolution.origins
    clauses = [{**clause_fields(c), "digest": c.digest, "origin": str(origins[c.id])} for c in made.clauses]
    result = {"name": made.name, "version": made.version, "digest": made.digest, "clauses": clauses}
    emit(result, as_json, to_yaml(made, origins).rstrip("\n"))


@app.command("diff")
def diff_command(
    before: Annotated[str, typer.Argument(metavar="A", help="The constitution as it was.")],
    after: Annotated[str, typer.Argument(metavar="B", help="The constitution as it is.")],
    run: Annotated[
        str | None, typer.Option("--run", help="A run made with A: list what the changes make stale in it.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show which clauses were added, removed, reworded, strengthened or weakened, and what that makes stale.

    \b
    uphold constitution diff old.yaml new.yaml
    uphold constitution diff old.yaml new.yaml --run runs/demo
    """
    from uphold.constitution.diff import diff, lines_of
    from uphold.constitution.schema import Constitution
    from uphold.constitution.staleness import stale

    old, new = Constitution.load(before), Constitution.load(after)
    changes = diff(old, new)
    result: dict[str, Any] = {"before": old.digest, "after": new.digest, "changes": changes}
    text = [line for change in changes for line in lines_of(change)]
    text.append(f"{len(changes)} of {len(new.clauses)} clauses changed" if changes else "no clause changed")
    if run is not None:
        found = stale(run, old, changes)
        result["stale"] = found
        text += [
            f"stale {x.kind} {x.name}: {', '.join(x.clauses)}{f' through {x.through}' if x.through else ''}"
            for x in found
        ]
        text.append(f"{run}: {len(found)} stages and measurements stale" if found else f"{run}: nothing stale")
    emit(result, as_json, "\n".join(text))


@app.command("defects")
def defects_command(
    file: File,
    models: Annotated[str, typer.Option("--models", help="Two or more models, separated by commas.")],
    questions: Annotated[int, typer.Option("--questions", min=1, help="Situations put for each pair of clauses.")] = 3,
    max_pairs: Annotated[int, typer.Option("--max-pairs", min=1, help="Ask about at most this many pairs.")] = 2000,
    top: Annotated[int, typer.Option("--top", min=1, help="Pairs to show.")] = 10,
    journal: Annotated[
        str | None, typer.Option("--journal", help="Keep the answers in this file, so that none is asked for twice.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed")] = 0,
    as_json: Json = False,
) -> None:
    """Rank pairs of clauses by how much models disagree on which one to follow.

    \b
    uphold constitution defects my.yaml --models openai:http://127.0.0.1:8000/v1#a,openai:http://127.0.0.1:8000/v1#b
    """
    from contextlib import ExitStack

    from uphold import models as backends
    from uphold.cli.common import table
    from uphold.constitution.defects import find_defects
    from uphold.constitution.schema import Constitution
    from uphold.core.journal import Journal

    constitution = Constitution.load(file)
    chats = [backends.load(spec.strip()) for spec in models.split(",") if spec.strip()]
    with ExitStack() as stack:
        if journal is not None:
            kept = stack.enter_context(Journal(journal))
            chats = [backends.journalled(chat, kept) for chat in chats]
        ranking = find_defects(constitution, chats, questions=questions, max_pairs=max_pairs, seed=seed)
    subject = {"constitution": constitution.digest, **{f"model{i}": chat.identity() for i, chat in enumerate(chats, 1)}}
    shown = [pair.measurement(subject, seed) for pair in ranking[:top]]
    unscored = sum(pair.disagreement is None for pair in ranking)
    result = {"constitution": constitution.digest, "pairs": len(ranking), "unscored": unscored, "ranking": shown}
    rows = [("disagreement", "choices not BOTH", "n", "clauses")]
    rows += [
        (_share(pair.disagreement), _share(pair.conflict), str(m.n_scored), f"{pair.first} | {pair.second}")
        for pair, m in zip(ranking, shown, strict=False)
    ]
    tail = f"{len(ranking)} pairs, {len(chats)} models, {unscored} pairs without two answers"
    emit(result, as_json, f"{table(rows)}\n{tail}")


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def _share(value: float | None) -> str:
    return "unscored" if value is None else f"{value:.2f}"


@app.command("schema")
def schema_command() -> None:
    """Print the JSON Schema of a constitution file, for editors.

    \b
    uphold constitution schema > constitution.schema.json
    """
    from uphold.constitution.schema import json_schema

    print(json.dumps(json_schema(), indent=2))


for _name, _module in ELSEWHERE.items():
    if find_spec(_module) is not None:
        app.command(_name)(importlib.import_module(_module).command)
