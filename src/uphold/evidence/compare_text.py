"""A comparison in words and tables: for a terminal, for a pull request (Markdown), and as CSV.

Takes a `Comparison`; numbers are written as on the card (`format.py`). What differs between the runs besides the systems stands above the
table, never below it; a metric that a run did not measure says so.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from uphold.core.records import Measurement
from uphold.evidence.card import markdown_text
from uphold.evidence.compare import Cell, Comparison, Delta, Row
from uphold.evidence.format import counted, number, span

MISSING = "not measured"
MARKS = {"worse": "▼", "better": "▲", "not worse": "=", "no difference shown": "·", "insufficient": "?"}
"""a sign beside each verdict, so that colour is never alone"""


def headline(c: Comparison) -> str:
    """One sentence: what came out, over how many comparisons."""
    total = sum(len(row.deltas) for row in c.rows)
    counts = {verdict: sum(d.verdict == verdict for row in c.rows for d in row.deltas) for verdict in MARKS}
    said = ", ".join(f"{n} {verdict}" for verdict, n in counts.items() if n)
    return f"{c.verdict}: {said} of {counted(total, 'comparison')} with {c.baseline}"


def warnings(c: Comparison) -> list[str]:
    """What makes the runs unlike, the grave first, and which numbers are missing."""
    grave = [f"NOT ALIKE, {one.sentence}" for one in c.unlike if one.is_grave]
    mild = [one.sentence for one in c.unlike if not one.is_grave]
    missing = [
        f"{cell.run} did not measure {row.name}" for row in c.rows for cell in row.cells if cell.measurement is None
    ]
    return [*grave, *mild, *missing, *c.notes]


def method(c: Comparison) -> str:
    """How it was judged, in two or three sentences."""
    how = {d.how for row in c.rows for d in row.deltas}
    pairing = {
        frozenset({"paired"}): "Every difference is paired on the same items.",
        frozenset(
            {"unpaired"}
        ): "No difference is paired: the runs keep no outcomes on the same items, so intervals are wider.",
    }.get(frozenset(how - {"none"}), "Differences are paired on the same items but where 'unpaired' stands.")
    margin = f" Acceptable change for the worse: {c.settings.margin:g}." if c.settings.margin is not None else ""
    return (
        f"{pairing} q: p corrected over {counted(c.family, 'comparison')} (Benjamini-Hochberg, false discovery rate {c.settings.fdr:g}); "
        f"intervals are for one comparison each.{margin}"
    )


def value(m: Measurement | None) -> str:
    """'8.4%', with what was not scored; 'not measured'."""
    if m is None:
        return MISSING
    lost = f" ({m.n_asked - m.n_scored} of {m.n_asked} unscored)" if m.n_scored < m.n_asked else ""
    return number(m.value, m.unit) + lost


def change(delta: Delta) -> str:
    """'-3.1 pp (-5.0 pp to -1.2 pp)'; 'none' without one."""
    m = delta.delta
    if m is None or m.value is None:
        return "-"
    return f"{number(m.value, m.unit)} ({span(m.interval, m.unit)})"


def cells(row: Row, delta: Delta) -> list[str]:
    """One comparison as the columns of HEAD."""
    base, run = row.cells[0], next(cell for cell in row.cells if cell.run == delta.run)
    about = f"{delta.n_pairs:,} pairs" if delta.how == "paired" else delta.how
    q = "-" if delta.q is None else f"{delta.q:.2g}" if delta.q >= 0.0001 else "<0.0001"
    better = "higher" if row.higher_is_better else "lower"
    said = f"{MARKS[delta.verdict]} {delta.verdict}"
    return [
        f"{row.name} ({better} is better)",
        value(base.measurement),
        value(run.measurement),
        change(delta),
        about,
        q,
        said,
    ]


HEAD = ["metric", "baseline", "run", "difference (95%)", "n", "q", "verdict"]


def text(c: Comparison) -> str:
    """The whole comparison for a terminal: a table for each run, letters when there are more than two, reasons where not plain."""
    lines = [headline(c), *(f"  ! {one}" for one in warnings(c)), ""]
    for side in c.runs[1:]:
        rows = [(row, d) for row in c.rows for d in row.deltas if d.run == side.name]
        head = [HEAD[0], c.baseline, side.name, *HEAD[3:]]
        lines += [_aligned([head, *(cells(row, d) for row, d in rows)]), ""]
        lines += [f"  {row.name}: {d.reason}" for row, d in rows if d.verdict in ("worse", "insufficient")]
        if any(d.verdict in ("worse", "insufficient") for _, d in rows):
            lines.append("")
    if len(c.runs) > 2:
        lines += [
            "who differs from whom: runs that share a letter were not shown to differ; a is best",
            _letters(c),
            "",
        ]
    return "\n".join([*lines, method(c)])


def _letters(c: Comparison) -> str:
    head = ["metric", *(side.name for side in c.runs)]
    return _aligned([head, *([row.name, *(_lettered(cell) for cell in row.cells)] for row in c.rows)])


def _lettered(cell: Cell) -> str:
    return f"{value(cell.measurement)} {cell.letters or '-'}" if cell.measurement is not None else MISSING


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def markdown(c: Comparison, title: str = "Alignment, compared") -> str:
    """The same as Markdown, for a job's summary or a pull request."""
    lines = [f"## {markdown_text(title)}", "", f"**{markdown_text(headline(c))}**", ""]
    lines += [f"> ⚠ {markdown_text(one)}" for one in warnings(c)]
    for side in c.runs[1:]:
        head = [HEAD[0], c.baseline, side.name, *HEAD[3:]]
        rows = [(row, d) for row in c.rows for d in row.deltas if d.run == side.name]
        lines += ["", _md(head), _md(["---"] * len(head))]
        lines += [_md(cells(row, d)) for row, d in rows]
        lines += [
            "",
            *(f"- {markdown_text(row.name)}: {markdown_text(d.reason)}" for row, d in rows if d.verdict == "worse"),
        ]
    return "\n".join([*lines, "", markdown_text(method(c)), ""])


