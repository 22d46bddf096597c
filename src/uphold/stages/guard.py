"""Stage `guard`: input and output classifiers, from data synthesised under the constitution alone.

Prompts of both classes come from the source (training topics, families that may be trained on), replies to them from the unaligned
model: what it says to forbidden requests is what the output classifier must stop. Thresholds are set on honest prompts about topics
that neither classifier was fitted on, for the stated budget, with a Clopper-Pearson bound.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uphold.core.measure import proportion, scalar
from uphold.core.records import Exchange, Measurement, Sample
from uphold.core.store import StageResult
from uphold.evidence.inputs import Metric, Section
from uphold.guard import Guard
from uphold.guard.examples import Example, reply
from uphold.guard.threshold import Threshold
from uphold.guard.train import GuardSettings, train_guard
from uphold.models import Chat, Sampling
from uphold.stages.context import Context, digest_of, load_samples

REPLY_TOKENS = 96


@dataclass(frozen=True)
class Guards:
    """The trained classifiers (one guard, both stages) and what is known of their thresholds."""

    guard: Guard
    measurements: list[Measurement]
    section: Section


def run(ctx: Context, prompts: StageResult) -> tuple[StageResult, Guards]:
    plan = ctx.project.guard
    names = ("harmful-train", "benign-train", "task-train", "benign-threshold")
    sets = {name: load_samples(prompts, name) for name in names}
    sets = {
        "harmful-train": sets["harmful-train"][: plan.n_harmful],
        "benign-train": sets["benign-train"][: plan.n_benign // 2],
        "task-train": sets["task-train"][: plan.n_benign // 2],
        "benign-threshold": sets["benign-threshold"],
    }
    settings = GuardSettings(fpr_budget=plan.fpr_budget)
    inputs = {
        "model": ctx.base.identity(),
        "examples": {c.id: c.digest for c in ctx.constitution.clauses if c.harmful or c.harmless},
        "samples": {name: digest_of(samples) for name, samples in sets.items()},
        "settings": settings.model_dump(mode="json"),
        "seed": ctx.project.seed,
        "threads": ctx.project.threads,
    }

    def make(work: Path) -> dict[str, Any]:
        chat = ctx.journalled(ctx.base, "replies to learn from")
        fit: list[Example] = [
            *(s for name in names[:3] for s in sets[name]),
            *(r for name in names[:3] for r in _replies(ctx, chat, sets[name])),
        ]
        honest: list[Example] = [*sets["benign-threshold"], *_replies(ctx, chat, sets["benign-threshold"])]
        guard, found = train_guard(
            fit, ctx.constitution, seed=ctx.project.seed, settings=settings, threshold_examples=honest
        )
        guard.save(work / "guard")
        return {
            "guard": found.identity,
            "counts": found.counts,
            "thresholds": {k: t.model_dump() for k, t in found.thresholds.items()},
        }

    done = ctx.store.stage("guard", inputs, make)
    thresholds = {stage: Threshold.model_validate(t) for stage, t in done.summary["thresholds"].items()}
    subject = ctx.subject(guard=done.summary["guard"])
    return done, Guards(
        Guard.load(done.path / "guard"), _measurements(thresholds, subject, ctx.project.seed), _section(thresholds)
    )


def _replies(ctx: Context, chat: Chat, samples: Sequence[Sample]) -> list[Exchange]:
    """What the unaligned model says, labelled as the prompt is; a reply without text teaches nothing and is left out."""
    found = chat.generate([s.messages for s in samples], Sampling(max_new_tokens=REPLY_TOKENS, seed=ctx.project.seed))
    return [
        reply(s.messages, c.text, s.label, clause=s.clause, group=s.group, family=s.family)
        for s, c in zip(samples, found, strict=True)
        if c.text
    ]


def _measurements(thresholds: dict[str, Threshold], subject: dict[str, str], seed: int) -> list[Measurement]:
    found = []
    for stage, t in thresholds.items():
        outcomes = [True] * t.n_flagged + [False] * (t.n_benign - t.n_flagged)
        about: dict[str, Any] = {"subject": subject, "seeds": (seed,), "data": "benign-threshold"}
        found += [
            scalar(f"guard.{stage}.threshold", t.value, t.n_benign, unit="score", **about),
            proportion(f"guard.{stage}.benign_flagged", outcomes, higher_is_better=False, note=t.sentence(), **about),
            scalar(
                f"guard.{stage}.benign_bound", t.upper_bound, t.n_benign, unit="share", higher_is_better=False, **about
            ),
        ]
    return found


def _section(thresholds: dict[str, Threshold]) -> Section:
    labels = {
        "threshold": ("Threshold", "score from which on it flags"),
        "benign_flagged": ("Honest samples flagged", "on topics the classifier was not fitted on"),
        "benign_bound": (
            "Certified bound",
            "one-sided 95% Clopper-Pearson upper bound on the share of such traffic flagged",
        ),
    }
    certificates = " ".join(f"The {stage} classifier {t.sentence()}." for stage, t in thresholds.items())
    return Section(
        title="Constitutional classifiers",
        about=f"Linear classifiers on hashed word and character n-grams, judging replies as they stream. {certificates}",
        metrics=tuple(
            Metric(metric=f"guard.{stage}.{name}", label=f"{label}, {stage}", about=about)
            for stage in thresholds
            for name, (label, about) in labels.items()
        ),
    )
