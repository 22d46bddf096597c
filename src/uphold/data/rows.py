"""Labelled rows of prompts and replies: the format of the written corpus and of synthetic data, and a reader that takes any other.

A line is one JSON object: `prompt`, or `turns` for a conversation; `label` of the request; where there is a reply, `reply` and its own
`reply_label` (a refusal of a harmful request is a benign reply); and what is known of it: clause, category, language, kind, register.
Gives `Sample`s and `Exchange`s, the records that guards, training and red team take, and the rows the diversity report counts. CSV and
JSONL of other origin are read as far as their columns go. Left out: writing rows (`data.synth`), files of bare prompts (`data.files`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from uphold.core.errors import DataError
from uphold.core.records import Exchange, Label, Message, Sample, digest
from uphold.data.files import label_named, read_rows, well_formed

_TEXTS = ("clause", "category", "lang", "kind", "register", "difficulty", "group", "split")


@dataclass(frozen=True)
class Row:
    """One request with what is known of it. '' and None: not known.

    label: what the request is; reply_label: what the reply is. file, line: where it was read. kind: request, twin (looks harmful, is
    not), near_miss (on the very topic, legitimate) or jailbreak. group: what rows that belong together share; at least the row itself.
    """

    messages: tuple[Message, ...]
    label: Label | None = None
    reply: str = ""
    reply_label: Label | None = None
    clause: str = ""
    category: str = ""
    lang: str = ""
    kind: str = ""
    register: str = ""
    difficulty: str = ""
    group: str = ""
    split: str = ""
    file: str = ""
    line: int = 0

    @cached_property
    def id(self) -> str:
        """Content hash of the turns; the id a `Sample` of them has."""
        return digest([m.model_dump() for m in self.messages])[:16]

    @property
    def prompt(self) -> str:
        """The last user turn."""
        return next((m.content for m in reversed(self.messages) if m.role == "user"), "")

    @property
    def asked(self) -> str:
        """All user turns, one a line: what near-duplicates are told by."""
        return "\n".join(m.content for m in self.messages if m.role == "user")

    @property
    def place(self) -> str:
        """'prompts.jsonl:12'; the id of a row that was not read from a file."""
        return f"{self.file}:{self.line}" if self.line else self.id

    def sample(self, source: str = "") -> Sample:
        """The request alone. Raises DataError when it has no label."""
        if self.label is None:
            raise DataError(
                f"{source or 'row'}:{self.line}: has no label. Say whether the request is harmful or benign."
            )
        meta = {"source": source or self.file, "line": self.line} | self.about()
        return Sample(
            messages=self.messages,
            label=self.label,
            clause=self.clause or None,
            category=self.category or None,
            group=self.group,
            family="jailbreak" if self.kind == "jailbreak" else "direct",
            split=self.split,
            meta=meta,
        )

    def exchange(self, source: str = "") -> Exchange | None:
        """Request and reply, `meta['label']` the reply's; None without a reply or a label for it."""
        if not self.reply or self.reply_label is None:
            return None
        meta = {
            "label": self.reply_label,
            "group": self.group or self.id,
            "source": source or self.file,
            "line": self.line,
        }
        meta |= {"family": "jailbreak" if self.kind == "jailbreak" else "direct"} | self.about()
        return Exchange(messages=self.messages, completion=self.reply, clause=self.clause or None, meta=meta)

    def about(self) -> dict[str, str]:
        """Language, kind and register, as far as known."""
        return {name: value for name in ("lang", "kind", "register") if (value := getattr(self, name))}


def read(path: str | Path) -> Iterator[Row]:
    """The rows of a JSONL, CSV or TSV file (also .gz), one at a time. Raises DataError with file and line."""
    for line, found in read_rows(path):
        yield replace(parse(found, f"{path}:{line}"), file=Path(path).name, line=line)


def parse(found: Mapping[str, Any], where: str) -> Row:
    """The row in one JSON object. A prompt under `prompt`, `turns` or `messages`; labels also as 1/0. Raises DataError at `where`."""
    texts: dict[str, Any] = {name: _text(found.get(name)) for name in _TEXTS}
    row = Row(
        messages=_messages(found, where),
        label=_label(found, "label", where),
        reply=_text(found.get("reply") or found.get("completion")),
        reply_label=_label(found, "reply_label", where),
        **texts,
    )
    if not row.prompt.strip():
        raise DataError(f"{where}: the prompt is blank. Put the request into 'prompt', or take the row out.")
    return row


def _messages(found: Mapping[str, Any], where: str) -> tuple[Message, ...]:
    turns = found.get("turns") or found.get("messages")
    if turns is None:
        if not isinstance(found.get("prompt"), str):
            columns = ", ".join(str(key) for key in found if key is not None) or "none"
            raise DataError(f"{where}: no text under 'prompt' and no 'turns'. Columns found: {columns}.")
        return (Message(role="user", content=well_formed(found["prompt"])),)
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        raise DataError(f"{where}: 'turns' is no list of objects with role and content.")
    try:
        made = [Message.model_validate(turn) for turn in turns]
    except ValidationError as error:
        first = error.errors()[0]
        raise DataError(f"{where}: a turn's {'.'.join(map(str, first['loc']))}: {first['msg']}.") from None
    return tuple(m.model_copy(update={"content": well_formed(m.content)}) for m in made)


def _text(value: Any) -> str:
    return "" if value is None else well_formed(str(value))


def _label(found: Mapping[str, Any], column: str, where: str) -> Label | None:
    value = found.get(column)
    if value is None or value == "":
        return None
    return label_named(value, f"{where}: {column}")
