"""What every part of a hardening run shares: settings, constitution, prompts, run folder, journal; and what is under attack.

Prompts are drawn from the source by split and purpose, a pure function of the seed, so equal runs draw equal prompts and no stage needs to
keep them: a stage's inputs hold their digest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from uphold.constitution import Constitution
from uphold.core.journal import Journal
from uphold.core.records import Sample
from uphold.core.seeds import derive
from uphold.core.store import RunStore
from uphold.guard import Guard, GuardedChat
from uphold.models import Chat, Sampling, journalled
from uphold.redteam import requests
from uphold.stages.harden.settings import Harden


@dataclass(frozen=True)
class Work:
    """One run at work. source: gives prompts with ground truth. critic: who writes the safe replies."""

    settings: Harden
    constitution: Constitution
    source: Any
    store: RunStore
    calls: Journal
    critic: Chat

    def draw(self, kind: str, split: str, n: int, purpose: str) -> list[Sample]:
        """Up to `n` prompts of a split; another purpose draws others."""
        seed = derive(self.settings.seed, "harden", purpose)
        if not n:
            return []
        return requests(self.source.samples(kind, constitution=self.constitution, split=split, n=n, seed=seed))

    def honest(self, split: str, n: int, purpose: str) -> list[Sample]:
        """Harmless prompts near what is forbidden and ordinary tasks, half and half as far as there are tasks."""
        tasks = self.draw("task", split, n // 2, purpose)
        return [*self.draw("benign", split, n - len(tasks), purpose), *tasks]

    def journalled(self, chat: Chat, label: str = "") -> Chat:
        """The chat, each of its answers paid for once."""
        return journalled(chat, self.calls, label=label)

    @property
    def sampling(self) -> Sampling:
        return Sampling(max_new_tokens=self.settings.max_new_tokens, seed=self.settings.seed)


@dataclass(frozen=True)
class System:
    """What is attacked and measured: a model, behind guards or not. given: the guard it came with; trained: the folder of the one
    trained here."""

    chat: Chat
    given: Guard | None = None
    trained: Path | None = None

    @property
    def guarded(self) -> Chat:
        """The model behind its guards: the given one nearest to it."""
        chat = self.chat
        for guard in (self.given, self.guard):
            if guard is not None:
                chat = behind(chat, guard)
        return chat

    @property
    def guard(self) -> Guard | None:
        return Guard.load(self.trained) if self.trained is not None else None

    def subject(self, constitution: Constitution) -> dict[str, str]:
        """Hashes of what a measurement is about."""
        guards = {"given_guard": self.given, "guard": self.guard}
        found = {name: guard.identity() for name, guard in guards.items() if guard is not None}
        return {"constitution": constitution.digest, "model": self.chat.identity(), **found}

    def over(self, chat: Chat) -> System:
        """The same guards around another model."""
        return replace(self, chat=chat)


def behind(chat: Chat, guard: Guard) -> GuardedChat:
    """The chat behind a guard, at the places that the guard can judge."""
    has_output = guard.stages & {"output", "exchange"}
    return GuardedChat(chat, input=guard if "input" in guard.stages else None, output=guard if has_output else None)


def ids(samples: Sequence[Sample]) -> dict[str, Sample]:
    """Samples by id."""
    return {sample.id: sample for sample in samples}
