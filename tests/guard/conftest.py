"""A toy guard: two forbidden clauses over made-up words, trained in a second on what `guard_toy` writes."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import pytest
from guard_toy import CONSTITUTION, SETTINGS, prompts, replies

from uphold.guard.train import train_guard


@pytest.fixture(scope="session")
def trained():
    """(guard, report) on toy prompts and replies."""
    return train_guard([*prompts(400), *replies(400)], CONSTITUTION, seed=1, settings=SETTINGS)


@pytest.fixture(scope="session")
def guard(trained):
    return trained[0]


@pytest.fixture(scope="session")
def exchange_guard():
    """A guard that judges replies with their prompts."""
    settings = SETTINGS.model_copy(update={"exchange": True})
    return train_guard([*prompts(200), *replies(300)], CONSTITUTION, seed=1, settings=settings)[0]
