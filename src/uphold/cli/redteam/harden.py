"""`uphold redteam harden`: adversarial rounds: attack, learn from what got through, attack again."""

from __future__ import annotations

import shlex
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from uphold.cli.common import Json, emit, table, warn
from uphold.cli.train.options import settings_of

if TYPE_CHECKING:
    from uphold.stages.harden.settings import Harden

NAMES = {
    "trained": "trained attacks",
    "held_out": "held-out attacks",
    "adaptive": "broken by search",
    "over_refusal": "over-refusal",
    "helpfulness": "helpfulness",
}


class Learner(StrEnum):
    model = "model"
    guard = "guard"
    both = "both"


def harden(
    target: Annotated[str, typer.Argument(help="The model: builtin:clerk, hf:PATH; with --train guard any endpoint.")],
    constitution: Annotated[str, typer.Option(help="Constitution file, or the name of a shipped one.")],
    out: Annotated[Path, typer.Option(help="Run folder; the same command continues in it.")],
    rounds: Annotated[int | None, typer.Option(min=1, help="Rounds of attack and training (3).")] = None,
    train: Annotated[Learner | None, typer.Option(help="What learns from what got through (model).")] = None,
    budget: Annotated[
        int | None, typer.Option(min=2, help="Attack queries per round, half of them searched (600).")
    ] = None,
    guard: Annotated[Path | None, typer.Option(help="Folder of a guard that already stands around the target.")] = None,
    attacks: Annotated[
        str | None, typer.Option(help="Attacks that may be trained on, by name or set; compositions of them join.")
    ] = None,
    held_out: Annotated[str | None, typer.Option(help="Attacks that are only ever measured.")] = None,
    search: Annotated[str | None, typer.Option(help="Search of each round (bandit).")] = None,
    critic: Annotated[str | None, typer.Option(help="Model that revises replies; TARGET as it was by default.")] = None,
    max_over_refusal: Annotated[
        float | None, typer.Option(min=0, max=1, help="Stop when more harmless validation prompts are refused (0.05).")
    ] = None,
    max_helpfulness_loss: Annotated[
        float | None, typer.Option(min=0, max=1, help="Stop when validation tasks lose more than this (0.03).")
    ] = None,
    behaviours: Annotated[int | None, typer.Option(min=1, help="Forbidden test requests per attack (40).")] = None,
    tasks: Annotated[int | None, typer.Option(min=1, help="Honest prompts of each kind asked after a round.")] = None,
    harmful: Annotated[Path | None, typer.Option(help="JSONL of harmful prompts with rubrics, for --source.")] = None,
    benign: Annotated[Path | None, typer.Option(help="JSONL of harmless prompts, in place of --source.")] = None,
    source: Annotated[str, typer.Option(help="Where prompts with ground truth come from.")] = "builtin:storefront",
    option: Annotated[
        list[str] | None, typer.Option("--option", "-o", help="NAME=VALUE for the target's backend: -o timeout_s=30.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="YAML file of settings; the options here override it.")] = None,
    seed: Annotated[int | None, typer.Option(help="Which questions, phrasings and draws (0).")] = None,
    as_json: Json = False,
) -> None:
    """Harden TARGET by adversarial training: each round attacks, learns from what got through, and measures again.

    \b
    uphold redteam harden builtin:clerk --constitution storefront --out runs/harden
    uphold redteam harden builtin:clerk --constitution storefront --train guard --out runs/harden-guard
    uphold redteam harden openai:http://localhost:8000/v1#shop --constitution storefront --train guard --out runs/endpoint

    Attacks that were trained on, attacks that never are, and an adaptive search are reported apart, on topics that no round saw, beside
    over-refusal and helpfulness, each paired against round 0. A round that breaks a limit on validation prompts is the last and is not
    kept. OUT/rounds.png is the curve per round, OUT/result.json what --json prints.
    """
    from uphold import models
    from uphold.cli.models import parse_options
    from uphold.stages.harden.loop import run

    result = run(
        models.load(target, **parse_options(option)),
        constitution,
        out,
        _settings(
            config,
            {"n_behaviours": behaviours, "n_benign": tasks, "n_tasks": tasks, "n_validation": tasks},
            rounds=rounds,
            train=train.value if train else None,
            budget=budget,
            attacks=_names(attacks),
            held_out=_names(held_out),
            search=search,
            max_over_refusal=max_over_refusal,
            max_helpfulness_loss=max_helpfulness_loss,
            seed=seed,
        ),
        guard=guard,
        critic=critic,
        source=_files(harmful, benign) or source,
        command=f"uphold {shlex.join(sys.argv[1:])}",
    )
    if result["stopped"]:
        warn(result["stopped"])
    emit(result, as_json, text_of(result, out))


def _names(spec: str | None) -> tuple[str, ...] | None:
    return None if spec is None else tuple(part.strip() for part in spec.split(",") if part.strip())


def _settings(config: Path | None, probe: dict[str, int | None], **given: Any) -> Harden:
    from uphold.stages.harden.settings import Harden

    settings = settings_of(Harden, config, **given)
    asked = {name: n for name, n in probe.items() if n is not None}
    return settings.model_copy(update={"probe": settings.probe.model_copy(update=asked)})


def _files(harmful: Path | None, benign: Path | None) -> Any:
    from uphold.cli.train.recipes import file_source

    return file_source(harmful, benign)


def text_of(result: dict[str, Any], out: Path) -> str:
    """The curve as a table, what each round learnt, and what was kept."""
    from uphold.core.records import Measurement
    from uphold.evidence.format import describe

    def shown(row: dict[str, Any], name: str) -> str:
        return describe(Measurement.model_validate(row[name])) if name in row else ""

    rows = [("round", *NAMES.values())]
    rows += [(str(row["round"]), *(shown(row, name) for name in NAMES)) for row in result["rounds"]]
    lines = [table(rows), ""]
    lines += [_learnt(row) for row in result["rounds"][1:]]
    gain = result["gain"]
    if gain and gain["held_out"]["points"] is not None:
        fell = gain["held_out"]
        share = "" if fell["share"] is None else f", {fell['share']:.0%} of what there was"
        lines.append(f"held-out attack success fell by {100 * fell['points']:.1f} points{share}")
    guard = f", guard {result['guard']}" if result["guard"] else ""
    lines.append(f"kept: round {result['kept_round']}: {result['model']}{guard}")
    lines.append(f"wall {result['wall_s']:.0f} s\nwritten {out / 'result.json'}    figure {out / 'rounds.png'}")
    return "\n".join(lines)


def _learnt(row: dict[str, Any]) -> str:
    """One line on a round: what was attacked with what, what got through, what was learnt from it."""
    parts = []
    for what, hit in row["attacks"].items():
        learnt = row["learnt"][what]
        taught = learnt.get("failures") if what == "model" else learnt.get("leaks")
        changed = f"{taught} taught to the {what}" if taught else f"nothing for the {what} to learn"
        parts.append(f"{hit['queries']} queries, {hit['through']} got through, {changed}")
    joined = f"; joined the pool: {', '.join(row['joined'])}" if row["joined"] else ""
    return f"round {row['round']}: {'; '.join(parts)}{joined}"


COMMANDS = {"harden": harden}
