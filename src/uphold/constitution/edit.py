"""Changing a constitution file from a program, without touching anything else in it.

    with Constitution.edit("shop.yaml") as file:
        file.set("acid", "priority", 90)
        file.add({"id": "orders", "text": "Give every customer the state of the order.", "modality": "should"}, after="acid")

Works on the text: the YAML tree only says where a value begins and ends, so comments, blank lines, quotes and the order of keys
elsewhere stay as the author left them, byte for byte. The file is checked against the schema and written at the end of the block,
whole or not at all; an exception in the block leaves it as it was. Left out: clauses written in braces on one line (say so and stop).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from uphold.constitution.schema import ConstitutionFile
from uphold.core.config import check_config, dump_yaml, parse_yaml
from uphold.core.errors import ConfigError, did_you_mean
from uphold.core.files import read_text, write_atomic


class Editor:
    """An open constitution file. `text` is the file as it would be written now."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        raw = read_text(self.path)
        self._newline = "\r\n" if "\r\n" in raw else "\n"
        self.text = self._before = raw.replace("\r\n", "\n")
        check_config(ConstitutionFile, parse_yaml(self.text, str(self.path)))
        if _has_aliases(self._root()):
            raise ConfigError(f"{self.path}: cannot be edited: it uses YAML aliases (*name). Write the values out.")

    def __enter__(self) -> Editor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.save()

    def save(self) -> None:
        """Write the file if it changed. Raises ConfigError, leaving it as it was, when the result would not fit the schema."""
        check_config(ConstitutionFile, parse_yaml(self.text, str(self.path)))
        if self.text != self._before:
            write_atomic(self.path, self.text.replace("\n", self._newline))
            self._before = self.text

    def set(self, id: str, key: str, value: Any, *, among: str = "clauses") -> None:
        """Give the field `key` of a clause (or of an override: `among="overrides"`) a value; None takes the field out."""
        item = self._item(id, among)
        self._set_in(item, key, value)

    def set_head(self, key: str, value: Any) -> None:
        """Give a key at the top of the file, such as `version`, a value; None takes it out."""
        self._set_in(self._root(), key, value)

    def add(self, entry: Mapping[str, Any], *, after: str | None = None, among: str = "clauses") -> None:
        """Add a clause (or an override) after the one of id `after`, by default at the end of the list."""
        sequence = _value(self._root(), among)
        if sequence is None or not sequence.value:
            self.set_head(among, [dict(entry)])
            return
        self._need_block(sequence, among)
        items = sequence.value
        place = self._item(after, among) if after else items[-1]
        column = items[0].start_mark.column
        pairs = "".join(_indented(self._pair(key, value), column) for key, value in entry.items())
        gap = "\n" if len(items) > 1 and self._blank_before(items[1]) else ""
        end = self._line_end(self._end(place))
        self.text = f"{self._whole_lines(end)}{gap}{' ' * (column - 2)}- {pairs.lstrip()}{self.text[end:]}"

    def remove(self, id: str, *, among: str = "clauses") -> None:
        """Take out a clause (or an override). Comments above it stay: they may head a section."""
        item = self._item(id, among)
        siblings = _value(self._root(), among).value
        if len(siblings) == 1:
            self.set_head(among, None)
            return
        start = self._line_start(item.start_mark.index)
        end = self._line_end(self._end(item))
        while self._blank_before(item) and self.text[end:].startswith("\n"):
            end += 1
        self.text = self.text[:start] + self.text[end:]

    def _set_in(self, mapping: Any, key: str, value: Any) -> None:
        self._need_block(mapping, key)
        column = mapping.start_mark.column
        pair = next(((k, v) for k, v in mapping.value if k.value == key), None)
        if pair is None:
            if value is not None:
                end = self._line_end(self._end(mapping.value[-1][1]))
                self.text = self._whole_lines(end) + _indented(self._pair(key, value), column) + self.text[end:]
            return
        start, end = pair[0].start_mark.index, self._end(pair[1])
        if value is not None:
            self.text = self.text[:start] + _indented(self._pair(key, value), column).strip() + self.text[end:]
        elif pair[0] is mapping.value[0][0]:  # the dash, or the top of the file, stands before it: pull the next key up
            if len(mapping.value) == 1:
                raise ConfigError(f"{self.path}: cannot take out {key!r}, the only key there is.")
            self.text = self.text[:start] + self.text[mapping.value[1][0].start_mark.index :]
        else:
            self.text = self.text[: self._line_start(start)] + self.text[self._line_end(end) :]

    def _pair(self, key: str, value: Any) -> str:
        """YAML of one key; lists indented under it when the file does so."""
        lines = dump_yaml({key: list(value) if isinstance(value, tuple) else value}).splitlines()
        sequence = _value(self._root(), "clauses") or _value(self._root(), "overrides")
        is_indented = sequence is None or not sequence.value or sequence.value[0].start_mark.column > 2
        if isinstance(value, list | tuple) and is_indented:
            lines = [lines[0], *(f"  {line}" for line in lines[1:])]
        return "\n".join(lines) + "\n"

    def _root(self) -> Any:
        from ruamel.yaml import YAML

        return YAML(typ="safe", pure=True).compose(self.text)

    def _item(self, id: str, among: str) -> Any:
        sequence = _value(self._root(), among)
        items = {_value(item, "id").value: item for item in sequence.value} if sequence is not None else {}
        if id not in items:
            raise ConfigError(f"{self.path}: no entry {id!r} under `{among}:`. {did_you_mean(id, items)}")
        return items[id]

    def _need_block(self, node: Any, what: str) -> None:
        if node.flow_style:
            line = node.start_mark.line + 1
            raise ConfigError(
                f"{self.path}:{line}: cannot edit {what!r}: it is written in brackets. Write it one key or item a line."
            )

    def _end(self, node: Any) -> int:
        """Index just after the last character of a value, without the comments and blank lines that follow it."""
        if node.id == "mapping" and node.value and not node.flow_style:
            return self._end(node.value[-1][1])
        if node.id == "sequence" and node.value and not node.flow_style:
            return self._end(node.value[-1])
        text = self.text[node.start_mark.index : node.end_mark.index]
        if getattr(node, "style", None) in ("|", ">"):  # the reader counts comments and blank lines below as part of it
            lines = text.splitlines(keepends=True)
            margin = next((len(x) - len(x.lstrip(" ")) for x in lines[1:] if x.strip()), 0)
            while len(lines) > 1 and len(lines[-1]) - len(lines[-1].lstrip(" ")) < margin:
                lines.pop()
            text = "".join(lines)
        return int(node.start_mark.index) + len(text.rstrip())

    def _whole_lines(self, end: int) -> str:
        """The text before `end`, which may lack its last line break."""
        return self.text[:end] if self.text[:end].endswith("\n") else self.text[:end] + "\n"

    def _line_start(self, index: int) -> int:
        return self.text.rfind("\n", 0, index) + 1

    def _line_end(self, index: int) -> int:
        """Index of the first character of the next line."""
        found = self.text.find("\n", index)
        return len(self.text) if found < 0 else found + 1

    def _blank_before(self, item: Any) -> bool:
        start = self._line_start(item.start_mark.index)
        return bool(re.search(r"\n[ \t]*\n(?:[ \t]*#[^\n]*\n)*$", self.text[:start]))


def _has_aliases(root: Any) -> bool:
    """Whether a node stands in two places: its marks would then point at the wrong one."""
    seen: set[int] = set()
    rest = [root]
    while rest:
        node = rest.pop()
        if id(node) in seen:
            return True
        seen.add(id(node))
        if node.id == "mapping":
            rest += [child for pair in node.value for child in pair]
        elif node.id == "sequence":
            rest += node.value
    return False


def _value(mapping: Any, key: str) -> Any:
    return next((value for name, value in mapping.value if name.value == key), None)


def _indented(text: str, column: int) -> str:
    return "".join(f"{' ' * column}{line.rstrip()}\n" if line else "\n" for line in text.splitlines())
