"""`uphold verify RUN`: proof, offline, that nobody touched a number."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from uphold.cli.common import Json, emit

SHOWN = 20


def command(
    run: Annotated[Path, typer.Argument(help="A run folder, or a ledger file.", show_default=False)],
    as_json: Json = False,
) -> None:
    """Check that a run's evidence is whole and unchanged: the ledger's chain, the card and its inputs.

    \b
    uphold verify runs/demo
    uphold verify runs/demo --json

    Exit codes: 0 sound, 1 damaged or changed, 2 nothing there to check.
    """
    from uphold.evidence.verify import verify_run

    found = verify_run(run)
    if found.ok:
        text = f"sound: {found.entries:,} entries\nlast hash {found.head}\nKeep that hash elsewhere: it proves this ledger later."
    else:
        places = [f"line {p.line}, entry {p.entry}: " if p.line is not None else "" for p in found.problems]
        lines = [f"  {place}{p.what}" for place, p in zip(places, found.problems, strict=True)]
        more = [f"  ... and {len(lines) - SHOWN:,} more (--json lists all)"] if len(lines) > SHOWN else []
        text = "\n".join([f"not sound: {len(lines):,} problems in {found.entries:,} entries", *lines[:SHOWN], *more])
    emit(found, as_json, text)
    raise typer.Exit(0 if found.ok else 1)
