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
    ci: Annotated[
        bool, typer.Option("--ci", help="Also a GitHub workflow that compares each change; adds it to a project too.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Write a project that runs: uphold.yaml and a constitution to edit.

    \b
    uphold init myproject && uphold run myproject
    uphold init myproject --ci
    """
    from uphold.project import FILE, add_workflow, init, workflow_path

    if ci:
        workflow_path(folder)  # refuses before anything is written
    written = [] if ci and (folder / FILE).is_file() else init(folder, template)
    if ci:
        written.append(add_workflow(folder))
    emit(
        {"project": str(folder), "files": [str(path) for path in written]},
        as_json,
        "\n".join([*(f"written {path}" for path in written), f"next: uphold run {folder}"]),
    )
