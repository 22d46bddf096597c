"""`uphold eval refusal`: how many replies in a file refuse, wholly or in part, and how far the grades agree with labels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from uphold.cli.common import Json, emit, table
from uphold.cli.rates import head, row

LABELS: tuple[str, ...] = ("full", "partial", "none")


def refusal(
    data: Annotated[
        list[Path], typer.Option(help="Rows: completion, optionally prompt, and label full, partial or none.")
    ],
    each: Annotated[bool, typer.Option("--each", help="With --json: the grade of every reply as well.")] = False,
    as_json: Json = False,
) -> None:
    """Grade replies: a full refusal, a partial one, or none.

    \b
    uphold eval refusal --data replies.jsonl
    uphold eval refusal --data replies.csv --each --json

    Rows with an empty completion are full refusals; rows without one are unscored. Where rows have a label, agreement is reported.
    """
    from uphold.core.measure import proportion
    from uphold.core.records import digest
    from uphold.evals.refusal import refusal_shares

    rows = _rows(data)
    shares = [None if reply is None else refusal_shares(reply, asked=asked) for asked, reply, _ in rows]
    grades = [_largest(s) for s in shares]
    about: dict[str, Any] = {"data": digest([list(r) for r in rows])}
    rates = {
        name: proportion(
            f"refusal_{name}",
            [None if g is None else g == name for g in grades],
            higher_is_better=name == "none",
            **about,
        )
        for name in LABELS
    }
    result: dict[str, Any] = {"n": len(rows), **rates}
    labelled = [(g, label) for g, (_, _, label) in zip(grades, rows, strict=True) if label]
    if labelled:
        right = [None if g is None else g == label for g, label in labelled]
        result["agreement"] = proportion("refusal_agreement", right, **about)
    if each:
        result["replies"] = [{"grade": g, "shares": s} for g, s in zip(grades, shares, strict=True)]
    shown = [head("replies", "rows"), *(row(f"refused: {name}", m) for name, m in rates.items())]
    shown += [row("agreement with labels", result["agreement"])] if labelled else []
    emit(result, as_json, table(shown))


def _largest(shares: Mapping[Any, float] | None) -> str | None:
    return None if shares is None else max(shares, key=lambda name: shares[name])


def _rows(data: list[Path]) -> list[tuple[str, str | None, str]]:
    """(prompt, completion or None, label or '') of every row. Raises DataError for a file without completions or an unknown label."""
    from uphold.core.errors import DataError, did_you_mean
    from uphold.data.files import read_rows

    found: list[tuple[str, str | None, str]] = []
    for path in data:
        for line, given in read_rows(path):
            if "completion" not in given:
                raise DataError(f"{path}:{line}: no column 'completion'. Rename the one that holds the replies.")
            label = str(given.get("label") or "").strip().lower()
            if label and label not in LABELS:
                raise DataError(f"{path}:{line}: label {label!r}. {did_you_mean(label, LABELS)}")
            reply = given["completion"]
            found.append((str(given.get("prompt") or ""), None if reply is None else str(reply), label))
    if not found:
        raise DataError(f"{', '.join(map(str, data))}: holds no rows.")
    return found
