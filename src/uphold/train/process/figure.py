"""The figure of best of n: share right against the number of replies, by method, with intervals; its data as CSV beside it."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path

from uphold.core.errors import MissingExtra
from uphold.core.files import open_atomic, write_atomic
from uphold.core.records import Measurement
from uphold.train.process.bestof import ANY, VOTE

Curve = Mapping[int, Mapping[str, Measurement]]
"""As `bestof.compared` gives it."""
COLOURS = ("#0072B2", "#D55E00", "#CC79A7", "#E69F00")  # Okabe and Ito's, one for each reward in turn
MARKERS = ("o", "s", "D", "v")
FIXED = {VOTE: ("#009E73", "^", "-"), ANY: ("grey", "", ":")}


def write_csv(path: Path, panels: Mapping[str, Curve]) -> Path:
    """panel, n, method, right, low, high, picks (questions times seeds); a line a point."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["panel", "n", "method", "right", "low", "high", "picks"])
    for title, curve in panels.items():
        for n, found in curve.items():
            for name, m in found.items():
                low, high = m.interval or (None, None)
                writer.writerow([title, n, name, m.value, low, high, m.n_asked])
    write_atomic(path, text.getvalue())
    return path


def asked(m: Measurement) -> str:
    """How many questions a share is over: the picks of several seeds are on the same ones."""
    n_seeds = max(len(m.seeds), 1)
    return f"{m.n_asked // n_seeds} questions" + (f", {n_seeds} seeds" if n_seeds > 1 else "")


def draw_best_of(folder: Path, panels: Mapping[str, Curve], stem: str = "best_of_n") -> Path:
    """Write FOLDER/STEM.png, a panel a curve side by side, and STEM.csv. MissingExtra without matplotlib."""
    write_csv(folder / f"{stem}.csv", panels)
    try:
        import matplotlib
    except ImportError:
        raise MissingExtra("matplotlib", "plot") from None
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(panels), figsize=(1 + 4.6 * len(panels), 4.2), sharey=True, squeeze=False)
    for ax, (title, curve) in zip(axes[0], panels.items(), strict=True):
        first = next(iter(curve.values()))
        methods = [name for name, m in first.items() if m.unit != "difference"]
        rewards = [name for name in methods if name not in FIXED]
        for name in methods:
            i = rewards.index(name) if name in rewards else 0
            colour, marker, line = FIXED.get(name, (COLOURS[i % 4], MARKERS[i % 4], "-"))
            points = [(n, found[name]) for n, found in curve.items() if found[name].value is not None]
            ax.plot([n for n, _ in points], [m.value for _, m in points], line, color=colour, marker=marker, label=name)
            bands = [(n, *m.interval) for n, m in points if m.interval is not None]
            if name != ANY and bands:
                ax.fill_between(*zip(*bands, strict=True), color=colour, alpha=0.15, lw=0)
        ax.set_xscale("log", base=2)
        ax.set_xticks(list(curve), [str(n) for n in curve])
        ax.set(xlabel="n, replies to choose from", title=f"{title} ({asked(first[methods[0]])})", ylim=(0, 1.02))
        ax.grid(alpha=0.3)
        ax.spines[["top", "right"]].set_visible(False)
    axes[0][0].set_ylabel("share of questions answered right (95% Wilson)")
    axes[0][-1].legend(frameon=False, fontsize=9, loc="lower left")
    figure.tight_layout()
    path = folder / f"{stem}.png"
    with open_atomic(path) as file:
        figure.savefig(file, dpi=130, format="png", metadata={"Software": None})
    pyplot.close(figure)
    return path
