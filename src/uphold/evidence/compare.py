"""Runs side by side: which of them is better, worse or not shown to differ, metric by metric, against a baseline.

Takes `Subject`s (`compare_subject.py`); gives a `Comparison`, which `compare_text.py` and `compare_page.py` show. Where two runs keep
outcomes on the same items the difference is paired (Newcombe's interval, or a bootstrap over groups; McNemar's exact test, or signs of
groups flipped); else it comes from the two intervals (MOVER), and says so. p-values are corrected over the family of all comparisons
with the baseline (Benjamini & Hochberg 1995). Who differs from whom is told by letters (Piepho 2004), corrected over all pairs.
An item without a score is never a zero: 'worse' is judged with every reply that failed to come counted as bad, 'better' and 'not worse'
also with every missing score of the baseline counted as good. So a lost score never improves a verdict.
Left out: ranking over several metrics, which needs weights that no statistic gives.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

from pydantic import Field

from uphold.core.contrasts import compact_letters
from uphold.core.errors import ConfigError, did_you_mean
from uphold.core.records import Measurement, Record
from uphold.core.stats import benjamini_hochberg
from uphold.evidence.compare_alike import Unlike, refuse_unlike, unlike
from uphold.evidence.compare_delta import Contrast, contrast
from uphold.evidence.compare_subject import Name, Subject, load_subjects

Verdict = Literal["worse", "insufficient", "no difference shown", "not worse", "better"]
VERDICTS: tuple[Verdict, ...] = ("worse", "insufficient", "no difference shown", "not worse", "better")
"""from the worst to the best"""


class Settings(Record):
    """metrics: globs on metric names (none: all); by: slices to compare beside the whole (clause, family, ...); baseline: a run's name
    (default: the first); margin: how much worse is still acceptable, in the metric's own unit (0.02 for two points of a share);
    fdr: share of false alarms to allow among the differences found; allow: what may differ between the runs (see `compare_alike`)."""

    metrics: tuple[str, ...] = ()
    by: tuple[str, ...] = ()
    baseline: str | None = None
    margin: float | None = Field(None, ge=0)
    fdr: float = Field(0.05, gt=0, lt=1)
    allow: tuple[str, ...] = ()


class Delta(Record):
    """One run against the baseline in one metric. delta: run - baseline (None: not measured on both). how: 'paired', 'unpaired', 'none'.

    p: two-sided, q: the same corrected; both with lost replies counted as bad, which is how 'worse' is judged. reason: what the verdict
    rests on, or why there is none."""

    run: str
    delta: Measurement | None
    how: Literal["paired", "unpaired", "none"]
    n_pairs: int
    p: float | None
    q: float | None
    verdict: Verdict
    reason: str


class Cell(Record):
    """One run's own number; None: the run did not measure it. letters: runs that share one were not shown to differ ('': not tested)."""

    run: str
    measurement: Measurement | None
    letters: str


class Row(Record):
    """One metric (and slice) over all runs. deltas: of every run but the baseline."""

    metric: str
    by: dict[str, str]
    higher_is_better: bool
    unit: str
    cells: tuple[Cell, ...]
    deltas: tuple[Delta, ...]

    @property
    def name(self) -> str:
        """'over_refusal (category=weapons)'."""
        return full_name((self.metric, tuple(sorted(self.by.items()))))


class Side(Record):
    """One run. head: the last hash of its ledger; subject: hashes of what was measured, where all its numbers agree."""

    name: str
    where: str
    head: str
    entries: int
    subject: dict[str, str]


class Comparison(Record):
    """verdict: the worst of all. family: comparisons corrected together; pairs: those behind the letters. unlike: what differs between
    the runs besides the systems; notes: what else a reader should know."""

    verdict: Verdict
    baseline: str
    settings: Settings
    runs: tuple[Side, ...]
    rows: tuple[Row, ...]
    family: int
    pairs: int
    unlike: tuple[Unlike, ...]
    notes: tuple[str, ...]

    @property
    def worse(self) -> list[tuple[Row, Delta]]:
        """Every regression beyond the noise."""
        return [(row, delta) for row in self.rows for delta in row.deltas if delta.verdict == "worse"]


