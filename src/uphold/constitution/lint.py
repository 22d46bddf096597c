"""Everything wrong with a constitution at once: what makes it unusable (errors) and what makes it weak (warnings).

Starts from `resolution.py`, which reports faults of shape and of `extends:`; adds the judgement of `rules.py` on the clauses in force.
Rule-based and deterministic; no model is asked (for that see `defects.py`).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from uphold.constitution.problems import Problem, in_order
from uphold.constitution.resolution import Resolution, resolve
from uphold.constitution.rules import RULES, Book


def check(path_or_name: str | Path) -> list[Problem]:
    """Every problem of a constitution file and the files it extends, in file order; empty when it is clean.

    Raises ConfigError only when `path_or_name` is a bare name that nothing bears.
    """
    return inspect(path_or_name).problems


def inspect(path_or_name: str | Path) -> Resolution:
    """As `check`, with the constitution that was found beside its problems."""
    resolution = resolve(path_or_name)
    found = list(resolution.problems)
    if resolution.constitution is not None:
        book = Book(resolution.constitution.clauses, resolution.origins)
        for rule in RULES:
            found += rule(book)
    return replace(resolution, problems=in_order(found))
