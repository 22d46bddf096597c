"""From requests to rows: the replies, a second judge's labels of both, and the writing.

Takes the `Candidate`s of a wave; a reply that is missing, empty or cut off costs its row and is counted; labels that the judge does not
give stay None. What the judge says never replaces the label that was asked for: rows keep both. Left out: choosing the requests (`run.py`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from uphold.constitution import Clause, Constitution
from uphold.constitution import requests as critiques
from uphold.core.progress import Bar
from uphold.core.records import Label
from uphold.data.synth.answers import problem_of, said_label
from uphold.data.synth.calls import Calls
from uphold.data.synth.candidate import Candidate, row_of
from uphold.data.synth.plan import Settings
from uphold.data.synth.rowfile import RowFile
from uphold.data.synth.templates import LABEL
from uphold.models.base import Chat, Completion, Sampling

_JUDGE = Sampling(max_new_tokens=256)
_NOT_ASKED = Completion(text="")


@dataclass
class Walk:
    """What is there and what was met on this walk through the plan.

    found_there: rows of an earlier run by id, with their numbers in the index; groups: those numbers by group. taken: places of
    each ask that are filled, or about to be. have: rows of each ask met on this walk. singles: rows that twins can be made of.
    judged: (clause, label, judge's label).
    """

    found_there: Mapping[str, int]
    groups: Mapping[str, Sequence[int]]
    taken: Counter[int]
    have: Counter[int] = field(default_factory=Counter)
    met: set[str] = field(default_factory=set)
    singles: dict[tuple[str, Label], list[Candidate]] = field(default_factory=dict)
    rejected: Counter[str] = field(default_factory=Counter)
    judged: list[tuple[str, Label, Label | None]] = field(default_factory=list)


@dataclass(frozen=True)
class Finisher:
    """Answers, labels and writes. source_name: of the source the requests come from, '' without one."""

    constitution: Constitution
    clauses: Mapping[str, Clause]
    writer: Chat
    judge: Chat
    source_name: str
    settings: Settings
    calls: Calls
    file: RowFile
    bar: Bar

    def finish(self, candidates: Sequence[Candidate], walk: Walk) -> None:
        """Have the requests answered and judged; write the rows that lack nothing and are not there yet."""
        whole = self._answered(candidates, walk)
        made = {
            "source": self.source_name or None,
            "model": self.writer.identity(),
            "judge": self.judge.identity(),
            "seed": self.settings.seed,
        }
        rows = []
        for (candidate, reply), labels in zip(whole, self._judged(whole), strict=False):
            ask = candidate.ask
            walk.have[ask.number] += 1
            if ask.form == "single":
                walk.singles.setdefault((ask.clause, ask.label), []).append(candidate)
            if candidate.sample is None:
                walk.judged.append((ask.clause, ask.label, labels[0]))
            if candidate.id not in walk.found_there:
                rows.append(row_of(candidate, self._rule_of(candidate), reply, labels, made))
        self.file.append(rows)
        self.bar.advance(len(rows))

    def _answered(self, candidates: Sequence[Candidate], walk: Walk) -> list[tuple[Candidate, str]]:
        """The candidates that have a reply, with it ('' when none is asked for)."""
        if not self.settings.replies:
            return [(candidate, "") for candidate in candidates]
        s = self.settings
        sampling = Sampling(temperature=s.temperature, max_new_tokens=s.reply_tokens, seed=s.seed)
        whole = []
        replies = self.calls.ask(self.writer, [c.messages for c in candidates], sampling)
        for candidate, reply in zip(candidates, replies, strict=False):
            problem = problem_of(reply) or ("truncated" if reply.finish_reason == "length" else "")
            self.calls.came("replies", problem)
            if problem:
                walk.rejected[f"reply {problem}"] += 1
                walk.taken[candidate.ask.number] -= candidate.id not in walk.found_there
            else:
                whole.append((candidate, (reply.text or "").strip()))
        return whole

    def _judged(self, whole: Sequence[tuple[Candidate, str]]) -> list[tuple[Label | None, Label | None]]:
        """The judge's labels of request and reply, None where it gave none; shorter than `whole` when the budget ends."""
        on_request = [
            LABEL.ask(rule=self.clauses[c.ask.clause].text, request=critiques.transcript(c.messages))
            for c, _ in whole
            if c.sample is None
        ]
        on_reply = [
            critiques.critique(rule, c.messages, reply) for c, reply in whole if reply and (rule := self._rule_of(c))
        ]
        labels = iter(self.calls.ask(self.judge, on_request, _JUDGE))
        verdicts = iter(self.calls.ask(self.judge, on_reply, _JUDGE))
        found: list[tuple[Label | None, Label | None]] = []
        for candidate, reply in whole:
            label = next(labels, None) if candidate.sample is None else _NOT_ASKED
            verdict = next(verdicts, None) if reply and self._rule_of(candidate) else _NOT_ASKED
            if label is None or verdict is None:
                return found  # the budget ended: these rows are not whole, and are made when the run goes on
            guilty = critiques.is_guilty(verdict.text or "")
            found.append((said_label(label), None if guilty is None else "harmful" if guilty else "benign"))
        return found

    def _rule_of(self, candidate: Candidate) -> Clause | None:
        """The clause that a request is about; None for given ones that no forbidding clause is about."""
        if candidate.sample is None:
            return self.clauses[candidate.ask.clause]
        own = self.clauses.get(candidate.sample.clause or "")
        return own or self.constitution.forbidden_categories().get(candidate.sample.category or "")
