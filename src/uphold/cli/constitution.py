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

    resolution = inspect(file)
    problems = resolution.problems
    errors = len(resolution.errors)
    clauses = resolution.constitution.clauses if resolution.constitution else ()
    result = {
        "file": str(resolution.path),
        "name": resolution.constitution.name if resolution.constitution else None,
        "clauses": len(clauses),
        "errors": errors,
        "warnings": len(problems) - errors,
        "problems": problems,
    }
    lines = [f"{p.severity}: {p} [{p.code}]" for p in problems]
    lines.append(f"{resolution.path}: {len(clauses)} clauses, {errors} errors, {len(problems) - errors} warnings")
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
