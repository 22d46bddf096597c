"""What is to be generated: the settings of a run, and the asks they come to.

A clause gets equally many rows of each label. Languages, registers and difficulties are dealt to both labels from the same deck, so
none of them tells the label, and every one comes equally often. Some asks are for conversations, some for twins of rows that are
already there. Takes a constitution and settings; gives `Ask`s in a fixed order. Left out: asking (`run.py`).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Literal

from pydantic import Field, model_validator

from uphold.constitution import Clause, Constitution
from uphold.core.errors import ConfigError, did_you_mean
from uphold.core.records import Label, Record
from uphold.core.seeds import derive
from uphold.data.synth.languages import known
from uphold.data.synth.templates import DIFFICULTIES, REGISTERS

LABELS: tuple[Label, ...] = ("harmful", "benign")
Form = Literal["single", "turns", "twin", "given"]


class Settings(Record):
    """What a run makes. Equal settings, constitution and models give equal rows.

    rows: of each label for each clause. clauses: their ids (empty: all that forbid). registers: empty: all. multi_turn, twins: shares
    of the rows that are conversations, and twins of rows of the other label. n_topics, n_subtopics: size of each clause's topic tree.
    per_ask: rows asked for at once. tries: asks for what is still missing. max_failures: share of recent asks without anything usable
    from which the run stops. max_new_tokens of a list, reply_tokens of a reply.
    """

    rows: int = Field(20, ge=1)
    clauses: tuple[str, ...] = ()
    languages: tuple[str, ...] = ("en",)
    registers: tuple[str, ...] = ()
    multi_turn: float = Field(0.1, ge=0, le=1)
    twins: float = Field(0.2, ge=0, le=1)
    n_topics: int = Field(6, ge=1, le=100)
    n_subtopics: int = Field(4, ge=0, le=100)
    per_ask: int = Field(5, ge=1, le=50)
    tries: int = Field(3, ge=1, le=20)
    replies: bool = True
    threshold: float = Field(0.8, gt=0, le=1)
    max_failures: float = Field(0.5, gt=0, le=1)
    temperature: float = Field(0.8, ge=0, le=5)
    max_new_tokens: int = Field(768, ge=1)
    reply_tokens: int = Field(512, ge=1)
    seed: int = 0

    @model_validator(mode="after")
    def _consistent(self) -> Settings:
        if self.multi_turn + self.twins > 1:
            raise ValueError("multi_turn and twins are shares of the same rows: together at most 1")
        if not self.languages:
            raise ValueError("name at least one language")
        for code in self.languages:
            known(code)
        for name in self.registers:
            if name not in REGISTERS:
                raise ConfigError(f"register {name!r} is not known. {did_you_mean(name, REGISTERS)}")
        return self

    def chosen(self, constitution: Constitution) -> tuple[Clause, ...]:
        """The clauses to make rows for. Raises ConfigError when there is none, or one is unknown or forbids nothing."""
        found = [constitution.clause(id) for id in self.clauses] or [c for c in constitution.clauses if c.forbids]
        for clause in found:
            if not clause.forbids:
                raise ConfigError(
                    f"{constitution.name}: clause {clause.id!r} forbids nothing, so it has no harmful requests. Choose a must or should "
                    "clause with a category and harmful examples."
                )
        if not found:
            raise ConfigError(
                f"{constitution.name}: no clause forbids anything. Give one a category and harmful examples."
            )
        return tuple(found)


@dataclass(frozen=True)
class Ask:
    """`n` rows of one kind. number: its place in the plan, kept in its rows' provenance. leaf: at which topic of the tree it starts."""

    number: int
    clause: str
    label: Label
    form: Form
    n: int
    lang: str = ""
    register: str = ""
    difficulty: str = ""
    leaf: int = 0


def plan(clauses: Sequence[Clause], settings: Settings) -> list[Ask]:
    """Every ask: for each clause singles and conversations of both labels, then all twins, which need rows to be made from."""
    n_twins = round(settings.rows * settings.twins)
    n_turns = round(settings.rows * settings.multi_turn)
    n_single = settings.rows - n_twins - n_turns
    size = max(1, min(settings.per_ask, n_single // len(settings.languages) or 1))
    sizes = [size] * (n_single // size) + ([n_single % size] if n_single % size else [])
    forms: list[tuple[Form, int]] = [("single", n) for n in sizes] + [("turns", 1)] * n_turns
    found: list[Ask] = []
    for clause in clauses:
        deck = _deck(clause.id, [n for _, n in forms], n_twins, settings)
        for label in LABELS:
            for leaf, ((form, n), (lang, register, difficulty)) in enumerate(zip(forms, deck, strict=True)):
                found.append(Ask(len(found), clause.id, label, form, n, lang, register, difficulty, leaf))
    for clause in clauses:
        for label in LABELS:
            found += [
                Ask(len(found) + i, clause.id, label, "twin", 1, difficulty="hard", leaf=i) for i in range(n_twins)
            ]
    return found


def _deck(clause: str, sizes: Sequence[int], n_twins: int, settings: Settings) -> list[tuple[str, str, str]]:
    """(language, register, difficulty) for asks of these sizes: each time what has the fewest rows so far, of equals the first drawn.

    Twins, which come later, are hard, so that much less is asked for as hard.
    """
    rng = random.Random(derive(settings.seed, "deck", clause))
    columns = []
    for values in (settings.languages, settings.registers or tuple(REGISTERS), tuple(DIFFICULTIES)):
        rows = dict.fromkeys(rng.sample(values, len(values)), 0)
        if "hard" in rows:
            rows["hard"] = n_twins
        dealt = []
        for n in sizes:
            least = min(rows, key=rows.__getitem__)
            rows[least] += n
            dealt.append(least)
        columns.append(dealt)
    return list(zip(*columns, strict=True))


def given(clauses: Sequence[Clause], settings: Settings) -> list[Ask]:
    """The asks of a run whose requests come from a source: one per label, for all clauses together."""
    return [Ask(i, "", label, "given", settings.rows * len(clauses)) for i, label in enumerate(LABELS)]


def batches(asks: Sequence[Ask], size: int) -> list[list[Ask]]:
    """The asks in order, `size` at a time."""
    return [list(asks[low : low + size]) for low in range(0, len(asks), size)]


def spread(items: Sequence[str], n: int, rng: random.Random) -> list[str]:
    """`n` of the items in a drawn order, all of them before any comes again; [] without items."""
    return list(islice(cycle(rng.sample(items, len(items))), n)) if items else []
