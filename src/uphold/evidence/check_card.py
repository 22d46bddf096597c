"""Reads a finished card back and holds every number on it against the ledger.

Rules the page keeps, and this checks:
- an element with `data-field` stands inside (or is) one with `data-entry`; its text is what `numbers.shown` prints for them;
- every digit elsewhere is inside an element marked `data-plain`: names, clauses, excerpts, axis ticks, hashes;
- every link to `#e-...` has its row; the ledger entry named in the head of the page is in the ledger.
So a number typed or edited by hand fails, in the template as in the finished page. Used by `uphold verify` and by the tests.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser

from uphold.evidence.entry import Entry
from uphold.evidence.ledger import Ledger
from uphold.evidence.numbers import shown
from uphold.evidence.paths import CARD

VOID = frozenset({"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"})
UNSEEN = frozenset({"style", "script", "head"})


@dataclass
class Element:
    """An open element. entry and is_free are inherited; shows: the field its text must be, gathered in `texts`."""

    tag: str
    entry: str | None
    shows: str | None
    is_free: bool
    texts: list[str] = field(default_factory=list)


class _Reader(HTMLParser):
    """Gathers (entry, field, text) for every shown field, digits that no entry stands behind, anchors and links."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.fields: list[tuple[str | None, str, str]] = []
        self.loose: list[str] = []
        self.ids: set[str] = set()
        self.links: set[str] = set()
        self.head: str | None = None
        self._open: list[Element] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "meta" and given.get("name") == "uphold-ledger":
            self.head = given.get("content")
        self.ids.update(filter(None, [given.get("id")]))
        if (given.get("href") or "").startswith("#e-"):
            self.links.add((given.get("href") or "")[1:])
        if tag in VOID:
            return
        above = self._open[-1] if self._open else Element("", None, None, False)
        is_free = above.is_free or "data-plain" in given or tag in UNSEEN
        self._open.append(Element(tag, given.get("data-entry", above.entry), given.get("data-field"), is_free))

    def handle_endtag(self, tag: str) -> None:
        if not any(element.tag == tag for element in self._open):
            return
        while self._open:
            element = self._open.pop()
            if element.shows is not None:
                self.fields.append((element.entry, element.shows, "".join(element.texts)))
            if element.tag == tag:
                return

    def handle_data(self, data: str) -> None:
        showing = next((element for element in reversed(self._open) if element.shows is not None), None)
        if showing is not None:
            showing.texts.append(data)
        elif re.search(r"[0-9]", data) and not (self._open and self._open[-1].is_free):
            self.loose.append(" ".join(data.split()))


def card_problems(html: str, ledger: Ledger) -> Iterator[str]:
    """What is wrong with a card, a sentence each; nothing when every number on it is the ledger's."""
    reader = _Reader()
    reader.feed(html)
    reader.close()
    entries = {entry.hash: entry for entry in ledger.entries()}
    yield from _head_problems(reader.head, ledger)
    for hash_, field_, text in reader.fields:
        yield from _field_problems(entries.get(hash_ or ""), hash_, field_, text)
    for text in reader.loose:
        yield f"{CARD}: {text[:80]!r} holds a number that no ledger entry stands behind"
    for link in sorted(reader.links - reader.ids):
        yield f"{CARD}: a number points at {link}, which is not on the page"


def _head_problems(head: str | None, ledger: Ledger) -> Iterator[str]:
    seq, _, hash_ = (head or "").partition(" ")
    entries = ledger.entries()
    if not seq.isdecimal() or not hash_:
        yield f"{CARD}: does not say which ledger it was made from"
    elif int(seq) >= len(entries) or entries[int(seq)].hash != hash_:
        yield f"{CARD}: was made from another ledger, or from entries that are gone (entry {seq}, {hash_[:12]}...)"


def _field_problems(entry: Entry | None, hash_: str | None, field_: str, text: str) -> Iterator[str]:
    if entry is None:
        yield f"{CARD}: shows {text[:80]!r} from entry {(hash_ or 'none')[:12]}, which is not in the ledger"
        return
    try:
        expected = shown(entry, field_)
    except (KeyError, IndexError, ValueError, TypeError):
        yield f"{CARD}: shows {text[:80]!r} as {field_!r} of entry {entry.seq}, which has no such field"
        return
    if " ".join(text.split()) != " ".join(expected.split()):
        yield f"{CARD}: shows {text[:80]!r} where entry {entry.seq} says {expected[:80]!r}"
