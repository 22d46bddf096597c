"""Boundary-point search against guards: one bit per query, flagged or not (after arXiv:2602.15001).

The question is interpolated with noise: at level t a share t/levels of its words is replaced by harmless ones. High levels pass the
guard, level 0 is the question itself. Words put around the prompt and attacks put over it are mutated, and a mutation is kept when it
carries a level through that was flagged before; so the boundary moves down to the question, and nothing but the bit was needed. What
broke one question is tried first on the next.
A guard on single words has no boundary: each word stops the prompt whatever stands around it. So a part of every round asks the question
whole through an attack of the library that was not tried yet; one that a guard stops is not tried so again, on later questions either.
Left out: the paper's population of noised copies per level; one copy per level, always the same, keeps the count of queries low.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from uphold.core.records import Message, Sample
from uphold.core.registry import register
from uphold.redteam.attacks import Attack, Turns
from uphold.redteam.attempt import Attempt, Try
from uphold.redteam.engine import Engine
from uphold.redteam.search.base import Library, Means, distinct, turn_by_turn

FAMILY = "boundary"
WHOLE = 3  # of the queries of a round, so many ask the whole question through attacks not tried yet
WORDS = """please thanks order parcel garden recipe kettle weather window holiday blanket colour music dinner lamp pencil bicycle
market evening coffee basket ticket family morning river jacket letter flower table bread winter photo school story travel water""".split()


class Genome(NamedTuple):
    """Words before and after the question, and the library attacks put over it all, in order."""

    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    over: tuple[str, ...] = ()


@register("search", "boundary")
@dataclass(frozen=True)
class Boundary:
    """Against guards, by one bit a query. levels: steps between noise and question. fan: mutations asked together.
    per_question: queries spent on one question. longest: words on one side."""

    levels: int = 8
    fan: int = 8
    per_question: int = 200
    longest: int = 24

    def run(self, engine: Engine, samples: Sequence[Sample], means: Means) -> None:
        """See `Search.run`."""
        library, words = Library(means.attacks), list(means.words) or WORDS
        best, stopped = Genome(), set[str]()
        for sample in turn_by_turn(distinct(samples), ()):
            if not engine.left:
                return
            walk = _Walk(self, engine, sample, means.rng("boundary", sample.id), library, words, stopped)
            best = walk.down(best)


class _Walk:
    """The way down to one question. stopped: attacks that a guard stopped over a whole question; added to."""

    def __init__(
        self,
        how: Boundary,
        engine: Engine,
        sample: Sample,
        rng: random.Random,
        library: Library,
        words: Sequence[str],
        stopped: set[str],
    ) -> None:
        self.how, self.engine, self.sample, self.rng = how, engine, sample, rng
        self.library, self.words, self.stopped = library, words, stopped
        self.noise = _noise(sample, rng, words)
        self.untried = [name for name in rng.sample(library.singles, len(library.singles)) if name not in stopped]
        self.useless: set[str] = set()  # attacks that the guard lets through, and in which the model does not answer
        self.draw = 0

    def down(self, start: Genome) -> Genome:
        """The genome to begin the next question with: the one that broke this, or what it began with."""
        how, engine = self.how, self.engine
        end = engine.queries + how.per_question
        genome, level = start, how.levels
        while engine.left and engine.queries < end:
            self.draw += 1
            made = self.ask([genome], level - 1)
            if made and passes(made[0]):
                level -= 1
            else:
                whole = min(WHOLE, len(self.untried))
                if (found := self.whole(genome, whole)) is not None:
                    return found
                children = [self.mutated(genome) for _ in range(how.fan - whole)]
                made = self.ask(children, level - 1)
                through = [i for i, attempt in enumerate(made) if passes(attempt)]
                level -= 1 if through else 0
                # nothing through: drift, so that words whose worth shows only together are found
                genome = children[through[0]] if through else self.rng.choice((genome, children[0]))
            if level == 0:
                if any(attempt.success for attempt in made):
                    return genome
                self.useless.update(genome.over)
                # past the guard, but the model gave nothing: another way through
                level = how.levels if genome.over else 1
                genome = self.mutated(genome._replace(over=()))
        return start

    def ask(self, genomes: Sequence[Genome], level: int) -> list[Attempt]:
        share = level / self.how.levels
        return self.engine.ask(
            [Try(self.sample, _attack(g, share, self.noise, self.library), self.draw) for g in genomes]
        )

    def whole(self, genome: Genome, n: int) -> Genome | None:
        """The next n attacks, each over the whole question at once: the genome that got an answer, or None.

        What gets past a guard on single words at all gets past it with the question whole.
        """
        now, self.untried = self.untried[:n], self.untried[n:]
        tried = [genome._replace(over=(name,)) for name in now]
        made = self.ask(tried, 0)
        for name, attempt in zip(now, made, strict=False):
            (self.useless if passes(attempt) else self.stopped).add(name)
        return next((g for g, attempt in zip(tried, made, strict=False) if attempt.success), None)

    def mutated(self, genome: Genome) -> Genome:
        """A few words put in or taken out on one side, or an attack put over or taken off."""
        before, after, over = genome
        rng, longest = self.rng, self.how.longest
        kind = rng.choice(("before", "before", "after", "after", "over", "take"))
        new = tuple(rng.choice(self.words) for _ in range(rng.randint(1, 4)))
        if kind == "before":
            return Genome((*before, *new)[-longest:], after, over)
        if kind == "after":
            return Genome(before, (*new, *after)[:longest], over)
        if kind == "over" and len(over) < 2:
            single = rng.choice(self.library.singles)
            return Genome(before, after, over if single in over or single in self.useless else (*over, single))
        cut = rng.choice(("before", "after", "over"))
        return genome._replace(**{cut: getattr(genome, cut)[: len(getattr(genome, cut)) // 2]})


def passes(attempt: Attempt) -> bool:
    """The one bit: whether no guard stopped it. An attempt without an answer is no passage."""
    return attempt.error is None and attempt.blocked is None


def _noise(sample: Sample, rng: random.Random, words: Sequence[str]) -> dict[int, tuple[float, str]]:
    """word number -> (share of noise from which on it is replaced, by what); the order is fixed, so that levels are nested."""
    n = len(sample.prompt.split(" "))
    order = list(range(n))
    rng.shuffle(order)
    return {place: ((rank + 0.5) / n, rng.choice(words)) for rank, place in enumerate(order)}


def _attack(genome: Genome, share: float, noise: dict[int, tuple[float, str]], library: Library) -> Attack:
    """The question at a noise share, with the genome's words around it and its attacks over all."""

    def rebuild(turns: Turns, rng: random.Random) -> Turns:
        last = max((i for i, turn in enumerate(turns) if turn.role == "user"), default=None)
        if last is None:
            return turns
        said = turns[last].content.split(" ")
        mixed = [noise[i][1] if i in noise and noise[i][0] <= share else word for i, word in enumerate(said)]
        text = " ".join((*genome.before, *mixed, *genome.after))
        turns = (*turns[:last], Message(role="user", content=text), *turns[last + 1 :])
        for name in genome.over:
            turns = library[name].rebuild(turns, rng)
        return turns

    return Attack(FAMILY, FAMILY, rebuild, "arXiv:2602.15001")
