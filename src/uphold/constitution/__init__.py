"""Constitutions: clauses, their checks, and what changes between two of them. See docs/constitution.md."""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {
    "Clause": "uphold.constitution.schema",
    "Constitution": "uphold.constitution.schema",
    "Problem": "uphold.constitution.problems",
    "check": "uphold.constitution.lint",
    "json_schema": "uphold.constitution.schema",
    "prevails": "uphold.constitution.schema",
    "resolve": "uphold.constitution.resolution",
}

__all__ = ["Clause", "Constitution", "Problem", "check", "json_schema", "prevails", "resolve"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'uphold.constitution' has no attribute {name!r}")
