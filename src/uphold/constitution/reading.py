"""One constitution file read on its own: its clauses with their lines, and everything wrong with its shape.

Takes YAML through `core.config`; gives `resolution.py` whatever could be understood, so that one misspelt key does not hide the other
faults of the file. Left out: what the file extends.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from uphold.constitution.problems import Code, Problem
from uphold.constitution.schema import Clause, ConstitutionFile, Override
from uphold.core import config
from uphold.core.config import Located
from uphold.core.errors import ConfigError, did_you_mean

SHIPPED = Path(__file__).parent / "shipped"

_SEE = "See docs/constitution.md or: uphold constitution schema"
_READ_CODES: tuple[tuple[str, Code], ...] = (
    ("not UTF-8", "not-utf8"),
    ("is empty", "empty-file"),
    ("no such file", "no-such-file"),
    ("not a file", "no-such-file"),
    ("cannot read", "unreadable-file"),
    ("larger than", "unreadable-file"),
    ("duplicate key", "duplicate-key"),
)
_PLAIN = (  # what pydantic says -> what the author of a file understands
    ("valid dictionary or instance of", ("must be a mapping of keys to values", _SEE)),
    ("valid tuple", ("must be a list", "Write one item a line, each after a dash")),
    ("valid string", ("must be text", "Put it in quotes")),
    (
        "should match pattern",
        ("must be a name", "Use letters, digits, '.', '_' and '-', and begin with a letter or digit"),
    ),
)

P = TypeVar("P", Clause, Override)


@dataclass
class Layer:
    """What one file says. Lists run parallel to the file; entries that could not be understood are missing from them."""

    path: Path
    located: Located
    head: ConstitutionFile | None
    clauses: list[tuple[Clause, int]] = field(default_factory=list)
    overrides: list[tuple[Override, int]] = field(default_factory=list)
    bases: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return shown(self.path)


def shown(path: Path) -> str:
    """What messages call a file: the path as given, or 'shipped/NAME.yaml' wherever the package is installed."""
    return f"shipped/{path.name}" if path.parent == SHIPPED else str(path)


def shipped_names() -> list[str]:
    """The constitutions that come with the package."""
    return sorted(path.stem for path in SHIPPED.glob("*.yaml"))


def find(path_or_name: str | Path, beside: Path | None = None) -> Path:
    """The file meant by a path (relative to the folder `beside`, when given) or by a shipped name. ConfigError on an unknown name."""
    path = Path(path_or_name)
    there = path if beside is None else beside / path
    if there.exists() or isinstance(path_or_name, Path) or path.suffix or len(path.parts) != 1:
        return there
    if str(path_or_name) in shipped_names():
        return SHIPPED / f"{path_or_name}.yaml"
    hint = did_you_mean(str(path_or_name), shipped_names())
    raise ConfigError(f"no constitution {str(path_or_name)!r}: neither a file nor a shipped one. {hint}")


def read(path: Path) -> tuple[Layer | None, list[Problem]]:
    """The file as far as it can be understood (None when not at all), and every fault of its shape."""
    try:
        located = replace(config.load_yaml(path), path=shown(path))
    except ConfigError as error:
        return None, [_from_reader(str(path), text) for text in str(error).splitlines()]
    if not isinstance(located.data, dict):
        what = "a constitution is a mapping of keys such as name and clauses, not a list or plain text"
        return None, [_error("not-a-mapping", located, (), None, what, _SEE)]
    try:
        head = ConstitutionFile.model_validate(located.data)
    except ValidationError as error:
        layer = Layer(path, located, None, bases=_bases(located.data))
        layer.clauses = list(_salvage(Clause, located, "clauses"))
        layer.overrides = list(_salvage(Override, located, "overrides"))
        return layer, [_from_schema(located, text) for text in config.problems(ConstitutionFile, error, located)]
    layer = Layer(path, located, head, bases=head.bases)
    layer.clauses = [(clause, located.line("clauses", i)) for i, clause in enumerate(head.clauses)]
    layer.overrides = [(override, located.line("overrides", i)) for i, override in enumerate(head.overrides)]
    return layer, []


def _bases(data: Mapping[str, Any]) -> tuple[str, ...]:
    found = data.get("extends", ())
    entries = [found] if isinstance(found, str) else found if isinstance(found, list) else []
    return tuple(entry for entry in entries if isinstance(entry, str))


def _salvage(model: type[P], located: Located, key: str) -> Iterator[tuple[P, int]]:
    """The entries of a list that are well-formed by themselves, with their lines."""
    entries = located.data.get(key)
    for i, entry in enumerate(entries if isinstance(entries, list) else []):
        known = {k: v for k, v in entry.items() if k in model.model_fields} if isinstance(entry, dict) else entry
        try:
            yield model.model_validate(known), located.line(key, i)
        except ValidationError:
            continue


def _from_reader(path: str, text: str) -> Problem:
    """A complaint of the YAML reader, `file[:line]: what. mend`."""
    found = re.match(r":(\d+)?:? ?(.*)", text.removeprefix(path), re.DOTALL)
    assert found is not None
    line, what = int(found[1] or 1), found[2]
    code: Code = next((code for sign, code in _READ_CODES if sign in what), "malformed-yaml")
    message, mend = _parted(what)
    return Problem(severity="error", code=code, file=path, line=line, message=message, mend=mend)


def _from_schema(located: Located, text: str) -> Problem:
    """A complaint of the schema, `file:line: clauses.3.text: what. mend`."""
    found = re.match(r":(\d+): (.*)", text.removeprefix(located.path), re.DOTALL)
    assert found is not None
    where, _, what = found[2].partition(": ")
    parts = where.split(".")
    message, mend = _parted(what)
    code: Code = "invalid-value"
    message, mend = next((plain for sign, plain in _PLAIN if sign in message), (message, mend))
    if message == "unknown key":
        code, message = "unknown-key", f"unknown key {parts[-1]!r}"
    elif message == "is missing":
        code, message = "missing-key", f"key {parts[-1]!r} is missing"
    else:
        message = f"{_field(parts)}: {message}"
    clause = _id_at(located.data, parts)
    if clause is None and len(parts) > 2:
        message = f"{'.'.join(parts[:2])}: {message}"
    return Problem(
        severity="error", code=code, file=located.path, line=int(found[1]), clause=clause, message=message, mend=mend
    )


def _field(parts: list[str]) -> str:
    inside = parts[2:] if parts[0] in ("clauses", "overrides") else parts
    return ".".join(inside) or ".".join(parts)


def _id_at(data: Any, parts: list[str]) -> str | None:
    if parts[0] in ("clauses", "overrides") and len(parts) > 1 and parts[1].isdigit():
        entry = data[parts[0]][int(parts[1])]
        name = entry.get("id") if isinstance(entry, dict) else None
        return name if isinstance(name, str) else None
    return None


def _parted(what: str) -> tuple[str, str]:
    """'what is wrong. how to mend it' in two."""
    message, _, mend = what.partition(". ")
    return message.rstrip("."), mend or _SEE


def _error(
    code: Code, located: Located, where: tuple[str | int, ...], clause: str | None, message: str, mend: str
) -> Problem:
    line = located.line(*where)
    return Problem(severity="error", code=code, file=located.path, line=line, clause=clause, message=message, mend=mend)
