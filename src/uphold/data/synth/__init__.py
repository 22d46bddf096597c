"""Synthetic data from the clauses of a constitution. See docs/data.md."""

from uphold.data.synth.calls import Budget
from uphold.data.synth.plan import Settings
from uphold.data.synth.result import Result
from uphold.data.synth.run import synthesise

__all__ = ["Budget", "Result", "Settings", "synthesise"]
