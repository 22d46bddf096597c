"""`uphold redteam campaign`: export and import as JSONL, and ordinary traffic asked beside."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from uphold.cli.common import Json, emit, table
from uphold.cli.rates import head, row
from uphold.cli.redteam.campaign.manage import Where, _open


def export(
    where: Where, out: Annotated[Path, typer.Option(help="JSONL file to write.")], as_json: Json = False
) -> None:
    """Write everything but keys as JSONL: one {table, ...row} a line."""
    from uphold.core.files import write_jsonl
    from uphold.redteam.campaign.archive import exported

    n = write_jsonl(out, exported(_open(where)))
    emit({"rows": n, "file": str(out)}, as_json, f"{n} rows written {out}")


def import_(
    where: Where,
    file: Annotated[Path, typer.Argument(help="JSONL that export wrote.")],
    as_json: Json = False,
) -> None:
    """Add what export wrote to a campaign. People come without a key: give them one with rekey.

    \b
    uphold redteam campaign init copy.db
    uphold redteam campaign import copy.db bounty.jsonl
    """
    from uphold.redteam.campaign.archive import restore

    n = restore(_open(where), file)
    emit({"rows": n, "file": str(file)}, as_json, f"{n} rows read {file}")


def traffic(
    where: Where,
    target: Annotated[str, typer.Option(help="Model to ask: builtin:clerk, openai:URL#model.")],
    constitution: Annotated[str, typer.Option(help="Constitution file, or the name of a shipped one.")] = "storefront",
    guard: Annotated[Path | None, typer.Option(help="Folder of a guard to put around the target.")] = None,
    source: Annotated[str, typer.Option(help="Where everyday requests come from.")] = "builtin:storefront",
    n: Annotated[int, typer.Option("--n", min=1, help="Requests to ask.")] = 500,
    split: Annotated[str, typer.Option(help="train, validation or test.")] = "test",
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Longest reply, in tokens.")] = 96,
    seed: Annotated[int, typer.Option(help="Which requests.")] = 0,
    as_json: Json = False,
) -> None:
    """Ask a target everyday requests and keep how many it refuses; report shows it. Ask the unguarded model first, then the guarded one.

    \b
    uphold redteam campaign traffic bounty.db --target builtin:clerk
    uphold redteam campaign traffic bounty.db --target builtin:clerk --guard runs/shop/guard
    """
    from uphold import models
    from uphold.cli.redteam.run import _guarded
    from uphold.constitution import Constitution
    from uphold.core import registry
    from uphold.models import Sampling
    from uphold.redteam.attacks.base import requests
    from uphold.redteam.campaign.traffic import ask_traffic, ordinary

    campaign, law = _open(where), Constitution.load(constitution)
    prompts = registry.get("source", source, "--source")
    about = {"constitution": law, "split": split, "n": n, "seed": seed}
    samples = requests(prompts.samples("task", **about)) or requests(prompts.samples("benign", **about))
    chat = _guarded(models.load(target), guard, "both")
    chat.check()
    asked = ask_traffic(campaign, chat, samples, sampling=Sampling(max_new_tokens=max_new_tokens))
    found = ordinary(campaign)[chat.identity()]
    shown = table([head("everyday requests"), row("refused", found)])
    emit({"asked": asked, "refusal_rate": found}, as_json, shown)


COMMANDS = {"export": export, "import": import_, "traffic": traffic}
