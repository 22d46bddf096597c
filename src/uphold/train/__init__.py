"""Training towards a constitution: fine-tuning, preference training, Constitutional AI, AI feedback. See docs/train.md."""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {
    "CAIConfig": "uphold.train.cai",
    "DPOConfig": "uphold.train.dpo",
    "Diverged": "uphold.train.loop",
    "LoRA": "uphold.train.policy",
    "Part": "uphold.train.loop",
    "RLAIFConfig": "uphold.train.rlaif",
    "SFTConfig": "uphold.train.sft",
    "Trained": "uphold.train.policy",
    "fit": "uphold.train.loop",
}

__all__ = ["CAIConfig", "DPOConfig", "Diverged", "LoRA", "Part", "RLAIFConfig", "SFTConfig", "Trained", "fit"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'uphold.train' has no attribute {name!r}")
