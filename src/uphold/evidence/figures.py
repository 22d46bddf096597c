"""The card's figures, as shapes on a plane: intervals by row (dots with whiskers) and curves.

Takes ledger numbers and curves; gives `Figure`s, which the card's templates draw as SVG, in the page and as files of their own,
and whose rows go into a CSV beside them. Colours and strokes are classes (`s0`, `s1`, ...), one per system everywhere, so that the page
can be light or dark; each system also has its own marker. Coordinates are in CSS pixels of the figure's own box.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from uphold.evidence.format import MINUS
from uphold.evidence.inputs import Curve
from uphold.evidence.numbers import Number

WIDTH = 760.0
N_STYLES = 6


@dataclass(frozen=True)
class Line:
    x1: float
    y1: float
    x2: float
    y2: float
    style: str


@dataclass(frozen=True)
class Text:
    x: float
    y: float
    text: str
    style: str
    anchor: str = "start"


@dataclass(frozen=True)
class Path:
    d: str
    style: str


@dataclass(frozen=True)
class Mark:
    """One measured value: a marker, its whisker, and the ledger number it stands for."""

    number: Number
    label: str
    d: str
    whisker: str
    style: str


@dataclass
class Figure:
    """name: file name without ending. about: what a reader who cannot see it is told. rows: the CSV, header first."""

    name: str
    title: str
    about: str
    height: float = 0.0
    width: float = WIDTH
    legend: list[tuple[str, str, str]] = field(default_factory=list)
    """(marker path around 0,0; class; label)"""
    lines: list[Line] = field(default_factory=list)
    texts: list[Text] = field(default_factory=list)
    paths: list[Path] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)

    def methods(self) -> list[Number]:
        """One of its numbers for each way its intervals were made."""
        found: dict[str, Number] = {}
        for mark in self.marks:
            if mark.number.has_interval:
                found.setdefault(mark.number.text("method"), mark.number)
        return list(found.values())

    def sizes(self) -> list[Number]:
        """Its numbers of fewest and of most samples; one when they are as many."""
        numbers = sorted((mark.number for mark in self.marks), key=lambda n: n.m.n_asked)
        return (
            numbers[:1] if not numbers or numbers[0].m.n_asked == numbers[-1].m.n_asked else [numbers[0], numbers[-1]]
        )

    def csv(self) -> str:
        """The figure's data, RFC 4180."""
        stream = io.StringIO()
        csv.writer(stream, lineterminator="\r\n").writerows(self.rows)
        return stream.getvalue()


def _p(*values: float) -> str:
    """Coordinates as text, one decimal: the same on every machine."""
    return " ".join(f"{value:.1f}".removesuffix(".0") for value in values)


def marker(style: int, x: float = 0.0, y: float = 0.0, r: float = 4.5) -> str:
    """The path of a system's marker: circle, square, diamond, triangle up, triangle down, cross."""
    s = r * 0.9
    shapes = {
        0: f"M{_p(x - r, y)}a{_p(r, r)} 0 1 0 {_p(2 * r, 0)}a{_p(r, r)} 0 1 0 {_p(-2 * r, 0)}z",
        1: f"M{_p(x - s, y - s)}h{_p(2 * s)}v{_p(2 * s)}h{_p(-2 * s)}z",
        2: f"M{_p(x, y - r - 1)}l{_p(r + 1, r + 1)}l{_p(-r - 1, r + 1)}l{_p(-r - 1, -r - 1)}z",
        3: f"M{_p(x, y - r)}l{_p(r, 2 * s)}h{_p(-2 * r)}z",
        4: f"M{_p(x, y + r)}l{_p(r, -2 * s)}h{_p(-2 * r)}z",
        5: f"M{_p(x - s, y - s)}l{_p(2 * s, 2 * s)}M{_p(x - s, y + s)}l{_p(2 * s, -2 * s)}",
    }
    return shapes[style % N_STYLES]


@dataclass(frozen=True)
class Scale:
    """A linear map from [low, high] to pixels [start, end], with round tick values."""

    low: float
    high: float
    start: float
    end: float
    ticks: tuple[float, ...]

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return self.start + min(1.0, max(0.0, share)) * (self.end - self.start)

    def text(self, tick: float) -> str:
        step = self.ticks[1] - self.ticks[0] if len(self.ticks) > 1 else abs(tick) or 1.0
        decimals = max(0, -math.floor(math.log10(step) + 1e-9))
        return f"{tick:.{decimals}f}".replace("-", MINUS)


