"""What every stage of a run shares: the project, its constitution, the run folder and the journal of model calls."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from uphold.constitution import Constitution
from uphold.constitution.render import to_yaml
from uphold.core import registry
from uphold.core.config import dump_yaml
from uphold.core.errors import ConfigError
from uphold.core.files import read_jsonl, write_atomic
from uphold.core.journal import Journal
from uphold.core.records import Sample, digest
from uphold.core.store import RunStore, StageResult
from uphold.models import Chat, journalled, load
from uphold.project import Project


@dataclass
class Context:
    """One run at work. `base` is the model as the project names it."""

    project: Project
    constitution: Constitution
    store: RunStore
    calls: Journal
    base: Chat
    given: Any = None  # a source that is not named but handed over

    @cached_property
    def source(self) -> Any:
        return self.given or registry.get("source", self.project.source, "uphold.yaml")

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


@contextmanager
def open_context(project: Project, out: Path, source: Any = None) -> Iterator[Context]:
    """The run folder, locked, with the resolved project and constitution saved in it. source: in place of the one the project names."""
    constitution = Constitution.load(project.constitution)
    if project.model is None and project.source != "files":
        raise ConfigError("uphold.yaml: model is missing. Name one, for example: model: builtin:clerk")
    base = load(project.model) if project.model else None
    if base is not None:
        base.check()
    use_threads(project.threads)
    with RunStore.open(out) as store:
        write_atomic(store.folder / "uphold.yaml", dump_yaml(project))
        write_atomic(store.folder / "constitution.yaml", to_yaml(constitution))
        calls = Journal(store.folder / "calls.jsonl")
        try:
            yield Context(project, constitution, store, calls, base, source)  # type: ignore[arg-type]
        finally:
            calls.close()


def use_threads(n: int) -> None:
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(n)


def load_samples(stage: StageResult, name: str) -> list[Sample]:
    """The samples a stage wrote as NAME.jsonl."""
    return [Sample.model_validate(row) for _, row in read_jsonl(stage.path / f"{name}.jsonl")]


def digest_of(samples: Sequence[Sample]) -> str:
    """Hash of a set of samples: the data hash of measurements on them."""
    return digest([sample.model_dump(mode="json") for sample in samples])


def model_folder(path: Path) -> str:
    """How to open a model that a stage trained."""
    return f"hf:{path}"