def _md(row: Sequence[str]) -> str:
    return "| " + " | ".join(cell if cell == "---" else markdown_text(cell) for cell in row) + " |"


CSV_HEAD = (
    "metric by higher_is_better unit run is_baseline value low high n_asked n_scored worst letters "
    "delta delta_low delta_high delta_worst how n_pairs p q verdict reason"
).split()


def csv_text(c: Comparison) -> str:
    """One line for each metric and run, RFC 4180; what is not known is empty."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\r\n")
    writer.writerow(CSV_HEAD)
    for row in c.rows:
        by = ", ".join(f"{key}={value}" for key, value in row.by.items())
        deltas = {delta.run: delta for delta in row.deltas}
        for cell in row.cells:
            about = [row.metric, by, row.higher_is_better, row.unit, cell.run, cell.run == c.baseline]
            writer.writerow([_plain(each) for each in (*about, *_own(cell), *_difference(deltas.get(cell.run)))])
    return stream.getvalue()


def _own(cell: Cell) -> list[object]:
    m = cell.measurement
    if m is None:
        return [None] * 7
    low, high = m.interval or (None, None)
    return [m.value, low, high, m.n_asked, m.n_scored, m.worst, cell.letters]


def _difference(delta: Delta | None) -> list[object]:
    if delta is None:
        return [None] * 10
    m = delta.delta
    low, high = (m.interval if m else None) or (None, None)
    numbers = [m.value if m else None, low, high, m.worst if m else None]
    return [*numbers, delta.how, delta.n_pairs, delta.p, delta.q, delta.verdict, delta.reason]


def _plain(value: object) -> str:
    text = "" if value is None else str(value)
    return (
        f"'{text}" if isinstance(value, str) and text[:1] in "=+-@" else text
    )  # no spreadsheet may take a name for a formula
