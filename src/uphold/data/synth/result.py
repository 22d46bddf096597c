"""What a generation run came to: rows, what is missing, what was dropped and why, and how far the second judge agrees.

Takes the plan and what was counted on the way; gives the `Result` that is printed and left as OUT/summary.json. Shares are
Measurements. Left out: the variety of the rows (`uphold data stats OUT/rows.jsonl`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from uphold.core.files import read_jsonl
from uphold.core.measure import proportion
from uphold.core.records import Label, Measurement, Record
from uphold.core.store import hash_file
from uphold.data.synth.calls import Calls
from uphold.data.synth.plan import Ask
from uphold.data.synth.rowfile import RowFile


class Missing(Record):
    """Rows of a clause ('' where a source gives them) and label that were planned and are not there, by form."""

    clause: str
    label: Label
    form: str
    n: int


class Result(Record):
    """The end of a run. counts: clause -> label -> rows. balance: difficulty -> label -> rows. rejected: reason -> candidates or
    replies. failures: asks without anything usable. n_calls, n_tokens: what the rows rest on. stopped: why it ended early, ''."""

    out: str
    rows: str
    n_planned: int
    n_rows: int
    counts: dict[str, dict[str, int]]
    balance: dict[str, dict[str, int]]
    missing: tuple[Missing, ...]
    rejected: dict[str, int]
    failures: dict[str, int]
    n_calls: int
    n_tokens: int
    stopped: str
    measurements: tuple[Measurement, ...]


def summarise(
    out: Path,
    asks: Sequence[Ask],
    calls: Calls,
    file: RowFile,
    rejected: Mapping[str, int],
    judged: Sequence[tuple[str, Label, Label | None]],
    seed: int,
) -> Result:
    """The result of the run in `out`. judged: (clause, label asked for, label of the judge) of every generated request."""
    lacking: Counter[tuple[str, Label, str]] = Counter()
    for ask in asks:
        lacking[ask.clause, ask.label, ask.form] += max(0, ask.n - file.by_ask[ask.number])
    counts: dict[str, Counter[str]] = {}
    balance: dict[str, Counter[str]] = {}
    for _, row in read_jsonl(file.path):
        counts.setdefault(row["clause"] or "", Counter())[row["label"]] += 1
        if row["difficulty"]:
            balance.setdefault(row["difficulty"], Counter())[row["label"]] += 1
    return Result(
        out=str(out),
        rows=str(file.path),
        n_planned=sum(ask.n for ask in asks),
        n_rows=len(file),
        counts={clause: dict(sorted(n.items())) for clause, n in sorted(counts.items())},
        balance={name: dict(sorted(n.items())) for name, n in sorted(balance.items())},
        missing=tuple(Missing(clause=c, label=label, form=f, n=n) for (c, label, f), n in lacking.items() if n),
        rejected=dict(sorted(rejected.items())),
        failures=dict(sorted(calls.failures.items())),
        n_calls=calls.n_calls,
        n_tokens=calls.n_tokens,
        stopped=calls.stopped,
        measurements=_agreement(judged, {"data": hash_file(file.path), "seeds": (seed,)}),
    )


def _agreement(judged: Sequence[tuple[str, Label, Label | None]], about: Mapping[str, Any]) -> tuple[Measurement, ...]:
    """How often the judge gives the label that was asked for: overall, by label, by clause; unreadable answers are unscored."""
    if not judged:
        return ()

    def measured(part: Sequence[tuple[str, Label, Label | None]], by: Mapping[str, str]) -> Measurement:
        return proportion(
            "label_agreement", [None if j is None else j == label for _, label, j in part], by=by, **about
        )

    found = [measured(judged, {})]
    for name, of in (("label", 1), ("clause", 0)):
        values = sorted({str(one[of]) for one in judged})
        found += [measured([one for one in judged if one[of] == value], {name: value}) for value in values]
    return tuple(found)
