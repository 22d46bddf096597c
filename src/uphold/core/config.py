"""The one config mechanism: pydantic models to and from YAML, with `file:line` in every complaint.

`load_config` reads a file, checks it against a model and reports every problem at once, with the nearest known name for a misspelt
key. `load_yaml` gives plain data plus the line of every value for rooms with rules of their own (the constitution's lint). Loading
is safe: no tags that build objects, no duplicate keys, no aliases that blow up, bounded size and depth. `dump_yaml` writes the
resolved copy that is saved with a run. Left out: merging of several files, variables, includes.
"""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

from uphold.core.errors import ConfigError, DataError, did_you_mean
from uphold.core.files import read_text, write_atomic

M = TypeVar("M", bound=BaseModel)
Path_ = tuple[str | int, ...]

MAX_BYTES = 8 * 1024 * 1024
MAX_DEPTH = 40
MAX_NODES = 400_000  # counted with aliases expanded: a "billion laughs" file has few lines and very many values


@dataclass(frozen=True)
class Located:
    """Plain data read from YAML, and where each value stood. `path` is the file as it should appear in messages."""

    data: Any
    path: str
    lines: Mapping[Path_, int] = field(repr=False, default_factory=dict)

    def line(self, *where: str | int) -> int:
        """1-based line of the value at `where` (keys and indices from the top), or of its nearest known parent."""
        for end in range(len(where), -1, -1):
            if where[:end] in self.lines:
                return self.lines[where[:end]]
        return 1

    def at(self, *where: str | int) -> str:
        """'file:line' of the value at `where`."""
        return f"{self.path}:{self.line(*where)}"


def load_yaml(path: str | Path) -> Located:
    """Read one YAML document safely. Raises ConfigError (`file:line: what`) on anything that cannot be trusted or understood."""
    try:
        text = read_text(path)
    except DataError as error:
        raise ConfigError(str(error)) from None
    return parse_yaml(text, str(path))


