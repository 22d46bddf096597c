"""What stands where on a card: the ledger's numbers put into tables and figures.

Takes the ledger's entries and the saved `CardInputs`; gives one `Page`, which the HTML and the Markdown template print in the same
order. Every number in it is a `Number` (a ledger entry) and stays one until the template prints it. Left out: wording and looks.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from uphold.evidence import figures, made
from uphold.evidence.entry import Entry, Key, name_of
from uphold.evidence.excerpts import Failure, failures
from uphold.evidence.figures import Figure, Group
from uphold.evidence.gate import Decision, Finding, decide
from uphold.evidence.inputs import CardInputs, ClauseRow, Metric, Section
from uphold.evidence.ledger import View
from uphold.evidence.limits import GROUPS, Limit, limits
from uphold.evidence.limits import Group as MetricGroup
from uphold.evidence.model_index import front_matter
from uphold.evidence.numbers import Number, Numbers
from uphold.evidence.prereg import PreregStatus, status_of
from uphold.evidence.since import Since, compared

Cells = tuple[Number | None, ...]


@dataclass(frozen=True)
class VerdictPanel:
    """A recorded decision. is_stale: the measurements that count now no longer give it."""

    entry: Entry
    decision: Decision
    is_stale: bool


@dataclass(frozen=True)
class Row:
    label: str
    cells: Cells
    about: str = ""


@dataclass(frozen=True)
class Table:
    """Rows of numbers under named columns (label, what it means)."""

    caption: str
    columns: tuple[tuple[str, str], ...]
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class ClauseLine:
    """A clause and how it was tested; no cell filled means untested."""

    clause: ClauseRow
    cells: Cells

    @property
    def is_tested(self) -> bool:
        return any(cell is not None and cell.m.n_scored for cell in self.cells)


@dataclass(frozen=True)
class Change:
    """One measurement that is not what it was on the card before. before or after None: new, or no longer measured."""

    name: str
    before: Number | None
    after: Number | None


@dataclass(frozen=True)
class Changes:
    since: Entry
    changes: tuple[Change, ...]


@dataclass
class Page:
    """Everything the templates print."""

    inputs: CardInputs
    card: Entry
    verdicts: list[VerdictPanel]
    plan: PreregStatus
    systems: list[made.SystemLine]
    headline: Table
    paired: list[Number]
    clauses: list[ClauseLine]
    by_split: Table | None
    by_family: Table | None
    honest: list[Table]
    safeguards: list[tuple[str, list[Finding]]]
    groups: list[tuple[MetricGroup, list[Row]]]
    guard: tuple[Section, list[Row]] | None
    more: list[tuple[Section, list[Row]]]
    failures: list[Failure]
    unscored: list[Number]
    limits: list[Limit]
    how: list[made.How]
    provenance: list[made.Fact]
    environments: list[Entry]
    changes: Changes | None
    since: Since | None
    figures: dict[str, Figure]
    numbers: list[Number]
    superseded: list[Number]
    others: list[Entry]
    front_matter: str

    @property
    def untested(self) -> list[ClauseLine]:
        return [line for line in self.clauses if not line.is_tested]


def build(inputs: CardInputs, entries: Sequence[Entry], card: Entry, run: Path) -> Page:
    """The page for the ledger as it stood at `card`, the entry that records it. run: the folder whose transcripts excerpts come from."""
    entries = [entry for entry in entries if entry.seq <= card.seq]
    view = _view(entries)
    current = view.current()
    numbers = Numbers(current)
    changes = _changes(entries, card, current)
    cited = [change.before for change in changes.changes if change.before] if changes else []
    keys = tuple(system.key for system in inputs.systems)
    families = _families(inputs, numbers, keys)
    clauses = _clauses(inputs, numbers)
    verdicts = _verdicts(view, current)
    return Page(
        inputs=inputs,
        card=card,
        verdicts=verdicts,
        plan=status_of(entries),
        systems=made.systems(inputs, numbers),
        headline=_by_system("Headline results", inputs, numbers, inputs.headlines),
        paired=[n for n in numbers.all if n.m.unit == "difference" and not n.m.by],
        clauses=clauses,
        by_split=_splits(inputs, numbers, keys),
        by_family=_family_table(inputs, families),
        honest=_honest(inputs, numbers),
        safeguards=_safeguards(verdicts),
        groups=_groups(numbers),
        guard=(inputs.guard, _rows(inputs.guard.metrics, numbers)) if inputs.guard else None,
        more=[(section, _rows(section.metrics, numbers)) for section in inputs.more],
        failures=failures(inputs, run, entries),
        unscored=[n for n in numbers.all if n.m.n_scored < n.m.n_asked],
        limits=limits(inputs, view, current, numbers, [line.clause.id for line in clauses if not line.is_tested]),
        how=made.how(numbers),
        provenance=made.provenance(inputs, numbers),
        environments=made.environments(view, numbers),
        changes=changes,
        since=compared(view, numbers.all),
        figures=_figures(inputs, numbers, families, keys),
        numbers=numbers.all,
        superseded=cited,
        others=[entry for entry in entries if entry.kind != "measurement"],
        front_matter=front_matter(inputs, numbers),
    )


def _view(entries: Iterable[Entry]) -> View:
    view = View()
    for entry in entries:
        view.add(entry)
    return view


def _verdicts(view: View, current: dict[Key, Entry]) -> list[VerdictPanel]:
    found = []
    for (kind, _), entry in view.named.items():
        if kind == "decision":
            decision = Decision.model_validate({k: v for k, v in entry.body.items() if k != "name"})
            now = decide(decision.policy, current, facts=decision.facts)
            is_stale = (now.verdict, now.evidence) != (decision.verdict, decision.evidence)
            found.append(VerdictPanel(entry, decision, is_stale))
    return sorted(found, key=lambda panel: -panel.entry.seq)


def _honest(inputs: CardInputs, numbers: Numbers) -> list[Table]:
    """What headline metrics other than attacks come to by category, task and the like: a table a metric and kind of slice."""
    found = []
    for stem in (m for m in inputs.headlines if m.metric != inputs.family_metric):
        rows: dict[str, dict[str, list[Number | None]]] = {}
        for j, system in enumerate(inputs.systems):
            for n in numbers.sliced(f"{stem.metric}.{system.key}"):
                name, value = next(iter(n.m.by.items()))
                if name != "clause":
                    rows.setdefault(name, {}).setdefault(value, [None] * len(inputs.systems))[j] = n
        for name, members in rows.items():
            lines = tuple(Row(_family_name(value), tuple(cells)) for value, cells in sorted(members.items()))
            found.append(Table(f"{stem.label} by {name.replace('_', ' ')}", _columns(inputs), lines))
    return found


def _safeguards(verdicts: Sequence[VerdictPanel]) -> list[tuple[str, list[Finding]]]:
    """What the latest policy demands of each safeguard it names, and what was found."""
    found: dict[str, list[Finding]] = {}
    for finding in verdicts[0].decision.findings if verdicts else ():
        if finding.safeguard:
            found.setdefault(finding.safeguard, []).append(finding)
    return list(found.items())


def _groups(numbers: Numbers) -> list[tuple[MetricGroup, list[Row]]]:
    """The known groups that something was measured of: metrics as a whole, or by slice where there is no whole."""
    found = []
    for group in GROUPS:
        rows = []
        for metric in numbers.metrics():
            if metric.partition(".")[0] in group.prefixes:
                whole = numbers.find(metric)
                rows += [
                    Row(f"{n.m.metric} ({n.slice})" if n.m.by else metric, (n,))
                    for n in ([whole] if whole else numbers.of(metric))
                ]
        if rows:
            found.append((group, rows))
    return found


def _by_system(caption: str, inputs: CardInputs, numbers: Numbers, metrics: Sequence[Metric]) -> Table:
    shown = [m for m in metrics if any(numbers.find(f"{m.metric}.{s.key}") for s in inputs.systems)]
    rows = tuple(
        Row(s.label, tuple(numbers.find(f"{m.metric}.{s.key}") for m in shown), s.about) for s in inputs.systems
    )
    return Table(caption, tuple((m.label, m.about) for m in shown), rows)


def _splits(inputs: CardInputs, numbers: Numbers, keys: Sequence[str]) -> Table | None:
    names = dict.fromkeys(
        n.m.by["split"] for key in keys for n in numbers.slices(f"{inputs.family_metric}.{key}", ["split"])
    )
    rows = tuple(
        Row(
            _split_label(inputs, name),
            tuple(numbers.find(f"{inputs.family_metric}.{key}", {"split": name}) for key in keys),
        )
        for name in names
    )
    return Table("Attack success by split", _columns(inputs), rows) if rows else None


def _split_label(inputs: CardInputs, name: str) -> str:
    return inputs.split_labels.get(name, name.replace("_", " ")) if name else ""


def _columns(inputs: CardInputs) -> tuple[tuple[str, str], ...]:
    return tuple((system.label, "") for system in inputs.systems)


def _families(inputs: CardInputs, numbers: Numbers, keys: Sequence[str]) -> dict[str, dict[str, Cells]]:
    """split -> family -> one number per system. Families recorded without a split stand under ''."""
    found: dict[str, dict[str, list[Number | None]]] = {}
    for j, key in enumerate(keys):
        metric = f"{inputs.family_metric}.{key}"
        for n in (*numbers.slices(metric, ["family", "split"]), *numbers.slices(metric, ["family"])):
            row = found.setdefault(n.m.by.get("split", ""), {}).setdefault(n.m.by["family"], [None] * len(keys))
            row[j] = n
    with_split = {family for split, rows in found.items() if split for family in rows}
    found[""] = {family: row for family, row in found.get("", {}).items() if family not in with_split}
    order = [name for name in inputs.split_labels if name in found]
    order += [name for name in found if name not in order]
    return {name: {family: tuple(row) for family, row in found[name].items()} for name in order if found[name]}


def _family_name(name: str) -> str:
    """'role_play' as a reader would write it."""
    text = name.replace("_", " ").replace("-", " ")
    return text[:1].upper() + text[1:]


def _family_table(inputs: CardInputs, families: dict[str, dict[str, Cells]]) -> Table | None:
    rows = tuple(
        Row(_family_name(family), cells, _split_label(inputs, split))
        for split, members in families.items()
        for family, cells in members.items()
    )
    return Table("Attack success by attack family", _columns(inputs), rows) if rows else None


def _clauses(inputs: CardInputs, numbers: Numbers) -> list[ClauseLine]:
    return [
        ClauseLine(c, tuple(numbers.find(m.metric, {"clause": c.id}) for m in inputs.clause_metrics))
        for c in inputs.clauses
    ]


def _rows(metrics: Sequence[Metric], numbers: Numbers) -> list[Row]:
    return [Row(m.label, (numbers.find(m.metric),), m.about) for m in metrics]


def _changes(entries: Sequence[Entry], card: Entry, current: dict[Key, Entry]) -> Changes | None:
    """What differs from the state at the card entry before this one; None on a first card."""
    earlier = [entry for entry in entries if entry.kind == "card" and entry.seq < card.seq]
    if not earlier:
        return None
    before = _view(entry for entry in entries if entry.seq <= earlier[-1].seq).current()
    keys = sorted({*before, *current})
    changes = []
    for key in keys:
        old, new = before.get(key), current.get(key)
        if old is None or new is None or _result(old) != _result(new):
            changes.append(Change(name_of(key), Number(old) if old else None, Number(new) if new else None))
    return Changes(earlier[-1], tuple(changes))


def _result(entry: Entry) -> tuple[object, ...]:
    m = entry.measurement
    return m.value, m.n_asked, m.n_scored, m.interval


def _figures(
    inputs: CardInputs, numbers: Numbers, families: dict[str, dict[str, Cells]], keys: Sequence[str]
) -> dict[str, Figure]:
    """The figures there is anything to draw in, by name."""
    labels = [system.label for system in inputs.systems]
    found: dict[str, Figure] = {}
    groups = []
    for split, members in families.items():
        rows = [(_family_name(family), cells) for family, cells in members.items()]
        total = tuple(numbers.find(f"{inputs.family_metric}.{key}", {"split": split}) for key in keys)
        if split and any(total):
            rows.insert(0, ("The whole split", total))
        groups.append(Group(_split_label(inputs, split), tuple(rows)))
    if _any(cells for group in groups for _, cells in group.rows):
        about = (
            "One row per attack family, one marker per system; whiskers are the intervals listed in the table below."
        )
        axis = "attacks that succeeded, per cent (lower is better)"
        found["attack-success"] = figures.intervals(
            "attack-success", "Attack success by family", about, groups, labels, axis
        )
    rest = [m for m in inputs.headlines if m.metric != inputs.family_metric]
    metrics = [(m.label, tuple(numbers.find(f"{m.metric}.{key}") for key in keys)) for m in rest]
    metrics = [(label, cells) for label, cells in metrics if all(n is None or n.m.unit == "share" for n in cells)]
    if _any(cells for _, cells in metrics):
        names = " and ".join(label.lower() for label, _ in metrics)
        title = names[:1].upper() + names[1:]
        about = (
            "One panel per metric, one row per system; whiskers are intervals; the dashed line is the baseline's value."
        )
        found["benign-behaviour"] = figures.panels("benign-behaviour", title, about, metrics, labels)
    if inputs.curves:
        about = "One panel per quantity logged while training; the horizontal axis is the optimiser's step."
        found["training"] = figures.curves("training", "Training", about, inputs.curves)
    return found


def _any(rows: Iterable[Cells]) -> bool:
    return any(n is not None and n.value is not None for cells in rows for n in cells)
