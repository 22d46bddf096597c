"""The main clauses of a sentence, as norms.

Takes a sentence's tokens and its binding heads (`grammar`); for each head finds where its clause begins and ends, who its subject is and
which condition it stands under, cuts it into acts (`acts`) and writes each as a sentence of its own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from uphold.constitution.prose.acts import Act, acts
from uphold.constitution.prose.grammar import Head
from uphold.constitution.prose.norms import Norm, excerpt, finish
from uphold.constitution.prose.tokens import Token, is_adverb
from uphold.constitution.prose.words import CONDITIONS, COORDINATORS, LEADING

_SHARED_ADVERBS = frozenset("generally typically usually normally ideally always only".split())
_LOOSE = frozenset([",", '"', "”", "’", "»"])
_IF_IT = re.compile(r"(if|when|unless|where|whenever|once) it\b", re.IGNORECASE)
_MOODS = ("grounded", "interested", "concerned", "prepared", "committed", "dedicated", "focused", "balanced")
_POSITIVE = {"mustn't": "must", "shouldn't": "should", "can't": "can", "cannot": "can", "won't": "will"}


@dataclass
class Clauses:
    """The main clauses of one sentence: for each head, where its clause begins and ends, and the norms in it."""

    text: str
    tokens: list[Token]
    heads: list[Head]
    agent: str | None

    def norms(self, i: int) -> list[Norm]:
        """The norms of head `i`, one an act."""
        head, tokens = self.heads[i], self.tokens
        end = max(self._end(i), head.verb)
        condition, subject = self.subject(i)
        start = f"{self._label(i)}{condition}{subject}"
        modal = self.text[tokens[head.first].start : tokens[head.first].end]
        found = []
        for n, act in enumerate(acts(tokens, head.verb, end, negated=head.negated, permits=head.modality == "may")):
            if n == 0:
                words = self._slice(head.verb if head.inverted else head.first + 1, act.stop)
                opening = f"{modal} not" if head.inverted else modal
            else:
                words = self._slice(act.start, act.stop)
                opening = f"{self._modal_phrase(head, act)} {act.carried}"
            if words or not head.verb < len(tokens):
                found.append(Norm(finish(f"{start} {opening} {words}"), head.modality))
        return found

    def _label(self, i: int) -> str:
        """'Restricted content: ' before a norm about things, which mean nothing without the label they stand under."""
        if i or self.heads[0].agent or not (at := self._start(0)):
            return ""
        colon = next((k for k in range(min(at, 9)) if self.tokens[k].word == ":"), None)
        return f"{self._slice(0, colon)}: " if colon else ""

    def _modal_phrase(self, head: Head, act: Act) -> str:
        """The modal with what holds for every act: negation, 'to', adverbs of frequency; without the negation after 'but'."""
        words = [
            self._word(k)
            for k in range(head.first, head.verb)
            if self.tokens[k].depth == 0 and is_kept(self.tokens[k].word)
        ]
        if head.inverted:
            words = [self._word(head.first), "not"]
        if act.flips:
            words = [
                _POSITIVE.get(word.lower().replace("’", "'"), word)
                for word in words
                if word.lower() not in ("not", "never")
            ]
        return " ".join(words)

    def _word(self, k: int) -> str:
        return self.text[self.tokens[k].start : self.tokens[k].end]

    def _slice(self, start: int, stop: int) -> str:
        return excerpt(self.text, self.tokens, start, stop)

    def _start(self, i: int) -> int:
        """Index of the first token of the clause of head `i`, its leading adverbials included."""
        head, tokens = self.heads[i], self.tokens
        if i == 0 and not head.concessive:
            start = max(
                (k + 1 for k in range(head.first) if tokens[k].depth == 0 and tokens[k].word in (";", ":")), default=0
            )
            at = head.boundary
            joined = at > start and tokens[at].word in COORDINATORS and tokens[start].word not in LEADING
            return at + 1 if joined else start
        start = head.boundary + 1
        if start and tokens[start - 1].word == ",":  # "...; if C, it must": the clause begins at the "if"
            for k in range(start - 2, self.heads[i - 1].verb if i else 0, -1):
                opens = tokens[k].word in COORDINATORS and tokens[k + 1].word in LEADING
                if tokens[k].depth == 0 and (tokens[k].word in (";", ":", "—") or opens):
                    return k + 1
        return start

    def _end(self, i: int) -> int:
        """Index after the last token of the clause of head `i`."""
        if i + 1 >= len(self.heads):
            return self._end_of_concession(i) if self.heads[i].concessive else len(self.tokens)
        following = self.heads[i + 1]
        end = following.boundary if following.inherited or following.inverted else self._start(i + 1)
        while end > self.heads[i].verb and self.tokens[end - 1].word in COORDINATORS | {",", ";", ":", "—"}:
            end -= 1
        return end

    def _end_of_concession(self, i: int) -> int:
        """'While it must A, it is B': the concession ends at the comma before the main clause."""
        tokens = self.tokens
        for k in range(self.heads[i].verb + 1, len(tokens)):
            if (
                tokens[k].word == ","
                and tokens[k].depth == 0
                and any(t.word in ("is", "are", "has", "have") for t in tokens[k + 1 : k + 6])
            ):
                return k
        return len(tokens)

    def subject(self, i: int) -> tuple[str, str]:
        """(condition with a blank after it or '', subject) of head `i`, with "it" replaced by the agent."""
        head = self.heads[i]
        if head.inherited:
            return self.subject(i - 1) if i else ("", "")
        assert head.subject is not None
        if head.inverted:
            condition, subject = "", self._slice(*head.subject)
        else:
            start = self._start(i)
            first = self._past_adverbials(max(start, head.subject[0]), head.subject[1])
            condition, subject = self._slice(start, first), self._slice(first, head.subject[1])
        if subject.lower() in ("it", "they") and head.agent and not self._is_impersonal(head):
            if i and not condition:
                before, _ = self.subject(i - 1)
                condition = before if before.split(" ")[0].lower() in CONDITIONS else ""
            match = _IF_IT.match(condition)
            if self.agent and match:
                condition = f"{match[1]} {self.agent}{condition[match.end() :]}"
            else:
                subject = self.agent or subject
        return (f"{condition.strip()} " if condition.strip() else ""), subject

    def _past_adverbials(self, first: int, stop: int) -> int:
        while first < stop - 1 and (
            self.tokens[first].word in _LOOSE or (self.tokens[first].depth == 0 and is_adverb(self.tokens[first].word))
        ):
            first += 1
        return first

    def _is_impersonal(self, head: Head) -> bool:
        """'it is acceptable to explain', 'it must be logged': "it" is nobody, or a thing."""
        words = [token.word for token in self.tokens[head.verb : head.verb + 3]]
        if head.is_verdict:
            return words[:1] in (["to"], ["for"], ["that"])
        done = [word for word in words[1:] if not is_adverb(word)][:1]
        return words[:1] == ["be"] and bool(done) and done[0].endswith("ed") and done[0] not in _MOODS


def is_kept(word: str) -> bool:
    """Words of a modal phrase that hold for every act under it."""
    return not is_adverb(word) or word in _SHARED_ADVERBS or word in ("not", "never")