def parse_yaml(text: str, path: str = "text") -> Located:
    """As `load_yaml`, from text; `path` is what messages call it."""
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    if len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise ConfigError(f"{path}: larger than {MAX_BYTES // 2**20} MiB. Split it; prompts belong in a JSONL file.")
    try:
        return _Builder(path).build(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        raise ConfigError(f"{path}:{line}: not valid YAML: {error.problem or error.context}.") from None
    except YAMLError as error:
        line = text.count("\n", 0, getattr(error, "position", 0)) + 1
        raise ConfigError(f"{path}:{line}: not valid YAML: {' '.join(str(error).split())}.") from None
    except RecursionError:
        raise ConfigError(f"{path}: nested more than {MAX_DEPTH} levels deep.") from None


class _Builder:
    """Walks the YAML node tree once: plain data out, a line kept for every value, bad shapes collected as problems."""

    def __init__(self, path: str) -> None:
        from ruamel.yaml import YAML

        self._yaml = YAML(typ="safe", pure=True)
        self._path = path
        self._lines: dict[Path_, int] = {}
        self._problems: list[tuple[int, str]] = []
        self._nodes = 0

    def build(self, text: str) -> Located:
        node = self._yaml.compose(text)
        if node is None:
            raise ConfigError(f"{self._path}: is empty. It needs at least one key.")
        self._constructor = self._yaml.constructor
        data = self._value(node, (), frozenset())
        if self._problems:
            raise ConfigError("\n".join(f"{self._path}:{line}: {what}" for line, what in sorted(self._problems)))
        return Located(data, self._path, self._lines)

    def _value(self, node: Any, where: Path_, above: frozenset[int]) -> Any:
        from ruamel.yaml.nodes import MappingNode, ScalarNode, SequenceNode

        line = node.start_mark.line + 1
        self._lines[where] = line
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise ConfigError(f"{self._path}:{line}: holds more than {MAX_NODES} values once its aliases are expanded.")
        if len(where) > MAX_DEPTH:
            raise ConfigError(f"{self._path}:{line}: nested more than {MAX_DEPTH} levels deep.")
        if id(node) in above:
            raise ConfigError(f"{self._path}:{line}: an alias contains itself.")
        if isinstance(node, ScalarNode):
            return self._scalar(node, line)
        above = above | {id(node)}
        if isinstance(node, SequenceNode) and _is_plain(node, "seq"):
            return [self._value(child, (*where, i), above) for i, child in enumerate(node.value)]
        if isinstance(node, MappingNode) and _is_plain(node, "map"):
            return self._mapping(node, where, above)
        self._problems.append((line, f"the tag {_tag(node)!r} is not allowed: only plain values, lists and mappings."))
        return None

    def _mapping(self, node: Any, where: Path_, above: frozenset[int]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        first: dict[str, int] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            key = getattr(key_node, "value", None)
            if not isinstance(key, str):
                self._problems.append((line, "a key must be a plain word."))
            elif _tag(key_node).endswith(":merge"):
                self._problems.append((line, "merge keys ('<<') are not allowed: write the keys out."))
            elif key in found:
                self._problems.append((line, f"duplicate key {key!r}, first used on line {first[key]}. Keep one."))
            else:
                first[key] = line
                found[key] = self._value(value_node, (*where, key), above)
                self._lines[(*where, key)] = line
        return found

    def _scalar(self, node: Any, line: int) -> Any:
        kind = _tag(node).rpartition(":")[2]
        if not _tag(node).startswith("tag:yaml.org,2002:") or kind not in (
            "str",
            "int",
            "float",
            "bool",
            "null",
            "timestamp",
        ):
            self._problems.append(
                (line, f"the tag {_tag(node)!r} is not allowed: only plain values, lists and mappings.")
            )
            return None
        if kind in ("str", "timestamp"):  # dates stay text: a version written 2024-05-01 is a name, not a day
            return node.value
        try:
            value = self._constructor.construct_object(node)
        except (ValueError, OverflowError):
            self._problems.append(
                (line, f"{node.value[:40]!r} is not a value of the kind {kind!r}. Quote it if it is text.")
            )
            return None
        if isinstance(value, float) and not math.isfinite(value):
            self._problems.append(
                (line, f"{node.value[:40]!r} is not a finite number. Leave the key out for 'no limit'.")
            )
        return value


def _tag(node: Any) -> str:
    return str(node.tag)


def _is_plain(node: Any, kind: str) -> bool:
    return _tag(node) == f"tag:yaml.org,2002:{kind}"


def load_config(model: type[M], path: str | Path) -> M:
    """A checked `model` from a YAML file. Raises one ConfigError with every problem, a line each: `file:line: field: what`."""
    return check_config(model, load_yaml(path))


def check_config(model: type[M], located: Located) -> M:
    """As `load_config`, for data already read."""
    if not isinstance(located.data, dict):
        kind = type(located.data).__name__
        raise ConfigError(
            f"{located.at()}: expected a mapping of keys to values, found {_PLAIN_NAMES.get(kind, kind)}."
        )
    try:
        return model.model_validate(located.data)
    except ValidationError as error:
        raise ConfigError("\n".join(problems(model, error, located))) from None


_PLAIN_NAMES = {
    "str": "text",
    "list": "a list",
    "int": "a number",
    "float": "a number",
    "bool": "true or false",
    "NoneType": "nothing",
}


def problems(model: type[BaseModel], error: ValidationError, located: Located) -> list[str]:
    """Every complaint of pydantic as `file:line: field: message`, in file order, without repeating values that may be private."""
    found = []
    for item in error.errors(include_url=False, include_context=True):
        where = _in_data(located.data, item["loc"])
        name = ".".join(str(part) for part in where)
        line = located.line(*where)
        found.append((line, f"{located.path}:{line}: {name + ': ' if name else ''}{_message(model, item, where)}"))
    return list(dict.fromkeys(text for _, text in sorted(found, key=lambda pair: pair[0])))


def _in_data(data: Any, loc: Sequence[str | int]) -> Path_:
    """The part of pydantic's location that is a path in the file (it adds names of union members and validators)."""
    where: list[str | int] = []
    rest = list(loc)
    while rest:
        part = rest.pop(0)
        inside = (isinstance(data, dict) and part in data) or (
            isinstance(data, list) and isinstance(part, int) and part < len(data)
        )
        if inside:
            data = data[part]
            where.append(part)
        elif not rest and isinstance(data, dict):
            where.append(part)  # a missing field
    return tuple(where)


def _message(model: type[BaseModel], item: Any, where: Path_) -> str:
    kind, context = item["type"], item.get("ctx") or {}
    if kind == "extra_forbidden":
        known = _fields_at(model, where[:-1])
        return f"unknown key. {did_you_mean(str(where[-1]), known)}"
    if kind == "missing":
        return "is missing. Add it."
    if kind == "literal_error":
        return f"must be one of {context.get('expected')}.{_near(item.get('input'), context.get('expected', ''))}"
    if kind in ("value_error", "assertion_error"):
        return str(context.get("error", item["msg"]))
    text = str(item["msg"])
    return text.removeprefix("Input ").strip() + "."


def _near(given: Any, expected: str) -> str:
    options = [word.strip("'") for word in expected.replace(" or ", ", ").split(", ")]
    hint = did_you_mean(given, options) if isinstance(given, str) else ""
    return f" {hint}" if hint.startswith("Did") else ""


def _fields_at(model: type[BaseModel], where: Path_) -> list[str]:
    """Names of the keys allowed at `where`, over every model that may stand there."""
    kinds: list[Any] = [model]
    for part in where:
        kinds = [inner for kind in kinds for inner in _step(kind, part)]
    return sorted({_key(name, info) for kind in kinds if _is_model(kind) for name, info in kind.model_fields.items()})


def _key(name: str, info: Any) -> str:
    return info.alias or name


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _step(kind: Any, part: str | int) -> Iterator[Any]:
    """The types that may stand under `part` of a value of type `kind`."""
    if _is_model(kind):
        for name, info in kind.model_fields.items():
            if part == _key(name, info):
                yield from _unpacked(info.annotation)
        return
    arguments = typing.get_args(kind)
    origin = typing.get_origin(kind)
    if isinstance(origin, type) and issubclass(origin, Mapping) and len(arguments) == 2:
        yield from _unpacked(arguments[1])
    elif arguments and isinstance(part, int):
        for argument in arguments:
            yield from _unpacked(argument)


def _unpacked(kind: Any) -> Iterator[Any]:
    """The members of unions and annotated types; the type itself otherwise."""
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        for argument in typing.get_args(kind):
            yield from _unpacked(argument)
    elif typing.get_origin(kind) is typing.Annotated:
        yield from _unpacked(typing.get_args(kind)[0])
    else:
        yield kind


def dump_yaml(value: Any, path: str | Path | None = None) -> str:
    """YAML text of plain data or a model, keys in their own order; written to `path` atomically when one is given."""
    import io

    from ruamel.yaml import YAML

    plain = TypeAdapter(Any).dump_python(value, mode="json")
    yaml: Any = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False
    yaml.width = 120
    yaml.allow_unicode = True
    stream = io.StringIO()
    yaml.dump(plain, stream)
    text = stream.getvalue()
    if path is not None:
        write_atomic(path, text)
    return text
