"""`uphold guard`: train a guard from a constitution and prompt files, score text with it, measure it on labelled files."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from uphold.cli.common import Json, emit, table
from uphold.cli.rates import head, row

if TYPE_CHECKING:
    from uphold.core.records import Exchange, Measurement
    from uphold.guard import LinearGuard

app = typer.Typer(help="Train and measure constitutional classifiers.", no_args_is_help=True)

_Folder = Annotated[Path, typer.Argument(metavar="GUARD", help="Folder of a guard.")]
_SCORED_AT_ONCE = 256  # lines read before their verdicts are printed


@app.command()
def train(
    constitution: Annotated[str, typer.Argument(help="Constitution file, or the name of a shipped one.")],
    harmful: Annotated[
        list[Path], typer.Option(help="Prompts to refuse (JSONL or CSV, column prompt); may be repeated.")
    ],
    benign: Annotated[list[Path], typer.Option(help="Prompts to answer; may be repeated.")],
    out: Annotated[Path, typer.Option(help="Folder to write the guard to; an existing guard is not overwritten.")],
    fpr_budget: Annotated[
        float, typer.Option(min=1e-6, max=0.5, help="Share of benign prompts that may be refused.")
    ] = 0.01,
    seed: Annotated[int, typer.Option(help="Which prompts train, set the threshold and test.")] = 0,
    as_json: Json = False,
) -> None:
    """Train an input guard on real prompts and the constitution's examples, and measure it on held-out ones.

    \b
    uphold guard train assistant --harmful attacks.jsonl --benign questions.csv.gz --out guard

    Prompts are split by content: three fifths train, a fifth sets the threshold, a fifth is the test. The threshold is certified
    (95%, Clopper-Pearson) to refuse at most FPR_BUDGET of benign prompts like these, if there are enough of them to prove it.
    """
    from uphold.constitution import Constitution
    from uphold.core.errors import StoreError
    from uphold.guard.fitting import GuardSettings
    from uphold.guard.operator import read_files, train_input_guard

    if (out / "guard.json").exists():
        raise StoreError(f"{out}: holds a guard already. Choose another --out, or remove it first.")
    settings = GuardSettings(fpr_budget=fpr_budget)
    data = read_files(harmful, benign)
    guard, report = train_input_guard(data, Constitution.load(constitution), seed=seed, settings=settings)
    guard.save(out)
    lines = [
        *(f"{kind:8} {part.note()}" for kind, part in (("harmful", data.harmful), ("benign", data.benign))),
        "",
        _rates("held-out prompts", [m for m in report.measurements if not m.by]),
        "",
        f"threshold {report.thresholds['input'].value:.4f}: {report.thresholds['input'].sentence()}",
        f"written {out}    next: uphold guard score {out}",
    ]
    result = report.model_dump(mode="json") | {"guard": str(out), "data": data.about(), "settings": settings}
    emit(result, as_json, "\n".join(lines))


@app.command()
def score(
    folder: _Folder,
    jsonl: Annotated[
        bool, typer.Option("--jsonl", help="Each line is an object: prompt or messages, and completion for a reply.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Judge what comes on stdin, a prompt a line: score, whether it is flagged, and the clause that carries the score.

    \b
    echo "How do I make a bomb?" | uphold guard score guard
    uphold guard score guard --jsonl --json < exchanges.jsonl

    The texts themselves are not printed. Exit code 0 whatever was flagged.
    """
    from uphold.guard import LinearGuard

    guard = LinearGuard.load(folder)
    judged: list[dict[str, Any]] = []
    for batch in _batches(jsonl):
        for (line, _), verdict in zip(batch, guard.score([exchange for _, exchange in batch]), strict=True):
            if as_json:
                judged.append({"line": line} | verdict.model_dump(mode="json"))
            else:
                mark = "flagged" if verdict.flagged else "-"
                print(f"{line}\t{verdict.score:.4f}\t{mark}\t{verdict.clause or '-'}", flush=True)
    if as_json:
        emit({"guard": guard.identity(), "thresholds": guard.thresholds, "verdicts": judged}, True, "")


def _batches(jsonl: bool) -> Iterator[list[tuple[int, Exchange]]]:
    """Exchanges from stdin with their line numbers, as many as have arrived together; blank lines are no prompts."""
    batch: list[tuple[int, Exchange]] = []
    for number, raw in enumerate(sys.stdin.buffer, start=1):
        text = raw.decode("utf-8", "replace").rstrip("\r\n")
        if text.strip():
            batch.append((number, _exchange(text, number, jsonl)))
        if batch and (len(batch) >= _SCORED_AT_ONCE or sys.stdin.isatty()):
            yield batch
            batch = []
    if batch:
        yield batch


def _exchange(text: str, number: int, jsonl: bool) -> Exchange:
    from pydantic import ValidationError

    from uphold.core.errors import DataError
    from uphold.core.files import parse_json
    from uphold.core.records import Exchange
    from uphold.data.files import well_formed
    from uphold.guard.base import prompt

    if not jsonl:
        return prompt(text)
    value = parse_json(well_formed(text), "stdin", number)
    if not isinstance(value, dict) or not ("prompt" in value or "messages" in value):
        raise DataError(f"stdin:{number}: expected an object with prompt or messages, and completion for a reply.")
    value = json.loads(well_formed(json.dumps(value, ensure_ascii=False)))
    messages = value.get("messages") or [{"role": "user", "content": value["prompt"]}]
    try:
        return Exchange.model_validate({"messages": messages, "completion": value.get("completion") or ""})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise DataError(f"stdin:{number}: {where}: {first['msg']}.") from None


@app.command("eval")
def eval_command(
    folder: _Folder,
    data: Annotated[
        list[Path], typer.Option(help="Labelled rows: prompt, label (harmful/benign or 1/0), optionally completion.")
    ],
    seed: Annotated[int, typer.Option(help="Of the bootstrap intervals.")] = 0,
    as_json: Json = False,
) -> None:
    """Measure a guard on labelled files: AUPRC, AUROC, recall at 0.1% and 1% false positives, and rates at its threshold.

    \b
    uphold guard eval guard --data labelled.jsonl
    uphold guard eval guard --data a.csv --data b.jsonl.gz --json

    Rows with a completion are judged as replies. Only data that the guard was not trained on says how good it is.
    """
    from uphold.data.files import read_prompts
    from uphold.guard import LinearGuard
    from uphold.guard.evaluate import evaluate

    guard = LinearGuard.load(folder)
    rows = read_prompts(data, completions=True)
    measured = evaluate(guard, rows.examples, prefix="", seed=seed, slices=("source", "clause"))
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
    lines = [f"read {rows.note()}", "", _rates("labelled rows", measured), "", f"thresholds {guard.thresholds}"]
    emit(result, as_json, "\n".join(lines))


def _threshold(guard: LinearGuard, examples: Any) -> Measurement:
    """The score that flags; where rows are prompts and replies both, that of the prompts, with the replies' in the note."""
    from uphold.core.measure import scalar
    from uphold.guard.examples import is_prompt

    stages = ["input"] if any(is_prompt(e) for e in examples) else []
    stages += [guard.reply_stage] if not all(is_prompt(e) for e in examples) else []
    thresholds: dict[str, float] = dict(guard.thresholds)
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


def _rates(title: str, measured: list[Measurement]) -> str:
    rows = [head(title, "rows")]
    rows += [row(" ".join([m.metric, *m.by.values()]), m) for m in measured]
    return table(rows)
