"""The one error tree.

    UpholdError                     exit 1: the work failed
    ├── ConfigError (ValueError)    exit 2: a setting, name or file the user wrote is wrong
    ├── DataError (ValueError)      exit 2: prompts, pairs or records that cannot be used
    ├── StoreError (RuntimeError)   exit 2: a run folder that is locked, foreign, read-only or damaged
    ├── ModelError (RuntimeError)   exit 2: a model or endpoint that cannot be reached, loaded or understood
    ├── MissingExtra (ImportError)  exit 2: an optional dependency is not installed
    └── Unsupported (TypeError)     exit 2: the model behind this door cannot do what was asked

Every message says what was wrong, where, and how to mend it. The command line prints the message alone; `--debug` adds the
traceback. Keys and private prompts never appear in a message.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UpholdError(Exception):
    """Base of every error Uphold raises on purpose. `exit_code` is what the command line returns for it."""

    exit_code = 1


class ConfigError(UpholdError, ValueError):
    exit_code = 2


class DataError(UpholdError, ValueError):
    exit_code = 2


class StoreError(UpholdError, RuntimeError):
    exit_code = 2


class ModelError(UpholdError, RuntimeError):
    exit_code = 2


class MissingExtra(UpholdError, ImportError):
    exit_code = 2

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is not installed. Install it with: pip install 'uphold[{extra}]'")


class Unsupported(UpholdError, TypeError):
    exit_code = 2


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """'Did you mean ...?' for the nearest known name, or 'Known: a, b, c.' when none is near."""
    known = list(known)
    near = difflib.get_close_matches(name, known, n=1)
    return f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(sorted(known)) or 'none'}."


def unknown(kind: str, name: str, known: Iterable[str], where: str = "") -> ConfigError:
    """The error for a misspelt name of a registered kind. `where` is the file, flag or field that held it."""
    place = f"{where}: " if where else ""
    return ConfigError(f"{place}unknown {kind} {name!r}. {did_you_mean(name, known)} See all: uphold list {kind}s")
