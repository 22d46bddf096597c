"""Evidence: the ledger of measurements, the gate that judges it, the card that shows it."""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOME = {
    "Ledger": "ledger",
    "Entry": "entry",
    "Policy": "policy",
    "Rule": "policy",
    "difference_name": "policy",
    "Decision": "gate",
    "decide": "gate",
    "decide_run": "gate",
    "record": "gate",
    "Facts": "facts",
    "declare_data": "facts",
    "declare_report": "facts",
    "declare_calibration": "facts",
    "Calibration": "correction",
    "Crosswalk": "crosswalk",
    "map_evidence": "crosswalk",
    "Case": "case",
    "build_case": "case",
    "write_case": "case_drawing",
    "Verification": "verify",
    "verify": "verify",
    "verify_run": "proof",
    "RunVerification": "proof",
    "Transcripts": "transcripts",
    "Trust": "trust",
    "sign": "attest",
    "statements": "attest",
    "Plan": "prereg",
    "PreregStatus": "prereg",
    "preregister": "prereg",
    "prereg_status": "prereg",
    "Comparison": "compare",
    "save_baseline": "compare_subject",
    "write_comparison": "compare_page",
    "CardInputs": "inputs",
    "save_inputs": "inputs",
    "read_curve": "inputs",
    "Card": "card",
    "write_card": "card",
}

__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    """Import a public name from its module when it is first used."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
