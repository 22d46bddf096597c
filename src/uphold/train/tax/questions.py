"""What capability is measured on: tasks with a right reply, and questions with a choice of answers.

Takes samples of a source, or a user's JSONL files; gives `Questions`. A row of a file is one of

    {"prompt": ..., "answer": ...}                      the greedy reply must be the answer
    {"prompt": ..., "answer": ..., "match": "contains"} the answer must stand in the reply, as whole words
    {"prompt": ..., "choices": [...], "answer": ...}    the likeliest choice must be the answer (its text, or its number from 0)

with `messages` in place of `prompt` for a conversation, `task` for the capability it belongs to, and `group` for rows that repeat
one item. Left out: judging free text; give a reply that can be checked.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, model_validator

from uphold.core.errors import DataError
from uphold.core.files import read_jsonl
from uphold.core.records import Message, Record, Sample, digest
from uphold.evals.answers import Answer

CONTAINS = "contains"


class Choice(Record):
    """A question with possible answers. answer: number of the right one."""

    messages: tuple[Message, ...] = Field(min_length=1)
    choices: tuple[str, ...] = Field(min_length=2)
    answer: int = Field(ge=0)
    task: str = "choice"
    group: str = ""

    @model_validator(mode="after")
    def _inside(self) -> Choice:
        if self.answer >= len(self.choices):
            raise ValueError(f"answer {self.answer} is none of {len(self.choices)} choices (numbers start at 0)")
        return self

    @property
    def item(self) -> str:
        """What repeats: the group, or the question itself."""
        return self.group or digest([m.model_dump() for m in self.messages])[:16]


@dataclass(slots=True)
class Questions:
    """tasks: benign samples with `expected`; choices: see the module; benign, harmful: prompts to answer, to refuse."""

    tasks: list[Sample] = field(default_factory=list)
    choices: list[Choice] = field(default_factory=list)
    benign: list[Sample] = field(default_factory=list)
    harmful: list[Sample] = field(default_factory=list)

    def digest(self) -> str:
        """Hash of everything that is asked."""
        parts: Iterable[Sequence[Record]] = (self.tasks, self.choices, self.benign, self.harmful)
        return digest([[one.model_dump(mode="json") for one in part] for part in parts])


def task_of(sample: Sample) -> str:
    """The capability a task belongs to."""
    return str(sample.meta.get("task") or sample.category or "task")


def is_right(found: Answer) -> bool | None:
    """Whether a reply is right by the sample's own rule; None where it is unscored."""
    if found.correct is None or found.sample.meta.get("match") != CONTAINS or found.blocked:
        return found.correct
    wanted, said = (" ".join(text.lower().split()) for text in (found.sample.expected or "", found.completion or ""))
    return re.search(rf"(?<!\w){re.escape(wanted)}(?!\w)", said) is not None


def read_questions(path: str | Path) -> tuple[list[Sample], list[Choice]]:
    """The tasks and choices of a file. DataError, naming file and line, on a row that is neither, and on a file without any."""
    tasks: list[Sample] = []
    choices: list[Choice] = []
    for number, row in read_jsonl(path):
        try:
            made = _question(dict(row))
        except ValidationError as error:
            problems = [
                f"{'.'.join(map(str, e['loc'])) or 'line'}: {e['msg']}" for e in error.errors(include_url=False)
            ]
            raise DataError(f"{path}:{number}: {'; '.join(problems)}.") from None
        except ValueError as error:
            raise DataError(f"{path}:{number}: {error}.") from None
        if isinstance(made, Choice):
            choices.append(made)
        else:
            tasks.append(made)
    if not tasks and not choices:
        raise DataError(f"{path}: holds no questions. Put one JSON object on each line.")
    return tasks, choices


def _question(row: dict[str, Any]) -> Sample | Choice:
    if ("prompt" in row) == ("messages" in row):
        raise ValueError("needs `prompt` or `messages`, one of the two")
    if "prompt" in row:
        row["messages"] = [{"role": "user", "content": row.pop("prompt")}]
    if "answer" not in row:
        raise ValueError("has no `answer`")
    if "choices" in row:
        answer, options = row["answer"], row["choices"]
        if isinstance(answer, str):
            if not isinstance(options, list) or answer not in options:
                raise ValueError("`answer` is none of the `choices`")
            row["answer"] = options.index(answer)
        return Choice.model_validate(row)
    answer = row.pop("answer")
    if not isinstance(answer, str) or not answer.strip():
        raise ValueError("`answer` must be text that is not empty")
    match = row.pop("match", "exact")
    if match not in ("exact", CONTAINS):
        raise ValueError(f"`match` must be exact or {CONTAINS}, not {match!r}")
    meta = {"task": row.pop("task", "task"), "match": match}
    return Sample.model_validate({**row, "label": "benign", "expected": answer, "meta": meta})
