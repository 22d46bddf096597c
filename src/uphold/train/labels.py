"""AI preference labels: which of two replies keeps a clause better, asked in both orders.

Takes pairs of replies and a judge; gives one `Comparison` each, with the probability that the first reply is the better one. A judge
whose weights are here is read by the normalised log-probabilities of the options A and B (Constitutional AI, arXiv:2212.08073,
section 4.1); any other model is asked in words, and an answer that names neither option, or both, is unscored. Every pair is asked
twice with the replies swapped, and the two answers are averaged, so a judge that likes the letter A prefers nothing. Two options are
the paper's: an ensemble over several clauses, whose answers are averaged, and chain of thought, where the judge reasons before it
answers and its probabilities, then nearly always 0 or 1, are clamped to [0.4, 0.6]. Left out: voting between judges (`critics.py`
mixes them).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from uphold.constitution import requests
from uphold.core.errors import DataError
from uphold.core.records import Label, Message, Preference, Record, Sample
from uphold.core.seeds import derive
from uphold.models.base import Chat, Sampling, Weights
from uphold.train.critique import clause_for, forbidding

if TYPE_CHECKING:
    from uphold.constitution import Clause, Constitution

CHUNK = 128  # comparisons per call of `choose`: what a killed run has to ask again at most
Outcome = Literal["kept", "tie", "identical", "unscored"]


@dataclass(frozen=True, slots=True)
class Asking:
    """How a judge is asked. n_clauses: clauses each pair is held against. chain_of_thought: reason first, for at most `max_new_tokens`.

    clamp: half-width around 0.5 that a label keeps after chain of thought (0.1: the paper's 40 to 60%).
    """

    n_clauses: int = 1
    chain_of_thought: bool = False
    clamp: float = 0.1
    max_new_tokens: int = 256


@dataclass(frozen=True, slots=True)
class Pair:
    """Two replies to a sample's prompt. is_contrast: the second was given to another prompt."""

    sample: Sample
    first: str
    second: str
    is_contrast: bool = False


def is_same(first: str, second: str) -> bool:
    """Whether two replies are equal but for white space."""
    return first.split() == second.split()


class Comparison(Record):
    """A pair and what the judge made of it.

    p_first_shown_first, p_first_shown_second: probability that `first` is better, when it was A and when it was B, averaged over
    the clauses asked about; None when the judge gave no answer. p_first: their mean, None unless both are there.
    """

    sample: str
    group: str
    label: Label
    clause: str
    clause_digest: str
    messages: tuple[Message, ...]
    first: str
    second: str
    is_contrast: bool = False
    p_first_shown_first: float | None = None
    p_first_shown_second: float | None = None
    outcome: Outcome

    @property
    def p_first(self) -> float | None:
        if self.p_first_shown_first is None or self.p_first_shown_second is None:
            return None
        return (self.p_first_shown_first + self.p_first_shown_second) / 2

    @property
    def orders_agree(self) -> bool | None:
        """Whether both orders prefer the same reply; None when one of them was not answered."""
        if self.p_first_shown_first is None or self.p_first_shown_second is None:
            return None
        return (self.p_first_shown_first > 0.5) == (self.p_first_shown_second > 0.5)

    def preference(self) -> Preference:
        """The pair as a training datum with a soft label; only for a comparison that was kept."""
        p = self.p_first
        assert p is not None
        chosen, rejected = (self.first, self.second) if p >= 0.5 else (self.second, self.first)
        return Preference(
            messages=self.messages,
            chosen=chosen,
            rejected=rejected,
            p_chosen=max(p, 1 - p),
            clause=self.clause,
            meta={"sample": self.sample, "label": self.label, "clause_digest": self.clause_digest},
        )


def compare_pairs(
    judge: Callable[[str], Chat],
    constitution: Constitution,
    pairs: Sequence[Pair],
    *,
    seed: int,
    tie_margin: float,
    benign_clauses: Sequence[str] = (),
    asking: Asking = Asking(),
) -> list[Comparison]:
    """One comparison per pair, in order. judge: gives the model to ask, for a label of what it is asked.

    A pair is compared under its sample's own clause where it has one; else, for a benign sample, under one of `benign_clauses`
    (ids; by default the obliging clauses without a category, such as one that asks for help), and for a harmful one under one that
    forbids; drawn by seed and sample; further clauses of an ensemble are drawn in the same way. Identical replies are not asked
    about. tie_margin: |p - 0.5| below which a pair is a tie.
    """
    harmful_clauses = forbidding(constitution)
    for_benign = _benign_clauses(constitution, benign_clauses) or harmful_clauses
    clauses = [
        _clauses_for(constitution, p, seed, harmful_clauses if p.sample.label == "harmful" else for_benign, asking)
        for p in pairs
    ]
    asked = [i for i, p in enumerate(pairs) if not is_same(p.first, p.second)]
    questions = [
        (clause, pairs[i].sample.messages, *replies)
        for i in asked
        for clause in clauses[i]
        for replies in ((pairs[i].first, pairs[i].second), (pairs[i].second, pairs[i].first))
    ]
    answers = iter(_answers(judge, questions, asking))
    found: dict[int, tuple[float | None, float | None]] = {}
    for i in asked:
        shown_first, shown_second = [], []
        for _ in clauses[i]:
            shown_first.append(next(answers))
            second = next(answers)
            shown_second.append(None if second is None else 1 - second)
        found[i] = mean_of(shown_first), mean_of(shown_second)
    return [
        _comparison(pair, of[0], found.get(i), tie_margin)
        for i, (pair, of) in enumerate(zip(pairs, clauses, strict=True))
    ]


def _clauses_for(
    constitution: Constitution, pair: Pair, seed: int, among: Sequence[Clause], asking: Asking
) -> list[Clause]:
    """The clauses a pair is held against, its own first; fewer than asked for where there are no more."""
    found = [clause_for(constitution, pair.sample, 0, seed, among)]
    others = [c for c in among if c.id != found[0].id]
    n = min(asking.n_clauses - 1, len(others))
    return found + [others.pop(derive(seed, "ensemble", pair.sample.id, turn) % len(others)) for turn in range(n)]


def mean_of(shares: Sequence[float | None]) -> float | None:
    """Mean of the answers given; None when none was."""
    given = [p for p in shares if p is not None]
    return sum(given) / len(given) if given else None


Question = tuple["Clause", Sequence[Message], str, str]  # clause, conversation, reply A, reply B


def _answers(judge: Callable[[str], Chat], questions: Sequence[Question], asking: Asking) -> list[float | None]:
    """Probability that reply A is the better one, per question."""
    if not asking.chain_of_thought:
        return p_of_a(judge("comparisons"), [requests.compare(*q) for q in questions])
    first = [requests.reason(*q) for q in questions]
    thoughts = judge("reasoning").generate(first, Sampling(max_new_tokens=asking.max_new_tokens))
    thought = [i for i, c in enumerate(thoughts) if c.text is not None]
    p = p_of_a(judge("comparisons"), [requests.concluded(first[i], thoughts[i].text or "") for i in thought])
    low, high = 0.5 - asking.clamp, 0.5 + asking.clamp
    clamped = {i: None if a is None else min(high, max(low, a)) for i, a in zip(thought, p, strict=True)}
    return [clamped.get(i) for i in range(len(questions))]


def _benign_clauses(constitution: Constitution, ids: Sequence[str]) -> list[Clause]:
    if ids:
        return [constitution.clause(id) for id in ids]
    return [c for c in constitution.clauses if c.category is None and c.modality != "may"]


def _comparison(
    pair: Pair, clause: Clause, found: tuple[float | None, float | None] | None, tie_margin: float
) -> Comparison:
    first, second = found or (None, None)
    outcome: Outcome = "kept"
    if found is None:
        outcome = "identical"
    elif first is None or second is None:
        outcome = "unscored"
    elif abs((first + second) / 2 - 0.5) < tie_margin:
        outcome = "tie"
    return Comparison(
        sample=pair.sample.id,
        group=pair.sample.group,
        label=pair.sample.label,
        clause=clause.id,
        clause_digest=clause.digest,
        messages=pair.sample.messages,
        first=pair.first,
        second=pair.second,
        is_contrast=pair.is_contrast,
        p_first_shown_first=first,
        p_first_shown_second=second,
        outcome=outcome,
    )


def p_of_a(judge: Chat, conversations: Sequence[Sequence[Message]]) -> list[float | None]:
    """Probability of the option A per conversation; from a judge without weights 1 or 0. None for a conversation that the judge
    cannot read (longer than its context) or answers with neither option or both."""
    if isinstance(judge, Weights):
        chunks = (conversations[low : low + CHUNK] for low in range(0, len(conversations), CHUNK))
        return [p for chunk in chunks for p in _chosen(judge, chunk)]
    replies = judge.generate(conversations, Sampling(max_new_tokens=16))
    choices = [None if r.text is None else requests.parse_choice(r.text) for r in replies]
    return [None if choice is None else float(choice == requests.OPTIONS[0]) for choice in choices]


def _chosen(judge: Weights, conversations: Sequence[Sequence[Message]]) -> list[float | None]:
    try:
        return [float(p[0]) for p in judge.choose(conversations, requests.OPTIONS)]
    except DataError:  # one of them cannot be read: find out which, and leave that one unscored
        if len(conversations) == 1:
            return [None]
        return [p for conversation in conversations for p in _chosen(judge, [conversation])]
