"""A request on its way to a row, and the row it becomes: labels, clause, group, split and provenance in one JSON object.

Made by `run.py` of what a generator or a source gave; written by `finish.py` once replies and labels are there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from uphold.constitution import Clause
from uphold.core.records import Label, Message, Sample, digest
from uphold.core.seeds import split_of
from uphold.data.synth.plan import Ask
from uphold.data.synth.templates import Template

SHARES = {"train": 0.8, "validation": 0.2}
Turns = tuple[Message, ...]


@dataclass(frozen=True)
class Candidate:
    """A request on its way to a row. number: its place in the index of near-duplicates, -1 outside it. beside: the row it twins."""

    ask: Ask
    messages: Turns
    template: Template | None
    topic: tuple[str, ...] = ()
    attempt: int = 0
    number: int = -1
    twin_of: Candidate | None = None
    sample: Sample | None = None

    @property
    def id(self) -> str:
        return digest([self.ask.clause, [m.model_dump() for m in self.messages]])[:16]

    @property
    def asked(self) -> str:
        return "\n".join(m.content for m in self.messages if m.role == "user")


def row_of(
    candidate: Candidate,
    rule: Clause | None,
    reply: str,
    labels: tuple[Label | None, Label | None],
    made: dict[str, Any],
) -> dict[str, Any]:
    """The row of a candidate. labels: the judge's, of the request and of the reply. made: who made it, for its provenance."""
    ask, sample, of, template = candidate.ask, candidate.sample, candidate.twin_of, candidate.template
    row: dict[str, Any] = {"id": candidate.id, "prompt": candidate.messages[-1].content}
    if len(candidate.messages) > 1:
        row["turns"] = [m.model_dump() for m in candidate.messages]
    group = sample.group if sample else of.id if of else candidate.id
    row |= {
        "reply": reply,
        "label": ask.label,
        "judge_label": labels[0],
        "reply_label": labels[1],
        "clause": rule.id if rule else None,
        "category": sample.category if sample else rule.category if rule else None,
        "lang": ask.lang,
        "kind": "request" if ask.label == "harmful" else "twin" if ask.form == "twin" else "near_miss",
        "register": ask.register,
        "difficulty": ask.difficulty,
        "group": group,
        "split": split_of(group, SHARES, "synthetic"),
        "topic": list(candidate.topic),
    }
    if sample:
        row |= {"expected": sample.expected, "rubric": list(sample.rubric)}
    row["provenance"] = {
        "clause": rule.id if rule else None,
        "clause_digest": rule.digest if rule else None,
        "template": template.name if template else None,
        "template_digest": template.digest if template else None,
        **made,
        "ask": ask.number,
        "attempt": candidate.attempt,
    }
    return row
