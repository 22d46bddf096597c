"""Constitutional classifiers: guards on prompts and on streamed replies. See docs/guard.md."""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {
    "Guard": "uphold.guard.base",
    "GuardReport": "uphold.guard.train",
    "GuardSettings": "uphold.guard.fitting",
    "GuardStream": "uphold.guard.base",
    "GuardedChat": "uphold.guard.guarded",
    "LinearGuard": "uphold.guard.linear",
    "Threshold": "uphold.guard.threshold",
    "Verdict": "uphold.guard.base",
    "choose_threshold": "uphold.guard.threshold",
    "operator_loop": "uphold.guard.operator",
    "reply": "uphold.guard.examples",
    "train_guard": "uphold.guard.train",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'uphold.guard' has no attribute {name!r}")
