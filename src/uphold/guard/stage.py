"""One stage of a linear guard: from an exchange to a verdict.

A stage has a head for prompts, one for replies, or both (`exchange`: the prompt's logit is where the reply's windows start from),
a bias, a head per clause, a calibration to probabilities and the logit that flags. A prompt is judged by the worst of its windows, of
its decoded views (`canonical.py`) and of the window that reaches back into the conversation; a reply at every word end.
Left out: training (`train.py`), folders (`linear.py`).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np

from uphold.core.records import Exchange, Message
from uphold.guard import features, heads
from uphold.guard.base import Stage, Verdict, turns_text
from uphold.guard.canonical import views
from uphold.guard.features import START, iter_words
from uphold.guard.heads import Floats, Head, Peak, Segment
from uphold.guard.links import Links, n_read

_BATCH = 4 * heads.BLOCK  # words scored at a time


def sigmoid(x: float) -> float:
    """1 / (1 + e^-x), without overflow."""
    return 1.0 / (1.0 + math.exp(-x)) if x >= 0 else math.exp(x) / (1.0 + math.exp(x))


@dataclass(frozen=True)
class StageModel:
    """See the module. clauses: their ids, in the order of the clause heads. score = sigmoid(slope * logit + shift), slope > 0."""

    stage: Stage
    prompt: Head | None
    reply: Head | None
    bias: float
    clauses: tuple[str, ...]
    clause_bias: Floats
    slope: float = 1.0
    shift: float = 0.0
    flag_at: float = 0.0

    @property
    def threshold(self) -> float:
        """The score that flags."""
        return self.probability(self.flag_at)

    def probability(self, logit: float) -> float:
        return sigmoid(self.slope * logit + self.shift)

    def at_threshold(self, score: float) -> StageModel:
        """The same stage flagging from `score` on, strictly between 0 and 1."""
        return replace(self, flag_at=(math.log(score / (1 - score)) - self.shift) / self.slope)

    def peaks(self, exchanges: Sequence[Exchange]) -> list[Peak | None]:
        """The worst window of each exchange as this stage sees it; None where there is no word to judge."""
        if self.stage == "input":
            assert self.prompt is not None
            segments = (s for i, e in enumerate(exchanges) for s in prompt_segments(i, e.messages, self.prompt.window))
            return self._worst(self.prompt, segments, [self.bias] * len(exchanges), len(exchanges))
        assert self.reply is not None
        window = self.reply.window
        segments = (s for i, e in enumerate(exchanges) for s in heads.running(i, self.reply_words(e), window))
        starts = self.starts([e.messages for e in exchanges])
        found = self._worst(self.reply, segments, [base for base, _ in starts], len(exchanges))
        return [
            peak and peak._replace(clauses=peak.clauses + clauses)
            for peak, (_, clauses) in zip(found, starts, strict=True)
        ]

    def reply_words(self, exchange: Exchange) -> Iterator[str]:
        """The words of a reply as its head reads them: each followed by its links, where it was fitted so."""
        words = iter_words(exchange.completion)
        return Links(exchange.messages).read(words) if self.reply is not None and self.reply.links else words

    def position(self, exchange: Exchange, first: int) -> int:
        """Characters of the reply read when `first` of the words that its head reads had been."""
        n_words = first
        if self.reply is not None and self.reply.links:
            n_words = n_read(list(islice(self.reply_words(exchange), first)))
        return features.word_end(exchange.completion, n_words)

    def starts(self, conversations: Sequence[Sequence[Message]]) -> list[tuple[float, Floats]]:
        """Where the logit and the clause logits of a reply to each conversation begin: at the bias, and at what the prompt adds."""
        if self.prompt is None:
            return [(self.bias, np.zeros(len(self.clauses)))] * len(conversations)
        head = self.prompt
        segments = (prompt_end(i, messages, head.window) for i, messages in enumerate(conversations))
        nothing = Peak(self.bias, np.zeros(len(self.clauses)), None)
        found = self._worst(head, segments, [self.bias] * len(conversations), len(conversations))
        return [(peak.logit, peak.clauses) for peak in (peak or nothing for peak in found)]

    def _worst(self, head: Head, segments: Iterable[Segment], base: Sequence[float], n: int) -> list[Peak | None]:
        """The worst peak per owner; memory is bounded by the batch, not by the texts."""
        worst: list[Peak | None] = [None] * n
        for batch in _batches(segments):
            for segment, peak in zip(
                batch, head.peaks(batch, [base[s.owner] for s in batch], self.flag_at), strict=True
            ):
                held = worst[segment.owner]
                if peak is None or (held is not None and held.logit >= peak.logit):
                    continue
                first = peak.first if held is None or held.first is None else held.first
                worst[segment.owner] = peak._replace(first=first)
        return worst

    def verdict(self, peak: Peak | None, position: int | None, guard: str) -> Verdict:
        """The verdict on a text whose worst window is `peak`; position: characters read when it was first flagged."""
        if peak is None:
            return self._verdict(0.0, dict.fromkeys(self.clauses, 0.0), False, None, guard)
        score = self.probability(peak.logit)
        if math.isnan(score):
            raise ArithmeticError("the guard's score is not a number")
        return self._verdict(score, self.shares(score, peak.clauses), peak.logit >= self.flag_at, position, guard)

    def shares(self, score: float, clause_logits: Floats) -> dict[str, float]:
        """The score by clause: odds of each clause head relative to the strongest, which carries the whole score."""
        if not self.clauses:
            return {}
        logits = clause_logits + self.clause_bias
        log_p = -np.logaddexp(0.0, -logits)
        shares = score * np.exp(log_p - log_p.max())
        return dict(zip(self.clauses, shares.tolist(), strict=True))

    def _verdict(
        self, score: float, by_clause: dict[str, float], flagged: bool, position: int | None, guard: str
    ) -> Verdict:
        # built without validation: checked above, and a stream makes one per word
        return Verdict.model_construct(
            score=score,
            by_clause=by_clause,
            flagged=flagged,
            threshold=self.threshold,
            stage=self.stage,
            position=position,
            guard=guard,
        )

    def stream(self, conversation: Sequence[Message], guard: str) -> LinearStream:
        return LinearStream(self, conversation, guard)


def prompt_segments(owner: int, messages: Sequence[Message], window: int) -> Iterator[Segment]:
    """Everything of a conversation that the input stage judges."""
    context, latest = turns_text(messages)
    yield from heads.stepping(owner, iter_words(latest), window)
    for view in views(latest):
        yield from heads.stepping(owner, iter_words(view), window)
    if context:
        yield prompt_end(owner, messages, window)


def prompt_end(owner: int, messages: Sequence[Message], window: int) -> Segment:
    """The window that ends where the conversation ends, across turns."""
    return heads.whole(owner, iter_words("\n".join(turns_text(messages))), window)


def _batches(segments: Iterable[Segment]) -> Iterator[list[Segment]]:
    batch: list[Segment] = []
    n_words = 0
    for segment in segments:
        batch.append(segment)
        n_words += len(segment.words)
        if n_words >= _BATCH:
            yield batch
            batch, n_words = [], 0
    if batch:
        yield batch


class LinearStream:
    """A reply being judged word by word: constant work per word, and at most MAX_WORD characters kept."""

    def __init__(self, model: StageModel, conversation: Sequence[Message], guard: str) -> None:
        assert model.reply is not None
        self._model, self._head, self._guard = model, model.reply, guard
        self._links = Links(conversation) if model.reply.links else None
        [(self._base, self._clause_base)] = model.starts([conversation])
        self._window: deque[tuple[int, int, Any]] = deque()
        self._w = self._q = 0
        self._clauses = np.zeros(len(model.clauses), dtype=np.int64)
        self._before = START
        self._rest, self._pushed = "", 0
        self._peak = -math.inf
        self._verdict = model.verdict(None, None, guard)

    @property
    def judged(self) -> int:
        return self._pushed - len(self._rest)

    def push(self, piece: str) -> Verdict:
        self._pushed += len(piece)
        done, rest = features.split_complete(self._rest + piece)
        start = self._pushed - len(self._rest) - len(piece)
        self._rest = rest
        for word, end in done:
            self._take(word, start + end)
        return self._verdict

    def finish(self) -> Verdict:
        if self._rest:
            self._take(self._rest, self._pushed)
            self._rest = ""
        return self._verdict

    def _take(self, word: str, end: int) -> None:
        self._read(word, end)
        for link in self._links.of(word) if self._links is not None else ():
            self._read(link, end)

    def _read(self, word: str, end: int) -> None:
        w, q, hashed, clauses = self._head.rows.one(word)
        if self._head.spec.pairs:
            bucket = features.pair_bucket(self._before, hashed, self._head.spec)
            w += int(self._head.table.main[bucket, 0])
            q += int(self._head.table.main[bucket, 1])
            clauses = clauses + self._head.table.clauses[bucket]
            self._before = hashed
        self._window.append((w, q, clauses))
        self._w += w
        self._q += q
        self._clauses += clauses
        if len(self._window) > self._head.window:
            w, q, clauses = self._window.popleft()
            self._w -= w
            self._q -= q
            self._clauses -= clauses
        logit = self._head.logit(self._w, self._q) + self._base
        if not logit <= self._peak:  # true for NaN too, which `verdict` refuses
            self._peak = logit
            position = self._verdict.position
            if position is None and logit >= self._model.flag_at:
                position = end
            clause_logits = self._head.clause_logits(self._clauses, self._q) + self._clause_base
            self._verdict = self._model.verdict(Peak(logit, clause_logits, None), position, self._guard)
