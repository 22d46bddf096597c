"""The heat map of a comparison: metrics down, runs across, each cell how far a run is from the baseline.

Takes a `Comparison`; gives a `HeatMap`, which a template draws as SVG (with text for those who cannot see it) and `draw_png` as PNG.
Colour says direction (blue better, orange worse: safe for the colour-blind) and size; a sign and bold text say what is beyond the noise;
hatching says that nothing can be said, a dashed frame that nothing was measured. No cell is empty.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from uphold.evidence.compare import Comparison, Delta, Row
from uphold.evidence.compare_text import MARKS, MISSING, headline, value
from uphold.evidence.figures import short
from uphold.evidence.format import number

LEFT_MOST, CELL_WIDTH, CELL_HEIGHT, TOP = 330.0, 156.0, 46.0, 34.0
FULL = 0.3
"""a difference of thirty points (or of thirty per cent of the baseline, where the unit is no share) has full colour"""


@dataclass(frozen=True)
class HeatCell:
    """kind: 'baseline', 'better', 'worse', 'even', 'open' (insufficient) or 'missing'. strength: 0 to 1. about: for a screen reader."""

    x: float
    y: float
    first: str
    second: str
    kind: str
    strength: float
    is_sure: bool
    about: str


@dataclass
class HeatMap:
    """title, about: what a reader who cannot see it is told; sizes in CSS pixels."""

    title: str
    about: str
    width: float
    height: float
    left: float
    columns: list[tuple[float, str]] = field(default_factory=list)
    labels: list[tuple[float, str, str]] = field(default_factory=list)
    """(y, metric, slice and which way is better)"""
    cells: list[HeatCell] = field(default_factory=list)


def heat_map(c: Comparison) -> HeatMap:
    """The map of a comparison; the baseline's own values are the first column."""
    left = min(LEFT_MOST, 40 + 7.4 * max(max(len(row.metric), len(_under(row))) for row in c.rows))
    found = HeatMap(
        title=f"Difference from {c.baseline}",
        about=f"A table of {len(c.rows)} metrics by {len(c.runs)} runs. {headline(c)}.",
        width=left + CELL_WIDTH * len(c.runs),
        height=TOP + CELL_HEIGHT * len(c.rows),
        left=left,
    )
    found.columns = [(left + CELL_WIDTH * (j + 0.5), short(side.name, 21)) for j, side in enumerate(c.runs)]
    for i, row in enumerate(c.rows):
        y = TOP + CELL_HEIGHT * i
        found.labels.append((y, short(row.metric, 42), short(_under(row), 46)))
        deltas = {delta.run: delta for delta in row.deltas}
        for j, side in enumerate(c.runs):
            found.cells.append(_cell(row, side.name, deltas.get(side.name), left + CELL_WIDTH * j, y))
    return found


def _under(row: Row) -> str:
    by = ", ".join(f"{key}={each}" for key, each in row.by.items())
    way = "higher is better" if row.higher_is_better else "lower is better"
    return f"{by}; {way}" if by else way


def _cell(row: Row, run: str, delta: Delta | None, x: float, y: float) -> HeatCell:
    own = next(cell for cell in row.cells if cell.run == run)
    shown = f"{value(own.measurement)}{' ' + own.letters if own.letters else ''}"
    where = f"{row.name}, {run}"
    if own.measurement is None:
        return HeatCell(x, y, MISSING, "", "missing", 0.0, False, f"{where}: {MISSING}")
    if delta is None:
        return HeatCell(x, y, shown, "baseline", "baseline", 0.0, False, f"{where}: {shown}, the baseline")
    m = delta.delta
    if m is None or m.value is None:
        mark = f"{MARKS[delta.verdict]} {delta.verdict}"
        return HeatCell(x, y, shown, mark, "open", 0.0, delta.verdict == "worse", f"{where}: {shown}. {delta.reason}")
    gain = m.value if row.higher_is_better else -m.value
    base = row.cells[0].measurement
    scale = 1.0 if m.unit == "difference" or base is None else abs(base.value or 0) or 1.0
    is_sure = delta.verdict in ("worse", "better")
    kind = "open" if delta.verdict == "insufficient" else "even" if not gain else "better" if gain > 0 else "worse"
    text = f"{MARKS[delta.verdict]} {number(m.value, m.unit)}"
    about = f"{where}: {shown}, {number(m.value, m.unit)} from the baseline, {delta.verdict}. {delta.reason}"
    return HeatCell(x, y, text, shown, kind, min(1.0, abs(gain) / scale / FULL), is_sure, about)


_RGB = {"better": (0.0, 0.447, 0.698), "worse": (0.835, 0.369, 0.0)}


def draw_png(found: HeatMap, path: Path) -> None:
    """The map as PNG, on white; its description goes into the file's metadata."""
    import matplotlib

    matplotlib.use("Agg", force=False)
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    from uphold.core.files import open_atomic

    figure = Figure(figsize=((found.width + 40) / 100, (found.height + 60) / 100), dpi=160)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(-20, found.width + 20)
    axes.set_ylim(found.height + 16, -44)
    axes.set_axis_off()
    axes.text(0, -28, found.title, fontsize=10, fontweight="bold", parse_math=False)
    for x, name in found.columns:
        axes.text(x, TOP - 12, name, ha="center", fontsize=8, fontweight="bold", parse_math=False)
    for y, metric, under in found.labels:
        axes.text(0, y + 20, metric, fontsize=8, parse_math=False)
        axes.text(0, y + 35, under, fontsize=6.5, color="#5b5f67", parse_math=False)
    for cell in found.cells:
        fill = _mixed(cell)
        is_missing = cell.kind == "missing"
        hatch = "////" if cell.kind == "open" else None
        box = Rectangle(
            (cell.x + 2, cell.y + 2),
            CELL_WIDTH - 4,
            CELL_HEIGHT - 4,
            facecolor=fill,
            hatch=hatch,
            linewidth=0.8,
            linestyle="--" if is_missing else "-",
            edgecolor="#8a8f98" if is_missing else "#d8dade",
        )
        axes.add_patch(box)
        weight = "bold" if cell.is_sure else "normal"
        middle = cell.x + CELL_WIDTH / 2
        axes.text(middle, cell.y + 20, cell.first, ha="center", fontsize=8, fontweight=weight, parse_math=False)
        axes.text(middle, cell.y + 35, cell.second, ha="center", fontsize=6.5, color="#3c3f45", parse_math=False)
    with open_atomic(path) as file:
        figure.savefig(
            file, format="png", metadata={"Title": found.title, "Description": found.about, "Software": None}
        )


def _mixed(cell: HeatCell) -> tuple[float, float, float]:
    """White towards the cell's colour: at most two thirds of the way, so that black text stays readable on it."""
    if cell.kind not in _RGB:
        return (1.0, 1.0, 1.0) if cell.kind != "baseline" else (0.96, 0.965, 0.973)
    share = 0.08 + 0.52 * cell.strength
    red, green, blue = _RGB[cell.kind]
    return (1 - share * (1 - red), 1 - share * (1 - green), 1 - share * (1 - blue))
