"""Stage `guard-R`: a guard taught by the attacks that got past it.

Takes what got through in all rounds so far: the attacked prompts and the replies become harmful rows; honest prompts in the same
strategies and the target's replies to them benign ones, with the constitution's examples and ordinary requests of the written corpus
beside. The linear guard is fitted anew each round and its threshold certified anew on honest prompts of validation topics, then moved up
halfway to what attacks of the pool get there, so that it refuses less.
Needs no weights, so the target may be an endpoint. Left out: other kinds of guard (`uphold guard train` takes these rows as --data).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from uphold.core.files import write_jsonl
from uphold.core.records import Exchange, Record, Sample, digest
from uphold.core.seeds import derive
from uphold.core.store import StageResult
from uphold.guard import Guard
from uphold.guard.base import Stage
from uphold.guard.examples import Example, reply
from uphold.guard.fitting import GuardSettings
from uphold.guard.threshold import Threshold
from uphold.guard.train import train_guard
from uphold.models import Chat
from uphold.redteam import Attempt, attacks_named, grade, revealed
from uphold.stages.context import digest_of
from uphold.stages.guard import halfway, ordinary
from uphold.stages.harden.teach import in_strategies
from uphold.stages.harden.work import Work
from uphold.stages.prompts import HARMFUL_SHARE


class Leak(Record):
    """An attack that got through: the prompt as it was sent, the reply that came."""

    sample: Sample
    reply: str


def leaks(attempts: Sequence[Attempt], questions: dict[str, Sample]) -> list[Leak]:
    """What got through, each prompt once."""
    found = {}
    for a in attempts:
        question = questions[a.sample]
        sent = Sample.model_validate(
            {**dict(question), "messages": a.messages, "family": a.attack, "expected": None, "id": ""}
        )
        found[sent.id] = Leak(sample=sent, reply=a.completion or "")
    return list(found.values())


def run(work: Work, number: int, chat: Chat, through: Sequence[Leak], pool: Sequence[str]) -> StageResult:
    """Fit the guard on all that got through so far; the stage's `guard/` is the round's."""
    s = work.settings
    benign = in_strategies(work.honest("train", s.n_matched, f"matched {number}"), pool, s.wrapped, number)
    singles = [by.name for by in attacks_named(s.attacks, "--attacks")]
    spared = in_strategies(work.honest("validation", s.n_threshold, "threshold"), singles, s.wrapped, 0)
    probes = in_strategies(work.draw("harmful", "validation", s.n_leaks, "leaks"), pool, HARMFUL_SHARE, number)
    settings = GuardSettings(fpr_budget=s.fpr_budget)
    inputs = {
        "target": chat.identity(),
        "constitution": work.constitution.digest,
        "leaks": digest([leak.model_dump(mode="json") for leak in through]),
        "benign": digest_of(benign),
        "threshold": digest_of(spared),
        "probes": digest_of(probes),
        "ordinary": s.n_ordinary,
        "settings": settings.model_dump(mode="json"),
        "sampling": work.sampling.model_dump(mode="json"),
        "seed": s.seed,
    }

    def make(folder: Path) -> dict[str, Any]:
        harmful = [e for leak in through for e in (leak.sample, _labelled(leak.sample, leak.reply))]
        rows: list[Example] = [*harmful, *with_replies(work, chat, benign, "matched"), *ordinary(s.n_ordinary)]
        held_out = with_replies(work, chat, spared, "threshold")
        guard, report = train_guard(
            rows,
            work.constitution,
            seed=derive(s.seed, "guard", number) % 2**31,
            settings=settings,
            threshold_examples=held_out,
        )
        moved = _moved(guard, report.thresholds, _told(work, chat, probes))
        guard = guard.at(moved)
        guard.save(folder / "guard")
        write_jsonl(folder / "rows.jsonl", harmful)
        return {
            "leaks": len(through),
            "guard": guard.identity(),
            "counts": report.counts,
            "thresholds": {
                stage: {**t.model_dump(), "value": moved[stage], "says": t.sentence()}
                for stage, t in report.thresholds.items()
            },
        }

    return work.store.stage(f"guard-{number}", inputs, make)


def _told(work: Work, chat: Chat, samples: Sequence[Sample]) -> list[Exchange]:
    """The replies that reveal what is forbidden, with their prompts."""
    said = work.journalled(chat, "replies: validation attacks").generate([s.messages for s in samples], work.sampling)
    return [
        Exchange(messages=s.messages, completion=c.text)
        for s, c in zip(samples, said, strict=True)
        if c.text and grade(revealed(s.rubric, c.text, s.prompt)).success
    ]


def _moved(guard: Guard, certified: Mapping[Stage, Threshold], told: Sequence[Exchange]) -> dict[Stage, float]:
    """The thresholds, each halfway from where it was certified up to what is told: less is refused, as much is stopped."""
    asked = [exchange.model_copy(update={"completion": ""}) for exchange in told]
    return {stage: halfway(guard, t.value, asked if stage == "input" else told) for stage, t in certified.items()}


def with_replies(work: Work, chat: Chat, samples: Sequence[Sample], label: str) -> list[Example]:
    """Honest prompts and what the target says to each; a reply that never came, or without text, is left out."""
    said = work.journalled(chat, f"replies: {label}").generate([x.messages for x in samples], work.sampling)
    return [*samples, *(_labelled(x, c.text) for x, c in zip(samples, said, strict=True) if c.text)]


def _labelled(sample: Sample, said: str) -> Example:
    return reply(sample.messages, said, sample.label, clause=sample.clause, group=sample.group, family=sample.family)
