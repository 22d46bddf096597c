"""A comparison as files: compare.json, compare.html, compare.md, compare.csv, and the heat map as SVG and PNG.

Takes a `Comparison`. The page is self-contained, light or dark by the reader's setting, needs no script, and looks like the system card: it
shares its style sheets. All text is escaped.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from uphold.core.files import write_atomic, write_json
from uphold.evidence.compare import Comparison
from uphold.evidence.compare_map import CELL_HEIGHT, CELL_WIDTH, HeatMap, draw_png, heat_map
from uphold.evidence.compare_text import cells, csv_text, headline, markdown, method, warnings

TEMPLATES = Path(__file__).parent / "templates"


def write_comparison(c: Comparison, out: str | Path) -> tuple[Path, ...]:
    """Write every file into the folder `out` (made when missing); the same comparison gives the same bytes. Returns the files."""
    out = Path(out)
    names = ("compare.json", "compare.html", "compare.md", "compare.csv", "heatmap.svg", "heatmap.png")
    files = tuple(out / name for name in names)
    found = heat_map(c)
    write_json(files[0], c.model_dump(mode="json"))
    write_atomic(files[1], page(c, found))
    write_atomic(files[2], markdown(c))
    write_atomic(files[3], csv_text(c))
    write_atomic(files[4], svg(found, css=_css("figure", "compare")))
    draw_png(found, files[5])
    return files


def page(c: Comparison, found: HeatMap) -> str:
    """The comparison as one HTML page."""
    return _render(
        "compare.html.j2",
        c=c,
        css=_css("figure", "card", "compare"),
        svg=svg(found),
        headline=headline(c),
        warnings=warnings(c),
        method=method(c),
        cells=cells,
    )


def svg(found: HeatMap, css: str = "") -> str:
    """The heat map as SVG; css: for a file of its own, where no page brings it."""
    return _render("heatmap.svg.j2", map=found, css=css, cell_width=CELL_WIDTH, cell_height=CELL_HEIGHT)


def _css(*names: str) -> str:
    return "\n".join((TEMPLATES / f"{name}.css").read_text("utf-8") for name in names)


def _render(name: str, **values: Any) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name).render(**values)
