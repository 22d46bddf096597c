"""Votes and statements, as public consultation tools export them.

Reads two CSV files: statements (id and text) and votes, either long (participant, statement, vote in each row) or wide (one row per
participant, one column per statement), told apart by their headers; gives `Votes`, arrays of what was voted. +1 is agree, -1 disagree, 0
pass. Everything that does not fit is refused with its line. Used by `collective`. Left out: xlsx, votes on other scales.
"""

from __future__ import annotations

import csv
import io
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from uphold.core.errors import DataError, did_you_mean
from uphold.core.files import read_text

MAX_BYTES = 256 * 2**20
MAX_LISTED = 10  # problems shown in one error

Revotes = Literal["error", "last"]

_PARTICIPANT = (
    "participant",
    "participant-id",
    "voter",
    "voter-id",
    "user",
    "user-id",
    "respondent",
    "respondent-id",
    "person",
    "pid",
)
_STATEMENT = ("statement-id", "comment-id", "tid", "item-id", "statement", "comment", "item", "id")
_TEXT = (
    "comment-body",
    "statement-text",
    "statement-body",
    "text",
    "body",
    "txt",
    "content",
    "statement",
    "comment",
    "proposal",
)
_VOTE = ("vote", "value", "response", "answer", "rating")
_TIME = ("timestamp", "created", "modified", "created-at", "updated-at", "datetime", "time", "date")
_MODERATED = ("moderated", "moderation", "mod")
_ABOUT_PARTICIPANT = (  # columns of the wide layout that are no statements
    "group-id", "group", "n-comments", "n-votes", "n-agree", "n-disagree", "n-pass", "xid", "pid", "participant", *_TIME
)  # fmt: skip


class Statement(NamedTuple):
    id: str
    text: str


@dataclass(frozen=True)
class Votes:
    """Who voted what. `row_V`, `column_V`: indices into participants and statements; `value_V` in {-1, 0, 1}; one entry a vote.

    n_duplicates: equal votes given twice, counted once. n_revised: votes replaced by a later one. n_moderated: statements that the
    organisers had taken out, left out with their votes. layout: 'long' or 'wide'.
    """

    participants: tuple[str, ...]
    statements: tuple[Statement, ...]
    row_V: NDArray[np.int64]
    column_V: NDArray[np.int64]
    value_V: NDArray[np.float64]
    layout: str = "long"
    n_duplicates: int = 0
    n_revised: int = 0
    n_moderated: int = 0

    @property
    def n(self) -> int:
        return len(self.value_V)

    @property
    def missing(self) -> float:
        """Share of (participant, statement) pairs without a vote."""
        return 1 - self.n / (len(self.participants) * len(self.statements))


class _Cast(NamedTuple):
    participant: str
    statement: str
    value: int
    line: int
    time: float


class _Table(NamedTuple):
    path: str
    header: list[str]  # as written
    names: list[str]  # in lower case, with hyphens
    rows: list[tuple[int, list[str]]]  # first line of the row, cells

    def find(self, options: Sequence[str], taken: Sequence[int] = ()) -> int | None:
        """Index of the first column with one of these names, in the order of the names."""
        for option in options:
            for i, name in enumerate(self.names):
                if name == option and i not in taken:
                    return i
        return None


def read_votes(votes: str | Path, statements: str | Path, *, revotes: Revotes = "error") -> Votes:
    """The votes of one consultation.

    revotes: what to do when a participant's votes on a statement differ: 'error' lists their lines, 'last' keeps the latest by the time
    column, or by position where there is none. Raises DataError on anything missing, unknown, out of range or contradictory.
    """
    table = _read_table(votes)
    known, out = _read_statements(statements)
    layout = _layout(table)
    casts = list(
        _long(table) if layout == "long" else _wide(table, {**known, **dict.fromkeys(out, "")}, str(statements))
    )
    _check_known(table.path, casts, known, out, str(statements))
    casts = [cast for cast in casts if cast.statement not in out]
    kept, n_duplicates, n_revised = _settle(table.path, casts, revotes)
    if not kept:
        raise DataError(f"{table.path}: no vote was cast: every cell is empty. Export the votes again.")
    people = list(dict.fromkeys(cast.participant for cast in kept))
    if len(people) < 2:
        raise DataError(f"{table.path}: only one participant ({people[0]!r}) voted. Opinion groups need at least two.")
    row_of = {name: i for i, name in enumerate(people)}
    column_of = {id: i for i, id in enumerate(known)}
    return Votes(
        tuple(people),
        tuple(Statement(id, text) for id, text in known.items()),
        np.array([row_of[cast.participant] for cast in kept]),
        np.array([column_of[cast.statement] for cast in kept]),
        np.array([cast.value for cast in kept], dtype=float),
        layout,
        n_duplicates,
        n_revised,
        len(out),
    )


