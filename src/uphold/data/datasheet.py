"""The diversity report as text and as Markdown tables, and the tables of the written corpus's datasheet.

    python -m uphold.data.datasheet docs/corpus.md

rewrites what stands between the two marks of the page, from the rows as they are now. Left out: the prose of the page.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from uphold.core.errors import DataError
from uphold.core.files import read_text, write_atomic
from uphold.core.records import Measurement
from uphold.data.report import NEAR, Report, describe

BEGIN, END = "<!-- corpus: begin -->", "<!-- corpus: end -->"
_SHOWN_PAIRS = 10


def figure(m: Measurement) -> str:
    """'0.2% (n=4138, 95% Wilson 0.1%-0.4%)', or the bare number where there is no interval; 'not measured' without a value."""
    if m.value is None:
        return "not measured"
    if m.unit != "share":
        return f"{m.value:.3f} {m.unit} (n={m.n_scored})"
    if m.interval is None:
        return f"{m.value:.1%} (n={m.n_scored})"
    low, high = m.interval
    return f"{m.value:.2%} (n={m.n_scored}, {m.level:.0%} {m.interval_method} {low:.2%}-{high:.2%})"


def headline(report: Report) -> list[tuple[str, str]]:
    """(what, how much) of a report's main figures, in plain words."""
    measured = {m.metric: m for m in report.measurements}
    rows = [
        ("rows", f"{report.n} ({report.n_multi_turn} conversations, {report.n_replies} with a reply)"),
        ("benign share", figure(measured["benign_share"])),
        (f"near-duplicates (Jaccard {NEAR} of word triples)", figure(measured["near_duplicates"])),
        ("rows on a shared frame (template)", figure(measured["template_rows"])),
        (
            "similarity to nearest other row",
            f"mean {figure(measured['nearest_neighbour_similarity'])}; {_spread(report.nearest)}",
        ),
        ("words in a request", _spread(report.words)),
        ("different n-grams", ", ".join(f"{n:,} {name}" for name, n in report.distinct.items())),
    ]
    distinct = [measured[f"distinct_{n}"] for n in (1, 2, 3)]
    shares = ", ".join("not measured" if m.value is None else f"{m.value:.1%}" for m in distinct)
    rows.append((f"distinct-1, -2, -3 {distinct[0].note.partition(', ')[2]}", shares))
    rows.append(("commonest openings", ", ".join(f"'{opening}' {n}" for opening, n in report.openings)))
    return rows


def _spread(found: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in found.items()) or "none"


def as_text(report: Report) -> str:
    """What `uphold data stats` prints."""
    main = headline(report)
    width = max(len(what) for what, _ in main)
    lines = [report.name, *(f"  {what.ljust(width)}  {how}" for what, how in main)]
    for field, counted in report.counts.items():
        if field != "clause":
            lines.append(f"  {field.ljust(width)}  {', '.join(f'{value} {n}' for value, n in counted.items())}")
    wide = max((len(b.clause) for b in report.balance), default=0)
    lines.append(f"  {'clause'.ljust(wide)}  harmful  benign  unlabelled")
    lines += [f"  {b.clause.ljust(wide)}  {b.harmful:7}  {b.benign:6}  {b.unlabelled:10}" for b in report.balance]
    for place, earlier, alike in report.pairs[:_SHOWN_PAIRS]:
        lines.append(f"  near-duplicate: {place} of {earlier} ({alike:g})")
    if len(report.pairs) > _SHOWN_PAIRS:
        lines.append(f"  and {len(report.pairs) - _SHOWN_PAIRS} more near-duplicates: see --json")
    return "\n".join(lines)


def as_markdown(report: Report) -> str:
    """The same as tables."""
    parts = [_table(("figure", "value"), headline(report))]
    parts.append(
        _table(("clause", "harmful", "benign"), [(b.clause, str(b.harmful), str(b.benign)) for b in report.balance])
    )
    for field, counted in report.counts.items():
        if field not in ("clause", "label"):
            parts.append(_table((field, "rows"), [(value, str(n)) for value, n in counted.items()]))
    return "\n\n".join(parts)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(_table_lines(head, rows))


def _table_lines(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"| {' | '.join('---' for _ in head)} |"
    for row in rows:
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |"


def current(page: str, where: str = "page") -> str:
    """`page` with the tables between the marks brought up to date. Raises DataError when a mark is missing."""
    from uphold.data.assistant import NAME, load

    head, begin, rest = page.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise DataError(f"{where}: needs the lines {BEGIN} and {END}, around the place for the tables")
    return f"{head}{begin}\n{as_markdown(describe(load(), NAME))}\n{end}{tail}"


if __name__ == "__main__":
    path = Path(sys.argv[1])
    write_atomic(path, current(read_text(path), str(path)))
