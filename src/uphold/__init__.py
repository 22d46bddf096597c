"""Uphold: write down how your AI should behave; train it, guard it, attack it, measure it, and decide on the evidence.

The names below are imported on first use, so `import uphold` stays cheap.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "Message": "uphold.core.records",
    "Exchange": "uphold.core.records",
    "Preference": "uphold.core.records",
    "Sample": "uphold.core.records",
    "Measurement": "uphold.core.records",
    "UpholdError": "uphold.core.errors",
    "ConfigError": "uphold.core.errors",
    "DataError": "uphold.core.errors",
    "StoreError": "uphold.core.errors",
    "ModelError": "uphold.core.errors",
    "MissingExtra": "uphold.core.errors",
    "Unsupported": "uphold.core.errors",
    "RunStore": "uphold.core.store",
    "Constitution": "uphold.constitution",
    "Clause": "uphold.constitution",
}

__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'uphold' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
