"""A reliability diagram: mean score across, share that was harmful up, with whiskers; the diagonal is perfect calibration.

Takes the ledger numbers of `guard.calibration_report` by bin; gives a `Figure` for the card's templates. Left out: bins without rows.
"""

from __future__ import annotations

from collections.abc import Sequence

from uphold.evidence.figures import WIDTH, Figure, Line, Mark, Path, Text, marker, scale
from uphold.evidence.numbers import Number

SIZE, LEFT, TOP = 300.0, 60.0, 30.0


def reliability(across: Sequence[Number], up: Sequence[Number]) -> Figure | None:
    """across, up: mean score and harmful share by bin, matched by `by`; None without bins."""
    by_bin = {number.m.by["bin"]: number for number in across}
    points = [(by_bin[n.m.by["bin"]], n) for n in up if n.value is not None and n.m.by["bin"] in by_bin]
    if not points:
        return None
    figure = Figure(
        "guard-reliability", "Reliability", "Share of harmful rows against mean score, by tenth of the score."
    )
    figure.width, figure.height = WIDTH, TOP + SIZE + 48
    figure.rows = [["bin", "mean_score", *Number.CSV_HEADER]]
    x = scale(0, 1, LEFT, LEFT + SIZE, 6)
    y = scale(0, 1, TOP + SIZE, TOP, 6)
    for tick in x.ticks:
        figure.lines.append(Line(LEFT, y(tick), LEFT + SIZE, y(tick), "zero" if tick == 0 else "grid"))
        figure.texts.append(Text(LEFT - 8, y(tick) + 4, y.text(tick), "tick", "end"))
        figure.texts.append(Text(x(tick), TOP + SIZE + 18, x.text(tick), "tick", "middle"))
    figure.lines.append(Line(x(0), y(0), x(1), y(1), "baseline"))
    figure.texts.append(Text(0, 12, "share harmful, classes weighed alike", "axis"))
    figure.texts.append(Text(LEFT + SIZE / 2, TOP + SIZE + 38, "mean score", "axis", "middle"))
    line = " L".join(f"{x(a.value or 0.0):.1f} {y(b.value or 0.0):.1f}" for a, b in points)
    figure.paths.append(Path(f"M{line}", "curve c0"))
    for a, b in points:
        at = x(a.value or 0.0)
        whisker = f"M{at:.1f} {y(b.low):.1f}V{y(b.high):.1f}" if b.has_interval else ""
        label = f"scores {b.m.by['bin']}"
        figure.marks.append(Mark(b, label, marker(2, at, y(b.value or 0.0)), whisker, "s2"))
        figure.rows.append([b.m.by["bin"], repr(a.value), *b.csv()])
    return figure
