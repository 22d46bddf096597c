"""Best of n on questions with known answers: what rewards pick, what a majority vote picks, and how they compare, paired by question.

Takes replies to each question (`goodhart.curve.draw`) and any `Reward`; gives shares right with intervals for every n, and differences on
the same questions and the same first n replies. A reply is scored once, however often it was drawn. `right_of` asks whether the answer is
right, not the way to it. Left out: the estimator over all subsets of n (`goodhart.curve.best_of`), which a vote does not have.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from uphold.core import measure
from uphold.core.errors import DataError
from uphold.core.records import Exchange, Measurement, Sample
from uphold.train.process.choose import best_of, majority
from uphold.train.process.steps import answer_of, is_right
from uphold.train.rewards import Reward, Scores

VOTE, ANY = "majority", "any right"
Outcomes = dict[int, dict[str, list[bool]]]
"""n -> method -> whether its pick is right, by question."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """Questions with their replies, equally many each, in the order they were drawn."""

    samples: Sequence[Sample]
    replies: Sequence[Sequence[str]]

    def __post_init__(self) -> None:
        counts = {len(of) for of in self.replies}
        if len(self.samples) != len(self.replies) or len(counts) != 1 or 0 in counts:
            raise DataError("best of n needs questions with equally many replies each, one or more.")

    def right(self) -> list[list[bool]]:
        return [[is_right(s, r) for r in of] for s, of in zip(self.samples, self.replies, strict=True)]

    def distinct(self) -> list[tuple[Sample, str]]:
        return [(s, r) for s, of in zip(self.samples, self.replies, strict=True) for r in sorted(set(of))]

    def scores(self, reward: Reward) -> list[Scores]:
        """The reward of every reply, by question."""
        asked = self.distinct()
        found = reward.score([Exchange(messages=s.messages, completion=r) for s, r in asked])
        known = {(s.id, r): score for (s, r), score in zip(asked, found, strict=True)}
        return [[known[s.id, r] for r in of] for s, of in zip(self.samples, self.replies, strict=True)]


def outcomes(drawn: Drawn, scored: Mapping[str, Sequence[Scores]], ns: Sequence[int]) -> Outcomes:
    """Whether each method's pick among the first n is right; a method that picks nothing (all unscored) is wrong.

    scored: name -> scores by question (`Drawn.scores`). The vote and whether any of the n is right stand beside them.
    """
    right = drawn.right()
    answers = [[answer_of(r) for r in of] for of in drawn.replies]
    found: Outcomes = {}
    for n in ns:
        picks = {name: [best_of(of, n) for of in scores] for name, scores in scored.items()}
        picks[VOTE] = [majority(of, n) for of in answers]
        found[n] = {
            name: [at is not None and of[at] for at, of in zip(ats, right, strict=True)] for name, ats in picks.items()
        }
        found[n][ANY] = [any(of[:n]) for of in right]
    return found


def compared(
    found: Outcomes, groups: Sequence[Hashable] | None = None, **about: Any
) -> dict[int, dict[str, Measurement]]:
    """n -> shares right by method, and the differences of each method from the next one, on the same questions ("prm - orm").

    groups: what repeats across questions, as in `measure.proportion`; about: seeds, data, subject of every Measurement.
    """
    result = {}
    for n, by_method in found.items():
        of = {"by": {"n": str(n)}, "groups": groups, **about}
        result[n] = {name: measure.proportion(f"right by {name}", hits, **of) for name, hits in by_method.items()}
        methods = [name for name in by_method if name != ANY]
        pairs = [*pairwise(methods), *([(methods[0], methods[-1])] if len(methods) > 2 else [])]
        for better, worse in pairs:
            name = f"{better} - {worse}"
            result[n][name] = measure.paired_difference(name, by_method[worse], by_method[better], **of)
    return result


def joined(runs: Sequence[Outcomes]) -> Outcomes:
    """Several runs' outcomes behind each other (the questions of one run, then those of the next)."""
    return {n: {name: [hit for run in runs for hit in run[n][name]] for name in runs[0][n]} for n in runs[0]}
