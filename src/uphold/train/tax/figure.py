"""The figure of a tax: the change of each metric from the base, stage by stage, with its interval; its data as CSV beside it."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from uphold.core.errors import MissingExtra
from uphold.core.files import open_atomic, write_atomic
from uphold.train.changes import Change

if TYPE_CHECKING:
    from uphold.train.tax.report import Stage, TaxReport

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")  # Okabe and Ito's
MARKERS = ("o", "s", "^", "D", "v", "P")


def name_of(change: Change) -> str:
    """'capability' or 'capability: refund'."""
    task = change.difference.by.get("task")
    return change.metric if task is None else f"{change.metric}: {task}"


def draw(folder: Path, report: TaxReport) -> Path:
    """Write FOLDER/tax.png and tax.csv (stage, metric, before, after, difference, low, high, n, limit, verdict)."""
    _csv(folder / "tax.csv", report.stages)
    try:
        import matplotlib
    except ImportError:
        raise MissingExtra("matplotlib", "plot") from None
    matplotlib.use("Agg")
    from matplotlib import pyplot

    shown = [
        c
        for c in report.stages[0].since_base
        if c.difference.unit in ("difference", "share of before") and c.difference.value is not None
    ]
    names = [name_of(c) for c in shown]
    figure, axes = pyplot.subplots(figsize=(7.5, 1.2 + 0.42 * len(names)))
    for i, stage in enumerate(report.stages):
        _draw_stage(axes, names, stage, i, len(report.stages))
    for y, change in enumerate(shown):
        _draw_limit(axes, y, change)
    axes.axvline(0, color="black", lw=0.8)
    ticks = [f"{name} (n={c.difference.n_scored})" for name, c in zip(names, shown, strict=True)]
    axes.set_yticks(range(len(names)), ticks)
    axes.invert_yaxis()
    level = f"{shown[0].difference.level:.0%}" if shown else ""
    axes.set(xlabel=f"change from the base, as a share ({level} intervals, same prompts)\ngrey: the stated limit")
    axes.set_title(f"Alignment tax of {report.base}", fontsize=10)
    axes.grid(axis="x", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8, loc="best")
    figure.tight_layout()
    path = folder / "tax.png"
    with open_atomic(path) as file:
        figure.savefig(file, dpi=130, format="png", metadata={"Software": None})
    pyplot.close(figure)
    return path


def _draw_stage(axes: Any, names: Sequence[str], stage: Stage, i: int, n: int) -> None:
    found = {name_of(c): c.difference for c in stage.since_base}
    x, y, low, high = [], [], [], []
    for at, name in enumerate(names):
        d = found.get(name)
        if d is None or d.value is None:
            continue
        start, end = d.interval or (d.value, d.value)
        x.append(d.value)
        y.append(at + (i - (n - 1) / 2) * 0.6 / n)
        low.append(max(0.0, d.value - start))
        high.append(max(0.0, end - d.value))
    axes.errorbar(
        x, y, xerr=[low, high], fmt=MARKERS[i % len(MARKERS)], color=COLOURS[i % len(COLOURS)], ms=4, lw=1.2, capsize=2,
        label=stage.name,
    )  # fmt: skip


def _draw_limit(axes: Any, y: int, change: Change) -> None:
    if change.limit is None:
        return
    ends = (-change.limit, change.limit) if change.either_way else (
        (-change.limit,) if change.difference.higher_is_better else (change.limit,)
    )  # fmt: skip
    axes.vlines(ends, y - 0.45, y + 0.45, color="grey", lw=2)


def _csv(path: Path, stages: Sequence[Stage]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["stage", "metric", "before", "after", "difference", "low", "high", "n", "limit", "verdict"])
    for stage in stages:
        for c in stage.since_base:
            d = c.difference
            low, high = d.interval or (None, None)
            row = [stage.name, name_of(c), c.before.value, c.after.value, d.value, low, high, d.n_scored]
            writer.writerow([*row, c.limit, c.verdict])
    write_atomic(path, text.getvalue())
