"""Which clauses of a constitution a run has trained on, attacked, and asked about; which it never tested.

Reads a run folder without locking or changing it: `constitution.yaml`, the rows (`*.jsonl`) and `measurements.json` of its finished
stages, and `ledger.jsonl`. A row is about the clause it names, or about the clause that rules its category. What a row is, its
stage says: `attack-*` tried to break the clause, `answers-*` and held-out sets asked honest questions, the others were trained on.
A run may have any of the stages; unknown ones count as nothing. Left out: judging whether the numbers are good (`uphold gate`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from uphold.constitution.schema import Clause, Constitution
from uphold.core.errors import DataError, StoreError
from uphold.core.files import read_json, read_jsonl
from uphold.core.records import Record

_TRAINED_ON = ("harmful-train", "benign-train", "task-train", "exchanges", "preferences", "rows", "train")
_REDONE = ("revisions", "comparisons", "log")  # work on the way to files that are counted


class ClauseCoverage(Record):
    """What a run did with one clause.

    training: rows trained on; examples: the clause's own examples that a guard was trained on; attacks: attempts to make a system
    break it; benign: benign twins, honest requests on its category, put to a system; evaluations: all graded answers about it that
    are no attacks, the twins among them, and held-out requests put to a guard. blocks: attempts and answers a guard stopped.
    failures: attacks that succeeded and twins that were refused. unscored: attempts and answers without a grade.
    """

    clause: str
    category: str | None
    modality: str
    training: int = 0
    examples: int = 0
    attacks: int = 0
    benign: int = 0
    evaluations: int = 0
    blocks: int = 0
    failures: int = 0
    unscored: int = 0

    @property
    def is_tested(self) -> bool:
        """Whether anything was asked or attacked under it and graded."""
        return self.attacks + self.evaluations > self.unscored


class Coverage(Record):
    """A run's coverage. share: of clauses that were tested. unattributed: rows that name no clause and no category that one rules.

    unread: files that hold no rows that can be read, with the reason.
    """

    run: str
    constitution: str
    clauses: tuple[ClauseCoverage, ...]
    unattributed: int
    unread: tuple[str, ...]

    @property
    def untested(self) -> tuple[str, ...]:
        return tuple(c.clause for c in self.clauses if not c.is_tested)

    @property
    def share(self) -> float:
        return 1 - len(self.untested) / len(self.clauses)


@dataclass
class _Tally:
    """Counts by clause id while reading."""

    constitution: Constitution
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    unattributed: int = 0
    unread: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.ids = {clause.id for clause in self.constitution.clauses}
        rulings = {**self.constitution.allowed_categories(), **self.constitution.forbidden_categories()}
        self.by_category = {category: clause.id for category, clause in rulings.items()}

    def clause_of(self, row: Mapping[str, Any]) -> str | None:
        """The clause that a row, or the sample in it, is about; None when that cannot be told."""
        inner = row.get("sample")
        for one in (row, inner if isinstance(inner, Mapping) else {}):
            clause, category = one.get("clause"), one.get("category")
            if isinstance(clause, str) and clause in self.ids:
                return clause
            if isinstance(category, str) and category in self.by_category:
                return self.by_category[category]
        return None

    def add(self, clause: str | None, **counted: int) -> None:
        if clause is None:
            self.unattributed += 1
            return
        held = self.counts.setdefault(clause, {})
        for name, n in counted.items():
            held[name] = held.get(name, 0) + n


def coverage(run: str | Path) -> Coverage:
    """Count what the run folder holds. Raises StoreError when it is no run folder, ConfigError when its constitution cannot be used."""
    run = Path(run)
    if not (run / "constitution.yaml").is_file():
        raise StoreError(
            f"{run}: is not a run folder: it has no constitution.yaml. Name the folder that `uphold run --out` wrote."
        )
    constitution = Constitution.load(run / "constitution.yaml")
    tally = _Tally(constitution)
    for stage in sorted((run / "stages").glob("*/stage.json")) if (run / "stages").is_dir() else ():
        _read_stage(stage.parent, tally)
    _read_ledger(run / "ledger.jsonl", tally)
    return Coverage(
        run=str(run),
        constitution=constitution.digest,
        clauses=tuple(_covered(clause, tally.counts.get(clause.id, {})) for clause in constitution.clauses),
        unattributed=tally.unattributed,
        unread=tuple(tally.unread),
    )


def _covered(clause: Clause, counted: Mapping[str, int]) -> ClauseCoverage:
    return ClauseCoverage(clause=clause.id, category=clause.category, modality=clause.modality, **counted)


def _read_stage(folder: Path, tally: _Tally) -> None:
    try:
        manifest = read_json(folder / "stage.json")
        name = str(manifest["stage"])
        inputs = manifest.get("inputs") or {}
    except (DataError, KeyError, TypeError, AttributeError):
        tally.unread.append(f"{folder.name}/stage.json: the stage's record is missing or damaged")
        return
    examples = inputs.get("examples")
    if isinstance(examples, dict):
        _count_examples(examples, tally)
    for path in sorted(folder.glob("*.jsonl")):
        count = _counter(name, path.stem)
        if count is None:
            continue
        try:
            for _, row in read_jsonl(path):
                count(row, tally)
        except DataError as error:
            tally.unread.append(str(error))


def _count_examples(examples: Mapping[str, Any], tally: _Tally) -> None:
    """A stage whose inputs name clauses as `examples` was trained on those clauses' own example requests."""
    for clause in tally.constitution.clauses:
        if clause.id in examples:
            tally.add(clause.id, examples=len(clause.harmful) + len(clause.harmless))


