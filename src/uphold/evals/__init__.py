"""Evals: helpfulness, over-refusal, and the refusal grader they stand on."""

from uphold.evals.answers import Answer, answer, grade_answer, is_correct
from uphold.evals.helpfulness import helpfulness, helpfulness_by_task, helpfulness_difference
from uphold.evals.over_refusal import (
    over_refusal,
    over_refusal_by_category,
    over_refusal_difference,
    partial_refusal,
)
from uphold.evals.refusal import Refusal, grade_refusal

__all__ = [
    "Answer",
    "Refusal",
    "answer",
    "grade_answer",
    "grade_refusal",
    "helpfulness",
    "helpfulness_by_task",
    "helpfulness_difference",
    "is_correct",
    "over_refusal",
    "over_refusal_by_category",
    "over_refusal_difference",
    "partial_refusal",
]
