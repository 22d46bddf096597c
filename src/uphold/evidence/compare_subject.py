"""One side of a comparison: the numbers of a run (or of one system in it), with the single outcomes behind them where they are kept.

Takes a run folder, whose evidence is verified first, `RUN:SYSTEM` for one of the systems a run compares, or a baseline file, which
`save_baseline` wrote from either: small enough to keep in a repository or a cache. Gives a `Subject` for `compare.py`.
Left out: differences a run recorded between its own systems; they are comparisons already.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from uphold.core.errors import ConfigError, DataError, StoreError, did_you_mean
from uphold.core.files import read_json, write_json
from uphold.core.records import Measurement, digest
from uphold.core.store import LOCK
from uphold.evidence.compare_items import Items, RunItems
from uphold.evidence.ledger import Ledger
from uphold.evidence.paths import ledger_path
from uphold.evidence.proof import verify_run

FORMAT = "uphold-baseline"
Name = tuple[str, tuple[tuple[str, str], ...]]
"""What is compared: metric (without the system's name where one was chosen) and slice."""


@dataclass
class Subject:
    """One side. where: what the user gave; system: '' for a whole run; head: last hash of the ledger the numbers are from."""

    name: str
    where: str
    system: str
    head: str
    entries: int
    measurements: dict[Name, Measurement] = field(default_factory=dict)
    items: dict[Name, Items] = field(default_factory=dict)


def load_subjects(given: Iterable[str | Path]) -> list[Subject]:
    """The sides, each under a short name of its own, in the order given. Raises ConfigError when two are the same."""
    found = [load_subject(each) for each in given]
    places = [(str(Path(_split(one.where)[0]).resolve()), one.system) for one in found]
    for i, place in enumerate(places):
        if place in places[:i]:
            raise ConfigError(
                f"{found[i].where}: given twice. A run compared with itself says nothing; give two different runs."
            )
    for longer in (_with_folder, lambda one: one.where):
        names = [one.name for one in found]
        for one in found:
            if names.count(one.name) > 1:
                one.name = longer(one)
    return found


def _with_folder(one: Subject) -> str:
    path, system = _split(one.where)
    return "/".join(path.resolve().parts[-2:]) + (f":{system}" if system else "")


def load_subject(given: str | Path) -> Subject:
    """A run folder, RUN:SYSTEM, or a baseline file. Raises StoreError when it is unfinished, in use, or its evidence is not sound."""
    path, system = _split(str(given))
    if path.is_file() and path.suffix == ".json":
        found = read_baseline(path)
    else:
        found = _read_run(path, str(given))
    return _of_system(found, system, path) if system else found


def _split(given: str) -> tuple[Path, str]:
    """(path, system): 'runs/a:guarded' names a system; an existing path is never cut."""
    if not Path(given).exists() and ":" in given:
        path, _, system = given.rpartition(":")
        if Path(path).exists():
            return Path(path), system
    return Path(given), ""


def _read_run(run: Path, given: str) -> Subject:
    if not run.exists():
        raise ConfigError(f"{given}: no such run. Give a run folder, RUN:SYSTEM, or a baseline file (.json).")
    _check_finished(run)
    checked = verify_run(run)
    if not checked.ok:
        first = checked.problems[0]
        where = f"line {first.line}: " if first.line is not None else ""
        raise StoreError(
            f"{run}: its evidence is not sound, so nothing is compared: {where}{first.what}. All problems: uphold verify {run}"
        )
    ledger = Ledger(run)
    items = RunItems(ledger.path.parent)
    name = run.resolve().name if run.is_dir() else run.resolve().parent.name
    found = Subject(name, given, "", checked.head, checked.entries)
    for entry in ledger.current().values():
        m = entry.measurement
        if "_minus_" in m.metric:
            continue
        key = _key(m.metric, m)
        found.measurements[key] = m
        stem, _, system = m.metric.partition(".")
        if (kept := items.of(m, stem, system)) is not None:
            found.items[key] = kept
    if not found.measurements:
        raise DataError(f"{ledger.path}: holds no measurement, so there is nothing to compare. Run: uphold run")
    return found


def _key(metric: str, m: Measurement) -> Name:
    by = {**m.by, **({"role": m.subject["role"]} if "role" in m.subject else {})}
    if "family" in by:  # some runs say beside a family which split it belongs to; it is the same family
        by.pop("split", None)
    return metric, tuple(sorted(by.items()))


def _check_finished(run: Path) -> None:
    """Raise StoreError while another process works in the run folder, or when it never came to measure anything."""
    lock = run / LOCK
    if run.is_dir() and lock.is_file():
        with open(lock, "rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise StoreError(
                    f"{run}: this run is still in progress. Wait for it, or compare a copy of a finished one."
                ) from None
    if run.is_dir() and (run / "stages").is_dir() and not ledger_path(run).exists():
        raise StoreError(f"{run}: this run has no ledger: it has not finished. The command that began it continues it.")


def _of_system(found: Subject, system: str, path: Path) -> Subject:
    """Only what was measured about one system, under names without it: 'over_refusal.guarded' becomes 'over_refusal'."""
    ending = f".{system}"
    chosen = {key: m for key, m in found.measurements.items() if key[0].endswith(ending)}
    if not chosen:
        known = {metric.partition(".")[2] for metric, _ in found.measurements} - {""}
        raise ConfigError(f"{path}: has no system {system!r}. {did_you_mean(system, known)}")
    one = Subject(f"{found.name}:{system}", found.where, system, found.head, found.entries)
    for (metric, by), m in chosen.items():
        key = (metric.removesuffix(ending), by)
        one.measurements[key] = m
        if (metric, by) in found.items:
            one.items[key] = found.items[metric, by]
    return one


# baseline files


def save_baseline(given: str | Path, path: str | Path) -> Subject:
    """Write the numbers and outcomes of a run (or RUN:SYSTEM) into one JSON file, without any text; returns what was written."""
    subject = load_subject(given)
    rows = [
        {
            "metric": metric,
            "measurement": m.model_dump(mode="json"),
            "items": _packed(subject.items.get((metric, by))),
        }
        for (metric, by), m in subject.measurements.items()
    ]
    body = {
        "format": FORMAT,
        "version": 1,
        "system": subject.system,
        "head": subject.head,
        "entries": subject.entries,
        "rows": rows,
    }
    write_json(Path(path), {**body, "digest": digest(body)})
    return subject


def read_baseline(path: str | Path) -> Subject:
    """What `save_baseline` wrote. Raises DataError when the file is another, of another version, or was changed since."""
    body = read_json(path)
    mend = "Save it again: uphold compare RUN --save-baseline FILE"
    if not isinstance(body, dict) or body.get("format") != FORMAT or body.get("version") != 1:
        raise DataError(f"{path}: not a baseline of this version of Uphold. {mend}")
    if body.pop("digest", None) != digest(body):
        raise DataError(f"{path}: was changed since it was saved. {mend}")
    try:
        found = Subject(Path(path).stem, str(path), str(body["system"]), str(body["head"]), int(body["entries"]))
        for row in body["rows"]:
            m = Measurement.model_validate(row["measurement"])
            key = _key(str(row["metric"]), m)
            found.measurements[key] = m
            if row["items"] is not None:
                found.items[key] = _unpacked(row["items"])
    except (KeyError, TypeError, ValueError, ValidationError) as error:
        raise DataError(f"{path}: damaged ({type(error).__name__}). {mend}") from None
    return found


def _packed(items: Items | None) -> list[list[Any]] | None:
    return None if items is None else [[key, outcome, items.groups[key]] for key, outcome in items.outcomes.items()]


def _unpacked(rows: list[list[Any]]) -> Items:
    return Items({key: outcome for key, outcome, _ in rows}, {key: group for key, _, group in rows})
