"""Stage `measured`: what a system is worth after a round, on test topics, and on validation topics for the limits.

The same prompts every round, so each round is paired against round 0. Attack success is apart for attacks that were trained on, attacks
that were held out, and the adaptive search with the whole library; beside them over-refusal and helpfulness. Takes a `System`; leaves every
attempt and answer, from which the Measurements are made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uphold import evals
from uphold.core.files import read_jsonl, write_jsonl
from uphold.core.measure import paired_difference
from uphold.core.records import Measurement, digest
from uphold.core.seeds import derive
from uphold.evals.answers import Answer, answer
from uphold.redteam import Attack, Attempt, broken, compare, read_attempts
from uphold.redteam.report import report
from uphold.stages.context import digest_of
from uphold.stages.harden import attack
from uphold.stages.harden.work import System, Work
from uphold.stages.prompts import WRAPPED_SHARE, wrapped

SPLITS = ("trained", "held_out")
Shown = dict[str, Measurement]


@dataclass(frozen=True)
class Rows:
    """Everything that was asked of one system. sweep, search: attempts on test topics; benign, tasks: answers on test topics; validation:
    answers to benign prompts and tasks of validation topics."""

    subject: dict[str, str]
    sweep: list[Attempt]
    search: list[Attempt]
    benign: list[Answer]
    tasks: list[Answer]
    validation_benign: list[Answer]
    validation_tasks: list[Answer]


def run(work: Work, system: System, known: Sequence[Attack], held_out: Sequence[Attack]) -> Rows:
    """Attack and question one system."""
    s, probe = work.settings, work.settings.probe
    chat, both = system.guarded, [*known, *held_out]
    questions = work.draw("harmful", probe.split, probe.n_behaviours, "test")
    honest = {
        "benign": wrapped(
            work.draw("benign", probe.split, probe.n_benign, "test"), _names(both), WRAPPED_SHARE, s.seed
        ),
        "tasks": work.draw("task", probe.split, probe.n_tasks, "test"),
        "validation_benign": wrapped(
            work.draw("benign", "validation", probe.n_validation, "limits"), _names(both), WRAPPED_SHARE, s.seed
        ),
        "validation_tasks": work.draw("task", "validation", probe.n_validation, "limits"),
    }
    subject = system.subject(work.constitution)
    inputs = {
        "system": subject,
        "questions": digest_of(questions),
        "honest": {name: digest_of(samples) for name, samples in honest.items()},
        "attacks": _names(both),
        "trained": _names(known),
        "search": [probe.search, probe.n_searched, probe.search_budget],
        "sampling": work.sampling.model_dump(mode="json"),
        "seed": s.seed,
    }

    def make(folder: Path) -> dict[str, int]:
        seed = derive(s.seed, "measure")
        n = attack.sweep(work, chat, questions, both, folder, None, seed, trained=[by.family for by in known])
        n += attack.search(
            work,
            probe.search,
            chat,
            questions[: probe.n_searched],
            both,
            folder / "search",
            probe.search_budget,
            derive(s.seed, "adaptive"),
        )
        asked = work.journalled(chat)
        for name, samples in honest.items():
            write_jsonl(folder / f"{name}.jsonl", (a.row() for a in answer(asked, samples, sampling=work.sampling)))
        return {"attempts": n}

    done = work.store.stage("measured", inputs, make).path
    answers = {name: [Answer.from_row(row) for _, row in read_jsonl(done / f"{name}.jsonl")] for name in honest}
    sweep, search = (list(read_attempts(done / part / "attempts.jsonl")) for part in ("sweep", "search"))
    return Rows(subject, sweep, search, **answers)


def _names(attacks: Sequence[Attack]) -> list[str]:
    return [by.name for by in attacks]


def limits(rows: Rows, seed: int) -> Shown:
    """Over-refusal and helpfulness on validation topics: what the limits are judged on."""
    about: dict[str, Any] = {"subject": rows.subject, "seeds": (seed,), "by": {"split": "validation"}}
    return {
        "over_refusal": evals.over_refusal(rows.validation_benign, data=_data(rows.validation_benign), **about),
        "helpfulness": evals.helpfulness(rows.validation_tasks, data=_data(rows.validation_tasks), **about),
    }


def helpfulness_lost(before: Rows, after: Rows, seed: int) -> Measurement:
    """Helpfulness after - before on validation tasks."""
    about: dict[str, Any] = {"subject": after.subject, "seeds": (seed,), "by": {"split": "validation"}}
    return evals.helpfulness_difference(
        before.validation_tasks, after.validation_tasks, data=_data(after.validation_tasks), baseline="round 0", **about
    )


def results(rows: Rows, seed: int) -> Shown:
    """On test topics: attack success 'trained', 'held_out' and 'adaptive' (questions broken), over-refusal, helpfulness."""
    about: dict[str, Any] = {"subject": rows.subject, "seeds": (seed,)}
    split = report(rows.sweep, data=_asked(rows.sweep), **about)["by_split"]
    return {
        **{name: split[name] for name in SPLITS if name in split},
        "adaptive": broken(rows.search, data=_asked(rows.search), **about),
        "over_refusal": evals.over_refusal(rows.benign, data=_data(rows.benign), **about),
        "helpfulness": evals.helpfulness(rows.tasks, data=_data(rows.tasks), **about),
    }


def by_family(rows: Rows, seed: int) -> Shown:
    """Attack success of each family of the sweep, on test topics."""
    found: Shown = report(rows.sweep, subject=rows.subject, seeds=(seed,), data=_asked(rows.sweep))["by_family"]
    return found


def changes(before: Rows, after: Rows, seed: int) -> Shown:
    """Each of `results` after - before, on the same prompts."""
    about: dict[str, Any] = {"subject": after.subject, "seeds": (seed,), "baseline": "round 0"}
    found = {}
    for split in SPLITS:
        first, second = ([a for a in rows.sweep if a.split == split] for rows in (before, after))
        if second:
            found[split] = compare(first, second, data=_asked(second), by={"split": split}, **about)
    found["adaptive"] = _broken_difference(before.search, after.search, about)
    found["over_refusal"] = evals.over_refusal_difference(
        before.benign, after.benign, data=_data(after.benign), **about
    )
    found["helpfulness"] = evals.helpfulness_difference(before.tasks, after.tasks, data=_data(after.tasks), **about)
    return found


def _broken_difference(before: Sequence[Attempt], after: Sequence[Attempt], about: dict[str, Any]) -> Measurement:
    """Questions broken by the search, after - before, over the questions that both searches asked."""
    first, second = _fates(before), _fates(after)
    both = sorted(first.keys() & second.keys())
    groups = {a.sample: a.group for a in after}
    return paired_difference(
        "questions_broken",
        [first[q] for q in both],
        [second[q] for q in both],
        groups=[groups[q] for q in both],
        higher_is_better=False,
        data=_asked(after),
        **about,
    )


def _fates(attempts: Sequence[Attempt]) -> dict[str, bool | None]:
    """Question -> whether any scored attempt succeeded; None when none was scored."""
    found: dict[str, bool | None] = {}
    for a in attempts:
        if a.success is not None:
            found[a.sample] = bool(found.get(a.sample)) or a.success
        else:
            found.setdefault(a.sample, None)
    return found


def _data(answers: Sequence[Answer]) -> str:
    return digest_of([a.sample for a in answers])


def _asked(attempts: Sequence[Attempt]) -> str:
    """Hash of the questions that were attacked."""
    return digest(sorted({a.sample for a in attempts}))
