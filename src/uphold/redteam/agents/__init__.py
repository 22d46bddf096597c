"""Agents under attack: tool-using targets, injection through what tools return, scores by the end state. See docs/agents.md."""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {
    "Action": "uphold.redteam.agents.suite",
    "Case": "uphold.redteam.agents.suite",
    "Defence": "uphold.redteam.agents.defences",
    "Environment": "uphold.redteam.agents.suite",
    "Episode": "uphold.redteam.agents.episode",
    "Goal": "uphold.redteam.agents.suite",
    "Injection": "uphold.redteam.agents.injections",
    "Suite": "uphold.redteam.agents.suite",
    "Task": "uphold.redteam.agents.suite",
    "alone": "uphold.redteam.agents.cases",
    "attack_names": "uphold.redteam.agents.cases",
    "attacked": "uphold.redteam.agents.cases",
    "compare": "uphold.redteam.agents.scores",
    "defence_named": "uphold.redteam.agents.defences",
    "guarded": "uphold.redteam.agents.defences",
    "injection_named": "uphold.redteam.agents.injections",
    "report": "uphold.redteam.agents.scores",
    "run_cases": "uphold.redteam.agents.run",
    "way_of": "uphold.redteam.agents.run",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'uphold.redteam.agents' has no attribute {name!r}")