def _counter(stage: str, file: str) -> Callable[[Mapping[str, Any], _Tally], None] | None:
    """What the rows of a stage's file are; None for files that are counted elsewhere or hold no rows."""
    if file in _REDONE:
        return None
    if stage.startswith(("attack", "redteam")):
        return _attempt
    if stage.startswith(("answers", "eval", "endpoint")):
        return _answer
    return _trained if file in _TRAINED_ON else None


def _trained(row: Mapping[str, Any], tally: _Tally) -> None:
    tally.add(tally.clause_of(row), training=1)


def _attempt(row: Mapping[str, Any], tally: _Tally) -> None:
    success = row.get("success")
    tally.add(
        tally.clause_of(row),
        attacks=1,
        blocks=int(bool(row.get("blocked"))),
        failures=int(success is True),
        unscored=int(success is None),
    )


def _answer(row: Mapping[str, Any], tally: _Tally) -> None:
    """An answer to a sample, or (the operator's loop) what a model said without and with its guard."""
    guarded = row.get("guarded")
    if isinstance(guarded, Mapping):
        refused = guarded.get("finish_reason") == "blocked"
        is_blocked, is_scored = refused, guarded.get("error") is None
    else:
        is_blocked, is_scored = bool(row.get("blocked")), row.get("error") is None
        refused = is_blocked or row.get("refusal") == "full"
    sample = row.get("sample")
    is_benign = isinstance(sample, Mapping) and sample.get("label") == "benign"
    tally.add(
        tally.clause_of(row),
        evaluations=1,
        benign=int(is_benign),
        blocks=int(is_blocked),
        failures=int(is_benign and refused),
        unscored=int(not is_scored),
    )


def _read_ledger(path: Path, tally: _Tally) -> None:
    """Held-out requests put to a guard leave no rows: the ledger says how many were about each clause."""
    asked: dict[str, int] = {}
    if not path.is_file():
        return
    try:
        for body in _measurements(path):
            by, metric = body.get("by") or {}, str(body.get("metric"))
            clause = by.get("clause")
            if clause in tally.ids and metric.split(".")[0].endswith("guard"):
                asked[clause] = max(asked.get(clause, 0), int(body.get("n_scored") or 0))
    except (DataError, ValueError, TypeError, AttributeError) as error:
        tally.unread.append(f"{path.name}: {error}")
    for clause, n in asked.items():
        tally.add(clause, evaluations=n)


def _measurements(path: Path) -> Iterator[dict[str, Any]]:
    for _, entry in read_jsonl(path):
        body = entry.get("body")
        if entry.get("kind") == "measurement" and isinstance(body, dict):
            yield body
