"""Defences side by side as a picture: utility alone, utility under attack and attack success, each with its interval.

Takes the reports of `scores.report`, one per defence; writes SVG and PNG, the data as CSV and the command that made it.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from uphold.core.files import open_atomic, write_atomic
from uphold.core.records import Measurement
from uphold.redteam.figures import COLOURS, MARKERS

Shown = dict[str, dict[str, Measurement]]


def draw_defences(path: Path, reports: Mapping[str, Mapping[str, Any]], *, title: str, command: str) -> list[Path]:
    """Write PATH.svg, PATH.png, PATH.csv and PATH.txt (the command); returns them. `path` has no ending."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = {name: _shown(found) for name, found in reports.items()}
    figure = Figure(figsize=(7.2, 1.6 + 0.7 * len(shown)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for k, metric in enumerate(next(iter(shown.values()), {})):
        for row, measured in enumerate(shown.values()):
            _mark(axes, measured[metric], row + 0.2 * (k - 1), k, metric if row == 0 else "")
    axes.set(xlim=(-0.02, 1.02), xlabel="share of episodes (bars: 95% interval)", yticks=range(len(shown)))
    axes.set_yticklabels([f"{name}\nn={m['attack success'].n_scored} attacked" for name, m in shown.items()])
    axes.invert_yaxis()
    axes.grid(axis="x", alpha=0.3)
    axes.set_title(title, fontsize=10)
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    written = []
    for ending in ("svg", "png"):
        target = path.with_name(f"{path.name}.{ending}")
        with open_atomic(target) as file:
            figure.savefig(file, format=ending, dpi=150, metadata={"Date": None} if ending == "svg" else None)
        written.append(target)
    data, note = path.with_name(f"{path.name}.csv"), path.with_name(f"{path.name}.txt")
    write_atomic(data, _table(shown))
    write_atomic(note, f"{command}\n")
    return [*written, data, note]


def _shown(found: Mapping[str, Any]) -> dict[str, Measurement]:
    return {
        "utility, nobody attacks": found["utility"],
        "utility under attack": found["utility_under_attack"],
        "attack success": found["attack_success_rate"]["overall"],
    }


def _mark(axes: Any, m: Measurement, at: float, k: int, label: str) -> None:
    if m.value is None or m.interval is None:
        axes.plot([], [], color=COLOURS[k], marker=MARKERS[k], linestyle="none", label=label or None)
        return
    low, high = (max(0.0, m.value - m.interval[0]), max(0.0, m.interval[1] - m.value))
    axes.errorbar(
        [m.value], [at], xerr=[[low], [high]], color=COLOURS[k], marker=MARKERS[k], capsize=3, linestyle="none",
        label=label or None,
    )  # fmt: skip


def _table(shown: Shown) -> str:
    stream = io.StringIO()
    rows = csv.writer(stream, lineterminator="\r\n")
    rows.writerow(["defence", "metric", "value", "low", "high", "n_scored", "n_asked"])
    for name, measured in shown.items():
        for metric, m in measured.items():
            rows.writerow([name, metric, m.value, *(m.interval or ("", "")), m.n_scored, m.n_asked])
    return stream.getvalue()
