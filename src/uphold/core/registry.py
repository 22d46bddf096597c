"""The one registry: anything named in a config, a command or a log is registered here under a kind and a name.

    @register("attack", "roleplay")
    def roleplay(...): ...

    get("attack", "roleplay")      # did-you-mean on a misspelling
    names("attack")                # sorted

A kind may name the modules that fill it (`PROVIDERS`), imported the first time the kind is asked for, so that start-up stays
light. Third parties add entries through the entry-point group `uphold.plugins`: each entry is a module that registers on import.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Any, TypeVar

from uphold.core.errors import ConfigError, unknown

T = TypeVar("T")

# kind -> modules whose import registers its built-in entries
PROVIDERS: dict[str, tuple[str, ...]] = {
    "backend": (
        "uphold.models.builtin",
        "uphold.models.hf",
        "uphold.models.openai",
        "uphold.models.fake",
        "uphold.world.scripted",
    ),
    "source": ("uphold.world.source", "uphold.data.files", "uphold.data.assistant"),
    "transform": ("uphold.data.transforms",),
    "attack": ("uphold.redteam.attacks",),
    "search": ("uphold.redteam.search",),
    "agent-suite": ("uphold.world.shop_tasks",),
    "injection": ("uphold.redteam.agents.injections",),
    "defence": ("uphold.redteam.agents.defences",),
    "grader": ("uphold.redteam.grading", "uphold.redteam.graders"),
    "reward": ("uphold.train.rewards", "uphold.train.hacking.environment", "uphold.train.process.reward"),
    "environment": ("uphold.world.hacks",),
    "chains": ("uphold.world.chains", "uphold.world.invoices"),
    "guard": ("uphold.guard.kinds", "uphold.guard.builtin"),
    "builtin-guard": ("uphold.guard.kinds", "uphold.guard.builtin"),
}

_entries: dict[str, dict[str, Any]] = {}
_loaded: set[str] = set()


def register(kind: str, name: str) -> Callable[[T], T]:
    """Decorator: store the object under (kind, name). Raises ValueError when the name is taken by another object."""

    def keep(thing: T) -> T:
        table = _entries.setdefault(kind, {})
        if name in table and table[name] is not thing:
            raise ValueError(f"{kind} {name!r} is registered twice")
        table[name] = thing
        return thing

    return keep


def _load(kind: str) -> None:
    if "plugins" not in _loaded:
        _loaded.add("plugins")
        for entry in entry_points(group="uphold.plugins"):
            _load_plugin(entry)
    if kind not in _loaded:
        for module in PROVIDERS.get(kind, ()):
            importlib.import_module(module)
        _loaded.add(kind)  # only now: after a failed import the next call fails the same way, not with half a table


def _load_plugin(entry: Any) -> None:
    try:
        entry.load()
    except Exception as error:
        raise ConfigError(
            f"plugin {entry.name!r} ({entry.value}) cannot be loaded: {type(error).__name__}: {error}. Mend or uninstall it."
        ) from error


def get(kind: str, name: str, where: str = "") -> Any:
    """The object registered as (kind, name). Raises ConfigError with the nearest name when there is none."""
    _load(kind)
    table = _entries.get(kind, {})
    if name not in table:
        raise unknown(kind, name, table, where)
    return table[name]


def names(kind: str) -> list[str]:
    """Every registered name of a kind, sorted."""
    _load(kind)
    return sorted(_entries.get(kind, {}))


def kinds() -> list[str]:
    """Every kind that is known, sorted."""
    return sorted({*PROVIDERS, *_entries})
