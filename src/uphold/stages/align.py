"""Stages `cai`, `rlaif` and `blend`: the model taught by its own revisions, then by its own preferences, then part of the way back.

Both depend only on the clauses that forbid something (and, for preferences, those that ask for help), on the training prompts and on
the model, so an edit elsewhere in the constitution leaves them as they are. Each stage's folder holds `model/`, its curves in
`log.jsonl`, and every revision or label with its clause.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

from uphold.constitution import Constitution
from uphold.core.records import Exchange, Sample
from uphold.core.store import StageResult
from uphold.models import Chat, Weights, load, load_weights
from uphold.project import Align
from uphold.stages.context import Context, digest_of, load_samples, model_folder
from uphold.train import parallel
from uphold.train.blend import blend
from uphold.train.cai import CAIConfig, cai
from uphold.train.critics import Mixed
from uphold.train.rlaif import RLAIFConfig, rlaif


class Aligned(NamedTuple):
    """What alignment left. preferred: None where the project asks for no preferences. stages: all of them, the final model's last."""

    taught: StageResult
    preferred: StageResult | None
    stages: list[StageResult]

    @property
    def model(self) -> str:
        """How to open the aligned model."""
        return model_folder(self.stages[-1].path / "model")


def run(ctx: Context, prompts: StageResult) -> Aligned:
    """Supervised training, then preference training where the project asks for it, then the blend."""
    parallel.require_alone("alignment inside a run folder")
    align = ctx.project.align
    assert align is not None
    base = load_weights(ctx.project.model or "")
    harmful = load_samples(prompts, "harmful-train")
    both = zip_longest(load_samples(prompts, "benign-train"), load_samples(prompts, "task-train"))
    honest = [s for pair in both for s in pair if s is not None]
    taught = _cai(ctx, align, base, harmful, honest)
    preferred = _rlaif(ctx, align, base, taught, harmful, honest) if align.preferences else None
    stages = [taught, preferred] if preferred else [taught]
    if align.blend < 1:
        stages.append(_blend(ctx, align.blend, base, stages[-1]))
    return Aligned(taught, preferred, stages)


def _cai(ctx: Context, align: Align, base: Weights, harmful: list[Sample], honest: list[Sample]) -> StageResult:
    chosen, benign = harmful[: align.n_harmful], honest[: align.n_benign]
    helpful = [_answered(sample) for sample in honest[: align.n_helpful] if sample.expected is not None]
    plain, seed = CAIConfig(), ctx.project.seed
    sft = plain.sft.model_copy(update={"epochs": align.sft_epochs, "seed": seed})
    recovery = plain.recovery.model_copy(update={"copies": align.recoveries})
    config = plain.model_copy(update={"n_rounds": align.rounds, "recovery": recovery, "seed": seed, "sft": sft})
    critic = _teacher(align.critics, seed)
    rules = _only(ctx.constitution, [c.id for c in ctx.constitution.clauses if c.forbids])
    inputs = {
        "model": base.identity(),
        "clauses": {clause.id: clause.digest for clause in rules.clauses},
        "harmful": digest_of(chosen),
        "benign": digest_of(benign),
        "helpful": digest_of(honest[: align.n_helpful]),
        "critic": critic.identity() if critic else None,
        "config": config.model_dump(mode="json"),
        "threads": ctx.project.threads,
    }

    def make(work: Path) -> dict[str, Any]:
        trained = cai(base, rules, chosen, benign, work, config, critic=critic, helpful=helpful, journal=ctx.calls)
        return {**trained.summary, "model": load_weights(model_folder(trained.path)).identity()}

    return ctx.store.stage("cai", inputs, make)


def _rlaif(
    ctx: Context, align: Align, base: Weights, taught: StageResult, harmful: list[Sample], honest: list[Sample]
) -> StageResult:
    # from the end: prompts that supervised training has not seen, if there are enough
    samples = [*harmful[-align.n_harmful_pairs :], *honest[-align.n_benign_pairs :]]
    plain, seed = RLAIFConfig(), ctx.project.seed
    dpo = plain.dpo.model_copy(update={"epochs": align.dpo_epochs, "seed": seed})
    config = plain.model_copy(
        update={"seed": seed, "benign_clauses": align.benign_clauses, "how": align.how, "dpo": dpo}
    )
    judge = _teacher(align.judges, seed)
    rules = _only(ctx.constitution, [c.id for c in ctx.constitution.clauses if c.modality != "may"])
    inputs = {
        "taught": taught.key,
        "clauses": {clause.id: clause.digest for clause in rules.clauses},
        "samples": digest_of(samples),
        "judge": judge.identity() if judge else None,
        "config": config.model_dump(mode="json"),
        "threads": ctx.project.threads,
    }

    def make(work: Path) -> dict[str, Any]:
        policy = load_weights(model_folder(taught.path / "model"))
        trained = rlaif(policy, rules, samples, work, config, judge=judge, before=base, journal=ctx.calls)
        return {**trained.summary, "model": load_weights(model_folder(trained.path)).identity()}

    return ctx.store.stage("rlaif", inputs, make)


def _blend(ctx: Context, share: float, base: Weights, tuned: StageResult) -> StageResult:
    inputs = {"model": base.identity(), "tuned": tuned.key, "share": share}

    def make(work: Path) -> dict[str, Any]:
        trained = blend(base.model, load_weights(model_folder(tuned.path / "model")).model, base.tokenizer, share, work)
        return {**trained.summary, "model": load_weights(model_folder(trained.path)).identity()}

    return ctx.store.stage("blend", inputs, make)


def _teacher(specs: Sequence[str], seed: int) -> Chat | None:
    """The models named, as one that mixes them; None when none is: the model teaches itself."""
    if not specs:
        return None
    chats = [load(spec) for spec in specs]
    for chat in chats:
        chat.check()
    return chats[0] if len(chats) == 1 else Mixed(chats, seed)


def _answered(sample: Sample) -> Exchange:
    assert sample.expected is not None
    return Exchange(messages=sample.messages, completion=sample.expected, meta={"sample": sample.id})


def _only(constitution: Constitution, ids: list[str]) -> Constitution:
    """The constitution reduced to the clauses a stage depends on."""
    return constitution.model_copy(update={"clauses": tuple(c for c in constitution.clauses if c.id in ids)})
