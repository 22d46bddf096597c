"""A campaign as JSONL, out and in: one {table, ...row} a line, never a key.

Takes and fills a `Campaign`. What comes in is checked row by row before anything is written, and written in one transaction, so a damaged
file changes nothing. Numbers of rows are given anew and what refers to them follows, so a file made elsewhere can be added to a campaign
that holds other rows. People come without a key: `rekey` gives them one. A state or a replay in the file is taken as recorded there.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import JSON, Boolean, Float, Integer, Table, insert

from uphold.core.errors import DataError
from uphold.core.files import read_jsonl
from uphold.redteam.campaign.store import STATES, Campaign, Row, _hash, _turns
from uphold.redteam.campaign.tables import META

UNKEPT = ("key_hash",)


def exported(campaign: Campaign) -> Iterator[Row]:
    """Every row of every table, those that others refer to first."""
    for made in META.sorted_tables:
        for row in campaign.rows(made.name):
            yield {"table": made.name, **row}


def restore(campaign: Campaign, path: str | Path) -> int:
    """Add what `exported` wrote; returns the number of rows.

    Raises DataError as FILE:LINE on a row that is none of a campaign's, and on a name that is taken; nothing is written then.
    """
    rows = list(_checked(read_jsonl(path), Path(path)))
    numbers: dict[tuple[str, int], int] = {}
    with campaign._begin() as c:
        for made in META.sorted_tables:
            for where, row in rows:
                if row["table"] != made.name:
                    continue
                values = {name: value for name, value in row.items() if name not in ("table", "id")}
                for column in made.columns:
                    for key in column.foreign_keys:
                        named = (key.column.table.name, values[column.name])
                        if named not in numbers:
                            raise DataError(f"{where}: refers to {named[0]} {named[1]}, which the file does not hold.")
                        values[column.name] = numbers[named]
                if "key_hash" in made.columns:
                    values["key_hash"] = _hash(secrets.token_urlsafe(32))  # nobody's: `rekey` makes one that works
                if (made.name, row["id"]) in numbers:
                    raise DataError(f"{where}: {made.name} {row['id']} comes twice.")
                numbers[made.name, row["id"]] = int(c.execute(insert(made).values(**values)).inserted_primary_key[0])
    return len(rows)


def _checked(lines: Iterable[tuple[int, Row]], path: Path) -> Iterator[tuple[str, Row]]:
    """(file:line, row) of rows with exactly the fields of their table, each of its kind."""
    for number, row in lines:
        where = f"{path}:{number}"
        name = row.get("table")
        made = META.tables.get(name) if isinstance(name, str) else None
        if made is None:
            raise DataError(f"{where}: {name!r} is no table of a campaign. Known: {', '.join(sorted(META.tables))}.")
        wanted = {column.name for column in made.columns} - set(UNKEPT)
        if wrong := sorted(wanted ^ (set(row) - {"table"})):
            raise DataError(f"{where}: field {wrong[0]!r} is {'missing' if wrong[0] in wanted else 'unknown'}.")
        for column in made.columns:
            if column.name in wanted and not _fits(made, column, row[column.name]):
                raise DataError(f"{where}: field {column.name!r} holds no {made.name} value.")
        if made.name == "submissions":
            try:
                _turns(row["messages"])
            except DataError as error:
                raise DataError(f"{where}: {error}") from None
        yield where, row


def _fits(made: Table, column: Any, value: Any) -> bool:
    """Whether a value is one that the store itself could have written into the column."""
    if value is None:
        return bool(column.nullable)
    if isinstance(column.type, Boolean):
        return isinstance(value, bool)
    if isinstance(value, bool):
        return False
    if isinstance(column.type, Integer):
        low, high = (1, 4) if column.name == "severity" else (0, 2**63 - 1)
        return isinstance(value, int) and low <= value <= high
    if isinstance(column.type, Float):
        return isinstance(value, int | float) and abs(value) < 1e12 and (value >= 0 or made.name == "rewards")
    if isinstance(column.type, JSON):
        return isinstance(value, list) and (column.name != "rubric" or all(isinstance(fact, str) for fact in value))
    longest = getattr(column.type, "length", None)
    return (
        isinstance(value, str)
        and (longest is None or len(value) <= longest)
        and (column.name != "state" or value in STATES)
        and (column.name != "refusal" or value in ("full", "partial", "none"))
    )
