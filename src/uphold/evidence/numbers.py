"""A number on the card: a ledger entry, and how to find, print and point at it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from uphold.core.records import Measurement
from uphold.evidence.entry import Entry, Key
from uphold.evidence.format import field_text, stamp

ANCHOR_CHARS = 16
SHORT_CHARS = 12
"""of a hash, where the whole of it is a link away"""


def anchor(hash_: str) -> str:
    """The id of an entry's row in the appendix."""
    return f"e-{hash_[:ANCHOR_CHARS]}"


def shown(entry: Entry, field: str) -> str:
    """What the card prints for one field of a ledger entry: the card is written with this and checked with it.

    field: 'seq', 'time', 'hash', 'kind'; a field of `format.FIELDS` for a measurement; 'body.a.0' for a text inside any other
    entry's body, 'short.a.0' for its first 12 characters. Raises KeyError (or IndexError) when there is no such field.
    """
    if field in ("seq", "hash", "kind"):
        return f"{entry.seq:,}" if field == "seq" else str(getattr(entry, field))
    if field == "time":
        return stamp(entry.time)
    if field.startswith(("body.", "short.")):
        value: Any = entry.body
        for part in field.split(".")[1:]:
            value = value[int(part)] if isinstance(value, list) else value[part]
        return str(value)[:SHORT_CHARS] if field.startswith("short.") else str(value)
    return field_text(entry.measurement, field)


class Number:
    """A measurement entry as the card uses it."""

    CSV_HEADER: ClassVar[list[str]] = [
        "metric",
        "by",
        "value",
        "low",
        "high",
        "method",
        "level",
        "n_asked",
        "n_scored",
        "worst",
        "entry",
    ]

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self.m: Measurement = entry.measurement
        self.hash = entry.hash
        self.anchor = anchor(entry.hash)
        self._texts: dict[str, str] = {}

    def text(self, field: str = "value") -> str:
        """One field as it is printed (see `shown`)."""
        if field not in self._texts:
            self._texts[field] = shown(self.entry, field)
        return self._texts[field]

    @property
    def value(self) -> float | None:
        return self.m.value

    @property
    def has_interval(self) -> bool:
        return self.m.interval is not None

    @property
    def low(self) -> float:
        return self.m.interval[0] if self.m.interval else self.m.value or 0.0

    @property
    def high(self) -> float:
        return self.m.interval[1] if self.m.interval else self.m.value or 0.0

    @property
    def slice(self) -> str:
        """'split=held_out, family=story', or 'all'."""
        return ", ".join(f"{name}={value}" for name, value in self.m.by.items()) or "all"

    def csv(self) -> list[str]:
        """Its cells under CSV_HEADER, numbers unrounded; what is not known is empty."""
        m = self.m
        low, high = m.interval or (None, None)
        numbers = [m.value, low, high]
        tail = [m.n_asked, m.n_scored, m.worst]
        cells = [*numbers, m.interval_method, m.level if m.interval else None, *tail]
        return [m.metric, self.slice, *("" if cell is None else str(cell) for cell in cells), self.hash]


class Numbers:
    """The numbers that count now, found by metric and slice."""

    def __init__(self, current: Mapping[Key, Entry]) -> None:
        self.all = [Number(entry) for entry in current.values()]
        self._index = {(n.m.metric, tuple(sorted(n.m.by.items()))): n for n in self.all}
        self._by_metric: dict[str, list[Number]] = {}
        for n in self.all:
            self._by_metric.setdefault(n.m.metric, []).append(n)

    def find(self, metric: str, by: Mapping[str, str] | None = None) -> Number | None:
        return self._index.get((metric, tuple(sorted((by or {}).items()))))

    def slices(self, metric: str, names: Iterable[str]) -> list[Number]:
        """Numbers of a metric whose slice names exactly these things, in ledger order."""
        wanted = set(names)
        return [n for n in self._by_metric.get(metric, ()) if set(n.m.by) == wanted]

    def of(self, metric: str) -> list[Number]:
        """All numbers of a metric, in ledger order."""
        return list(self._by_metric.get(metric, ()))

    def sliced(self, metric: str) -> list[Number]:
        """Numbers of a metric whose slice names exactly one thing, in ledger order."""
        return [n for n in self._by_metric.get(metric, ()) if len(n.m.by) == 1]

    def metrics(self) -> list[str]:
        return list(self._by_metric)
