"""Everything wrong with a constitution at once: what makes it unusable (errors) and what makes it weak (warnings).

Starts from `resolution.py`, which reports faults of shape and of `extends:`; adds judgement of the clauses in force. Rule-based
and deterministic; no model is asked (for that see `defects.py`).
"""

from __future__ import annotations

from pathlib import Path

from uphold.constitution.problems import Problem
from uphold.constitution.resolution import resolve


def check(path_or_name: str | Path) -> list[Problem]:
    """Every problem of a constitution file and the files it extends, in file order; empty when it is clean.

    Raises ConfigError only when `path_or_name` is a bare name that nothing bears.
    """
    return resolve(path_or_name).problems
