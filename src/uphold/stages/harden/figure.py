"""The curve per round as a picture: attack success of trained, held-out and adaptive attacks; what it cost in honest answers.

Takes the rows of `rounds[]`; writes PNG, the data as CSV, and the command that made it, side by side. Bars are 95% intervals; a round that
broke a limit and was not kept has a hollow marker. matplotlib is imported here and nowhere else in this part.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from uphold.core.files import open_atomic, write_atomic
from uphold.redteam.figures import COLOURS, MARKERS

PANELS = (
    (
        "Attack success on test topics",
        {"trained": "trained attacks", "held_out": "held-out attacks", "adaptive": "adaptive search"},
    ),
    ("Honest prompts", {"over_refusal": "over-refusal", "helpfulness": "helpfulness"}),
)
Rows = Sequence[Mapping[str, Any]]


def draw(path: Path, rows: Rows, command: str) -> list[Path]:
    """Write PATH.png, PATH.csv and PATH.txt (the command); returns them. `path` has no ending."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.6, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    styles = iter(zip(COLOURS, MARKERS, strict=True))
    for axes, (title, lines) in zip(figure.subplots(1, 2), PANELS, strict=True):
        for shift, (metric, label) in enumerate(lines.items()):
            colour, marker = next(styles)
            _line(axes, rows, metric, label, colour, marker, 0.04 * (shift - 1))
        axes.set(xlabel="round (0: the start)", ylabel="share", ylim=(-0.03, 1.03), xticks=[r["round"] for r in rows])
        axes.set_title(f"{title} (bars: 95% interval)", fontsize=10)
        axes.grid(alpha=0.3)
        axes.legend(frameon=False, fontsize=8)
    png = path.with_name(f"{path.name}.png")
    with open_atomic(png) as file:
        figure.savefig(file, format="png", dpi=150, metadata={"Software": None})
    return [png, *_beside(path, rows, command)]


def _line(axes: Any, rows: Rows, metric: str, label: str, colour: str, marker: str, shift: float) -> None:
    """One metric over the rounds; points apart by `shift` so that bars do not hide each other."""
    points = [(r, r[metric]) for r in rows if metric in r and r[metric]["value"] is not None]
    if not points:
        return
    x, y = [r["round"] + shift for r, _ in points], [m["value"] for _, m in points]
    ends = [m["interval"] or (m["value"], m["value"]) for _, m in points]
    errors = [[max(0.0, v - low) for v, (low, _) in zip(y, ends, strict=True)]]
    errors += [[max(0.0, high - v) for v, (_, high) in zip(y, ends, strict=True)]]
    n = points[0][1]["n_asked"]
    axes.errorbar(x, y, yerr=errors, color=colour, marker=marker, capsize=3, label=f"{label} (n={n:,})")
    for at, value, (row, _) in zip(x, y, points, strict=True):
        if row["broken_limits"]:
            axes.plot(at, value, marker=marker, color=colour, markerfacecolor="white", markersize=8, zorder=5)


def _beside(path: Path, rows: Rows, command: str) -> list[Path]:
    stream = io.StringIO()
    out = csv.writer(stream, lineterminator="\r\n")
    out.writerow(["round", "metric", "value", "low", "high", "n_asked", "n_scored", "kept"])
    for row in rows:
        for metric in (name for _, lines in PANELS for name in lines):
            if m := row.get(metric):
                low, high = m["interval"] or ("", "")
                kept = "no" if row["broken_limits"] else "yes"
                out.writerow([row["round"], metric, m["value"], low, high, m["n_asked"], m["n_scored"], kept])
    data, note = path.with_name(f"{path.name}.csv"), path.with_name(f"{path.name}.txt")
    write_atomic(data, stream.getvalue())
    write_atomic(note, f"{command}\n")
    return [data, note]
