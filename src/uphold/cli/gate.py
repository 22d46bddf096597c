"""`uphold gate RUN --policy FILE`: may it ship, on the evidence of this run?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from uphold.cli.common import Json, emit, warn


def command(
    run: Annotated[Path, typer.Argument(help="A run folder, or its ledger.", show_default=False)],
    policy: Annotated[
        str, typer.Option(help="A policy file, or a shipped policy: storefront, operator.", show_default=False)
    ],
    record: Annotated[bool, typer.Option("--record", help="Write the decision into the ledger, for the card.")] = False,
    as_json: Json = False,
) -> None:
    """Hold a run's measurements to a policy: pass, fail, or insufficient evidence.

    \b
    uphold gate runs/demo --policy storefront
    uphold gate runs/demo --policy policy.yaml --json

    Exit codes: 0 pass, 1 fail, 2 insufficient evidence (or a policy that cannot be used; the message says which).
    """
    from uphold.evidence import gate
    from uphold.evidence.ledger import Ledger

    decision = gate.decide_run(run, policy)
    for missing in decision.missing:
        warn(missing)
    if record:
        gate.record(decision, Ledger(run))
    result = decision.model_dump(mode="json", exclude={"policy"}) | {"policy": decision.policy.name}
    lines = [f"{decision.verdict}  (policy {decision.policy.name}, version {decision.policy.version})", ""]
    lines += [f"  {reason}" for reason in decision.reasons]
    emit(result, as_json, "\n".join(lines))
    raise typer.Exit(decision.exit_code)
