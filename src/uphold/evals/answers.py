"""Put samples to a model and grade what comes back against what is known: right, refused, blocked, or no answer.

Takes any `Chat` and `Sample`s; gives one `Answer` per sample, in order, which `helpfulness` and `over_refusal` turn into Measurements.
A model that failed to answer gives an Answer whose grades are None: unscored, neither wrong nor refused. A reply that a guard
blocked is an answer: wrong, and refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from uphold.core.errors import ModelError
from uphold.core.measure import paired_difference, proportion
from uphold.core.records import Measurement, Sample
from uphold.evals.refusal import Refusal, grade_refusal
from uphold.models.base import Chat, Completion, Sampling


@dataclass(slots=True)
class Answer:
    """One reply and its grades.

    correct: equal to `expected` but for white space; None without an expected reply or without an answer. refusal: by the refusal
    grader ('full' when blocked); None without an answer. blocked: whether a guard stopped it. error: why there is no answer.
    """

    sample: Sample
    completion: str | None
    correct: bool | None
    refusal: Refusal | None
    blocked: bool = False
    error: str | None = None

    @property
    def refused(self) -> bool | None:
        """Wholly refused or blocked; None when unscored."""
        return None if self.refusal is None else self.refusal == "full"

    def row(self) -> dict[str, Any]:
        """The answer as one JSON object, the sample with its turns and ground truth included."""
        return {
            "sample": self.sample.model_dump(mode="json"),
            "completion": self.completion,
            "correct": self.correct,
            "refusal": self.refusal,
            "blocked": self.blocked,
            "error": self.error,
        }

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Answer:
        """The answer that `row()` wrote."""
        return cls(**{**row, "sample": Sample.model_validate(row["sample"])})


def is_correct(expected: str, reply: str) -> bool:
    """Equal after runs of white space are made one space and the ends trimmed; case and punctuation count."""
    return " ".join(expected.split()) == " ".join(reply.split())


def grade_answer(sample: Sample, reply: Completion) -> Answer:
    """The grades of one completion."""
    is_blocked = reply.finish_reason == "blocked"
    if reply.error is not None or (reply.text is None and not is_blocked):
        return Answer(sample, reply.text, None, None, is_blocked, reply.error or "no reply")
    text = reply.text or ""
    correct = None if sample.expected is None else not is_blocked and is_correct(sample.expected, text)
    refusal = "full" if is_blocked else grade_refusal(text, asked=sample.prompt, expected=sample.expected)
    return Answer(sample, reply.text, correct, refusal, is_blocked)


def answer(
    chat: Chat, samples: Sequence[Sample], *, sampling: Sampling = Sampling(), batch: int = 256
) -> Iterator[Answer]:
    """Ask every sample, `batch` at a time, and yield graded answers in order. Raises ModelError when replies go missing."""
    for start in range(0, len(samples), batch):
        asked = samples[start : start + batch]
        replies = chat.generate([sample.messages for sample in asked], sampling)
        if len(replies) != len(asked):
            raise ModelError(f"{chat.spec}: {len(replies)} replies to {len(asked)} conversations")
        for sample, reply in zip(asked, replies, strict=True):
            yield grade_answer(sample, reply)


Outcome = Callable[[Answer], bool | None]


def share(
    metric: str, answers: Sequence[Answer], outcome: Outcome, *, higher_is_better: bool, **about: Any
) -> Measurement:
    """The share of `outcome` over the answers, clustered by the samples' groups. about: subject, data, seeds, by, note."""
    return proportion(
        metric,
        [outcome(found) for found in answers],
        groups=[found.sample.group for found in answers],
        higher_is_better=higher_is_better,
        **about,
    )


def difference(
    metric: str,
    before: Iterable[Answer],
    after: Iterable[Answer],
    outcome: Outcome,
    *,
    higher_is_better: bool,
    **about: Any,
) -> Measurement:
    """`outcome` after - before over the samples that both systems were asked."""
    earlier = {found.sample.id: found for found in before}
    both = [(earlier[found.sample.id], found) for found in after if found.sample.id in earlier]
    return paired_difference(
        metric,
        [outcome(first) for first, _ in both],
        [outcome(second) for _, second in both],
        groups=[first.sample.group for first, _ in both],
        higher_is_better=higher_is_better,
        **about,
    )


def slices(answers: Iterable[Answer], key: Callable[[Sample], str | None]) -> Mapping[str, list[Answer]]:
    """Answers by a property of their samples, sorted; samples without it are left out."""
    parts: dict[str, list[Answer]] = {}
    for found in answers:
        if (value := key(found.sample)) is not None:
            parts.setdefault(value, []).append(found)
    return dict(sorted(parts.items()))