# -- files ------------------------------------------------------------------------------------------------------------


def _read_table(path: str | Path) -> _Table:
    """A CSV file with a header; comma, semicolon or tab. Blank lines are passed over."""
    path = Path(path)
    if path.is_file() and path.stat().st_size > MAX_BYTES:
        raise DataError(f"{path}: larger than {MAX_BYTES // 2**20} MiB. Export one consultation at a time.")
    text = read_text(path)
    first = text.partition("\n")[0]
    delimiter = max(",;\t", key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    rows: list[tuple[int, list[str]]] = []
    line = 1
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                rows.append((line, cells))
            line = reader.line_num + 1
    except csv.Error as error:
        raise DataError(f"{path}:{line}: not readable as CSV: {error}.") from None
    if not rows:
        raise DataError(f"{path}: is empty. It needs a header and at least one row.")
    header = [cell.strip() for cell in rows[0][1]]
    names = [cell.lower().replace("_", "-").replace(" ", "-") for cell in header]
    for number, cells in rows[1:]:
        if len(cells) > len(header):
            raise DataError(f"{path}:{number}: has {len(cells)} cells, but the header has {len(header)}.")
    return _Table(str(path), header, names, rows[1:])


def _read_statements(path: str | Path) -> tuple[dict[str, str], set[str]]:
    """(id -> text of the statements that count, ids of those the organisers took out)."""
    table = _read_table(path)
    id_at = table.find(_STATEMENT)
    text_at = table.find(_TEXT, () if id_at is None else (id_at,))
    if id_at is None or text_at is None:
        raise DataError(
            f"{table.path}:1: needs a column of ids (statement-id or comment-id) and one of texts (statement, text or comment-body); "
            f"found: {', '.join(table.header)}."
        )
    moderated_at = table.find(_MODERATED)
    found: dict[str, str] = {}
    out: set[str] = set()
    lines: dict[str, int] = {}
    for line, cells in table.rows:
        id, text = _cell(cells, id_at), " ".join(_cell(cells, text_at).split())
        if not id:
            raise DataError(f"{table.path}:{line}: a statement without an id.")
        if id in lines:
            raise DataError(
                f"{table.path}:{line}: statement {id!r} is listed twice, first on line {lines[id]}. Keep one."
            )
        lines[id] = line
        if moderated_at is not None and _cell(cells, moderated_at) == "-1":
            out.add(id)
        elif not text:
            raise DataError(f"{table.path}:{line}: statement {id!r} has no text.")
        else:
            found[id] = text
    if not found:
        raise DataError(f"{table.path}: holds no statement. Add at least one row.")
    return found, out


def _cell(cells: Sequence[str], at: int) -> str:
    return cells[at].strip() if at < len(cells) else ""


def _layout(table: _Table) -> Literal["long", "wide"]:
    has_vote = table.find(_VOTE) is not None
    has_statement = table.find(_STATEMENT[:-1]) is not None
    if table.find(_PARTICIPANT) is None:
        raise DataError(
            f"{table.path}:1: needs a column that names the participant (participant or voter-id); found: {', '.join(table.header[:12])}."
        )
    if has_vote and has_statement:
        return "long"
    if has_vote or has_statement:
        lacking = "vote" if has_statement else "statement-id or comment-id"
        raise DataError(
            f"{table.path}:1: one row per vote needs a column {lacking}; found: {', '.join(table.header[:12])}."
        )
    return "wide"


# -- layouts ----------------------------------------------------------------------------------------------------------


def _long(table: _Table) -> Iterator[_Cast]:
    who_at, what_at, vote_at = (table.find(names) for names in (_PARTICIPANT, _STATEMENT[:-1], _VOTE))
    time_at = table.find(_TIME)
    assert who_at is not None
    assert what_at is not None
    assert vote_at is not None
    problems = _Problems(table.path)
    for line, cells in table.rows:
        who, what, vote = _cell(cells, who_at), _cell(cells, what_at), _cell(cells, vote_at)
        if not who or not what:
            problems.add(line, f"a vote without a {'participant' if not who else 'statement'}.")
        elif vote and (value := _value(vote)) is None:
            problems.add(line, f"vote {vote[:20]!r} is not -1, 0 or 1.")
        elif vote:
            assert value is not None
            yield _Cast(who, what, value, line, _time(_cell(cells, time_at)) if time_at is not None else math.nan)
    problems.raise_if_any()


def _wide(table: _Table, known: dict[str, str], statements: str) -> Iterator[_Cast]:
    who_at = table.find(_PARTICIPANT)
    assert who_at is not None
    columns: dict[int, str] = {}
    for i, header in enumerate(table.header):
        if i == who_at or (table.names[i] in _ABOUT_PARTICIPANT and header not in known):
            continue
        if header in columns.values():
            raise DataError(f"{table.path}:1: column {header!r} appears twice. Keep one.")
        columns[i] = header
    strangers = [header for header in columns.values() if header not in known]
    if strangers:
        raise DataError(_unknown(table.path, [(header, 1) for header in strangers], list(known), statements))
    problems = _Problems(table.path)
    for line, cells in table.rows:
        who = _cell(cells, who_at)
        if not who:
            problems.add(line, "a row without a participant.")
            continue
        for i, id in columns.items():
            vote = _cell(cells, i)
            value = _value(vote) if vote else None
            if vote and value is None:
                problems.add(line, f"vote {vote[:20]!r} on statement {id!r} is not -1, 0 or 1.")
            elif value is not None:
                yield _Cast(who, id, value, line, math.nan)
    problems.raise_if_any()


def _value(text: str) -> int | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return int(value) if value in (-1.0, 0.0, 1.0) else None


def _time(text: str) -> float:
    """Seconds of a timestamp, for ordering only; NaN when it cannot be read."""
    from datetime import datetime

    try:
        return float(text)
    except ValueError:
        pass
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return math.nan


class _Problems:
    """Lines that are wrong, shown together."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._found: list[str] = []
        self._n = 0

    def add(self, line: int, what: str) -> None:
        self._n += 1
        if len(self._found) < MAX_LISTED:
            self._found.append(f"{self._path}:{line}: {what}")

    def raise_if_any(self) -> None:
        if self._n:
            more = f"\n... and {self._n - MAX_LISTED} more." if self._n > MAX_LISTED else ""
            raise DataError("\n".join(self._found) + more)


# -- checks -----------------------------------------------------------------------------------------------------------


def _check_known(path: str, casts: Sequence[_Cast], known: dict[str, str], out: set[str], statements: str) -> None:
    strangers: dict[str, int] = {}
    for cast in casts:
        if cast.statement not in known and cast.statement not in out:
            strangers.setdefault(cast.statement, cast.line)
    if strangers:
        raise DataError(_unknown(path, list(strangers.items()), list(known), statements))


def _unknown(path: str, strangers: Sequence[tuple[str, int]], known: Sequence[str], statements: str) -> str:
    lines = [f"{path}:{line}: statement {id!r} is not in {statements}." for id, line in strangers[:MAX_LISTED]]
    if len(strangers) > MAX_LISTED:
        lines.append(f"... and {len(strangers) - MAX_LISTED} more.")
    hint = did_you_mean(strangers[0][0], known)
    return "\n".join(lines) + (f"\n{hint}" if hint.startswith("Did") else "\nExport votes and statements together.")


def _settle(path: str, casts: Sequence[_Cast], revotes: Revotes) -> tuple[list[_Cast], int, int]:
    """(one vote for each participant and statement, equal votes dropped, votes replaced by a later one)."""
    by_pair: dict[tuple[str, str], list[_Cast]] = defaultdict(list)
    for cast in casts:
        by_pair[cast.participant, cast.statement].append(cast)
    problems = _Problems(path)
    kept, n_duplicates, n_revised = [], 0, 0
    for same in by_pair.values():
        values = {cast.value for cast in same}
        if len(values) == 1:
            n_duplicates += len(same) - 1
            kept.append(same[0])
        elif revotes == "last":
            n_revised += len(same) - 1
            is_timed = not any(math.isnan(cast.time) for cast in same)
            kept.append(max(same, key=lambda cast: (cast.time, cast.line) if is_timed else (0.0, cast.line)))
        else:
            voted = ", ".join(f"{cast.value:+d} on line {cast.line}" for cast in same)
            problems.add(
                same[-1].line,
                f"participant {same[0].participant!r} voted twice on statement {same[0].statement!r}: {voted}.",
            )
    try:
        problems.raise_if_any()
    except DataError as error:
        raise DataError(f"{error}\nRemove one of each, or keep the later vote with --revotes last.") from None
    return kept, n_duplicates, n_revised
