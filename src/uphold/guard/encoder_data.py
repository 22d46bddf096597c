"""What an encoder guard is trained on, step by step: rows, the classes they stand for, and the batch of each step.

Takes labelled examples; gives `Row`s, and a `Plan` whose batch follows from the step's number alone, so that a killed training resumes.
A batch holds look-alikes together, harmful and harmless, for the twin loss: members of one group (the corpus's contrast groups), and
examples of one clause. The rest is drawn from every source by the root of its size, as many harmful as benign, so that no big file drowns a
small one. Texts are varied by harmless words around them, wrappers put round both classes alike, typing errors and masked tokens.
Left out: the loss and the optimiser (`encoder_fit.py`).
"""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from uphold.core.records import Exchange
from uphold.core.seeds import derive
from uphold.guard.base import turns_text
from uphold.guard.encoder_text import Texts
from uphold.guard.examples import Example, exchange_of, group_of, is_harmful, is_prompt, source_of

# harmless words that change nothing about a request; what comes before ends in ' ', what comes after begins with it
BEFORE = (
    "Hi! ",
    "Hello, ",
    "Quick question: ",
    "Hey there. ",
    "Good morning, ",
    "Sorry to bother you. ",
    "I'm just curious. ",
    "One more thing: ",
    "So, ",
    "Ok, next one. ",
)
AFTER = (
    " please",
    " Thanks!",
    " thank you so much",
    " Have a nice day.",
    " cheers",
    " I hope you are well.",
    " as always, thanks",
    " No hurry.",
    " That would be great.",
    " sunny weather today",
    " kind regards, Sam",
    " just wondering",
)
WRAPPERS = (
    "roleplay",
    "hypothetical",
    "story",
    "academic",
    "polite",
    "third_person",
    "urgency",
    "authority",
    "emotional",
)
NOISE = ("typos", "noise", "telegraph", "random_case", "past_tense", "future_tense")


@dataclass(frozen=True)
class Row:
    """One example to fit. prompt: what is judged, or what the reply answers; reply: None for a prompt. group: look-alikes share it.

    clause: index of the clause, -1 for none. weight: how far its label is trusted, in (0, 1].
    """

    prompt: str
    reply: str | None
    harmful: bool
    clause: int
    group: str
    source: str
    weight: float = 1.0


def rows_of(examples: Sequence[Example], clauses: Sequence[str]) -> list[Row]:
    """Examples as rows; examples of no text are left out."""
    index = {clause: i for i, clause in enumerate(clauses)}
    rows = []
    for example in examples:
        exchange: Exchange = exchange_of(example)
        context, latest = turns_text(exchange.messages)
        text = f"{context}\n{latest}".strip()
        if not text:
            continue
        reply = None if is_prompt(example) else exchange.completion
        weight = float(example.meta.get("weight") or 1.0)
        clause = index.get(example.clause or "", -1)
        rows.append(Row(text, reply, is_harmful(example), clause, group_of(example), source_of(example), weight))
    return rows


@dataclass(frozen=True)
class Beside:
    """What else the encoder learns to tell apart, so that its features stay of use for it: sentences that give an assistant orders, and
    prose that gives none. per_class: of each in a batch."""

    orders: Sequence[str] = ()
    prose: Sequence[str] = ()
    per_class: int = 8

    def batch(self, step: int, seed: int) -> list[tuple[str, bool]]:
        """(text, whether it is an order) of a step, deterministic in step and seed; [] where a class is missing."""
        if not self.orders or not self.prose:
            return []
        rng = random.Random(derive(seed, "encoder beside", step))
        drawn = [(rng.choice(self.orders), True) for _ in range(self.per_class)]
        return drawn + [(rng.choice(self.prose), False) for _ in range(self.per_class)]


@dataclass(frozen=True)
class Mix:
    """How many rows of a batch come from where."""

    groups: int = 7
    clauses: int = 4
    per_clause: int = 3
    others: int = 44
    replies: int = 10
    unchanged: float = 0.55


