"""Stages `cai` and `rlaif`: the model taught by its own revisions, then by its own preferences.

Both depend only on the clauses that forbid something (and, for preferences, those that ask for help), on the training prompts and on
the model, so an edit elsewhere in the constitution leaves them as they are. Each stage's folder holds `model/`, its curves in
`log.jsonl`, and every revision or label with its clause.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from uphold.constitution import Constitution
from uphold.core.records import Exchange, Sample
from uphold.core.store import StageResult
from uphold.models import Weights, load_weights
from uphold.project import Align
from uphold.stages.context import Context, digest_of, load_samples, model_folder
from uphold.train.cai import CAIConfig, cai
from uphold.train.dpo import DPOConfig
from uphold.train.rlaif import RLAIFConfig, rlaif
from uphold.train.sft import SFTConfig


def run(ctx: Context, prompts: StageResult) -> tuple[StageResult, StageResult]:
    """(cai, rlaif): the second one's model is the aligned one."""
    align = ctx.project.align
    assert align is not None
    base = load_weights(ctx.project.model or "")
    harmful, tasks = load_samples(prompts, "harmful-train"), load_samples(prompts, "task-train")
    taught = _cai(ctx, align, base, harmful, tasks)
    preferred = _rlaif(ctx, align, taught, harmful, tasks)
    return taught, preferred


def _cai(ctx: Context, align: Align, base: Weights, harmful: list[Sample], tasks: list[Sample]) -> StageResult:
    chosen, benign = harmful[: align.n_harmful], tasks[: align.n_benign]
    helpful = [_answered(sample) for sample in tasks[: align.n_helpful]]
    config = CAIConfig(
        n_rounds=align.rounds,
        seed=ctx.project.seed,
        sft=SFTConfig(epochs=align.sft_epochs, lr=align.sft_lr, seed=ctx.project.seed),
    )
    rules = _only(ctx.constitution, [c.id for c in ctx.constitution.clauses if c.forbids])
    inputs = {
        "model": base.identity(),
        "clauses": {clause.id: clause.digest for clause in rules.clauses},
        "harmful": digest_of(chosen),
        "benign": digest_of(benign),
        "helpful": digest_of(tasks[: align.n_helpful]),
        "config": config.model_dump(mode="json"),
        "threads": ctx.project.threads,
    }

    def make(work: Path) -> dict[str, Any]:
        return cai(base, rules, chosen, benign, work, config, helpful=helpful, journal=ctx.calls).summary

    return ctx.store.stage("cai", inputs, make)


def _rlaif(ctx: Context, align: Align, taught: StageResult, harmful: list[Sample], tasks: list[Sample]) -> StageResult:
    start = len(harmful) - align.n_pairs * 2 // 3  # prompts that supervised training has not seen, where there are enough
    samples = [*harmful[max(start, 0) :], *tasks[-(align.n_pairs // 3) :]]
    seed = ctx.project.seed
    config = RLAIFConfig(
        seed=seed,
        benign_clauses=align.benign_clauses,
        dpo=DPOConfig(epochs=align.dpo_epochs, lr=align.dpo_lr, beta=align.beta, seed=seed),
    )
    rules = _only(ctx.constitution, [c.id for c in ctx.constitution.clauses if c.modality != "may"])
    inputs = {
        "taught": taught.key,
        "clauses": {clause.id: clause.digest for clause in rules.clauses},
        "samples": digest_of(samples),
        "config": config.model_dump(mode="json"),
        "threads": ctx.project.threads,
    }

    def make(work: Path) -> dict[str, Any]:
        policy = load_weights(model_folder(taught.path / "model"))
        return rlaif(policy, rules, samples, work, config, journal=ctx.calls).summary

    return ctx.store.stage("rlaif", inputs, make)


def _answered(sample: Sample) -> Exchange:
    assert sample.expected is not None
    return Exchange(messages=sample.messages, completion=sample.expected, meta={"sample": sample.id})


def _only(constitution: Constitution, ids: list[str]) -> Constitution:
    """The constitution reduced to the clauses a stage depends on."""
    return constitution.model_copy(update={"clauses": tuple(c for c in constitution.clauses if c.id in ids)})
