"""`uphold run`: the whole loop of a project."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from uphold.cli.common import Json, emit


def command(
    project: Annotated[Path, typer.Argument(help="A folder with uphold.yaml, or the file itself.")],
    out: Annotated[
        Path | None, typer.Option(help="Run folder; the same folder continues a run. Default: runs/NAME.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Another model than the project's, e.g. openai:URL#name.")] = None,
    harmful: Annotated[
        list[Path] | None, typer.Option(help="Prompts that must be refused (JSONL or CSV); may be repeated.")
    ] = None,
    benign: Annotated[list[Path] | None, typer.Option(help="Prompts that must be answered; may be repeated.")] = None,
    seed: Annotated[int | None, typer.Option(help="Another seed than the project's.")] = None,
    as_json: Json = False,
) -> None:
    """Run the whole loop of a project, or continue it; ends with a table, a verdict and a system card.

    \b
    uphold run examples/storefront
    uphold run examples/assistant --harmful attacks.jsonl --benign questions.jsonl
    uphold run examples/assistant --harmful a.jsonl --benign b.jsonl --model openai:http://127.0.0.1:8000/v1#name

    Exit codes: 0 the gate passed, 1 it did not, 2 misuse.
    """
    from uphold import pipeline
    from uphold.core.config import dump_yaml
    from uphold.project import Project

    loaded = Project.load(project)
    changes = {key: value for key, value in (("model", model), ("seed", seed)) if value is not None}
    loaded = loaded.model_copy(update=changes)
    folder = out or Path("runs") / loaded.name
    print(f"# settings, saved as {folder / 'uphold.yaml'}\n{dump_yaml(loaded)}", file=sys.stderr)
    result = pipeline.run(loaded, folder, harmful=harmful or (), benign=benign or (), say=_say)
    gate, table = result["gate"], result.pop("table")
    lines = [table, "", f"gate ({loaded.policy}): {gate['verdict']}", *(f"  {reason}" for reason in gate["reasons"])]
    lines += ["", f"wall {result['wall_s']:.0f} s, peak memory {result['peak_rss_mb']:,.0f} MB", f"written {folder}"]
    lines += [f"card    {result['card']}", f"next: uphold verify {folder}"]
    emit(result, as_json, "\n".join(lines))
    if gate["verdict"] != "pass":
        raise typer.Exit(1)


def _say(line: str) -> None:
    from uphold.core.progress import is_quiet

    if not is_quiet():
        print(f"== {line}", file=sys.stderr, flush=True)
