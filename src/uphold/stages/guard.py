"""Stage `guard`: input and output classifiers, from data synthesised under the constitution and a fixed benign pool.

Prompts of both classes come from the source (training topics, families that may be trained on), replies to them from the unaligned
model: what it says to forbidden requests is what the output classifier must stop. Thresholds are set on honest prompts about topics
that neither classifier was fitted on, for the stated budget, with a Clopper-Pearson bound; where leaks score well above that, the
threshold moves up halfway towards them, which flags less and stops as much. Then each must earn its place: the input
classifier stands in front only if, on forbidden requests about topics it was not fitted on, it stops leaks that the output classifier
lets through; else it would cost honest twins their answers and buy nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uphold.core.measure import proportion, scalar
from uphold.core.records import Exchange, Measurement, Sample, digest
from uphold.core.store import StageResult
from uphold.data import assistant
from uphold.evidence.inputs import Metric, Section
from uphold.guard import Guard
from uphold.guard.base import Stage
from uphold.guard.examples import Example, reply
from uphold.guard.fitting import GuardSettings
from uphold.guard.stage import sigmoid
from uphold.guard.threshold import Threshold
from uphold.guard.train import train_guard
from uphold.models import Chat, Sampling
from uphold.redteam import grade, revealed
from uphold.stages.context import Context, digest_of, load_samples

REPLY_TOKENS = 96


@dataclass(frozen=True)
class Guards:
    """The trained classifiers (one guard, both stages) and what is known of them. input: the guard where it stands in front, or None."""

    guard: Guard
    input: Guard | None
    measurements: list[Measurement]
    section: Section
    ordinary: dict[str, list[Example]]  # the corpus pool they also learnt from, by its hash


def run(ctx: Context, prompts: StageResult) -> tuple[StageResult, Guards]:
    plan = ctx.project.guard
    names = ("harmful-train", "benign-train", "task-train", "benign-threshold", "harmful-validation")
    sets = {name: load_samples(prompts, name) for name in names}
    sets = {
        "harmful-train": sets["harmful-train"][: plan.n_harmful],
        "benign-train": sets["benign-train"][: plan.n_benign // 2],
        "task-train": sets["task-train"][: plan.n_benign // 2],
        "benign-threshold": sets["benign-threshold"],
        "harmful-validation": sets["harmful-validation"],
    }
    settings = GuardSettings(fpr_budget=plan.fpr_budget)
    pool = ordinary(plan.n_ordinary)
    data = {name: digest_of(samples) for name, samples in sets.items()}
    pool_hash = digest([e.model_dump(mode="json") for e in pool])
    inputs = {
        "ordinary": pool_hash,
        "model": ctx.base.identity(),
        "examples": {c.id: c.digest for c in ctx.constitution.clauses if c.harmful or c.harmless},
        "samples": data,
        "settings": settings.model_dump(mode="json"),
        "seed": ctx.project.seed,
        "threads": ctx.project.threads,
    }

    def make(work: Path) -> dict[str, Any]:
        chat = ctx.journalled(ctx.base, "replies to learn from")
        taught = [s for name in ("harmful-train", "benign-train", "task-train") for s in sets[name]]
        fit: list[Example] = [*taught, *_replies(ctx, chat, taught), *pool]
        spared = sets["benign-threshold"]
        honest: list[Example] = [*spared, *_replies(ctx, chat, spared)]
        guard, found = train_guard(
            fit, ctx.constitution, seed=ctx.project.seed, settings=settings, threshold_examples=honest
        )
        told = _leaks(ctx, chat, sets["harmful-validation"])
        moved: dict[Stage, float] = {
            "input": halfway(guard, found.thresholds["input"].value, [prompt for prompt, _ in told]),
            "output": halfway(guard, found.thresholds["output"].value, [said for _, said in told]),
        }
        guard = guard.at(moved)
        guard.save(work / "guard")
        return {
            "guard": guard.identity(),
            "counts": found.counts,
            "thresholds": {k: {**t.model_dump(), "value": moved[k]} for k, t in found.thresholds.items()},
            "gains": _gains(guard, told),
        }

    done = ctx.store.stage("guard", inputs, make)
    thresholds = {stage: Threshold.model_validate(t) for stage, t in done.summary["thresholds"].items()}
    subject = ctx.subject(guard=done.summary["guard"])
    gains, guard = done.summary["gains"], Guard.load(done.path / "guard")
    in_front = gains["leaks"] > 0 and gains["only_input"] >= plan.input_gain * gains["leaks"]
    about: dict[str, Any] = {"subject": subject, "seeds": (ctx.project.seed,)}
    found = _measurements(thresholds, {**about, "data": data["benign-threshold"]})
    found += _stopped(gains, {**about, "data": data["harmful-validation"]})
    section = _section(thresholds, in_front, plan.input_gain)
    return done, Guards(guard, guard if in_front else None, found, section, {pool_hash: pool} if pool else {})


def _stopped(gains: dict[str, int], about: dict[str, Any]) -> list[Measurement]:
    return [
        proportion(f"guard.{name}", [i < gains[key] for i in range(gains["leaks"])], **about)
        for name, key in (
            ("input.stopped", "input"),
            ("output.stopped", "output"),
            ("input.stopped_alone", "only_input"),
        )
    ]


def ordinary(n: int) -> list[Example]:
    """Honest requests and replies from the shipped written corpus, the same for every constitution.

    Constitutional Classifiers hold refusals down with a fixed benign set; without one a linear classifier takes ordinary words that a
    few topics never used ("watch", "charge") for signs of harm.
    """
    requests = [s for s in assistant.samples("train") if s.label == "benign"]
    replies = [e for e in assistant.exchanges("train") if e.meta["label"] == "benign"]
    return [*requests[:: max(1, len(requests) // n)][:n], *replies[:: max(1, len(replies) // n)][:n]] if n else []


def _leaks(ctx: Context, chat: Chat, samples: Sequence[Sample]) -> list[tuple[Exchange, Exchange]]:
    """(the prompt, the prompt with its reply) of every forbidden request that the unaligned model answers."""
    replies = chat.generate([s.messages for s in samples], Sampling(max_new_tokens=REPLY_TOKENS, seed=ctx.project.seed))
    return [
        (Exchange(messages=s.messages, completion=""), Exchange(messages=s.messages, completion=c.text))
        for s, c in zip(samples, replies, strict=True)
        if c.text and grade(revealed(s.rubric, c.text, s.prompt)).success
    ]


def halfway(guard: Guard, certified: float, leaks: Sequence[Exchange]) -> float:
    """The middle, in log-odds, between the certified threshold and the lowest leak (but for 2%) that it stops.

    No lower than the certified threshold, so what was certified still holds.
    """
    stopped = sorted(v.score for v in guard.score(leaks) if v.flagged)
    if not stopped:
        return certified
    lowest = max(certified, stopped[len(stopped) // 50])
    low, high = (math.log(min(max(p, 1e-9), 1 - 1e-9) / (1 - min(max(p, 1e-9), 1 - 1e-9))) for p in (certified, lowest))
    return max(certified, sigmoid((low + high) / 2))


def _gains(guard: Guard, leaks: Sequence[tuple[Exchange, Exchange]]) -> dict[str, int]:
    """How many of the leaks each classifier stops, and the input classifier alone."""
    asked = [v.flagged for v in guard.score([prompt for prompt, _ in leaks])]
    said = [v.flagged for v in guard.score([answer for _, answer in leaks])]
    only_input = sum(a and not b for a, b in zip(asked, said, strict=True))
    return {"leaks": len(leaks), "input": sum(asked), "output": sum(said), "only_input": only_input}


def _replies(ctx: Context, chat: Chat, samples: Sequence[Sample]) -> list[Exchange]:
    """What the unaligned model says, labelled as the prompt is; a reply without text teaches nothing and is left out."""
    found = chat.generate([s.messages for s in samples], Sampling(max_new_tokens=REPLY_TOKENS, seed=ctx.project.seed))
    return [
        reply(s.messages, c.text, s.label, clause=s.clause, group=s.group, family=s.family)
        for s, c in zip(samples, found, strict=True)
        if c.text
    ]


def _measurements(thresholds: dict[str, Threshold], about: dict[str, Any]) -> list[Measurement]:
    found = []
    for stage, t in thresholds.items():
        outcomes = [True] * t.n_flagged + [False] * (t.n_benign - t.n_flagged)
        found += [
            scalar(f"guard.{stage}.threshold", t.value, t.n_benign, unit="score", **about),
            proportion(f"guard.{stage}.benign_flagged", outcomes, higher_is_better=False, note=t.sentence(), **about),
            scalar(
                f"guard.{stage}.benign_bound", t.upper_bound, t.n_benign, unit="share", higher_is_better=False, **about
            ),
        ]
    return found


def _section(thresholds: dict[str, Threshold], in_front: bool, gain: float) -> Section:
    labels = {
        "threshold": ("Threshold", "score from which on it flags"),
        "benign_flagged": ("Honest samples flagged", "on topics the classifier was not fitted on"),
        "benign_bound": (
            "Certified bound",
            "one-sided 95% Clopper-Pearson upper bound on the share of such traffic flagged",
        ),
    }
    certificates = " ".join(f"The {stage} classifier {t.sentence()}." for stage, t in thresholds.items())
    place = (
        "Both stand guard."
        if in_front
        else f"Only the output classifier stands guard: the input classifier stops fewer than {gain:.0%} of leaks beyond it."
    )
    return Section(
        title="Constitutional classifiers",
        about=f"Linear classifiers on hashed word and character n-grams, judging replies as they stream. {certificates} {place}",
        metrics=tuple(
            Metric(metric=f"guard.{stage}.{name}", label=f"{label}, {stage}", about=about)
            for stage in thresholds
            for name, (label, about) in labels.items()
        ),
    )
