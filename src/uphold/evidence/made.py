"""What the numbers of a card were made of, and how: systems, judges, data, seeds, code, machines.

Takes the ledger's numbers; gives lines that point at the entries they are read from. `sections.py` puts them on the page.
"""

from __future__ import annotations

from dataclasses import dataclass

from uphold.evidence.entry import Entry
from uphold.evidence.inputs import CardInputs, System
from uphold.evidence.ledger import View
from uphold.evidence.numbers import Number, Numbers


@dataclass(frozen=True)
class SystemLine:
    """A system compared, and a number of its own, whose entry says what it is made of. parts: names under the entry's subject."""

    system: System
    number: Number | None
    parts: tuple[str, ...]


@dataclass(frozen=True)
class How:
    """How numbers of one metric were made: their judge, data, suite and seeds are those of `number`. by: how they are sliced."""

    metric: str
    number: Number
    by: tuple[str, ...]


@dataclass(frozen=True)
class Fact:
    """A line of provenance: a label and values; each value is text, or the field of a ledger entry."""

    label: str
    values: tuple[str, ...] = ()
    numbers: tuple[Number, ...] = ()


def systems(inputs: CardInputs, numbers: Numbers) -> list[SystemLine]:
    """Each system with the hashes it is made of, as one of its measurements gives them."""
    of_system: dict[str, Number] = {}
    for n in numbers.all:
        of_system.setdefault(n.m.metric.rpartition(".")[2], n)
    lines = []
    for system in inputs.systems:
        number = of_system.get(system.key)
        parts = tuple(k for k in number.m.subject if k != "role") if number else ()
        lines.append(SystemLine(system, number, parts))
    return lines


def how(numbers: Numbers) -> list[How]:
    """One line for each way that numbers of a metric were made."""
    found: dict[tuple[object, ...], tuple[Number, dict[str, None]]] = {}
    for n in numbers.all:
        m = n.m
        _, slices = found.setdefault((m.metric, m.judge, m.data, m.suite, m.seeds), (n, {}))
        slices.update(dict.fromkeys(m.by))
    return [How(n.m.metric, n, tuple(by)) for n, by in found.values()]


def environments(view: View, numbers: Numbers) -> list[Entry]:
    """Where the numbers that count were made."""
    used = {n.m.environment for n in numbers.all}
    return [entry for (kind, name), entry in view.named.items() if kind == "environment" and name in used]


def provenance(inputs: CardInputs, numbers: Numbers) -> list[Fact]:
    facts = [Fact(label, (text,)) for label, text in inputs.provenance.items()]
    subjects = sorted({(k, v) for n in numbers.all for k, v in n.m.subject.items() if k != "role"})
    kinds = dict.fromkeys(k for k, _ in subjects)
    facts += [Fact(f"Subject: {kind}", tuple(v for k, v in subjects if k == kind)) for kind in kinds]
    facts.append(Fact("Data", tuple(sorted({n.m.data for n in numbers.all if n.m.data}))))
    facts.append(Fact("Code", tuple(sorted({n.m.code for n in numbers.all if n.m.code}))))
    by_seeds: dict[tuple[int, ...], Number] = {}
    for n in numbers.all:
        if n.m.seeds:
            by_seeds.setdefault(n.m.seeds, n)
    facts.append(Fact("Seeds", numbers=tuple(by_seeds[seeds] for seeds in sorted(by_seeds))))
    return [fact for fact in facts if fact.values or fact.numbers]
