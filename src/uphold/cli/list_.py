"""`uphold list KIND`: what the registry holds, so that every name a project may use can be looked up."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from uphold.cli.common import Json, emit, table
from uphold.core import registry
from uphold.core.errors import unknown


def command(
    kind: Annotated[str, typer.Argument(help="attacks, backends, graders, sources, transforms, ...")] = "kinds",
    as_json: Json = False,
) -> None:
    """List everything of a kind that can be named in a project, a command or a log.

    \b
    uphold list               the kinds
    uphold list attacks       every attack, with a line on what it does
    """
    known = {f"{name}s": name for name in registry.kinds()}
    if kind in ("kinds", "kind"):
        rows = [(plural, str(len(registry.names(name)))) for plural, name in sorted(known.items())]
        emit({"kind": "kind", "entries": [{"name": name, "n": int(n)} for name, n in rows]}, as_json, table(rows))
        return
    singular = known.get(kind, kind)
    if singular not in known.values():
        raise unknown("kind", kind, known)
    entries = [{"name": name, "about": about(registry.get(singular, name))} for name in registry.names(singular)]
    emit({"kind": singular, "entries": entries}, as_json, table([(e["name"], e["about"]) for e in entries]))


def about(thing: Any) -> str:
    """One line on a registered thing: its own `about` text, else the first line of its docstring, else ''."""
    text = getattr(thing, "about", None)
    if not isinstance(text, str):
        own = vars(type(thing)).get("__doc__") if not (isinstance(thing, type) or callable(thing)) else thing.__doc__
        text = own or ""
    return text.strip().partition("\n")[0]
