"""Which finished work of a run a change of its constitution makes stale.

Reads the run folder without locking or changing it: the inputs that each `stages/*/stage.json` recorded, and the measurements in
`ledger.jsonl`. A stage depends on a clause when its inputs hold the clause's digest, on what the clause rules when they hold its
category and id, on all clauses when they hold the constitution's digest, and on another stage when they hold its key, the hash of one of
its files or a hash from its summary. A measurement depends on its stage, and on what its subject or its slice names.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uphold.constitution.diff import Change
from uphold.constitution.schema import Constitution
from uphold.core.errors import DataError, StoreError
from uphold.core.files import read_json, read_text
from uphold.core.records import Record, canonical_json

_SHORT = 12  # hex digits of a stage's key in the name of its folder
_HASH = re.compile(r"[0-9a-f]{16,}")


class Stale(Record):
    """One piece of work that no longer matches. clauses: the changed ones it depends on, directly or through `through`."""

    kind: str  # stage | measurement
    name: str
    clauses: tuple[str, ...]
    through: str | None = None


@dataclass(frozen=True)
class _Stage:
    """texts: every text of its inputs. produced: what later inputs may name it by."""

    name: str
    folder: str
    key: str
    texts: frozenset[str]
    produced: frozenset[str]


def stale(run: str | Path, before: Constitution, changes: Sequence[Change]) -> list[Stale]:
    """Stages, then measurements, of the folder `run` that depend on a changed clause of `before`.

    An added clause concerns the work that depends on the whole constitution, on all its clauses, or, if the new one could be told
    apart no further, on all that forbid. Raises StoreError when `run` is no run folder, or a record in it cannot be read.
    """
    run = Path(run)
    stages = list(_stages(run))
    reasons: dict[str, tuple[set[str], str | None]] = {}
    for stage in stages:
        if found := _concerned(stage.texts, before, changes):
            reasons[stage.key] = (found, None)
    _spread(stages, reasons)
    result = [
        Stale(
            kind="stage", name=stage.folder, clauses=tuple(sorted(reasons[stage.key][0])), through=reasons[stage.key][1]
        )
        for stage in stages
        if stage.key in reasons
    ]
    names: dict[str, set[str]] = {}
    for stage in stages:
        if stage.key in reasons:
            names.setdefault(stage.name, set()).update(reasons[stage.key][0])
    return result + list(_measurements(run / "ledger.jsonl", before, changes, names))


def _stages(run: Path) -> Iterator[_Stage]:
    folder = run / "stages"
    if not folder.is_dir():
        raise StoreError(
            f"{run}: is not a run folder: it has no stages. Name the folder that `uphold run --out` wrote."
        )
    for path in sorted(folder.glob("*/stage.json")):
        try:
            manifest = read_json(path)
            key, name = manifest["key"], path.parent.name
            hashes = {text for text in _texts(manifest["summary"]) if _HASH.fullmatch(text)}
            produced = frozenset({key, key[:_SHORT], name, *manifest["files"].values(), *hashes})
            yield _Stage(manifest["stage"], name, key, frozenset(_texts(manifest["inputs"])), produced)
        except (DataError, KeyError, TypeError, AttributeError) as error:
            mend = f"Delete {path.parent} and run the same command again."
            raise StoreError(f"{path}: the stage's record is missing or damaged. {mend}") from error


def _texts(value: Any) -> Iterator[str]:
    """Every text inside a JSON value, keys included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)


def _concerned(texts: frozenset[str], before: Constitution, changes: Sequence[Change]) -> set[str]:
    """Ids of the changed clauses that work with these inputs depends on."""
    forbidding = [clause for clause in before.clauses if clause.forbids]
    on_all = before.digest in texts or all(clause.digest in texts for clause in before.clauses)
    on_forbidding = bool(forbidding) and all(clause.digest in texts for clause in forbidding)
    on_rulings = bool(forbidding) and all({clause.category, clause.id} <= texts for clause in forbidding)
    by_id = {clause.id: clause for clause in before.clauses}
    found = set()
    for change in changes:
        old = by_id.get(change.was or change.clause)
        if old is None:
            is_concerned = on_forbidding or (on_rulings and change.is_ruling)
        else:
            is_concerned = old.digest in texts or (change.is_ruling and {old.category, old.id} <= texts)
        if on_all or is_concerned:
            found.add(change.clause)
    return found


def _spread(stages: Sequence[_Stage], reasons: dict[str, tuple[set[str], str | None]]) -> None:
    """A stage that was fed by a stale one is stale for the same reasons."""
    by_key = {stage.key: stage for stage in stages}
    rest = list(reasons)
    while rest:
        key = rest.pop(0)
        for stage in stages:
            if stage.texts & by_key[key].produced:
                known = reasons.get(stage.key, (set(), None))
                new = known[0] | reasons[key][0]
                if new != known[0]:
                    through = known[1] or (by_key[key].folder if not known[0] else None)
                    reasons[stage.key] = (new, through)
                    rest.append(stage.key)


def _measurements(
    path: Path, before: Constitution, changes: Sequence[Change], stages: Mapping[str, set[str]]
) -> Iterator[Stale]:
    """Current measurements whose stage, slice or subject is concerned. stages: name -> changed clauses of the stale ones."""
    if not changes:
        return
    for entry in _current(path):
        body = entry["body"]
        slice_ = body.get("by") or {}
        found = {change.clause for change in changes if slice_.get("clause", "") in (change.clause, change.was)}
        found = found or set(stages.get(entry.get("stage", ""), ()))
        found = found or _concerned(frozenset(_texts(body.get("subject") or {})), before, changes)
        if found:
            parts = ", ".join(f"{key}={value}" for key, value in sorted(slice_.items()))
            metric = str(body.get("metric"))
            yield Stale(
                kind="measurement", name=f"{metric} ({parts})" if parts else metric, clauses=tuple(sorted(found))
            )


def _current(path: Path) -> list[dict[str, Any]]:
    """The measurements of a ledger that no later entry superseded or retired, in its order."""
    if not path.is_file():
        return []
    held: dict[str, dict[str, Any]] = {}
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        try:
            entry = json.loads(line)
            kind, body = entry["kind"], entry["body"]
            if kind == "measurement":
                key = canonical_json([body.get("metric"), body.get("by"), (body.get("subject") or {}).get("role")])
                held.pop(key, None)
                held[key] = entry
            elif kind == "retired":
                gone = set(body["hashes"])
                held = {key: old for key, old in held.items() if old["hash"] not in gone}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise StoreError(f"{path}:{number}: damaged ledger entry. See: uphold verify") from error
    return list(held.values())
