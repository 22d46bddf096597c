"""The table of all transforms for docs/transforms.md, made from the registry so that it cannot fall behind.

    python -m uphold.data.transforms.catalogue docs/transforms.md

rewrites what stands between the two marks of the page. A test compares page and registry.
"""

from __future__ import annotations

import sys
from pathlib import Path

from uphold.core.errors import DataError
from uphold.core.files import read_text, write_atomic
from uphold.core.registry import get
from uphold.data.transforms.base import Transform, transform_names

BEGIN, END = "<!-- transforms: begin -->", "<!-- transforms: end -->"


def table() -> str:
    """A Markdown table, one row per transform, by type and name."""
    found: list[Transform] = [get("transform", name) for name in transform_names()]
    rows = [
        "| name | type | what it does | inverse | cost | after |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    rows += [
        f"| `{t.name}` | {t.type} | {t.about} | {_inverse(t)} | {t.cost:.1f} | {t.paper or 'common practice'} |"
        for t in sorted(found, key=lambda t: (t.type, t.name))
    ]
    return "\n".join(rows)


def _inverse(transform: Transform) -> str:
    return "none" if transform.inverse is None else "exact" if not transform.alphabet else "exact on its alphabet"


def current(page: str, where: str = "page") -> str:
    """`page` with the table between the marks brought up to date. Raises DataError when a mark is missing."""
    head, begin, rest = page.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise DataError(f"{where}: needs the lines {BEGIN} and {END}, around the place for the table")
    return f"{head}{begin}\n{table()}\n{end}{tail}"


if __name__ == "__main__":
    path = Path(sys.argv[1])
    write_atomic(path, current(read_text(path), str(path)))