def compare(runs: Sequence[str | Path | Subject], settings: Settings = Settings()) -> Comparison:
    """Compare two or more runs (folders, RUN:SYSTEM, baseline files, or loaded subjects).

    Raises ConfigError on fewer than two, one run given twice, an unknown baseline or metric, no metric in common, or runs that were not
    asked or judged alike (unless `settings.allow` says so); StoreError on a run that is unfinished or whose evidence is not sound.
    """
    if len(runs) < 2:
        raise ConfigError(_one_run(runs))
    loaded = [each for each in runs if isinstance(each, Subject)]
    subjects = loaded if len(loaded) == len(runs) else load_subjects([str(each) for each in runs])
    base = _baseline(subjects, settings.baseline)
    names, plain = _chosen(subjects, settings)
    found = unlike(subjects, names)
    refuse_unlike(found, settings.allow)
    subjects = [base, *(one for one in subjects if one is not base)]
    every_pair = {
        (name, first.name, second.name): contrast(first, second, name)
        for name in names
        for first, second in itertools.combinations(subjects, 2)
    }
    deltas, family = _deltas(base, every_pair, names, settings)
    letters, pairs = _letters(subjects, every_pair, names, settings.fdr)
    rows = tuple(_row(name, subjects, deltas[name], letters[name]) for name in names)
    every = [delta.verdict for row in rows for delta in row.deltas]
    return Comparison(
        verdict=min(every, key=VERDICTS.index),
        baseline=base.name,
        settings=settings,
        runs=tuple(_side(one) for one in subjects),
        rows=rows,
        family=family,
        pairs=pairs,
        unlike=tuple(found),
        notes=(f"left out, for they carry no interval: {', '.join(plain)} (name them with --metric)",) if plain else (),
    )


def full_name(name: Name) -> str:
    metric, by = name
    return f"{metric} ({', '.join(f'{key}={value}' for key, value in by)})" if by else metric


def _one_run(runs: Sequence[str | Path | Subject]) -> str:
    if not runs:
        return "nothing to compare. Give two or more runs: uphold compare RUN_A RUN_B"
    name = runs[0].where if isinstance(runs[0], Subject) else runs[0]
    return (
        f"{name}: one run alone cannot be compared. Give two or more: uphold compare RUN_A RUN_B; "
        f"the systems of one run are compared as {name}:base {name}:guarded."
    )


def _baseline(subjects: Sequence[Subject], wanted: str | None) -> Subject:
    if wanted is None:
        return subjects[0]
    for one in subjects:
        if wanted.rstrip("/") in (one.name, one.where.rstrip("/")):
            return one
    raise ConfigError(f"--baseline {wanted!r} is none of the runs. {did_you_mean(wanted, [s.name for s in subjects])}")


def _chosen(subjects: Sequence[Subject], settings: Settings) -> tuple[list[Name], list[str]]:
    """(the metrics and slices to compare, in ledger order; names left out because they carry no interval and were not asked for)."""
    order = list(dict.fromkeys(name for one in subjects for name in one.measurements))
    for glob in settings.metrics:
        if not any(_fits(name, glob) for name in order):
            known = sorted({metric for metric, _ in order})
            raise ConfigError(f"no run has a metric {glob!r}. {did_you_mean(glob, known)}")
    slices = {key for _, by in order for key, _ in by}
    for wanted in settings.by:
        if wanted not in slices:
            raise ConfigError(f"--by {wanted!r}: no run measured such slices. {did_you_mean(wanted, slices)}")
    wanted_names = [name for name in order if _is_wanted(name, settings)]
    plain = [name for name in wanted_names if not settings.metrics and _is_plain(name, subjects)]
    chosen = [name for name in wanted_names if name not in plain]
    if not any(sum(name in one.measurements for one in subjects) > 1 for name in chosen):
        has = "; ".join(f"{one.name} has {', '.join(_few(one))}" for one in subjects)
        raise ConfigError(f"the runs have no metric in common: {has}. Choose the systems to compare as RUN:SYSTEM.")
    return chosen, [full_name(name) for name in plain]


def _is_plain(name: Name, subjects: Sequence[Subject]) -> bool:
    """A setting such as a threshold: every run has a value, none has an interval."""
    found = [one.measurements[name] for one in subjects if name in one.measurements]
    return all(m.value is not None and m.interval is None for m in found)


def _few(subject: Subject, most: int = 6) -> list[str]:
    names = list(dict.fromkeys(metric for metric, _ in subject.measurements))
    return [*names[:most], "..."] if len(names) > most else names


def _fits(name: Name, glob: str) -> bool:
    return fnmatchcase(name[0], glob) or fnmatchcase(full_name(name), glob)


def _is_wanted(name: Name, settings: Settings) -> bool:
    if settings.metrics and not any(_fits(name, glob) for glob in settings.metrics):
        return False
    return {key for key, _ in name[1]} <= set(settings.by) or full_name(name) in settings.metrics


Pairs = dict[tuple[Name, str, str], Contrast]
"""(what is compared, one run, another) -> the second against the first; the baseline comes first"""


