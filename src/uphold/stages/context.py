"""What every stage of a run shares: the project, its constitution, the run folder and the journal of model calls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from uphold.constitution import Constitution
from uphold.core import registry
from uphold.core.files import read_jsonl
from uphold.core.journal import Journal
from uphold.core.records import Sample, digest
from uphold.core.store import RunStore, StageResult
from uphold.models import Chat, journalled
from uphold.project import Project


@dataclass
class Context:
    """One run at work. `base` is the model as the project names it."""

    project: Project
    constitution: Constitution
    store: RunStore
    calls: Journal
    base: Chat

    @cached_property
    def source(self) -> Any:
        return registry.get("source", self.project.source, "uphold.yaml")

    @property
    def forbidden(self) -> dict[str, str]:
        """category -> id of the clause that forbids it: all that prompts depend on of the constitution."""
        return {category: clause.id for category, clause in sorted(self.constitution.forbidden_categories().items())}

    def journalled(self, chat: Chat, label: str = "") -> Any:
        """The chat, paid for once per run folder."""
        return journalled(chat, self.calls, label=label)

    def subject(self, **parts: str) -> dict[str, str]:
        """Hashes of what a measurement is about."""
        return {"constitution": self.constitution.digest, **parts}


def load_samples(stage: StageResult, name: str) -> list[Sample]:
    """The samples a stage wrote as NAME.jsonl."""
    return [Sample.model_validate(row) for _, row in read_jsonl(stage.path / f"{name}.jsonl")]


def digest_of(samples: Sequence[Sample]) -> str:
    """Hash of a set of samples: the data hash of measurements on them."""
    return digest([sample.model_dump(mode="json") for sample in samples])


def model_folder(path: Path) -> str:
    """How to open a model that a stage trained."""
    return f"hf:{path}"
