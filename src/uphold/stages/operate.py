"""Stages `input-guard` and `endpoint`: the operator's loop on prompts from files.

An input classifier is trained on the constitution's examples and the given prompts, split by content hash, and measured on the
held-out part. With a model, held-out prompts of both classes go through it, unguarded and guarded; each call is paid for once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from uphold.core.files import read_json, read_jsonl, write_json, write_jsonl
from uphold.core.records import Measurement, Sample
from uphold.core.store import StageResult
from uphold.evals.refusal import grade_refusal
from uphold.evidence.inputs import CardInputs, ClauseRow, Excerpt, Metric, Section, System
from uphold.guard import Guard
from uphold.guard.examples import data_hash, is_harmful
from uphold.guard.fitting import GuardSettings
from uphold.guard.operator import (
    Asked,
    OperatorData,
    ask_model,
    held_out,
    model_measurements,
    read_files,
    train_input_guard,
)
from uphold.guard.threshold import Threshold
from uphold.models import Completion
from uphold.stages import keep
from uphold.stages.context import Context, digest_of

EXCERPTS = 4  # at most so many of each kind
N_ASK = 200  # held-out prompts of each class put to the model
SYSTEMS = (
    System(key="unguarded", label="endpoint", about="the model as it answers"),
    System(key="guarded", label="endpoint + guard", about="the same model behind the input classifier"),
)
HEADLINES = (
    Metric(metric="harmful_refused", label="Harmful requests refused", about="held-out prompts that must be refused"),
    Metric(metric="over_refusal", label="Over-refusal", about="held-out honest prompts refused"),
)
GUARD_METRICS = (
    Metric(metric="input_guard.auprc", label="AUPRC", about="area under the precision-recall curve, held-out prompts"),
    Metric(metric="input_guard.auroc", label="AUROC", about="chance that a harmful prompt scores above an honest one"),
    Metric(metric="input_guard.tpr_at_1pct_fpr", label="Recall at 1% false alarms"),
    Metric(metric="input_guard.tpr", label="Recall at the threshold"),
    Metric(metric="input_guard.fpr", label="False alarms at the threshold"),
)


def run(
    ctx: Context, harmful: Sequence[Path], benign: Sequence[Path], say: Callable[[str], None]
) -> tuple[list[Measurement], CardInputs]:
    """Measurements, and what goes on the card: two systems compared, or without a model the guard alone."""
    data = read_files(harmful, benign)
    trained = _train(ctx, data)
    found = _load(trained)
    test = held_out(data, ctx.constitution, seed=ctx.project.seed, settings=_settings(ctx))
    asked, failed, put = None, [], []
    if ctx.base is not None:
        say("held-out prompts -> endpoint, unguarded and guarded")
        asked = _ask(ctx, test, trained)
        found += [_renamed(m) for m in _load(asked)]
        put = [Asked(**_asked(row)) for _, row in read_jsonl(asked.path / "asked.jsonl")]
        failed = _failures(put, keep.endpoint(ctx, put))
    _declare(ctx, data, test, put)
    systems = (
        list(SYSTEMS)
        if asked
        else [System(key="guard", label="input guard", about="the classifier alone: no model was given")]
    )
    return found, _inputs(ctx, systems, trained, HEADLINES if asked else (), failed)


def _settings(ctx: Context) -> GuardSettings:
    return GuardSettings(fpr_budget=ctx.project.guard.fpr_budget)


def _train(ctx: Context, data: OperatorData) -> StageResult:
    inputs = {
        "prompts": digest_of(data.samples),
        "examples": {c.id: c.digest for c in ctx.constitution.clauses if c.harmful or c.harmless},
        "settings": _settings(ctx).model_dump(mode="json"),
        "seed": ctx.project.seed,
        "threads": ctx.project.threads,
    }

    def make(work: Path) -> dict[str, Any]:
        guard, report = train_input_guard(data, ctx.constitution, seed=ctx.project.seed, settings=_settings(ctx))
        guard.save(work / "guard")
        write_json(work / "measurements.json", list(report.measurements))
        threshold = report.thresholds["input"].model_dump()
        return {
            "guard": report.identity,
            "counts": report.counts["input"],
            "threshold": threshold,
            "files": data.about(),
        }

    return ctx.store.stage("input-guard", inputs, make)


def _ask(ctx: Context, test: Sequence[Sample], trained: StageResult) -> StageResult:
    def make(work: Path) -> dict[str, int]:
        guard = Guard.load(trained.path / "guard")
        chat = ctx.journalled(ctx.base, "endpoint")
        asked = ask_model(chat, guard, test, n=N_ASK, seed=ctx.project.seed)
        subject = ctx.subject(model=ctx.base.identity(), guard=guard.identity())
        write_json(work / "measurements.json", model_measurements(asked, subject, seed=ctx.project.seed))
        return {"asked": write_jsonl(work / "asked.jsonl", (dict(a._asdict()) for a in asked))}

    inputs = {"guard": trained.key, "model": ctx.base.identity(), "n": N_ASK, "seed": ctx.project.seed}
    return ctx.store.stage("endpoint", inputs, make)


def _asked(row: dict[str, Any]) -> dict[str, Any]:
    replies = {name: Completion.model_validate(row[name]) for name in ("plain", "guarded")}
    return {"sample": Sample.model_validate(row["sample"]), **replies}


def _declare(ctx: Context, data: OperatorData, test: Sequence[Sample], put: Sequence[Asked]) -> None:
    """Which prompts were held out, by the hashes that measurements give, and which were learnt from."""
    out = {sample.id for sample in test}
    measured = {data_hash(test): list(test)}
    for label in ("harmful", "benign"):
        part = [a.sample for a in put if a.sample.label == label]
        measured |= {data_hash(part): part} if part else {}
    keep.given_data(ctx, [s for s in data.samples if s.id not in out], measured)


def _failures(put: Sequence[Asked], commitments: Sequence[str]) -> list[Excerpt]:
    """The first few harmful prompts that were answered behind the guard, and honest ones that it blocked."""
    found: dict[bool, list[Excerpt]] = {True: [], False: []}
    for i, one in enumerate(put):
        reply, harmful = one.guarded, is_harmful(one.sample)
        is_blocked = reply.finish_reason == "blocked"
        if reply.error is not None:
            continue
        if harmful:
            is_failure = not is_blocked and grade_refusal(reply.text or "", asked=one.sample.prompt) != "full"
        else:
            is_failure = is_blocked
        if is_failure and len(found[harmful]) < EXCERPTS:
            note = "a harmful prompt that was answered" if harmful else "an honest prompt that was blocked"
            commitment = commitments[2 * i + 1]
            found[harmful].append(Excerpt(system="guarded", transcript=commitment, clause=one.sample.clause, note=note))
    return [*found[True], *found[False]]


def _load(stage: StageResult) -> list[Measurement]:
    return [Measurement.model_validate(m) for m in read_json(stage.path / "measurements.json")]


def _renamed(m: Measurement) -> Measurement:
    """Refusals by class and system under the names that the card and policies compare systems by."""
    if m.metric != "model.refused":
        return m
    stem = "harmful_refused" if m.by["class"] == "harmful" else "over_refusal"
    return m.model_copy(update={"metric": f"{stem}.{m.by['system']}", "by": {}})


def _inputs(
    ctx: Context,
    systems: Sequence[System],
    trained: StageResult,
    headlines: tuple[Metric, ...],
    failed: Sequence[Excerpt],
) -> CardInputs:
    from uphold.stages.report import clause_rows, commands, model_limits, provenance

    threshold = Threshold.model_validate(trained.summary["threshold"])
    clauses: tuple[ClauseRow, ...] = clause_rows(ctx)
    return CardInputs(
        title=f"System card: {ctx.project.name}",
        summary=f"{ctx.constitution.description} The subject is {ctx.project.model or 'an input guard alone, without a model'}.",
        systems=tuple(systems),
        headlines=headlines,
        clauses=clauses,
        clause_metrics=(Metric(metric="input_guard.tpr", label="Recall at the threshold"),),
        guard=Section(
            title="Input guard",
            about=f"A linear classifier on hashed word and character n-grams. At its threshold it {threshold.sentence()}.",
            metrics=GUARD_METRICS,
        ),
        failures=tuple(failed),
        notes=(
            "Prompts were split by content hash: no prompt, up to case and spacing, is both trained and tested on.",
            "The files' own labels are taken as truth; some rows of public sets are mild or mislabelled.",
        ),
        limits=model_limits(ctx),
        commands=commands(ctx, " --harmful FILE --benign FILE"),
        provenance=provenance(ctx, {"guard": trained.summary["guard"]}),
    )
