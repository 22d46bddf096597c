"""Which obligation of a public framework each piece of evidence serves, and what is missing.

Reads a crosswalk (YAML: obligations, each with the evidence that can serve it), a run's ledger and the gate's decision. An obligation is
served when all it needs is there, partly when some is. That evidence exists is all this says: whether it is good enough is the
policy's to judge, and whether an obligation is met is a person's. Left out: obligations on organisations, which no run can show.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from uphold.core.config import load_config
from uphold.core.errors import ConfigError, did_you_mean
from uphold.core.records import Record
from uphold.evidence.attest import read_bundle
from uphold.evidence.entry import Entry, Key, name_of
from uphold.evidence.gate import Decision
from uphold.evidence.ledger import Ledger
from uphold.evidence.paths import LEDGER

SHIPPED = Path(__file__).parent / "crosswalks"

Kind = Literal[
    "measurement",
    "finding",
    "decision",
    "passed",
    "level",
    "fresh",
    "independent",
    "signature",
    "preregistration",
    "calibration",
    "data",
    "transcripts",
    "card",
]


class Need(Record):
    """One kind of evidence an obligation needs: any metric like one of `metrics`, a `report` by name, or another `kind` of fact."""

    says: str = Field(min_length=1)
    metrics: tuple[str, ...] = ()
    report: str | None = None
    kind: Kind | None = None

    @model_validator(mode="after")
    def _is_one_thing(self) -> Need:
        if sum((bool(self.metrics), self.report is not None, self.kind is not None)) != 1:
            raise ValueError("needs one of metrics, report and kind.")
        return self


class Obligation(Record):
    """id, ref: where it stands in the framework; text: what it asks, shortly and in our words; checked: whether both were held against
    the framework's own text."""

    id: str = Field(min_length=1)
    ref: str
    text: str = Field(min_length=1)
    checked: bool = False
    needs: tuple[Need, ...] = Field(min_length=1)


class Crosswalk(Record):
    """A framework's obligations."""

    name: str
    title: str
    version: str
    reference: str
    obligations: tuple[Obligation, ...] = Field(min_length=1)

    @staticmethod
    def load(path: str | Path) -> Crosswalk:
        """Read a crosswalk file, or a shipped one by its name. Raises ConfigError with every problem."""
        file = Path(path)
        if not file.exists() and file.suffix == "" and len(file.parts) == 1:
            known = sorted(found.stem for found in SHIPPED.glob("*.yaml"))
            if file.name not in known:
                raise ConfigError(
                    f"no crosswalk file {str(path)!r} and none shipped by that name. {did_you_mean(file.name, known)}"
                )
            file = SHIPPED / f"{file.name}.yaml"
        return load_config(Crosswalk, file)


class Evidence(Record):
    """A piece of evidence that serves an obligation: what it is, the ledger entry's hash, and what the policy's rules on it say."""

    what: str
    entry: str | None = None
    verdict: str | None = None


class Served(Record):
    """An obligation and how far it is served."""

    id: str
    ref: str
    text: str
    status: Literal["served", "partly", "missing"]
    checked: bool = False
    evidence: tuple[Evidence, ...] = ()
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Run:
    """What a run offers as evidence."""

    current: Mapping[Key, Entry]
    named: Mapping[tuple[str, str], Entry]
    decision: Decision
    n_signed: int


def map_evidence(run: str | Path, decision: Decision, crosswalk: Crosswalk) -> list[Served]:
    """Every obligation, in the crosswalk's order, with the evidence of this run that serves it."""
    view = Ledger(run).view()
    offered = _Run(view.current(), view.named, decision, sum(1 for e in read_bundle(run) if e.signatures))
    return [_served(obligation, offered) for obligation in crosswalk.obligations]


def _served(obligation: Obligation, run: _Run) -> Served:
    found: list[Evidence] = []
    missing = []
    for need in obligation.needs:
        evidence = _find(need, run)
        found += evidence
        if not evidence:
            missing.append(f"{need.says} ({_wanted(need)})")
    status: Literal["served", "partly", "missing"] = "missing" if not found else "partly" if missing else "served"
    return Served(
        id=obligation.id,
        ref=obligation.ref,
        text=obligation.text,
        status=status,
        checked=obligation.checked,
        evidence=tuple(dict.fromkeys(found)),
        missing=tuple(missing),
    )


def _wanted(need: Need) -> str:
    return ", ".join(need.metrics) if need.metrics else f"report {need.report}" if need.report else str(need.kind)


