"""Markdown as blocks of prose, each character traced to the file.

Takes the text of a written policy; gives `Block`s (paragraph, list item, table cell, footnote) with the character ranges they came
from, the headings above them, the block that introduces them ("The assistant must not:" before a list), and what they are for: body,
commentary, example or quote. `sentences` cuts them into sentences, `compile` into clauses. One pass over the lines, time and
memory linear in the text. Reads the parts of CommonMark and GFM that policies use, MkDocs admonitions and heading attributes; code,
front matter, comments and embedded HTML blocks are passed over and counted. Left out: reference links, nested tables, definition lists.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Literal

from uphold.core.errors import DataError

MAX_DEPTH = 32  # levels of lists, quotes and admonitions inside each other
MAX_BLOCK_CHARS = 20_000  # a "paragraph" longer than this is a data dump, not prose

Role = Literal["body", "commentary", "example", "quote"]
Kind = Literal["paragraph", "item", "cell", "footnote"]


@dataclass(frozen=True)
class Heading:
    """level 1-6; `anchor` and `attributes` from a trailing `{#anchor key=value}`."""

    level: int
    title: str
    anchor: str | None = None
    attributes: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Block:
    """One stretch of prose. `pieces` are the [start, end) character ranges of its lines in the file, markers left out.

    `lead` is the index (into `Document.blocks`) of the block that introduces a list. Of a table cell, `column` is the header over it and
    `row` the first cell beside it.
    """

    kind: Kind
    role: Role
    pieces: tuple[tuple[int, int], ...]
    path: tuple[Heading, ...]
    lead: int | None = None
    column: str = ""
    case: str = ""

    def text(self, source: str) -> str:
        """Its lines without list, quote and admonition markers, joined by newlines."""
        return "\n".join(source[start:end] for start, end in self.pieces)

    def offset(self, position: int) -> int:
        """Where in the file the character at `position` of `text` stands; `position` may be the end."""
        for start, end in self.pieces:
            if position <= end - start:
                return start + position
            position -= end - start + 1
        return self.pieces[-1][1]


@dataclass
class Document:
    """Everything read from one file. `skipped` counts what is not prose; `warnings` say, with lines, what looked wrong."""

    source: str
    blocks: list[Block] = field(default_factory=list)
    headings: list[Heading] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    warnings: list[str] = field(default_factory=list)


_HEADING = re.compile(r" {0,3}(#{1,6})(?:[ \t]+(.*?))??(?:[ \t]+#+)?[ \t]*$")
_ATTRIBUTES = re.compile(r"\s*\{([^{}]*)\}\s*$")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})(.*)$")
_BREAK = re.compile(r" {0,3}(?:(?:\*[ \t]*){3,}|(?:-[ \t]*){3,}|(?:_[ \t]*){3,})$")
_SETEXT = re.compile(r" {0,3}(=+|-{2,})[ \t]*$")
_ITEM = re.compile(r"([-*+]|\(?(?:\d{1,9}|[a-zA-Z]|[ivxIVX]{1,5})[.)])(?=[ \t]|$)")
_ADMONITION = re.compile(r"(?:!!!|\?\?\?\+?)[ \t]+([\w-]+)(.*)$")
_FOOTNOTE = re.compile(r"\[\^[^\]\s]{1,80}\]:[ \t]?")
_LINK_TARGET = re.compile(r" {0,3}\[[^\]^][^\]]{0,200}\]:[ \t]*\S+")
_ALERT = re.compile(r"\[!(\w+)\][ \t]*$")
_ROW_RULE = re.compile(r"[ \t]*\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*$")
_HTML_BLOCK = re.compile(r" {0,3}<(script|style|pre|svg|math)\b", re.IGNORECASE)
_EXAMPLE = re.compile(
    r"[*_]{0,3}(?:counter-?)?examples?(?:[ \t]+[\dA-Z]{1,2})?(?:[ \t]*\([^)]{0,80}\))?[*_]{0,3}[ \t]*:", re.IGNORECASE
)
_EXAMPLE_SECTION = re.compile(
    r"(?:worked |sample |good |bad |more )?(?:counter-?)?examples?\b|case stud|illustration|sample ", re.I
)
_COMMENT_SECTION = re.compile(
    r"(?:rationale|background|commentary|change ?log|revision history|version history|references|further reading"
    r"|table of contents|contents|acknowledge?ments?|motivation|why this)\b",
    re.IGNORECASE,
)
_CASES = re.compile(
    r"(?:cases?|situations?|when|if|scenarios?|conditions?|topics?|requests?|circumstances?)$", re.IGNORECASE
)
_STRONG_BOX = {"warning", "danger", "important", "caution", "attention", "rule", "policy"}


@dataclass
class _Container:
    kind: Literal["quote", "item", "box"]
    indent: int  # columns its content is indented by (quotes: 0)
    role: Role
    lead: int | None = None  # of the list this item is in
    list_lead: int | None = None  # the block that would introduce a list started inside this container now
    fresh: bool = True  # an item whose first paragraph has not come yet


class _Parser:
    def __init__(self, source: str, name: str) -> None:
        self.name = name
        self.doc = Document(source)
        self.stack: list[_Container] = []
        self.path: list[Heading] = []
        self.root_lead: int | None = None
        self.open: list[tuple[int, int]] = []  # pieces of the paragraph being read
        self.open_kind: Kind = "paragraph"
        self.fence: tuple[str, int, int, int] | None = None  # mark, length, line it opened on, containers around it
        self.until: str | None = None  # the text that ends an HTML block or comment
        self.rows: list[list[tuple[int, int]]] = []  # of the table being read
        self.header: list[str] | None = None
        self.was_blank = True
        self.number = 0

    # -- lines ------------------------------------------------------------------------------------------------------

    def run(self) -> Document:
        source, position = self.doc.source, self._front_matter()
        self.number = source.count("\n", 0, position)
        while position < len(source):
            end = source.find("\n", position)
            end = len(source) if end < 0 else end
            stop = end - 1 if end > position and source[end - 1] == "\r" else end
            self.number += 1
            self._line(position, stop)
            position = end + 1
        self._close_paragraph()
        self._close_table()
        if self.fence:
            self.doc.warnings.append(
                f"{self.name}:{self.fence[2]}: code fence is never closed; the rest was read as code."
            )
        if self.until:
            self.doc.warnings.append(
                f"{self.name}: an HTML block or comment is never closed; the rest was passed over."
            )
        return self.doc

    def _front_matter(self) -> int:
        """Length of a YAML or TOML front matter block at the top, else 0."""
        match = re.match(r"(---|\+\+\+)[ \t]*\r?\n", self.doc.source)
        if not match:
            return 0
        close = re.compile(rf"^{re.escape(match[1])}[ \t]*\r?$", re.MULTILINE).search(self.doc.source, match.end())
        if not close:
            return 0
        self.doc.skipped["front matter"] += 1
        return min(len(self.doc.source), close.end() + 1)

    def _line(self, start: int, end: int) -> None:
        if self.until is not None:
            if self.until in self.doc.source[start:end].lower():
                self.until = None
            return
        position, column, matched = self._into_containers(start, end)
        is_blank = not self.doc.source[position:end].strip()
        if self.fence and matched >= self.fence[3]:
            self._in_fence(position, end)
            return
        if self.fence:  # its container ended, and it with it
            self.fence = None
        if is_blank:
            self._blank(matched)
            return
        if matched < len(self.stack) and not self._is_lazy(position, end):
            self._close_paragraph()
            self._close_table()
            del self.stack[matched:]
        if matched >= len(self.stack):
            position, column = self._open_containers(position, column, end)
        self._leaf(position, column, end)
        self.was_blank = False

    def _into_containers(self, start: int, end: int) -> tuple[int, int, int]:
        """(position, column, how many open containers this line continues)."""
        source, position, column = self.doc.source, start, 0
        for matched, container in enumerate(self.stack):
            at, col = _skip_blank(source, position, end, column)
            if container.kind == "quote":
                if col - column > 3 or at >= end or source[at] != ">":
                    return position, column, matched
                position, column = at + 1, col + 1
                if position < end and source[position] == " ":
                    position, column = position + 1, column + 1
            elif at >= end or col - column >= container.indent:
                target = column + container.indent
                while position < end and column < target:
                    column += 4 - column % 4 if source[position] == "\t" else 1
                    position += 1
                column = max(column, target) if at < end else column
            else:
                return position, column, matched
        return position, column, len(self.stack)

    def _is_lazy(self, position: int, end: int) -> bool:
        """A plain line right under an open paragraph continues it, even without the markers around that paragraph."""
        if not self.open or self.was_blank:
            return False
        line = self.doc.source[position:end]
        text = line.lstrip()
        starts = (
            _ITEM.match(text) or text.startswith((">", "#", "|", "!!!")) or _FENCE.match(line) or _BREAK.match(line)
        )
        return not starts and not _FOOTNOTE.match(text)

    def _open_containers(self, position: int, column: int, end: int) -> tuple[int, int]:
        source = self.doc.source
        while True:
            at, col = _skip_blank(source, position, end, column)
            if at >= end or col - column > 3:
                return position, column
            line = source[at:end]
            item = _ITEM.match(line)
            if source[at] == ">":
                self._begin()
                self._push(_Container("quote", 0, self._quote_role(at, end)))
                position, column = at + 1, col + 1
                if position < end and source[position] == " ":
                    position, column = position + 1, column + 1
            elif box := _ADMONITION.match(line):
                self._begin()
                role: Role = "body" if box[1].lower() in _STRONG_BOX else "commentary"
                self._push(_Container("box", 4, "example" if "example" in box[1].lower() else role))
                return end, column
            elif item and not _BREAK.match(line) and self._may_start(item[1]):
                position, column = self._open_item(at, col - column, len(item[1]), end, col)
            else:
                return position, column

    def _may_start(self, marker: str) -> bool:
        """A lettered marker inside a running paragraph is more likely an initial ('A. Smith') than a list."""
        return not self.open or marker in "-*+" or marker.strip("(.)").isdigit() or len(marker.strip("(.)")) == 0

    def _open_item(self, at: int, lead_columns: int, width: int, end: int, column: int) -> tuple[int, int]:
        self._begin()
        inner, inner_column = _skip_blank(self.doc.source, at + width, end, column + width)
        gap = inner_column - column - width
        if inner >= end or gap > 4:  # an empty item, or one that begins with code
            inner, gap = min(at + width + 1, end), 1
            inner_column = column + width + 1
        lead = self.stack[-1].list_lead if self.stack else self.root_lead
        self._push(_Container("item", lead_columns + width + gap, self._role(), lead))
        return inner, inner_column

    def _push(self, container: _Container) -> None:
        if len(self.stack) >= MAX_DEPTH:
            raise DataError(
                f"{self.name}:{self.number}: lists and quotes are nested more than {MAX_DEPTH} levels deep. Flatten them."
            )
        self.stack.append(container)

    def _quote_role(self, at: int, end: int) -> Role:
        """GitHub alerts (`> [!WARNING]`) are the policy's own words; other quotes are somebody else's."""
        alert = _ALERT.match(self.doc.source[at + 1 : end].strip())
        if not alert:
            return "quote"
        return "body" if alert[1].lower() in _STRONG_BOX else "commentary"

    def _role(self) -> Role:
        for container in reversed(self.stack):
            if container.role != "body":
                return container.role
        for heading in self.path:
            if _EXAMPLE_SECTION.match(heading.title):
                return "example"
            if _COMMENT_SECTION.match(heading.title):
                return "commentary"
        return "body"

    # -- leaves -----------------------------------------------------------------------------------------------------

    def _leaf(self, position: int, column: int, end: int) -> None:
        source = self.doc.source
        at, col = _skip_blank(source, position, end, column)
        if at >= end:
            return
        line = source[at:end]
        if col - column >= 4 and not self.open:
            self.doc.skipped["indented code"] += 1
        elif fence := _FENCE.match(line):
            self._open_fence(fence)
        elif heading := _HEADING.match(line):
            self._heading(len(heading[1]), heading[2] or "")
        elif self.open and _SETEXT.match(line) and not self.stack:
            title = "\n".join(source[a:b] for a, b in self.open)
            self.open = []
            self._heading(1 if line.lstrip()[0] == "=" else 2, title)
        elif _BREAK.match(line):
            self._begin()
            self._set_lead(None)
        elif line.startswith("<!--"):
            self._begin()
            self.until = None if "-->" in line else "-->"
            self.doc.skipped["HTML comment"] += 1
        elif block := _HTML_BLOCK.match(line):
            self._begin()
            close = f"</{block[1].lower()}"
            self.until = None if close in line.lower() else close
            self.doc.skipped["HTML block"] += 1
        elif self._table_line(at, end):
            return
        elif note := _FOOTNOTE.match(line):
            self._begin()
            self.open_kind = "footnote"
            self._add(at + note.end(), end)
        elif not self.open and (_LINK_TARGET.match(line) or _ALERT.match(line.strip())):
            return
        else:
            self._text(at, end)

    def _open_fence(self, fence: re.Match[str]) -> None:
        self._begin()
        self.fence = (fence[1][0], len(fence[1]), self.number, len(self.stack))
        self.doc.skipped["code block"] += 1

    def _in_fence(self, position: int, end: int) -> None:
        assert self.fence is not None
        line = self.doc.source[position:end].strip()
        mark, length, _, _ = self.fence
        if len(line) >= length and set(line) == {mark}:
            self.fence = None

    def _text(self, at: int, end: int) -> None:
        if not self.open:
            is_item = bool(self.stack) and self.stack[-1].kind == "item" and self.stack[-1].fresh
            self.open_kind = "item" if is_item else "paragraph"
        self._add(at, end)

    def _add(self, start: int, end: int) -> None:
        while end > start and self.doc.source[end - 1] in " \t":
            end -= 1
        if end > start:
            self.open.append((start, end))

    def _heading(self, level: int, title: str) -> None:
        self._begin()
        attributes: list[tuple[str, str]] = []
        anchor = None
        if match := _ATTRIBUTES.search(title):
            title = title[: match.start()]
            for word in match[1].split():
                if word.startswith("#"):
                    anchor = word[1:]
                elif "=" in word:
                    key, _, value = word.partition("=")
                    attributes.append((key, value.strip("\"'")))
        heading = Heading(level, " ".join(title.split()), anchor, tuple(attributes))
        while self.path and self.path[-1].level >= level:
            self.path.pop()
        self.path.append(heading)
        self.doc.headings.append(heading)
        self._set_lead(None)

    # -- tables -----------------------------------------------------------------------------------------------------

    def _table_line(self, at: int, end: int) -> bool:
        """Take the line into a table when it is one: a row with bars, under another or followed by the rule `|---|`."""
        line = self.doc.source[at:end]
        if "|" not in line:
            self._close_table()
            return False
        if self.header is None:
            if self.open and len(self.open) == 1 and _ROW_RULE.match(line) and "-" in line:
                cells = _cells(self.doc.source, *self.open[0])
                if "|" in self.doc.source[slice(*self.open[0])]:
                    self.header = [self.doc.source[a:b].strip() for a, b in cells]
                    self.open = []
                    return True
            return False
        self.rows.append(_cells(self.doc.source, at, end))
        return True

    def _close_table(self) -> None:
        if self.header is None:
            return
        for cells in self.rows:
            case = self.doc.source[slice(*cells[0])] if cells and _CASES.match(self.header[0].strip("*_: ")) else ""
            for i, (start, end) in enumerate(cells):
                if end > start:
                    column = self.header[i] if i < len(self.header) else ""
                    block = Block(
                        "cell", self._role(), ((start, end),), tuple(self.path), None, column, case if i else ""
                    )
                    self.doc.blocks.append(block)
        self.header, self.rows = None, []
        self._set_lead(None)

    # -- blocks -----------------------------------------------------------------------------------------------------

    def _blank(self, matched: int) -> None:
        self._close_paragraph()
        self._close_table()
        while len(self.stack) > matched:  # a quote ends at a blank line; items and boxes wait for what comes
            if self.stack[-1].kind != "quote":
                break
            self.stack.pop()
        self.was_blank = True

    def _begin(self) -> None:
        """A new block starts: finish the one before it."""
        self._close_paragraph()
        self._close_table()

    def _close_paragraph(self) -> None:
        pieces, self.open = self.open, []
        if not pieces:
            return
        container = self.stack[-1] if self.stack else None
        if sum(end - start for start, end in pieces) > MAX_BLOCK_CHARS:
            line = self.doc.source.count("\n", 0, pieces[0][0]) + 1
            self.doc.warnings.append(
                f"{self.name}:{line}: a paragraph of more than {MAX_BLOCK_CHARS} characters was passed over."
            )
            self.doc.skipped["overlong paragraph"] += 1
            return
        lead = container.lead if container and container.kind == "item" and self.open_kind == "item" else None
        role = self._role()
        if role == "body" and _EXAMPLE.match(self.doc.source[pieces[0][0] : pieces[0][1]]):
            role = "example"
        self.doc.blocks.append(Block(self.open_kind, role, tuple(pieces), tuple(self.path), lead))
        if container:
            container.fresh = False
        self._set_lead(len(self.doc.blocks) - 1 if self.open_kind != "footnote" else None)

    def _set_lead(self, index: int | None) -> None:
        """The block that a list or table begun here would hang from: only one that ends with a colon introduces anything."""
        if index is not None:
            last = self.doc.blocks[index].pieces[-1]
            tail = self.doc.source[max(last[0], last[1] - 8) : last[1]].rstrip("*_ ")
            index = index if tail.endswith(":") else None
        if self.stack:
            self.stack[-1].list_lead = index
        else:
            self.root_lead = index


def _skip_blank(source: str, position: int, end: int, column: int) -> tuple[int, int]:
    """Past spaces and tabs: (position, column); a tab goes to the next multiple of 4."""
    while position < end and source[position] in " \t":
        column += 4 - column % 4 if source[position] == "\t" else 1
        position += 1
    return position, column


def _cells(source: str, start: int, end: int) -> list[tuple[int, int]]:
    """Character ranges of the cells of a table row, trimmed; `\\|` does not separate."""
    cells, at = [], start
    for i in range(start, end + 1):
        if i == end or (source[i] == "|" and (i == start or source[i - 1] != "\\")):
            a, b = at, i
            while a < b and source[a] in " \t":
                a += 1
            while b > a and source[b - 1] in " \t":
                b -= 1
            cells.append((a, b))
            at = i + 1
    line = source[start:end].strip()
    if line.startswith("|"):
        cells = cells[1:]
    if line.endswith("|") and cells and cells[-1][0] == cells[-1][1]:
        cells = cells[:-1]
    return cells


def parse_markdown(source: str, name: str = "text") -> Document:
    """The prose of `source` as blocks in file order. `name` is what messages call the file.

    Raises DataError (`name:line: ...`) when lists or quotes are nested more than MAX_DEPTH levels deep.
    """
    return _Parser(source, name).run()
