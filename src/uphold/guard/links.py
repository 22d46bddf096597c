"""Whose record a reply gives away: words of a reply that stand in the system message, and what they stand beside there.

The words of a leaked record look like those of any record. What tells the customer's own from another's is the way from the copied word
to the words around it, and from those to the other places where they occur: "7844" stands beside "rosa", and nothing says "talking to
rosa". A `Links` reads the system messages of a conversation once and gives, for a word of the reply, link words that a
linear stage counts like any other: that it was copied, and which words introduce its neighbours elsewhere. Bounded work per word, so
a stream's steps stay constant. Left out: what the user or a tool wrote, and values that were changed on the way (spelled out, encoded).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from uphold.core.records import Message
from uphold.guard import features

MARK = "\x00"  # begins every link word; no word of a text holds it
REACH = 4  # words before a copied word that count as beside it
RARE = 4  # a word that occurs more often in the system message was not copied from any one place
MOST = 12  # places a neighbour may occur at; beyond, it is a common word and links nothing


class Links:
    """What the system messages of a conversation say around their words; empty where there are none."""

    def __init__(self, messages: Sequence[Message]) -> None:
        system = "\n".join(m.content for m in messages if m.role == "system")
        self._words = [features.normalise(word) for word in features.iter_words(system)]
        self._places: dict[str, list[int]] = defaultdict(list)
        for at, word in enumerate(self._words):
            self._places[word].append(at)
        self._known: dict[str, tuple[str, ...]] = {}

    def of(self, word: str) -> tuple[str, ...]:
        """The link words of a word of the reply, sorted; () when it was not copied from one of a few places."""
        if not self._places:
            return ()
        word = features.normalise(word)
        if word not in self._known:
            self._known[word] = self._found(word)
        return self._known[word]

    def _found(self, word: str) -> tuple[str, ...]:
        places = self._places.get(word, ())
        if not 0 < len(places) <= RARE:
            return ()
        ways = {
            self._words[other - 1]
            for at in places
            for beside in range(max(0, at - REACH), at)
            for other in self._elsewhere(beside)
        }
        return (f"{MARK}copied", *sorted(f"{MARK}{way}" for way in ways))

    def _elsewhere(self, at: int) -> Iterator[int]:
        """The other places, not the first of the text, of the word at `at`, unless it is a common one."""
        places = self._places[self._words[at]]
        if len(places) <= MOST:
            yield from (other for other in places if other != at and other > 0)

    def read(self, words: Iterable[str]) -> Iterator[str]:
        """The words of a reply, each followed by its link words."""
        for word in words:
            yield word
            yield from self.of(word)


def n_read(words: Sequence[str]) -> int:
    """How many of `words`, as `Links.read` gives them, are words of the reply."""
    return sum(not word.startswith(MARK) for word in words)
