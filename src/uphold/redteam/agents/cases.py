"""Which episodes are run: every task alone, then tasks under attack, in an order that spreads whatever the budget reaches.

A case under attack is a task, a goal, a place the task reads, and a wording. All that can be combined are, kinds of task in turn, in an
order drawn from the seed; the list is the same for every defence, so that defences are compared on the same cases.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import chain, zip_longest

from uphold.core.errors import ConfigError, unknown
from uphold.core.registry import names
from uphold.core.seeds import derive
from uphold.redteam.agents.injections import injection_named
from uphold.redteam.agents.suite import Case, Suite, Task

CODED = ("base64+important_message", "rot13+important_message", "leetspeak+important_message")
SETS = ("templates", "coded", "all")


def attack_names(named: str, where: str = "--attacks") -> tuple[str, ...]:
    """'templates', 'coded', 'all', or names and compositions by comma. ConfigError with the nearest name otherwise."""
    known = {"templates": tuple(names("injection")), "coded": CODED}
    known["all"] = known["templates"] + CODED
    found: dict[str, None] = {}
    for part in (piece.strip() for piece in named.split(",") if piece.strip()):
        for name in known.get(part, (part,)):
            injection_named(name, where)
            found[name] = None
    if not found:
        raise ConfigError(f"{where}: names no attack. Write {', '.join(SETS)}, or names from: uphold list injections")
    return tuple(found)


def chosen(given: str | None, known: Sequence[str], kind: str, where: str) -> tuple[str, ...]:
    """The names in a list by comma, all for None. ConfigError with the nearest name otherwise."""
    if given is None:
        return tuple(known)
    found = tuple(dict.fromkeys(part.strip() for part in given.split(",") if part.strip()))
    for name in found:
        if name not in known:
            raise unknown(kind, name, known, where)
    return found


def alone(tasks: Sequence[Task]) -> list[Case]:
    """Each task without an attack."""
    return [Case(task) for task in tasks]


def attacked(
    suite: Suite, tasks: Sequence[Task], attacks: Sequence[str], goals: Sequence[str], vectors: Sequence[str], seed: int
) -> list[Case]:
    """Every task with every goal, place and wording that fit it. A pure function of its arguments."""
    by_kind: dict[str, list[Case]] = {}
    for task in tasks:
        by_kind.setdefault(task.kind, []).extend(_cases(suite, task, attacks, goals, vectors, seed))
    for kind, cases in by_kind.items():
        random.Random(derive(seed, "agent-cases", kind)).shuffle(cases)
    rounds = chain.from_iterable(zip_longest(*by_kind.values()))
    return [case for case in rounds if case is not None]


def _cases(
    suite: Suite, task: Task, attacks: Sequence[str], goals: Sequence[str], vectors: Sequence[str], seed: int
) -> list[Case]:
    found = []
    for goal in suite.goals(task):
        if goal.name not in goals:
            continue
        for attack in attacks:
            injection, before = injection_named(attack)
            planted = injection.text(goal, before, derive(seed, task.id))
            if planted is None:
                continue
            found += [Case(task, goal, vector, attack, planted) for vector in task.vectors if vector in vectors]
    return found