def _find(need: Need, run: _Run) -> list[Evidence]:
    if need.metrics:
        return _measured(need.metrics, run)
    if need.report is not None:
        entry = run.named.get(("report", need.report))
        return [Evidence(what=f"report {need.report}", entry=entry.hash)] if entry else []
    assert need.kind is not None
    return _KINDS[need.kind](run)


def _measured(patterns: tuple[str, ...], run: _Run) -> list[Evidence]:
    """Measurements of those names that have a value: slices only where a metric has nothing else, or a rule judged them."""
    verdicts = {f.evidence: f.verdict for f in run.decision.findings if f.evidence}
    like = [
        entry
        for key, entry in run.current.items()
        if any(fnmatchcase(key[0], pattern) for pattern in patterns) and entry.body.get("value") is not None
    ]
    whole = {entry.key[0] for entry in like if not entry.key[1]}
    kept = [e for e in like if not e.key[1] or e.key[0] not in whole or e.hash in verdicts]
    return [Evidence(what=name_of(e.key), entry=e.hash, verdict=verdicts.get(e.hash)) for e in kept]


def _of_kind(kind: str) -> Callable[[_Run], list[Evidence]]:
    def find(run: _Run) -> list[Evidence]:
        return [Evidence(what=f"{k} {name[:24]}", entry=e.hash) for (k, name), e in run.named.items() if k == kind]

    return find


def _some(run: _Run) -> list[Evidence]:
    return [Evidence(what=f"{LEDGER}: {len(run.current):,} measurements that count")] if run.current else []


def _findings(run: _Run) -> list[Evidence]:
    return [
        Evidence(what=f.rule, entry=f.evidence, verdict=f.verdict)
        for f in run.decision.findings
        if f.evidence and not f.rule.startswith("report ")
    ]


def _decided(run: _Run) -> list[Evidence]:
    return [Evidence(what=f"policy {run.decision.policy.name}", verdict=run.decision.verdict)]


def _passed(run: _Run) -> list[Evidence]:
    return _decided(run) if run.decision.verdict == "pass" else []


def _levels(run: _Run) -> list[Evidence]:
    return [
        Evidence(what=f"level {state.name}: {'in force' if state.in_force else 'ruled out'}")
        for state in run.decision.levels
    ]


def _fresh(run: _Run) -> list[Evidence]:
    """Ages were judged, and nothing is past its own."""
    is_stale = any(" stale" in f.found or "two clocks" in f.found for f in run.decision.findings)
    today = run.decision.facts.today
    return [] if today is None or is_stale else [Evidence(what=f"ages judged on {today}")]


def _independent(run: _Run) -> list[Evidence]:
    others = {name for name, found in run.decision.facts.data.items() if not found.is_developers}
    others |= {n for (k, n), e in run.named.items() if k == "data" and not e.body.get("is_developers", True)}
    return [Evidence(what=name_of(key), entry=e.hash) for key, e in run.current.items() if e.body.get("data") in others]


def _signed(run: _Run) -> list[Evidence]:
    return [Evidence(what=f"{run.n_signed} signed statements")] if run.n_signed else []


_KINDS: dict[Kind, Callable[[_Run], list[Evidence]]] = {
    "measurement": _some,
    "finding": _findings,
    "decision": _decided,
    "passed": _passed,
    "level": _levels,
    "fresh": _fresh,
    "independent": _independent,
    "signature": _signed,
    "preregistration": _of_kind("preregistration"),
    "calibration": _of_kind("calibration"),
    "data": _of_kind("data"),
    "transcripts": _of_kind("transcripts"),
    "card": _of_kind("card"),
}


def text(crosswalk: Crosswalk, served: list[Served], shown: int = 3) -> str:
    """For people: a line an obligation, what serves it and what is missing below."""
    n = {status: sum(one.status == status for one in served) for status in ("served", "partly", "missing")}
    lines = [
        f"{crosswalk.title} ({crosswalk.version})",
        f"{n['served']} served, {n['partly']} partly, {n['missing']} without evidence; our reading, not legal advice",
    ]
    unchecked = sum(not one.checked for one in served)
    if unchecked:
        lines.append(f"{unchecked} of {len(served)} not held against the framework's own text, and marked so")
    for one in served:
        mark = "" if one.checked else " (not checked against the text)"
        lines += ["", f"  [{one.status}] {one.id}: {one.text}{mark}"]
        for found in one.evidence[:shown]:
            verdict = f" ({found.verdict})" if found.verdict else ""
            lines.append(f"      has    {found.what}{verdict}{f'  {found.entry[:12]}' if found.entry else ''}")
        if len(one.evidence) > shown:
            lines.append(f"      has    {len(one.evidence) - shown:,} more (--json lists all)")
        lines += [f"      needs  {what}" for what in one.missing]
    return "\n".join(lines)
