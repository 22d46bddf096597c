"""`uphold redteam import`: results of other tools. `replay`: those asked again. `export`: findings as JSONL or SARIF."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from uphold.cli.common import Json, emit, table
from uphold.cli.rates import head, row


def import_(
    file: Annotated[Path, typer.Argument(help="File that the tool wrote.")],
    tool: Annotated[
        str, typer.Option("--format", help="garak, pyrit, promptfoo, harmbench, jailbreakbench or hackaprompt.")
    ],
    out: Annotated[Path, typer.Option(help="New folder for samples.jsonl, attempts.jsonl and provenance.json.")],
    as_json: Json = False,
) -> None:
    """Read another tool's results or questions. Verdicts stay the tool's own; where it gave none, the attempt is unscored.

    \b
    uphold redteam import garak.report.jsonl --format garak --out runs/garak
    uphold redteam import harmbench_behaviors_text_all.csv --format harmbench --out runs/harmbench
    """
    from uphold.core.errors import StoreError
    from uphold.core.files import write_json, write_jsonl
    from uphold.redteam import report
    from uphold.redteam.interchange import read

    found = read(file, tool)
    if (out / "provenance.json").exists():
        raise StoreError(f"{out}: already holds an import. Choose another --out.")
    out.mkdir(parents=True, exist_ok=True)
    write_jsonl(out / "samples.jsonl", found.samples)
    write_jsonl(out / "attempts.jsonl", (attempt.row() for attempt in found.attempts))
    note = f"verdicts of {tool}, not graded again"
    rate = report(found.attempts, data=found.provenance["sha256"], note=note)["overall"] if found.attempts else None
    write_json(out / "provenance.json", found.provenance)
    result: dict[str, Any] = {
        "samples": len(found.samples),
        "attempts": len(found.attempts),
        "attack_success_rate": rate,
        "provenance": found.provenance,
    }
    lines = [f"{len(found.samples)} samples, {len(found.attempts)} attempts from {file} ({tool})"]
    if rate is not None:
        lines.append(table([head("as the tool judged", "attempts"), row("attack success", rate)]))
    emit(result, as_json, "\n".join([*lines, f"written {out}"]))


def replay(
    folder: Annotated[Path, typer.Argument(help="Folder that uphold redteam import wrote.")],
    target: Annotated[str, typer.Option(help="Model to ask: builtin:clerk, hf:PATH, openai:URL#model.")],
    out: Annotated[Path, typer.Option(help="Run folder; the same command continues in it.")],
    expect: Annotated[
        list[str] | None,
        typer.Option(
            help="CATEGORY=TEXT: the reply that is a success there, as 'level 1=I have been PWNED'; repeat it."
        ),
    ] = None,
    grader: Annotated[str, typer.Option(help="exact, or a judge grader such as strongreject.")] = "exact",
    judge: Annotated[str | None, typer.Option(help="Model that a judge grader asks.")] = None,
    baseline: Annotated[str | None, typer.Option(help="Unguarded model that grader drawn takes facts from.")] = None,
    guard: Annotated[Path | None, typer.Option(help="Folder of a guard to put around the target.")] = None,
    budget: Annotated[int | None, typer.Option(min=0, help="At most so many queries; all without it.")] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Longest reply, in tokens.")] = 96,
    as_json: Json = False,
) -> None:
    """Ask the recorded attacks of an import again, of TARGET, and put the verdicts beside the recorded ones.

    \b
    uphold redteam replay runs/hackaprompt --target builtin:clerk --expect 'level 1=I have been PWNED' --out runs/again

    Without a text that makes a success (--expect, or the corpus's own expected_completion) and without a judge an attempt is unscored.
    """
    from uphold import models
    from uphold.cli.redteam.run import _guarded, _helper
    from uphold.core.errors import ConfigError
    from uphold.core.files import read_jsonl
    from uphold.core.records import Sample, digest
    from uphold.core.store import RunStore
    from uphold.models import Sampling
    from uphold.redteam import Engine, grader_named, read_attempts
    from uphold.redteam.interchange import beside, replayed, wanting

    wanted = dict(pair.split("=", 1) for pair in expect or () if "=" in pair)
    if len(wanted) < len(expect or ()):
        raise ConfigError("--expect: write CATEGORY=TEXT, each category once, such as 'level 1=I have been PWNED'.")
    samples = wanting((Sample.model_validate(row) for _, row in read_jsonl(folder / "samples.jsonl")), wanted)
    helpers = [_helper(spec) for spec in (judge, baseline)]
    grades = grader_named(grader, *helpers)
    chat = _guarded(models.load(target), guard, "both")
    chat.check()

    def carry_out(work: Path) -> dict[str, int]:
        with Engine(
            chat, samples, budget=budget, sampling=Sampling(max_new_tokens=max_new_tokens), grader=grades, folder=work
        ) as engine:
            replayed(engine, samples)
            return {"attempts": engine.queries}

    inputs = {
        "target": chat.identity(),
        "samples": digest(samples),
        "grader": grader,
        "helpers": [helper.identity() if helper else None for helper in helpers],
        "budget": budget,
        "max_new_tokens": max_new_tokens,
    }
    with RunStore.open(out) as store:
        stage = store.stage("redteam", inputs, carry_out)
        made = read_attempts(stage.path / "attempts.jsonl")
        about = {"subject": {"model": chat.identity()}, "data": digest(samples), "seeds": (0,)}
        found = beside(read_attempts(folder / "attempts.jsonl"), made, **about)
    rates = found["attack_success_rate"]
    rows = [
        head("attack success", "attempts"),
        row("as recorded", found["recorded"]),
        row("asked again", rates["overall"]),
    ]
    rows += [row("again minus recorded", found["difference"])]
    rows += [row(f"  {category}", m) for category, m in rates["by_category"].items()]
    emit(found, as_json, f"{table(rows)}\nwritten {stage.path}")


def export(
    run: Annotated[Path, typer.Argument(help="Folder with attempts.jsonl: of a run, or of an import.")],
    out: Annotated[Path, typer.Option(help="File to write: .sarif or .jsonl.")],
    transcripts: Annotated[bool, typer.Option("--transcripts", help="Put prompts and replies into SARIF too.")] = False,
    as_json: Json = False,
) -> None:
    """Write the attempts that succeeded as SARIF 2.1.0 (by the name of --out) or JSONL.

    \b
    uphold redteam export runs/redteam --out findings.sarif
    uphold redteam export runs/redteam --out findings.jsonl
    """
    from uphold import __version__
    from uphold.cli.redteam.plan import _stage
    from uphold.core.errors import ConfigError
    from uphold.core.files import write_json, write_jsonl
    from uphold.redteam import read_attempts
    from uphold.redteam.interchange import sarif

    if out.suffix not in (".sarif", ".jsonl"):
        raise ConfigError(f"--out {out}: must end in .sarif or .jsonl, which says what to write.")
    found = [attempt for attempt in read_attempts(_stage(run) / "attempts.jsonl") if attempt.success]
    if out.suffix == ".sarif":
        write_json(out, sarif(found, version=__version__, transcripts=transcripts))
    else:
        write_jsonl(out, (attempt.row() for attempt in found))
    emit({"findings": len(found), "file": str(out)}, as_json, f"{len(found)} findings written {out}")


COMMANDS = {"import": import_, "replay": replay, "export": export}
