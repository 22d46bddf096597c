"""What changed between two constitutions, and which way.

Clauses are paired by id; one that vanished while another with the same words appeared was renamed. For each pair: reworded,
strengthened, weakened, reversed (it now orders the opposite), re-exampled, moved (another category). Direction is read from
modality, severity, scope, priority, exceptions and modal words, so a clause may be both strengthened and weakened. What a change makes
stale in a finished run is found by `staleness.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Literal

from uphold.constitution.language import directives, jaccard, strength
from uphold.constitution.schema import MODALITY_RANK, SCOPE_RANK, SEVERITY_RANK, Clause, Constitution
from uphold.core.records import Record

Kind = Literal[
    "added",
    "removed",
    "renamed",
    "reworded",
    "strengthened",
    "weakened",
    "reversed",
    "moved",
    "re-exampled",
    "adjusted",
]

_RANKS = {"modality": MODALITY_RANK, "severity": SEVERITY_RANK, "scope": SCOPE_RANK}
_SAME_RULE = 0.3  # Jaccard of acts at which two opposite directives count as one that was turned round


class Detail(Record):
    """One field that changed. For lists, `before` holds what went and `after` what came."""

    field: str
    before: Any = None
    after: Any = None


class Change(Record):
    """What happened to one clause. was: its id before, when renamed. is_ruling: whether it changes which categories are forbidden, or
    under which id. Digests are None where the clause did not exist."""

    clause: str
    kinds: tuple[Kind, ...]
    details: tuple[Detail, ...] = ()
    was: str | None = None
    is_ruling: bool = False
    digest_before: str | None = None
    digest_after: str | None = None


def diff(before: Constitution, after: Constitution) -> list[Change]:
    """Every clause that changed, in the order of `after`, those removed last. Changes of `source` alone are none."""
    old = {clause.id: clause for clause in before.clauses}
    new = {clause.id: clause for clause in after.clauses}
    gone = [clause for clause in before.clauses if clause.id not in new]
    renamed = _renamed(gone, [clause for clause in after.clauses if clause.id not in old])
    changes = []
    for clause in after.clauses:
        former = old.get(clause.id) or renamed.get(clause.id)
        if former is None:
            is_ruling = clause.category is not None
            changes.append(Change(clause=clause.id, kinds=("added",), is_ruling=is_ruling, digest_after=clause.digest))
        elif former.digest != clause.digest:
            changes.append(_compared(former, clause))
    left = {clause.id for clause in renamed.values()}
    changes += [
        Change(clause=clause.id, kinds=("removed",), is_ruling=clause.category is not None, digest_before=clause.digest)
        for clause in gone
        if clause.id not in left
    ]
    return changes


def lines_of(change: Change) -> list[str]:
    """A change for people: a line on what happened, then one line a field."""
    name = f"{change.was} -> {change.clause}" if change.was else change.clause
    return [
        f"{', '.join(change.kinds)}: {name}",
        *(f"  {line}" for detail in change.details for line in _lines(detail)),
    ]


def _lines(detail: Detail) -> Iterator[str]:
    if isinstance(detail.before, list) and isinstance(detail.after, list):
        yield from (f"{detail.field}: - {line}" for line in detail.before)
        yield from (f"{detail.field}: + {line}" for line in detail.after)
        if not detail.before and not detail.after:
            yield f"{detail.field}: other order"
    elif detail.field in ("text", "critique_request", "revision_request"):
        yield f"{detail.field}: - {detail.before or '(none)'}"
        yield f"{detail.field}: + {detail.after or '(none)'}"
    else:
        yield f"{detail.field}: {_shown(detail.before)} -> {_shown(detail.after)}"


def _shown(value: Any) -> str:
    return "none" if value in (None, "") else str(value)


def _renamed(gone: Iterable[Clause], come: Iterable[Clause]) -> dict[str, Clause]:
    """New id -> the clause it was, for those that differ in nothing that is said but the id."""
    by_text = {(clause.text.casefold(), clause.category): clause for clause in gone}
    found: dict[str, Clause] = {}
    for clause in come:
        former = by_text.pop((clause.text.casefold(), clause.category), None)
        if former is not None:
            found[clause.id] = former
    return found


def _compared(old: Clause, new: Clause) -> Change:
    kinds: dict[Kind, None] = {}
    if old.id != new.id:
        kinds["renamed"] = None
    details = list(_details(old, new))
    for detail in details:
        for kind in _kinds_of(detail, old, new):
            kinds[kind] = None
    if old.forbids != new.forbids:
        kinds["strengthened" if new.forbids else "weakened"] = None
    return Change(
        clause=new.id,
        kinds=tuple(kinds),
        details=tuple(details),
        was=old.id if old.id != new.id else None,
        is_ruling=_ruling(old) != _ruling(new),
        digest_before=old.digest,
        digest_after=new.digest,
    )


def _ruling(clause: Clause) -> tuple[object, ...]:
    return () if clause.category is None else (clause.id, clause.category, clause.forbids)


def _details(old: Clause, new: Clause) -> Iterator[Detail]:
    for name in Clause.model_fields:
        before, after = getattr(old, name), getattr(new, name)
        if name in ("id", "source", "classes") or before == after:
            continue
        if isinstance(before, tuple):
            went, came = [x for x in before if x not in after], [x for x in after if x not in before]
            yield Detail(field=name, before=went, after=came)
        else:
            yield Detail(field=name, before=before, after=after)
    if old.classes != new.classes:
        went, came = (
            [c.name for c in old.classes if c not in new.classes],
            [c.name for c in new.classes if c not in old.classes],
        )
        yield Detail(field="classes", before=went, after=came)


def _kinds_of(detail: Detail, old: Clause, new: Clause) -> Iterator[Kind]:
    if detail.field in _RANKS:
        ranks = _RANKS[detail.field]
        yield "strengthened" if ranks[detail.after] > ranks[detail.before] else "weakened"
    elif detail.field == "priority":
        yield "strengthened" if new.priority > old.priority else "weakened"
    elif detail.field == "text":
        yield "reworded"
        yield from _turned(old.text, new.text)
    elif detail.field == "category":
        yield "moved"
    elif detail.field in ("harmful", "harmless", "classes"):
        yield "re-exampled"
    else:
        yield "adjusted"  # rubric, requests, precedence


def _turned(old: str, new: str) -> Iterator[Kind]:
    """How a new wording changes what is ordered."""
    first, second = directives(old), directives(new)
    if any(
        a.is_negative != b.is_negative and jaccard(a.act, b.act) >= _SAME_RULE
        for a, b in zip(first, second, strict=False)
    ):
        yield "reversed"
        return
    before, after = strength(old), strength(new)
    if before is not None and after is not None and before != after:
        yield "strengthened" if after > before else "weakened"
    exceptions = sum(len(d.exceptions) for d in second) - sum(len(d.exceptions) for d in first)
    if exceptions:
        yield "weakened" if exceptions > 0 else "strengthened"
