"""`uphold world`: the built-in storefront and its model, the clerk."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from uphold.cli.common import Json, emit

app = typer.Typer(help="The built-in world: score or rebuild its model.", no_args_is_help=True)


@app.command()
def score(
    model: Annotated[str, typer.Argument(help="Any model; it is put to the clerk's own tests.")] = "builtin:clerk",
    n: Annotated[int, typer.Option(min=1, help="Samples per metric.")] = 200,
    seed: Annotated[int, typer.Option(help="Which samples are drawn.")] = 0,
    only: Annotated[list[str] | None, typer.Option(help="Only these metrics; may be repeated.")] = None,
    page: Annotated[Path | None, typer.Option(help="Also write the scores as a Markdown page.")] = None,
    as_json: Json = False,
) -> None:
    """Measure competence on held-out compositions, each metric beside its target.

    uphold world score --n 50
    """
    from uphold import models
    from uphold.core.errors import unknown
    from uphold.core.files import write_atomic
    from uphold.world import score as scoring

    for name in only or ():
        if name not in scoring.TARGETS:
            raise unknown("metric", name, scoring.TARGETS, "--only")
    found = scoring.score(models.load(model), n=n, seed=seed, only=only or ())
    if page is not None:
        write_atomic(page, scoring.page(found, model, n, seed))
    emit({"metrics": found}, as_json, scoring.table(found))


@app.command("train-clerk")
def train_clerk(
    out: Annotated[Path, typer.Option(help="Folder for weights, checkpoints and log.")],
    steps: Annotated[int | None, typer.Option(min=1, help="Fewer steps, for a trial.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the weights and the stream.")] = 0,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads; weights are bit-equal for equal threads.")] = 1,
    as_json: Json = False,
) -> None:
    """Rebuild the shipped model from nothing. Killed and started again, it continues.

    uphold world train-clerk --out clerk/
    """
    import torch

    from uphold.world.clerk import ClerkConfig, train_clerk

    torch.set_num_threads(threads)
    config = (
        ClerkConfig(seed=seed)
        if steps is None
        else ClerkConfig(seed=seed, steps=steps, refine_steps=max(1, steps // 2))
    )
    summary = train_clerk(out, config)
    text = (
        f"clerk: {summary['n_parameters']:,} parameters, {summary['n_steps']} steps, "
        f"last loss {summary['last_loss_nats']:.4f} nats per reply token\n"
        f"written {out / 'model'}    next: uphold world score {out / 'model'}"
    )
    emit({**summary, "model": str(out / "model")}, as_json, text)
