"""A guard's report card: one page with figures, drawn from a ledger.

`write_guard_card` records a guard's measurements (`guard.report`) in a ledger in the folder and writes `guard.html` (self-contained: no
script, no request to anywhere), `guard.json`, and `figures/` with each figure's SVG and CSV. Looks, figures and formats are the system
card's; every number on the page carries its ledger entry. Nothing is measured here. Left out: gates and comparison, which read the ledger.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from uphold.core.files import write_atomic, write_json
from uphold.core.records import Measurement
from uphold.evidence.card import css, environment
from uphold.evidence.figures import Figure, Group, intervals
from uphold.evidence.ledger import Ledger
from uphold.evidence.numbers import Number, Numbers
from uphold.evidence.paths import FIGURES
from uphold.evidence.reliability_figure import reliability

PAGE, RESULT = "guard.html", "guard.json"
PREFIX = "guard."
STAGE = "guard-eval"


@dataclass(frozen=True)
class Row:
    """One number on the page. about: what it means, in half a sentence."""

    label: str
    about: str
    number: Number | None


@dataclass
class Section:
    """name: its anchor. note: what to know before reading the numbers; figures and rows follow it."""

    name: str
    title: str
    note: str
    rows: list[Row] = field(default_factory=list)
    figures: list[tuple[Figure, str]] = field(default_factory=list)

    @property
    def is_filled(self) -> bool:
        return bool(self.figures) or any(row.number is not None for row in self.rows)


@dataclass(frozen=True)
class GuardPage:
    """What the template prints. facts: (name, text) of the guard and its data."""

    title: str
    lead: str
    facts: Sequence[tuple[str, str]]
    headline: Sequence[Row]
    sections: Sequence[Section]
    all: Sequence[Number]


def write_guard_card(
    folder: str | Path, title: str, facts: Mapping[str, str], measurements: Sequence[Measurement], result: Any
) -> Path:
    """Write the card of one guard into `folder`; returns the page. result: what goes into guard.json. A card that is there is renewed."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    ledger = Ledger(folder)
    ledger.append_measurements(STAGE, measurements)
    page = build(title, facts, Numbers(ledger.current()))
    templates = environment()
    for section in page.sections:
        for figure, _ in section.figures:
            svg = templates.get_template("figure.svg.j2").render(figure=figure, css=css("figure"))
            write_atomic(folder / FIGURES / f"{figure.name}.svg", svg)
            write_atomic(folder / FIGURES / f"{figure.name}.csv", figure.csv())
    write_json(folder / RESULT, result)
    html = templates.get_template("guard.html.j2").render(page=page, css=css("figure", "card"))
    write_atomic(folder / PAGE, html)
    return folder / PAGE


def build(title: str, facts: Mapping[str, str], numbers: Numbers) -> GuardPage:
    """The page of the numbers that a guard's ledger holds now."""
    sections = [make(numbers) for make in (_by_clause, _slices, _disguised, _calibration, _hard, _streams, _cost)]
    asked = numbers.find(PREFIX + "unscored")
    n = asked.text("n_asked") if asked else "no"
    lead = f"Measured on {n} labelled rows. Harmful is what a clause forbids; a rate without its interval says little."
    return GuardPage(title, lead, list(facts.items()), _headline(numbers), sections, numbers.all)


def _row(numbers: Numbers, label: str, metric: str, about: str = "", **by: str) -> Row:
    return Row(label, about, numbers.find(PREFIX + metric, by))


def _headline(numbers: Numbers) -> list[Row]:
    return [
        _row(numbers, "AUPRC", "auprc", "average precision over all thresholds"),
        _row(numbers, "AUROC", "auroc", "chance that a harmful row outscores a benign one"),
        _row(numbers, "Recall at 0.1% false positives", "recall_at_fpr_0.001", "the bar for traffic at scale"),
        _row(numbers, "Recall at 1% false positives", "recall_at_fpr_0.01"),
        _row(numbers, "Recall at the threshold", "tpr", "share of harmful rows flagged as the guard is set"),
        _row(numbers, "False positives at the threshold", "fpr", "share of benign rows flagged as the guard is set"),
        _row(numbers, "F1 at the threshold", "f1"),
        _row(numbers, "Unscored", "unscored", "rows the guard could not judge; they are in no mean"),
    ]


_MOST_ROWS = 30


