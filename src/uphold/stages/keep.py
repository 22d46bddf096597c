"""What a run keeps beside its numbers: every transcript, and which samples were learnt from and which were measured on.

Transcripts go into packs (`evidence.transcripts`), one a stage and in the order of its rows, so that the card's excerpts and whoever
audits the run can point at them. Sets of samples are declared in the ledger (`evidence.facts`) by their hash and by the hash of each
sample's turns, so that a policy's `independent: [training]` can be judged without anybody declaring anything by hand.
Left out: what the model as given was trained on, which nobody here knows; and transcripts of training, which lie in its stages.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from uphold.core.records import Message, Sample, digest
from uphold.core.store import StageResult
from uphold.evals.answers import Answer
from uphold.evidence.facts import Use, declare_data
from uphold.evidence.ledger import Ledger
from uphold.evidence.transcripts import Transcripts
from uphold.guard.operator import Asked
from uphold.models import Completion
from uphold.redteam import Attempt
from uphold.stages.context import Context, digest_of, load_samples
from uphold.stages.measure import Measured

LEARNT_FROM = ("harmful-train", "benign-train", "task-train", "benign-threshold", "harmful-validation")
"""the last two set the guard's thresholds, which is learning too"""
MEASURED_ON = ("harmful-test", "benign-test", "task-test")
_ID_CHARS = 16


@dataclass(frozen=True)
class Kept:
    """Commitments of one system's transcripts: of attempts, of answers to honest requests and of answers to tasks, row by row."""

    attempts: tuple[str, ...]
    benign: tuple[str, ...]
    tasks: tuple[str, ...]


def transcripts(ctx: Context, measured: Measured) -> Kept:
    """Keep what one system was asked and answered; the same again adds nothing."""
    packs = Transcripts(ctx.store.folder)
    attacked = packs.put(f"attack-{measured.key}", (_attempt(measured.key, a) for a in measured.attempts))
    asked = [
        *_answers(measured.key, "benign-test", measured.benign),
        *_answers(measured.key, "task-test", measured.tasks),
    ]
    answered = packs.commitments(packs.put(f"answers-{measured.key}", asked))
    n = len(measured.benign)
    return Kept(packs.commitments(attacked), answered[:n], answered[n:])


def endpoint(ctx: Context, asked: Sequence[Asked]) -> tuple[str, ...]:
    """Keep what an endpoint was asked; two commitments a prompt: without the guard, and with it."""
    packs = Transcripts(ctx.store.folder)
    both = (
        row
        for one in asked
        for row in (_asked("unguarded", one.sample, one.plain), _asked("guarded", one.sample, one.guarded))
    )
    return packs.commitments(packs.put("endpoint", both))


def _attempt(system: str, attempt: Attempt) -> dict[str, Any]:
    return {"system": system, **attempt.row()}


def _answers(system: str, name: str, answers: Iterable[Answer]) -> Iterator[dict[str, Any]]:
    for a in answers:
        yield {
            **_about(system, a.sample),
            "set": name,
            "expected": a.sample.expected,
            "completion": a.completion,
            "correct": a.correct,
            "refusal": a.refusal,
            "blocked": a.blocked,
            "error": a.error,
        }


def _asked(system: str, sample: Sample, reply: Completion) -> dict[str, Any]:
    said = {"completion": reply.text, "finish_reason": reply.finish_reason, "error": reply.error}
    return {**_about(system, sample), "label": sample.label, **said}


def _about(system: str, sample: Sample) -> dict[str, Any]:
    turns = [{"role": m.role, "content": m.content} for m in sample.messages]
    return {
        "system": system,
        "sample": sample.id,
        "clause": sample.clause,
        "category": sample.category,
        "messages": turns,
    }


def data(ctx: Context, prompts: StageResult, more: Mapping[str, Sequence[Any]]) -> None:
    """Declare the run's sets of samples. more: further training sets (anything with `messages`), by a hash of the set."""
    made_by = f"source {ctx.project.source}"
    ledger = Ledger(ctx.store.folder)
    for name in (*LEARNT_FROM, *MEASURED_ON):
        samples = load_samples(prompts, name)
        use: Use = "training" if name in LEARNT_FROM else "evaluation"
        _declare(ledger, digest_of(samples), use, f"{made_by}, {name}", samples)
    for hash_, pool in more.items():
        _declare(ledger, hash_, "training", "the shipped corpus of ordinary requests", pool)


def given_data(ctx: Context, training: Sequence[Sample], measured: Mapping[str, Sequence[Sample]]) -> None:
    """Declare prompts that came from files. measured: samples by the hash that their measurements give as data."""
    ledger = Ledger(ctx.store.folder)
    _declare(ledger, digest_of(training), "training", "prompt files given to the run", training)
    for hash_, samples in measured.items():
        _declare(ledger, hash_, "evaluation", "prompt files given to the run, held out", samples)


def _declare(ledger: Ledger, hash_: str, use: Use, made_by: str, samples: Iterable[Any]) -> None:
    declare_data(ledger, hash_, use=use, made_by=made_by, samples=[asked_id(s.messages) for s in samples])


def asked_id(messages: Sequence[Message]) -> str:
    """What is the same for two samples that ask the same, whatever else is known of them: 16 hex digits over the turns."""
    return digest([{"role": m.role, "content": m.content} for m in messages])[:_ID_CHARS]