@dataclass
class Plan:
    """The batch of every step. rows: what `rows_of` gave. Deterministic in the rows, the mix and the seed."""

    rows: Sequence[Row]
    seed: int = 0
    mix: Mix = field(default_factory=Mix)

    def __post_init__(self) -> None:
        prompts = [i for i, row in enumerate(self.rows) if row.reply is None]
        replies = [i for i, row in enumerate(self.rows) if row.reply is not None]
        by_group, by_clause = defaultdict(list), defaultdict(list)
        for i in prompts:
            by_group[self.rows[i].group].append(i)
            by_clause[self.rows[i].clause].append(i)
        both = lambda of: len({self.rows[i].harmful for i in of}) == 2  # noqa: E731
        self._groups = [of for of in by_group.values() if both(of)]
        self._clauses = [self._by_label(of) for clause, of in sorted(by_clause.items()) if clause >= 0 and both(of)]
        self._prompts, self._replies = self._pools(prompts), self._pools(replies)

    def _by_label(self, of: Sequence[int]) -> tuple[list[int], list[int]]:
        return [i for i in of if not self.rows[i].harmful], [i for i in of if self.rows[i].harmful]

    def _pools(self, of: Sequence[int]) -> list[tuple[list[list[int]], list[float]]]:
        """By label: the rows of each source, and how often the source is drawn."""
        pools = []
        for label in self._by_label(of):
            by_source = defaultdict(list)
            for i in label:
                by_source[self.rows[i].source].append(i)
            lists = [by_source[name] for name in sorted(by_source)]
            pools.append((lists, [math.sqrt(len(each)) for each in lists]))
        return pools

    def batch(self, step: int) -> list[Row]:
        """The rows of a step, varied. Prompts first, then replies."""
        rng = random.Random(derive(self.seed, "encoder batch", step))
        mix, chosen = self.mix, []
        for of in rng.sample(self._groups, min(mix.groups, len(self._groups))):
            benign, harmful = self._by_label(of)
            chosen += rng.sample(benign, min(2, len(benign))) + rng.sample(harmful, min(2, len(harmful)))
        for pair in rng.sample(self._clauses, min(mix.clauses, len(self._clauses))):
            for label in pair:
                chosen += rng.sample(label, min(mix.per_clause, len(label)))
        wanted = mix.groups * 2 + mix.clauses * mix.per_clause * 2 + mix.others
        chosen += self._drawn(self._prompts, max(mix.others, wanted - len(chosen)), rng)
        chosen += self._drawn(self._replies, mix.replies, rng)
        return [self.varied(self.rows[i], rng) for i in chosen]

    def _drawn(self, pools: Sequence[tuple[list[list[int]], list[float]]], n: int, rng: random.Random) -> list[int]:
        found = []
        for at in range(n):
            lists, weights = pools[at % 2]
            if lists:
                found.append(rng.choice(rng.choices(lists, weights)[0]))
        return found

    def varied(self, row: Row, rng: random.Random) -> Row:
        """The row in other words that keep its label: harmless words around it, a wrapper, or typing errors."""
        from uphold.data.transforms import apply

        draw = rng.random()
        if row.reply is not None or draw < self.mix.unchanged:
            return row
        text = row.prompt
        if draw < self.mix.unchanged + 0.25:
            text = _around(text, rng)
        elif draw < self.mix.unchanged + 0.33:
            text = apply(rng.choice(WRAPPERS), text, rng.randrange(1 << 30))
        elif draw < self.mix.unchanged + 0.40:
            text = apply(rng.choice(NOISE), text, rng.randrange(1 << 30))
        else:
            text = text.rstrip("?.! ") if rng.random() < 0.5 else text[:1].lower() + text[1:]
        return Row(text, None, row.harmful, row.clause, row.group, row.source, row.weight)


def _around(text: str, rng: random.Random) -> str:
    before = rng.choice(BEFORE) if rng.random() < 0.45 else ""
    after = rng.choice(AFTER) if rng.random() < 0.7 or not before else ""
    return f"{before}{text}{after}"


def framed(
    rows: Sequence[Row], texts: Texts, max_tokens: int, rng: random.Random | None
) -> list[tuple[list[int], int]]:
    """Rows as ids. A long text keeps its beginning and its end; with `rng` a tenth of the rows lose a tenth of their tokens to the mask."""
    ids = texts.ids([row.prompt for row in rows])
    replies = texts.ids([row.reply or "" for row in rows])
    mask, found = texts.reading.special.mask, []
    for row, first, second in zip(rows, ids, replies, strict=True):
        if row.reply is None:
            kept = _ends(first, max_tokens)
            if rng is not None and mask is not None and rng.random() < 0.1:
                kept = [mask if rng.random() < 0.1 else token for token in kept]
            found.append(texts.framed(kept))
        else:
            context = first[-texts.reading.context :]
            found.append(texts.framed(context, second[: max(8, max_tokens - len(context))]))
    return found


def _ends(ids: list[int], size: int) -> list[int]:
    return ids if len(ids) <= size else [*ids[: size - size // 2], *ids[-(size // 2) :]]
