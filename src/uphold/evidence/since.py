"""What changed since another card: the numbers of an older run, or of an older card alone, put beside those of now.

`record` reads the older ledger (or, where only the page was kept, the numbers printed on it), and enters them as printed into this
run's ledger, as one entry of kind 'since'. So they are sealed and signed with the rest, the card stays a matter of this ledger alone,
and the same card comes out without the older run. `compared` lists what differs. Left out: tests on the same samples, which need
both runs' samples (`uphold compare`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Literal

from uphold.core.errors import DataError, StoreError
from uphold.core.files import read_text
from uphold.evidence.entry import Entry
from uphold.evidence.format import MINUS, stamp
from uphold.evidence.ledger import Ledger, View
from uphold.evidence.numbers import Number
from uphold.evidence.paths import CARD, LEDGER
from uphold.evidence.verify import verify

KIND = "since"
FIELDS = ("value", "n", "interval", "method", "worst_end")
Relation = Literal["apart", "overlap", "unknown"]


@dataclass(frozen=True)
class OldNumber:
    """A number of the older card. place: its index in the entry that holds it."""

    entry: Entry
    place: int
    body: Mapping[str, str]

    def at(self, field: str) -> str:
        """Where the entry holds that field, for `numbers.shown`."""
        return f"body.measurements.{self.place}.{field}"


@dataclass(frozen=True)
class Difference:
    """before or after None: new, or no longer measured. relation: whether the two intervals meet."""

    name: str
    before: OldNumber | None
    after: Number | None
    relation: Relation


@dataclass(frozen=True)
class Since:
    """The older card, and what is not as it was. n_same: how many numbers are."""

    entry: Entry
    is_whole_run: bool
    differences: tuple[Difference, ...]


def record(ledger: Ledger, source: str | Path) -> str:
    """Enter what an older card said; returns the entry's hash. source: a run folder, its ledger or card.html; 'none': compare with nothing.

    Raises DataError when there is no such card, StoreError when the older ledger is damaged.
    """
    if str(source) == "none":
        return ledger.put(KIND, CARD, {"measurements": []})
    path = Path(source)
    folder = path if path.is_dir() else path.parent
    if folder.resolve() == ledger.path.parent.resolve():
        raise DataError(f"{source}: is this very run. Its card lists what changed since its own last one by itself.")
    if not path.exists():
        raise DataError(f"{source}: no such run or card.")
    if (folder / LEDGER).is_file() and not _is_of_another_ledger(path, folder):
        return ledger.put(KIND, CARD, _of_run(folder))
    if path.suffix != ".html":
        raise DataError(f"{source}: holds no ledger. Give a run folder, or a {CARD}.")
    return ledger.put(KIND, CARD, _of_page(path))


def _is_of_another_ledger(path: Path, folder: Path) -> bool:
    """Whether a card lies beside a ledger that it was not made from."""
    if path.suffix != ".html":
        return False
    head = _Page(read_text(path)).head.split(" ")[-1]
    return head not in {entry.hash for entry in Ledger(folder).entries()}


def _of_run(folder: Path) -> dict[str, Any]:
    found = verify(folder)
    if not found.ok:
        raise StoreError(
            f"{folder}: its ledger is not sound, so nothing can be compared with it. Details: uphold verify"
        )
    ledger = Ledger(folder)
    entries = ledger.entries()
    if not ledger.current():
        raise DataError(f"{folder}: holds no measurement to compare with.")
    numbers = [Number(entry) for entry in ledger.current().values()]
    rows = [{"metric": n.m.metric, "slice": n.slice, "from": n.hash, **{f: n.text(f) for f in FIELDS}} for n in numbers]
    return {"source": "run", "head": found.head, "time": stamp(entries[-1].time), "measurements": rows}


def _of_page(path: Path) -> dict[str, Any]:
    page = _Page(read_text(path))
    if not page.head or not page.rows:
        raise DataError(f"{path}: is not a card that Uphold wrote, or holds no numbers.")
    return {"source": "card", "head": page.head.split(" ")[-1], "time": page.time, "measurements": page.rows}


class _Page(HTMLParser):
    """The rows of a card's appendix, as printed."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.head = ""
        self.time = ""
        self.rows: list[dict[str, str]] = []
        self._row: dict[str, str] | None = None
        self._field = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "meta" and given.get("name") == "uphold-ledger":
            self.head = given.get("content", "")
        elif tag == "tr":
            self._row = {"metric": "", "slice": "", "from": given["data-entry"]} if "data-entry" in given else None
        elif given.get("data-field") == "time" and not self.time:
            self._field = "time"
        elif self._row is not None:
            self._field = given.get("data-field") or given.get("data-row") or self._field

    def handle_endtag(self, tag: str) -> None:
        if tag == "tr" and self._row is not None:
            if all(field in self._row for field in FIELDS):
                self._row.pop("seq", None)
                self._row["slice"] = self._row["slice"] or "all"
                self.rows.append(self._row)
            self._row = None
        if tag in ("td", "th", "span", "p"):
            self._field = ""

    def handle_data(self, data: str) -> None:
        if self._field == "time" and self._row is None:
            self.time += data
        elif self._row is not None and self._field:
            self._row[self._field] = self._row.get(self._field, "") + data


def compared(view: View, numbers: list[Number]) -> Since | None:
    """What is not as the recorded older card says; None when none is recorded."""
    entry = view.named.get((KIND, CARD))
    if entry is None or not entry.body.get("measurements"):
        return None
    before = {(m["metric"], m["slice"]): OldNumber(entry, i, m) for i, m in enumerate(entry.body["measurements"])}
    now = {(n.m.metric, n.slice): n for n in numbers}
    found = []
    for key in sorted({*before, *now}):
        old, new = before.get(key), now.get(key)
        if old is None or new is None or any(old.body[f] != new.text(f) for f in ("value", "n", "interval")):
            metric, by = key
            found.append(Difference(metric if by == "all" else f"{metric} ({by})", old, new, _relation(old, new)))
    return Since(entry, entry.body["source"] == "run", tuple(found))


def _relation(old: OldNumber | None, new: Number | None) -> Relation:
    if old is None or new is None:
        return "unknown"
    before, after = _ends(old.body["interval"]), _ends(new.text("interval"))
    if before is None or after is None:
        return "unknown"
    return "overlap" if before[0] <= after[1] and after[0] <= before[1] else "apart"


def _ends(text: str) -> tuple[float, float] | None:
    """The two ends of an interval as it is printed."""
    found = re.findall(rf"[-{MINUS}]?\d[\d,]*\.?\d*(?:e[-+]?\d+)?", text)
    if len(found) != 2:
        return None
    low, high = (float(one.replace(",", "").replace(MINUS, "-")) for one in found)
    return low, high