def scale(low: float, high: float, start: float, end: float, n: int = 5) -> Scale:
    """A scale whose ends are round numbers around [low, high], with about n ticks."""
    if high - low <= max(1e-12 * max(abs(low), abs(high)), 1e-100):
        low, high = low - 0.5 * (abs(low) or 1.0), high + 0.5 * (abs(high) or 1.0)
    raw = (high - low) / max(1, n - 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * m for m in (1, 2, 2.5, 5, 10) if power * m >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    ticks = tuple(float(f"{i * step:.12g}") for i in range(first, last + 1))  # 0.3, not 0.30000000000000004
    return Scale(ticks[0], ticks[-1], start, end, ticks)


def share_scale(numbers: Sequence[Number], start: float, end: float, n: int = 6) -> Scale:
    """A scale in per cent for shares: from zero where they are small or spread, else around them; never outside 0 to 100."""
    lows = [100 * n.low for n in numbers]
    highs = [100 * n.high for n in numbers]
    low = 0.0 if min(lows) < 50 else min(lows)
    found = scale(low, max(highs), start, end, n)
    ticks = tuple(t for t in found.ticks if -1e-9 <= t <= 100 + 1e-9)
    return Scale(ticks[0], ticks[-1], start, end, ticks) if len(ticks) > 1 else found


ROW, SUB, LEFT, RIGHT = 34.0, 8.0, 190.0, 24.0


@dataclass(frozen=True)
class Group:
    """Rows under one heading of an interval figure. rows: (label, one number or None per system)."""

    heading: str
    rows: tuple[tuple[str, tuple[Number | None, ...]], ...]


def intervals(name: str, title: str, about: str, groups: Sequence[Group], systems: Sequence[str], axis: str) -> Figure:
    """Dots with whiskers, a row a label, one marker per system; shares in per cent. systems: labels, baseline first."""
    figure = Figure(name, title, about)
    figure.legend = [(marker(i), f"s{i % N_STYLES}", label) for i, label in enumerate(systems)]
    figure.rows = [["group", "row", "system", *Number.CSV_HEADER]]
    numbers = [n for group in groups for _, cells in group.rows for n in cells if n is not None and n.value is not None]
    x = share_scale(numbers, LEFT, WIDTH - RIGHT)
    y = 4.0
    for group in groups:
        if group.heading:
            figure.texts.append(Text(0, y + 14, group.heading, "heading"))
            y += 28
        _grid(figure, x, y, y + ROW * len(group.rows))
        for i, (label, cells) in enumerate(group.rows):
            if i:
                figure.lines.append(Line(0, y, WIDTH - RIGHT, y, "row"))
            figure.texts.append(Text(LEFT - 14, y + ROW / 2 + 4, short(label), "label", "end"))
            for j, cell in enumerate(cells):
                figure.rows += [[group.heading, label, systems[j], *cell.csv()]] if cell is not None else []
                if cell is not None and cell.value is not None:
                    height = y + ROW / 2 + (j - (len(cells) - 1) / 2) * SUB
                    figure.marks.append(mark(cell, f"{label}, {systems[j]}", x, height, j))
            y += ROW
        y += 16
    _x_labels(figure, x, y - 16, axis)
    figure.height = y + 28
    return figure


def short(label: str, most: int = 27) -> str:
    """A label cut to what fits beside a plot."""
    return label if len(label) <= most else label[: most - 1].rstrip() + "…"


def mark(cell: Number, label: str, x: Scale, y: float, style: int) -> Mark:
    assert cell.value is not None
    low, high = x(100 * cell.low), x(100 * cell.high)
    whisker = f"M{_p(low, y)}H{_p(high)}M{_p(low, y - 2.5)}v5M{_p(high, y - 2.5)}v5" if cell.has_interval else ""
    return Mark(cell, label, marker(style, x(100 * cell.value), y), whisker, f"s{style % N_STYLES}")


def _grid(figure: Figure, x: Scale, top: float, bottom: float) -> None:
    figure.lines += [Line(x(tick), top, x(tick), bottom, "zero" if tick == 0 else "grid") for tick in x.ticks]


def _x_labels(figure: Figure, x: Scale, bottom: float, label: str) -> None:
    figure.texts += [Text(x(tick), bottom + 18, x.text(tick), "tick", "middle") for tick in x.ticks]
    figure.texts.append(Text((x.start + x.end) / 2, bottom + 38, label, "axis", "middle"))


PANEL_GAP = 60.0


def panels(
    name: str, title: str, about: str, metrics: Sequence[tuple[str, tuple[Number | None, ...]]], systems: Sequence[str]
) -> Figure:
    """One small interval plot per metric, side by side, each with its own axis; the baseline's value is a dashed line.

    metrics: (label, one number or None per system). systems: labels, baseline first.
    """
    figure = Figure(name, title, about)
    figure.rows = [["metric", "system", *Number.CSV_HEADER]]
    shown = [(label, cells) for label, cells in metrics if any(n is not None and n.value is not None for n in cells)]
    left = 30 + 7.2 * max(len(short(label, 20)) for label in systems)
    width = (WIDTH - left - RIGHT - PANEL_GAP * (len(shown) - 1)) / max(1, len(shown))
    top, row = 34.0, 30.0
    bottom = top + row * len(systems)
    for j, label in enumerate(systems):
        figure.texts.append(Text(left - 16, top + row * (j + 0.5) + 4, short(label, 20), "label", "end"))
    for i, (label, cells) in enumerate(shown):
        start = left + i * (width + PANEL_GAP)
        x = share_scale([n for n in cells if n is not None and n.value is not None], start, start + width, 4)
        figure.texts.append(Text(start, 16, label, "heading"))
        _grid(figure, x, top, bottom)
        _x_labels(figure, x, bottom, "per cent")
        baseline = cells[0]
        if baseline is not None and baseline.value is not None:
            at = x(100 * baseline.value)
            figure.lines.append(Line(at, top, at, bottom, "baseline"))
        for j, cell in enumerate(cells):
            if cell is not None:
                figure.rows.append([label, systems[j], *cell.csv()])
            if cell is not None and cell.value is not None:
                figure.marks.append(mark(cell, f"{label}, {systems[j]}", x, top + row * (j + 0.5), j))
    figure.height = bottom + 46
    return figure


CURVE_LEFT = 44.0


def curves(name: str, title: str, about: str, lines: Sequence[Curve]) -> Figure:
    """Training curves: one panel per name in `Curve.panel`, two to a row; several curves of a panel are told apart by dashes."""
    figure = Figure(name, title, about)
    figure.rows = [["panel", "curve", "x_label", "x", "y_label", "y"]]
    by_panel: dict[str, list[Curve]] = {}
    for curve in lines:
        by_panel.setdefault(curve.panel, []).append(curve)
        figure.rows += [
            [curve.panel, curve.name, curve.x_label, repr(x), curve.y_label, repr(y)] for x, y in curve.points
        ]
    height, gap, left = 150.0, 96.0, CURVE_LEFT
    width = (WIDTH - 2 * left - 36 - RIGHT) / 2 if len(by_panel) > 1 else WIDTH - left - RIGHT
    for i, (panel, members) in enumerate(by_panel.items()):
        start = left + (i % 2) * (width + left + 36)
        _curve_panel(figure, panel, members, start, width, 46 + (i // 2) * (height + gap), height)
    n_rows = -(-len(by_panel) // 2)
    figure.height = 46 + n_rows * height + (n_rows - 1) * gap + 46
    return figure


def _curve_panel(
    figure: Figure, panel: str, members: Sequence[Curve], left: float, width: float, top: float, height: float
) -> None:
    xs = [x for curve in members for x, _ in curve.points]
    ys = [y for curve in members for _, y in curve.points]
    up = scale(min(ys), max(ys), top + height, top, 5)
    round_x = scale(min(xs), max(xs), left, left + width, 5)
    first, last = (min(xs), max(xs)) if min(xs) < max(xs) else (round_x.low, round_x.high)
    across = Scale(first, last, left, left + width, round_x.ticks)
    figure.texts.append(Text(left - CURVE_LEFT, top - 32, panel, "heading"))
    figure.texts.append(Text(left - CURVE_LEFT, top - 14, members[0].y_label, "axis"))
    for tick in up.ticks:
        figure.lines.append(Line(left, up(tick), left + width, up(tick), "zero" if tick == 0 else "grid"))
        figure.texts.append(Text(left - 8, up(tick) + 4, up.text(tick), "tick", "end"))
    for tick in across.ticks:
        if first <= tick <= last:
            figure.texts.append(Text(across(tick), top + height + 18, across.text(tick), "tick", "middle"))
    figure.texts.append(Text(left + width / 2, top + height + 36, members[0].x_label, "axis", "middle"))
    key_x = left + width
    for i, curve in reversed(list(enumerate(members))):
        d = "M" + "L".join(_p(across(x), up(y)) for x, y in curve.points)
        figure.paths.append(Path(d, f"curve c{i % N_STYLES}"))
        if len(members) > 1:  # a key above the plot, from the right: a stroke of the curve and its name
            figure.texts.append(Text(key_x, top - 14, curve.name, f"key c{i % N_STYLES}", "end"))
            key_x -= 7 * len(curve.name) + 6
            figure.paths.append(Path(f"M{_p(key_x - 22, top - 18)}h22", f"curve c{i % N_STYLES}"))
            key_x -= 36
