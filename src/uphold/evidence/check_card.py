"""Reads a finished card back and holds every number on it against the ledger.

Rules the page keeps, and this checks:
- an element with `data-field` stands inside (or is) one with `data-entry`; its text is what `numbers.shown` prints for them;
- every digit elsewhere is inside an element marked `data-plain`: names, clauses, excerpts, axis ticks, hashes;
- an element with `data-said` stands inside one with `data-transcript`; its text is that transcript's, shortened, and not redacted;
- every link to `#e-...` has its row; the ledger entry named in the head of the page is in the ledger.
So a number typed or edited by hand fails, in the template as in the finished page. Used by `uphold verify` and by the tests.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser

from uphold.evidence.entry import Entry
from uphold.evidence.excerpts import find, said
from uphold.evidence.ledger import Ledger
from uphold.evidence.numbers import shown
from uphold.evidence.paths import CARD

VOID = frozenset({"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"})
UNSEEN = frozenset({"style", "script", "head"})


@dataclass
class Element:
    """An open element. entry, transcript and is_free are inherited; shows: the field its text must be, gathered in `texts`."""

    tag: str
    entry: str | None
    shows: str | None
    is_free: bool
    transcript: str | None = None
    said: str | None = None
    texts: list[str] = field(default_factory=list)


class _Reader(HTMLParser):
    """Gathers (entry, field, text) for every shown field, digits that no entry stands behind, anchors and links."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.fields: list[tuple[str | None, str, str]] = []
        self.said: list[tuple[str, str, str]] = []
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
        transcript = given.get("data-transcript", above.transcript)
        entry, shows, said = given.get("data-entry", above.entry), given.get("data-field"), given.get("data-said")
        self._open.append(Element(tag, entry, shows, is_free, transcript, said))

    def handle_endtag(self, tag: str) -> None:
        if not any(element.tag == tag for element in self._open):
            return
        while self._open:
            element = self._open.pop()
            if element.shows is not None:
                self.fields.append((element.entry, element.shows, "".join(element.texts)))
            if element.said is not None:
                self.said.append((element.transcript or "", element.said, "".join(element.texts)))
            if element.tag == tag:
                return

    def handle_data(self, data: str) -> None:
        showing = next((e for e in reversed(self._open) if e.shows is not None or e.said is not None), None)
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
    yield from _excerpt_problems(reader.said, ledger)
    for text in reader.loose:
        yield f"{CARD}: {text[:80]!r} holds a number that no ledger entry stands behind"
    for link in sorted(reader.links - reader.ids):
        yield f"{CARD}: a number points at {link}, which is not on the page"


def _excerpt_problems(shown_: list[tuple[str, str, str]], ledger: Ledger) -> Iterator[str]:
    """Excerpts that are not what their transcript says, or show what was redacted."""
    entries = ledger.entries()
    gone = {c for e in entries if e.kind == "redaction" for c in e.body["commitments"]}
    found = find(ledger.path.parent, entries, {commitment for commitment, _, _ in shown_})
    for commitment in dict.fromkeys(commitment for commitment, _, _ in shown_ if commitment in gone):
        yield f"{CARD}: still shows the transcript {commitment[:12]}, which was redacted. Write it again: uphold card"
    for commitment, part, text in shown_:
        name = f"the transcript {commitment[:12] or '(none)'}"
        transcript = found.get(commitment)
        if commitment in gone:
            continue
        if transcript is None or transcript.content is None:
            yield f"{CARD}: shows {text[:40]!r} from {name}, which cannot be read in this run"
        else:
            asked, completion = said(transcript.content)
            expected = (asked if part == "prompt" else completion or "").replace("\r\n", "\n").replace("\r", "\n")
            if text != expected and not (text.endswith("…") and expected.startswith(text[:-1])):
                yield f"{CARD}: shows {text[:40]!r} where {name} says {expected[:40]!r}"


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
