"""Helpfulness: the share of tasks answered exactly right.

Takes the answers of `evals.answers` to samples that carry an expected reply. Exact match leaves nothing to a judge; it fits the
built-in world and tasks with one right answer. A blocked reply is a wrong one. Left out: samples without an expected reply.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from uphold.core.records import Measurement
from uphold.evals.answers import Answer, difference, share, slices

METRIC = "helpfulness"


def _with_expected(answers: Sequence[Answer]) -> list[Answer]:
    return [found for found in answers if found.sample.expected is not None]


def _correct(found: Answer) -> bool | None:
    return found.correct


def helpfulness(answers: Sequence[Answer], **about: Any) -> Measurement:
    """Share answered exactly right, over samples with an expected reply; higher is better."""
    return share(METRIC, _with_expected(answers), _correct, higher_is_better=True, **about)


def helpfulness_by_task(answers: Sequence[Answer], **about: Any) -> dict[str, Measurement]:
    """The same for each task, where `Sample.meta['task']` names one."""
    parts = slices(_with_expected(answers), lambda sample: sample.meta.get("task"))
    return {task: helpfulness(part, **about, by={"task": task}) for task, part in parts.items()}


def helpfulness_difference(before: Sequence[Answer], after: Sequence[Answer], **about: Any) -> Measurement:
    """after - before on the same samples."""
    return difference(METRIC, _with_expected(before), _with_expected(after), _correct, higher_is_better=True, **about)
