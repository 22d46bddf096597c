"""The opinion map: where people stand, by group. Saved as a picture with its numbers as CSV beside it.

Takes votes and groups; writes what `matplotlib` can (SVG, PNG, PDF by the ending) and FILE.csv. Used by `uphold constitution opinions`.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np

from uphold.constitution.opinions.groups import Groups
from uphold.constitution.opinions.votes import Votes
from uphold.core.errors import ConfigError
from uphold.core.files import open_atomic, write_atomic

FORMATS = (".svg", ".png", ".pdf")
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00")  # Okabe & Ito: told apart with any colour vision
_MARKERS = "os^Dv"


def group_name(group: int) -> str:
    """'A' for the largest group, 'B' for the next, ...; '' for nobody's."""
    return "" if group < 0 else chr(ord("A") + group)


def check_format(path: Path) -> None:
    """Raise ConfigError when no picture can be written under that name."""
    if path.suffix.lower() not in FORMATS:
        raise ConfigError(
            f"--figure {path}: unknown format {path.suffix or 'without an ending'!r}. Write {', '.join(FORMATS)}."
        )


def save_map(path: Path, votes: Votes, groups: Groups, command: str) -> Path:
    """Draw the map to `path`; returns the path of the CSV. command: kept in the picture, so that it can be made again."""
    import matplotlib

    matplotlib.use("Agg", force=False)
    from matplotlib.figure import Figure

    check_format(path)
    figure = Figure(figsize=(6.4, 5.2), layout="constrained")
    axes = figure.add_subplot()
    unplaced_P = groups.group_P < 0
    if unplaced_P.any():
        x_N, y_N = groups.coordinates_PD[unplaced_P].T
        axes.scatter(x_N, y_N, s=8, c="#BBBBBB", marker=".", label=f"too few votes (n={len(x_N)})")
    for g in range(groups.n):
        x_N, y_N = groups.coordinates_PD[groups.group_P == g].T
        axes.scatter(
            x_N,
            y_N,
            s=16,
            c=_COLOURS[g % 5],
            marker=_MARKERS[g % 5],
            alpha=0.7,
            label=f"group {group_name(g)} (n={len(x_N)})",
        )
    axes.set_xlabel("first component (vote units)")
    axes.set_ylabel("second component (vote units)")
    axes.set_title(
        f"{len(votes.participants):,} people, {len(votes.statements):,} statements, {votes.n:,} votes ({votes.missing:.1%} missing)"
    )
    axes.axhline(0, color="#DDDDDD", linewidth=0.8, zorder=0)
    axes.axvline(0, color="#DDDDDD", linewidth=0.8, zorder=0)
    axes.legend(frameon=False)
    kind = path.suffix.lower().removeprefix(".")
    about = {"Subject" if kind == "pdf" else "Description": command}
    with matplotlib.rc_context({"svg.hashsalt": "uphold"}), open_atomic(path) as file:
        figure.savefig(file, format=kind, dpi=150, metadata={**about, **({"Date": None} if kind == "svg" else {})})
    return _save_numbers(path.with_suffix(".csv"), votes, groups)


def _save_numbers(path: Path, votes: Votes, groups: Groups) -> Path:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["participant", "group", "x", "y", "n_votes"])
    count_P = np.bincount(votes.row_V, minlength=len(votes.participants))
    for i, participant in enumerate(votes.participants):
        x, y = groups.coordinates_PD[i]
        writer.writerow([participant, group_name(int(groups.group_P[i])), f"{x:.6f}", f"{y:.6f}", int(count_P[i])])
    write_atomic(path, text.getvalue())
    return path