def _deltas(
    base: Subject, every_pair: Pairs, names: Sequence[Name], settings: Settings
) -> tuple[dict[Name, list[Delta]], int]:
    """Every run against the baseline, and how many comparisons were corrected together."""
    found = [(name, run, c) for (name, first, run), c in every_pair.items() if first == base.name]
    tested = [i for i, (_, _, c) in enumerate(found) if c.p_lost is not None]
    q_lost = dict(zip(tested, benjamini_hochberg([found[i][2].p_lost or 0.0 for i in tested]), strict=True))
    q_strict = dict(zip(tested, benjamini_hochberg([found[i][2].p_strict or 0.0 for i in tested]), strict=True))
    deltas: dict[Name, list[Delta]] = {name: [] for name in names}
    for i, (name, run, c) in enumerate(found):
        verdict, reason = _verdict(c, q_lost.get(i), q_strict.get(i), settings)
        deltas[name].append(
            Delta(
                run=run,
                delta=c.delta,
                how=c.how,
                n_pairs=c.n_pairs,
                p=c.p_lost,
                q=q_lost.get(i),
                verdict=verdict,
                reason=reason,
            )
        )
    return deltas, len(tested)


def _verdict(c: Contrast, q_lost: float | None, q_strict: float | None, settings: Settings) -> tuple[Verdict, str]:
    """What the evidence says of one difference; see the module's head for how missing scores count."""
    margin = settings.margin
    if c.why or q_lost is None or q_strict is None:
        return "insufficient", c.why or "no interval was recorded"
    end = c.gain_low  # the bad end of the interval, as a gain: below zero is worse
    within = margin is not None and end is not None and end >= -margin
    if q_lost <= settings.fdr and c.gain_lost < 0 and not within:
        lost = "" if c.is_whole else ", with replies that failed to come counted as bad"
        return "worse", f"worse beyond the noise (q = {q_lost:.2g}){lost}"
    if q_strict <= settings.fdr and c.gain_strict > 0:
        return "better", f"better beyond the noise (q = {q_strict:.2g})"
    if margin is None:
        if c.gain_strict < 0 and q_strict <= settings.fdr:
            return "insufficient", "missing scores could hide a change for the worse"
        return "no difference shown", f"no difference beyond the noise (q = {q_lost:.2g})"
    if within:
        return "not worse", f"any change for the worse is below {_amount(margin, c)}"
    return "insufficient", (
        f"a change for the worse of more than {_amount(margin, c)} is not ruled out; more items would decide"
    )


def _amount(margin: float, c: Contrast) -> str:
    unit = c.delta.unit if c.delta is not None else ""
    return f"{100 * margin:g} pp" if unit == "difference" else f"{margin:g} {unit}".strip()


def _letters(
    subjects: Sequence[Subject], every_pair: Pairs, names: Sequence[Name], fdr: float
) -> tuple[dict[Name, dict[str, str]], int]:
    """Letters of each run by metric, best run first, and how many pairs were corrected together."""
    tests = [pair for pair, c in every_pair.items() if c.p is not None]
    p_values = [c.p for c in every_pair.values() if c.p is not None]
    differ = {t for t, q in zip(tests, benjamini_hochberg(p_values), strict=True) if q <= fdr}
    letters: dict[Name, dict[str, str]] = {}
    for name in names:
        tested = {run for n, a, b in tests if n == name for run in (a, b)}
        ranked = sorted((s for s in subjects if s.name in tested), key=lambda s: _rank(s.measurements[name]))
        place = {s.name: i for i, s in enumerate(ranked)}
        pairs = [(place[a], place[b]) for n, a, b in differ if n == name]
        found = compact_letters(len(ranked), pairs)
        letters[name] = {s.name: found[i] for i, s in enumerate(ranked)}
    return letters, len(tests)


def _rank(m: Measurement) -> float:
    value = m.value if m.value is not None else 0.0
    return -value if m.higher_is_better else value


def _row(name: Name, subjects: Sequence[Subject], deltas: Sequence[Delta], letters: dict[str, str]) -> Row:
    first = next(one.measurements[name] for one in subjects if name in one.measurements)
    return Row(
        metric=name[0],
        by=dict(name[1]),
        higher_is_better=first.higher_is_better,
        unit=first.unit,
        cells=tuple(
            Cell(run=one.name, measurement=one.measurements.get(name), letters=letters.get(one.name, ""))
            for one in subjects
        ),
        deltas=tuple(deltas),
    )


def _side(one: Subject) -> Side:
    hashes: dict[str, set[str]] = {}
    for m in one.measurements.values():
        for key, value in m.subject.items():
            hashes.setdefault(key, set()).add(value)
    agreed = {key: next(iter(values)) for key, values in sorted(hashes.items()) if len(values) == 1}
    return Side(name=one.name, where=one.where, head=one.head, entries=one.entries, subject=agreed)
