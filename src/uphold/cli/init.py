"""`uphold init`: a project that runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from uphold.cli.common import Json, emit


def command(
    folder: Annotated[Path, typer.Argument(help="Folder to make; it must be new or empty.")],
    template: Annotated[
        str, typer.Option(help="storefront: the built-in world; assistant: guard an endpoint in real English.")
    ] = "storefront",
    as_json: Json = False,
) -> None:
    """Write a project that runs: uphold.yaml and a constitution to edit.

    uphold init myproject && uphold run myproject
    """
    from uphold.project import init

    written = init(folder, template)
    emit(
        {"project": str(folder), "files": [str(path) for path in written]},
        as_json,
        "\n".join([*(f"written {path}" for path in written), f"next: uphold run {folder}"]),
    )
