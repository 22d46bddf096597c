"""`uphold guard eval`: a guard measured on labelled files, in figures or as a report card."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from uphold.cli.common import Json, emit
from uphold.cli.guard.score import Folder
from uphold.cli.guard.tables import rates

if TYPE_CHECKING:
    from uphold.core.records import Measurement
    from uphold.guard import Guard
    from uphold.guard.base import Stage


def eval_command(
    folder: Folder,
    data: Annotated[
        list[Path], typer.Option(help="Labelled rows: prompt, label (harmful/benign or 1/0), optionally completion.")
    ],
    out: Annotated[Path | None, typer.Option(help="Folder for the whole report card: guard.html, guard.json.")] = None,
    transforms: Annotated[
        str,
        typer.Option(help="With --out: also judge the prompts under these, with commas; 'standard' for a usual set."),
    ] = "",
    most: Annotated[int, typer.Option(min=1, help="With --out: rows that each repeated reading takes.")] = 500,
    seed: Annotated[int, typer.Option(help="Of the bootstrap intervals.")] = 0,
    as_json: Json = False,
) -> None:
    """Measure a guard on labelled files: AUPRC, AUROC, recall at 0.1% and 1% false positives, and rates at its threshold.

    \b
    uphold guard eval guard --data labelled.jsonl
    uphold guard eval builtin:assistant --data a.csv --data b.jsonl.gz --json
    uphold guard eval guard --data labelled.jsonl --transforms standard --out card

    Rows with a completion are judged as replies; columns clause, lang, kind and group are used where there are any. --out writes the
    report card: slices, transforms, calibration, harmless twins, flips, streams and cost. Only data that the guard was not
    trained on says how good it is.
    """
    from uphold.core.errors import ConfigError
    from uphold.data.files import read_prompts
    from uphold.guard import Guard
    from uphold.guard.evaluate import evaluate

    if transforms and out is None:
        raise ConfigError("--transforms belongs to the report card: say where with --out FOLDER.")
    guard = Guard.load(folder)
    rows = read_prompts(data, completions=True)
    if out is None:
        measured = evaluate(guard, rows.examples, prefix="", seed=seed, slices=("source", "clause"))
    else:
        measured = _reported(guard, rows.examples, transforms, most, seed)
    whole = {m.metric: m for m in measured if not m.by}
    result = {
        "n": len(rows.examples),
        "auprc": whole["auprc"],
        "auroc": whole["auroc"],
        "recall_at_fpr": {name.removeprefix("recall_at_fpr_"): m for name, m in whole.items() if "recall_at" in name},
        "threshold": _threshold(guard, rows.examples),
        **{name: whole[name] for name in ("fpr", "tpr", "f1")},
        "by": [m for m in measured if m.by],
        "guard": guard.identity(),
        "rows": rows.note(),
    }
    lines = [f"read {rows.note()}", "", rates("labelled rows", measured), "", f"thresholds {guard.thresholds}"]
    if out is not None:
        result["measurements"] = [m for m in measured if not m.by]
        result["page"] = str(_written(out, str(folder), guard, measured, result))
        lines.append(f"written {result['page']}")
    emit(result, as_json, "\n".join(lines))


def _reported(guard: Guard, examples: Any, transforms: str, most: int, seed: int) -> list[Measurement]:
    from uphold.guard.report import TRANSFORMS, report

    names = TRANSFORMS if transforms == "standard" else [name.strip() for name in transforms.split(",") if name.strip()]
    return report(guard, examples, prefix="", transforms=names, most=most, seed=seed)


def _written(out: Path, name: str, guard: Guard, measured: list[Measurement], result: dict[str, Any]) -> Path:
    """The card's page. Its ledger calls each metric guard.NAME, so that it can stand beside others."""
    from uphold.evidence.guard_card import PREFIX, write_guard_card

    law = guard.about.get("constitution", {})
    facts = {
        "Guard": f"{name}, {guard.identity()}",
        "Judges": ", ".join(f"{stage} from {score:.4f}" for stage, score in sorted(guard.thresholds.items())),
        "Constitution": f"{law.get('name', 'not stated')} {law.get('version', '')}".strip(),
        "Data": f"{result['rows']}, {measured[0].data}",
    }
    numbers = [m.model_copy(update={"metric": PREFIX + m.metric}) for m in [*measured, result["threshold"]]]
    return write_guard_card(out, Path(name).name or name, facts, numbers, result)


def _threshold(guard: Guard, examples: Any) -> Measurement:
    """The score that flags; where rows are prompts and replies both, that of the prompts, with the replies' in the note."""
    from uphold.core.measure import scalar
    from uphold.guard.base import reply_stage
    from uphold.guard.examples import is_prompt

    stages: list[Stage] = ["input"] if any(is_prompt(e) for e in examples) else []
    stages += [reply_stage(guard)] if not all(is_prompt(e) for e in examples) else []
    thresholds: dict[Stage, float] = dict(guard.thresholds)
    certified = guard.about.get("thresholds", {}).get(stages[0], {})
    note = "; ".join(f"{stage} {thresholds[stage]:.6f}" for stage in stages)
    return scalar(
        "threshold",
        thresholds[stages[0]],
        int(certified.get("n_benign", 0)),
        unit="score",
        by={"stage": stages[0]},
        subject={"guard": guard.identity()},
        note=f"{note}; n: benign samples it was set on",
    )


COMMANDS = {"eval": eval_command}
