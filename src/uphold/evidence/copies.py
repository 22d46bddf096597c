"""Where else in a run folder the text of a transcript lies: what whoever redacts it must deal with.

Reads files in pieces, so that a large journal costs no memory. Left out: sealed packs, which cannot be searched, and other spellings
of the same text.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

_MIN_COPY = 24
"""characters from which a text is long enough that finding it elsewhere means something"""


def copies(run: Path, contents: Iterable[Any]) -> list[Path]:
    """Files of a run that hold a text of the contents (of 24 characters or more) word for word. Sealed packs cannot be searched."""
    needles = {
        form.encode("utf-8", "surrogatepass")
        for text in _texts(list(contents))
        if len(text) >= _MIN_COPY
        for form in (json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1], text)
    }
    if not needles:
        return []
    files = sorted(path for path in run.rglob("*") if path.is_file())
    return [path for path in files if _holds(path, needles)]


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _texts(inner)


def _holds(path: Path, needles: set[bytes], chunk: int = 1 << 22) -> bool:
    """Whether a file holds one of the needles, read a few MiB at a time."""
    overlap = max(map(len, needles)) - 1
    tail = b""
    with open(path, "rb") as file:
        while piece := file.read(chunk):
            window = tail + piece
            if any(needle in window for needle in needles):
                return True
            tail = window[-overlap:] if overlap else b""
    return False
