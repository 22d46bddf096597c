"""`uphold card RUN`: the system card of a run, built from its ledger."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from uphold.cli.common import Json, emit


def command(
    run: Annotated[Path, typer.Argument(help="A run folder.", show_default=False)],
    since: Annotated[
        str | None,
        typer.Option(
            help="Show what changed since this run or card.html. It goes into the ledger: later cards show it too, until 'none'.",
            show_default=False,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Write the system card of a run again: card.html, card.md and figures/, the same bytes every time.

    \b
    uphold card runs/demo
    uphold card runs/demo --since runs/last-release
    """
    from uphold.evidence.card import write_card
    from uphold.evidence.ledger import Ledger
    from uphold.evidence.since import record

    if since is not None:
        Ledger(run).entries()  # a run must be there before anything is written into it
        record(Ledger(run), since)
    card = write_card(run)
    result = {
        "card": str(card.html),
        "markdown": str(card.markdown),
        "figures": [str(path) for path in card.figures],
        "entry": card.entry,
    }
    emit(result, as_json, f"written {card.html}\nledger entry {card.entry}    next: uphold verify {run}")
