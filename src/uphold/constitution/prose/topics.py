"""What a clause is about, and how much weight its document gives it, read from the headings above it.

`category_of` gives the kind of harm the nearest heading names, by the table in `words`, else a name made of the heading; `standing`
reads a heading attribute such as `{#anchor authority=system}` (the OpenAI Model Spec marks its sections so) as scope and priority.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence

from uphold.constitution.prose.markdown import Heading
from uphold.constitution.prose.words import TOPICS
from uphold.constitution.schema import DEFAULT_PRIORITY, Scope

MAX_NAME = 48  # characters of a category made of a heading

_TOPICS = tuple((name, re.compile(pattern, re.IGNORECASE)) for name, pattern in TOPICS)
_GENERIC = re.compile(
    r"(?:overview|introduction|general|definitions?|rules?|polic(?:y|ies)|guidelines?|principles?|scope|purpose|summary|misc\w*|other"
    r"|notes?|terms|appendix|preamble|part|section|chapter)?[\s\d.:ivx]*$",
    re.IGNORECASE,
)
_STANDING: dict[str, tuple[Scope, int]] = {
    "root": ("system", 100),
    "platform": ("system", 100),
    "system": ("system", 90),
    "operator": ("operator", 70),
    "developer": ("operator", 70),
    "user": ("user", 50),
    "guideline": ("user", 30),
}


def category_of(path: Sequence[Heading], sentence: str = "") -> str | None:
    """The category of a rule under `path` (outermost heading first); from its own words when no heading tells. None when nothing does."""
    for heading in reversed(path):
        if (name := _topic(f"{heading.title} {(heading.anchor or '').replace('_', ' ')}")) is not None:
            return name
        if not _GENERIC.fullmatch(_plain(heading.title)):
            return _slug(heading)
    return _topic(sentence)


@functools.lru_cache(maxsize=4096)
def _topic(words: str) -> str | None:
    return next((name for name, pattern in _TOPICS if pattern.search(words)), None)


def _plain(title: str) -> str:
    return re.sub(r"^[\s\d.()]+|[*_`]", "", title).strip()


def _slug(heading: Heading) -> str | None:
    """The anchor, when the author gave one, or the words of the title, as a name: 'refusal-style'."""
    words = re.findall(r"[a-z0-9]+", (heading.anchor or _plain(heading.title)).lower())
    name = ""
    for word in words:
        if len(name) + len(word) + 1 > MAX_NAME:
            break
        name = f"{name}-{word}" if name else word
    return name or None


def standing(path: Sequence[Heading]) -> tuple[Scope | None, int]:
    """(scope, priority) that the nearest heading with an `authority=` gives; (None, the default) when none does."""
    for heading in reversed(path):
        authority = dict(heading.attributes).get("authority", "").lower()
        if authority in _STANDING:
            return _STANDING[authority]
    return None, DEFAULT_PRIORITY