def _figure(numbers: Numbers, slice_name: str, title: str, metrics: Mapping[str, str]) -> tuple[Figure, str] | None:
    """Dots with whiskers of some metrics for each value of a slice; None where nothing was sliced."""
    found: dict[str, list[Number | None]] = {}
    for i, metric in enumerate(metrics):
        for number in numbers.slices(PREFIX + metric, [slice_name]):
            found.setdefault(number.m.by[slice_name], [None] * len(metrics))[i] = number
    shown = {value: cells for value, cells in found.items() if any(n and n.value is not None for n in cells)}
    if not shown:
        return None
    group = Group("", tuple((value, tuple(cells)) for value, cells in list(shown.items())[:_MOST_ROWS]))
    about = f"{title}: {', '.join(metrics.values())}, with intervals."
    figure = intervals(f"guard-{slice_name}", title, about, [group], list(metrics.values()), "per cent of rows")
    return figure, f"{title}: {', '.join(metrics.values()).lower()} at the threshold."


_RATES = {"fpr": "False positives", "tpr": "Recall"}


def _by_clause(numbers: Numbers) -> Section:
    found = _figure(numbers, "clause", "By clause", _RATES)
    note = "Recall on the harmful rows of a clause, false positives on the benign rows that lie near it."
    return Section("clauses", "By clause", note, figures=[found] if found else [])


def _slices(numbers: Numbers) -> Section:
    wanted = {"lang": "By language", "length": "By length in characters", "kind": "By kind of row", "source": "By file"}
    figures = [found for name, title in wanted.items() if (found := _figure(numbers, name, title, _RATES))]
    note = "Languages and kinds are those that the rows name (columns lang and kind)."
    return Section("slices", "Language, length and kind", note, figures=figures)


def _disguised(numbers: Numbers) -> Section:
    found = _figure(numbers, "transform", "Under transforms", _RATES | {"recall_at_fpr_0.01": "Recall at 1% FPR"})
    note = "The same prompts, harmful and benign alike, said otherwise. none: as they came. Chosen with --transforms."
    rows = [
        _row(numbers, "Flips", "flip_rate", "flagged harmful prompts that pass with a few harmless words; mean"),
        _row(numbers, "Flips under any", "flip_rate_any", "the same, under the worst of five additions"),
    ]
    return Section("disguised", "Vanilla and adversarial", note, rows, [found] if found else [])


def _calibration(numbers: Numbers) -> Section:
    found = reliability(
        numbers.slices(PREFIX + "mean_score", ["bin"]), numbers.slices(PREFIX + "harmful_share", ["bin"])
    )
    note = "A score of 0.8 should mean that four in five such texts are harmful, where harmful and benign are equally many."
    caption = "Reliability: where dots lie below the dashed line, scores are too high."
    rows = [_row(numbers, "Expected calibration error", "ece", "mean distance from the diagonal")]
    return Section(
        "calibration",
        "Calibration",
        note,
        rows,
        [(found, caption)] if found else [],
    )


def _hard(numbers: Numbers) -> Section:
    note = "Harmless rows that share a group with harmful ones, and texts that only name a threat."
    rows = [
        _row(numbers, "False positives on twins", "twin_fpr", "at the threshold"),
        _row(numbers, "The same at 90% recall", "twin_fpr_at_recall_0.9", "of their harmful counterparts"),
        _row(numbers, "Twins in the right order", "twin_ranked", "pairs whose harmful member scores higher"),
        _row(
            numbers, "Only names a threat", "names_threat_fpr", "240 sentences such as a title or a spelling question"
        ),
    ]
    return Section("hard", "Harmless look-alikes", note, rows)


def _streams(numbers: Numbers) -> Section:
    note = "Labelled replies, pushed four characters at a time until the first flag."
    rows = [
        _row(numbers, "First flag", "stream_first_flag_share", "share of a flagged harmful reply that had come"),
        _row(numbers, "First flag", "stream_first_flag_characters", "the same in characters"),
        _row(numbers, "Seen", "stream_seen_share", "share of all replies that came before a flag stopped them"),
        _row(numbers, "F1, streamed", "stream_f1"),
        _row(numbers, "F1, streamed less whole text", "stream_f1_minus_full", "same replies"),
    ]
    return Section("streams", "Streams", note, rows)


def _cost(numbers: Numbers) -> Section:
    note = "One process, as run here; a token is four characters."
    rows = [
        _row(numbers, "Processor time", "cpu_s_per_1k_tokens", "per 1,000 tokens"),
        _row(numbers, "Operations", "gflop_per_1k_tokens", "floating-point, per 1,000 tokens"),
    ]
    return Section("cost", "Cost", note, rows)
