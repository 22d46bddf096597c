"""Attacks: how a forbidden question is put to the target. Registry kind "attack".

Every transform is an attack on the last user turn; an attack may also be any function that rebuilds the whole conversation
(several turns, planted documents). The default suite has fifteen families. Six of them may be used to train a guard or a model;
the other nine are never trained on and are reported apart, because success on known families says little about the next one.
Left out: attacks that search (they need a budget and a feedback signal).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from uphold.core.errors import unknown
from uphold.core.records import Message, Sample
from uphold.core.registry import get, names, register
from uphold.core.seeds import derive
from uphold.data.transforms import Transform, compose, transform_names

TRAINED = ("direct", "roleplay", "authority", "hypothetical", "story", "prefix_injection")
HELD_OUT = (
    "refusal_suppression",
    "reversal",
    "rot13",
    "payload_splitting",
    "many_shot",
    "past_tense",
    "distraction",
    "spell",
    "leetspeak",
)
SUITE = TRAINED + HELD_OUT
SETS = {"suite": SUITE, "trained": TRAINED, "held-out": HELD_OUT}

Turns = tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class Attack:
    """One way to ask. rebuild: (turns, rng) -> turns, pure. family: what it is reported under. paper: arXiv id or work.

    needs: what the target must offer besides answering, e.g. ("weights",) or ("prefill",).
    """

    name: str
    family: str
    rebuild: Callable[[Turns, random.Random], Turns]
    paper: str = ""
    needs: tuple[str, ...] = ()
    about: str = ""

    def turns(self, sample: Sample, seed: int) -> Turns:
        """The conversation to send. Equal samples and seeds give equal conversations."""
        return self.rebuild(sample.messages, random.Random(derive(seed, self.name, sample.id)))

    def apply(self, sample: Sample, seed: int) -> Sample:
        """The attacked sample: new turns, family and id; clause, group, rubric and split stay those of the question."""
        turns = self.turns(sample, seed)
        return Sample.model_validate(
            dict(sample) | {"messages": turns, "family": self.family, "expected": None, "id": ""}
        )


def from_transform(transform: Transform) -> Attack:
    """The attack that puts the last user turn through `transform`."""

    def rebuild(turns: Turns, rng: random.Random) -> Turns:
        last = max((i for i, turn in enumerate(turns) if turn.role == "user"), default=None)
        if last is None:
            return turns
        asked = Message(role="user", content=transform.apply(turns[last].content, rng))
        return (*turns[:last], asked, *turns[last + 1 :])

    return Attack(transform.name, transform.name, rebuild, transform.paper, about=transform.about)


for _name in transform_names():
    register("attack", _name)(from_transform(get("transform", _name)))


def attack_named(name: str, where: str = "") -> Attack:
    """A registered attack, or a composition of transforms ('roleplay+rot13'). ConfigError with the nearest name otherwise."""
    if "+" not in name:
        return _registered(name, where)
    return from_transform(compose(name, where))


def _registered(name: str, where: str) -> Attack:
    known = names("attack")
    if name not in known:
        raise unknown("attack", name, [*known, *SETS, "all"], where)
    attack: Attack = get("attack", name)
    return attack


def attacks_named(spec: str | Iterable[str], where: str = "") -> list[Attack]:
    """Attacks from names, compositions and sets ('suite', 'trained', 'held-out', 'all'), given as a list or separated by commas.

    Doubles are dropped, order is kept. Raises ConfigError on an unknown or an empty list.
    """
    parts = spec.split(",") if isinstance(spec, str) else list(spec)
    wanted: list[str] = []
    for part in (part.strip() for part in parts):
        wanted += names("attack") if part == "all" else SETS.get(part, (part,)) if part else ()
    if not wanted:
        raise unknown("attack", "", [*names("attack"), *SETS, "all"], where)
    return [attack_named(name, where) for name in dict.fromkeys(wanted)]


def split_of_family(family: str, trained: Iterable[str] = TRAINED) -> str:
    """'trained' when the family may have been trained on, else 'held_out'. A composition is held out: nothing trains on those."""
    return "trained" if family in trained else "held_out"
