"""The system card: a page built from the ledger, the same bytes every time.

`write_card` reads a run's ledger and `card-inputs.json`, records in the ledger that a card of this state was made (once), and
writes `card.html` (self-contained: no script, no request to anywhere), `card.md`, and `figures/` with each figure's SVG and CSV.
The time on the card is the ledger's. Nothing is measured or rounded here: `sections.py` picks the numbers, `format.py` prints them.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from uphold.core.errors import DataError
from uphold.core.files import write_atomic
from uphold.core.records import digest
from uphold.evidence.entry import Entry
from uphold.evidence.gate import OPENINGS
from uphold.evidence.inputs import load_inputs
from uphold.evidence.ledger import Ledger
from uphold.evidence.numbers import anchor, shown
from uphold.evidence.paths import CARD, CARD_MARKDOWN, FIGURES, INPUTS
from uphold.evidence.sections import Page, build

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Card:
    """Where a card was written, and the ledger entry that records it."""

    html: Path
    markdown: Path
    figures: tuple[Path, ...]
    entry: str


def write_card(run: str | Path) -> Card:
    """Write (or write again) the card of a run folder. Raises StoreError without a sound ledger, DataError without measurements."""
    run = Path(run)
    with _collector_paused():
        page = read_page(run)
        templates = environment()
        figures = []
        for figure in page.figures.values():
            svg, table = run / FIGURES / f"{figure.name}.svg", run / FIGURES / f"{figure.name}.csv"
            write_atomic(svg, templates.get_template("figure.svg.j2").render(figure=figure, css=css("figure")))
            write_atomic(table, figure.csv())
            figures += [svg, table]
        write_atomic(run / CARD_MARKDOWN, templates.get_template("card.md.j2").render(page=page))
        write_atomic(run / CARD, templates.get_template("card.html.j2").render(page=page, css=css("figure", "card")))
    return Card(run / CARD, run / CARD_MARKDOWN, tuple(figures), page.card.hash)


@contextmanager
def _collector_paused() -> Iterator[None]:
    """No garbage collection inside: a card is very many small objects that stay, and walking them over and over doubles its time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def read_page(run: Path) -> Page:
    """The page of a run folder. Records the card in the ledger first, unless this very state is recorded already."""
    ledger = Ledger(run)
    current = ledger.current()
    if not current:
        raise DataError(f"{ledger.path}: holds no measurement, so there is nothing to put on a card. Run: uphold run")
    inputs = load_inputs(run, [metric for metric, _, _ in current])
    card = _recorded(ledger)
    return build(inputs, ledger.entries(), card, ledger.path.parent)


def _recorded(ledger: Ledger) -> Entry:
    """The ledger's card entry for its present state: what counts now, the decisions, and the inputs."""
    view = ledger.view()
    facts = sorted(entry.hash for (kind, _), entry in view.named.items() if kind != "card")
    state = digest([sorted(entry.hash for entry in view.current().values()), facts])
    found = ledger.put("card", CARD, {"state": state})
    return next(entry for entry in reversed(ledger.entries()) if entry.hash == found)


def css(*names: str) -> str:
    """The page's style sheets of these names, one after another."""
    return "\n".join((TEMPLATES / f"{name}.css").read_text("utf-8") for name in names)


def environment() -> Environment:
    """The templates of pages and figures: autoescaped but for Markdown, undefined names are errors."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=lambda name: name is not None and not name.endswith(".md.j2"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.globals.update(shown=shown, anchor=anchor, openings=OPENINGS, inputs_name=INPUTS, figures_folder=FIGURES)
    made.filters.update(md=markdown_text, fence=fenced)
    return made


_MARKDOWN = str.maketrans({c: f"\\{c}" for c in "\\`*_{}[]()#+!|~$"} | {"<": "&lt;", ">": "&gt;", "&": "&amp;"})


def markdown_text(text: str) -> str:
    """Text with everything escaped that Markdown or HTML would read as a mark, on one line."""
    return " ".join(text.translate(_MARKDOWN).split())


def fenced(text: str) -> str:
    """Text as a Markdown code block whose fence is longer than any run of backticks inside it."""
    longest = run = 0
    for character in text:
        run = run + 1 if character == "`" else 0
        longest = max(longest, run)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{text}\n{fence}"
