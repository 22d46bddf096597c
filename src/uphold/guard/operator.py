"""The endpoint operator's loop on real text: prompt files and a constitution in; an input guard and what it is worth out.

For whoever deploys somebody else's model: harmful and benign prompts from files, joined by the constitution's examples, give an input guard
whose threshold is certified on held-out benign prompts and whose quality is measured on others. With a model, the held-out prompts also
go through it, guarded and not. Pure stages: each takes and returns plain data and Measurements, prints nothing, and writes at most the
guard's folder; `pipeline.py` puts them into a run.
Left out: output guards (an operator's files hold prompts), and attacks (`redteam`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from uphold.core.errors import DataError
from uphold.core.measure import paired_difference, proportion
from uphold.core.records import Measurement, Record, Sample
from uphold.core.seeds import derive, uniform
from uphold.data.files import PromptSet, file_names, read_prompts
from uphold.guard.evaluate import verdicts
from uphold.guard.examples import data_hash, exchange_of, is_harmful, source_of
from uphold.guard.fitting import GuardSettings
from uphold.guard.guarded import GuardedChat
from uphold.guard.linear import LinearGuard
from uphold.guard.metrics import ranking_measurements
from uphold.guard.threshold import Threshold
from uphold.guard.train import GuardReport, prepare, train_guard
from uphold.models.base import Chat, Completion, Sampling

if TYPE_CHECKING:
    from uphold.constitution import Constitution

PREFIX = "input_guard."
_NAMES = {
    f"{PREFIX}recall_at_fpr_0.01": f"{PREFIX}tpr_at_1pct_fpr",
    f"{PREFIX}recall_at_fpr_0.001": f"{PREFIX}tpr_at_0.1pct_fpr",
}


class OperatorData(NamedTuple):
    """Prompts from an operator's files."""

    harmful: PromptSet
    benign: PromptSet

    @property
    def samples(self) -> list[Sample]:
        return self.harmful.samples + self.benign.samples

    def about(self) -> dict[str, Any]:
        """Rows, skipped rows and samples by file, as plain values."""
        return {
            name: part.model_dump(mode="json", include={"n_rows", "n_blank", "n_duplicates", "by_file"})
            for name, part in (("harmful", self.harmful), ("benign", self.benign))
        }


class OperatorReport(Record):
    """What the loop found. guard: folder of the input guard, None when it was not saved. data: rows by file. counts: examples by
    part and label. measurements: every number, the headline ones `input_guard.auprc` and `input_guard.tpr_at_1pct_fpr`."""

    guard: Path | None
    identity: str
    data: dict[str, Any]
    counts: dict[str, dict[str, int]]
    n_contradictory: int
    threshold: Threshold
    measurements: tuple[Measurement, ...]


def read_files(harmful: Sequence[str | Path], benign: Sequence[str | Path]) -> OperatorData:
    """The prompts of both kinds of files. Raises DataError when a kind has no file, or a file cannot be used."""
    for name, paths in (("harmful", harmful), ("benign", benign)):
        if not paths:
            raise DataError(f"no files of {name} prompts: a guard learns from both kinds. Give --{name} FILE.")
    names = file_names([*harmful, *benign])
    return OperatorData(
        read_prompts(harmful, "harmful", names=names[: len(harmful)]),
        read_prompts(benign, "benign", names=names[len(harmful) :]),
    )


def train_input_guard(
    data: OperatorData, constitution: Constitution, *, seed: int = 0, settings: GuardSettings = GuardSettings()
) -> tuple[LinearGuard, GuardReport]:
    """The input guard and its report, with the loop's metric names. The test part is measured, by source file and clause too."""
    guard, report = train_guard(data.samples, constitution, seed=seed, settings=settings)
    renamed = [m.model_copy(update={"metric": _NAMES.get(m.metric, m.metric)}) for m in report.measurements]
    return guard, report.model_copy(update={"measurements": tuple(renamed)})


def held_out(
    data: OperatorData, constitution: Constitution, *, seed: int = 0, settings: GuardSettings = GuardSettings()
) -> list[Sample]:
    """The prompts that `train_input_guard` neither fitted nor set its threshold on."""
    test = prepare(data.samples, constitution, seed=seed, settings=settings).parts["test"]
    return [e for e in test if isinstance(e, Sample)]


def leave_one_out(
    data: OperatorData, constitution: Constitution, *, seed: int = 0, settings: GuardSettings = GuardSettings()
) -> list[Measurement]:
    """How the guard does on a file of a kind it never saw: for each file, trained on all the others.

    `input_guard.unseen.tpr` or `.fpr` of the file at the threshold certified on the others, and `.auroc` of its prompts against the
    test part's other class; `by` names the file. A kind with a single file is left out.
    """
    found = []
    for part in (data.harmful, data.benign):
        for name in part.by_file if len(part.by_file) > 1 else ():
            kept = [s for s in data.samples if source_of(s) != name]
            unseen = [s for s in part.samples if source_of(s) == name]
            guard, _ = train_guard(kept, constitution, seed=seed, settings=settings)
            test = prepare(kept, constitution, seed=seed, settings=settings).parts["test"]
            against = [e for e in test if is_harmful(e) is not is_harmful(unseen[0])]
            found += _unseen(guard, name, unseen, [e for e in against if isinstance(e, Sample)], constitution, seed)
    return found


def _unseen(
    guard: LinearGuard, name: str, unseen: list[Sample], against: list[Sample], constitution: Constitution, seed: int
) -> list[Measurement]:
    both = unseen + against
    judged = verdicts(guard, [exchange_of(s) for s in both])
    harmful = is_harmful(unseen[0])
    about: dict[str, Any] = {
        "subject": {"guard": guard.identity(), "constitution": constitution.digest},
        "by": {"source": name},
        "note": "no prompt of this file was trained on",
    }
    rate = proportion(
        f"{PREFIX}unseen.{'tpr' if harmful else 'fpr'}",
        [None if v is None else v.flagged for v in judged[: len(unseen)]],
        groups=[s.group for s in unseen],
        higher_is_better=harmful,
        data=data_hash(unseen),
        seeds=(seed,),
        **about,
    )
    scores = [None if v is None else v.score for v in judged]
    labels = [is_harmful(s) for s in both]
    ranked = ranking_measurements(
        scores, labels, prefix=f"{PREFIX}unseen.", fprs=(), seed=seed, data=data_hash(both), **about
    )
    return [rate, *(m for m in ranked if m.metric.endswith("auroc"))]


class Asked(NamedTuple):
    """One held-out prompt and what came back without and with the guard."""

    sample: Sample
    plain: Completion
    guarded: Completion


def ask_model(
    chat: Chat,
    guard: LinearGuard,
    samples: Sequence[Sample],
    *,
    n: int = 200,
    seed: int = 0,
    sampling: Sampling = Sampling(max_new_tokens=256),
) -> list[Asked]:
    """Up to n prompts of each class, drawn by `seed`, sent through the model without and with the guard.

    Each is asked twice, unless `chat` is journalled or the guard blocks it.
    """
    salt = str(derive(seed, "operator", "ask"))
    drawn = sorted(samples, key=lambda sample: uniform(sample.id, salt))
    chosen = [s for s in drawn if is_harmful(s)][:n] + [s for s in drawn if not is_harmful(s)][:n]
    conversations = [s.messages for s in chosen]
    plain = chat.generate(conversations, sampling)
    guarded = GuardedChat(chat, input=guard).generate(conversations, sampling)
    return [Asked(*each) for each in zip(chosen, plain, guarded, strict=True)]


def model_measurements(asked: Sequence[Asked], subject: Mapping[str, str], *, seed: int = 0) -> list[Measurement]:
    """`model.refused` by class, unguarded and guarded, `model.blocked` by class, and `model.added_refusals` (guarded - unguarded).

    A blocked reply is a refusal; a reply is refused when the refusal grader calls it a full refusal; an error is unscored.
    """
    from uphold.evals.refusal import grade_refusal

    def refused(sample: Sample, reply: Completion) -> bool | None:
        if reply.text is None or reply.error is not None:
            return None
        return reply.finish_reason == "blocked" or grade_refusal(reply.text, asked=sample.prompt) == "full"

    found = []
    for label, wanted in (("harmful", True), ("benign", False)):
        part = [a for a in asked if a.sample.label == label]
        if not part:
            continue
        groups = [a.sample.group for a in part]
        about: dict[str, Any] = {
            "subject": dict(subject),
            "data": data_hash([a.sample for a in part]),
            "seeds": (seed,),
        }
        outcomes = {
            "unguarded": [refused(a.sample, a.plain) for a in part],
            "guarded": [refused(a.sample, a.guarded) for a in part],
        }
        for system, outcome in outcomes.items():
            by = {"class": label, "system": system}
            found.append(proportion("model.refused", outcome, groups=groups, higher_is_better=wanted, by=by, **about))
        blocked = [None if a.guarded.text is None else a.guarded.finish_reason == "blocked" for a in part]
        by = {"class": label}
        found.append(proportion("model.blocked", blocked, groups=groups, higher_is_better=wanted, by=by, **about))
        both = outcomes["unguarded"], outcomes["guarded"]
        found.append(
            paired_difference("model.added_refusals", *both, groups=groups, higher_is_better=wanted, by=by, **about)
        )
    return found


def operator_loop(
    constitution: Constitution,
    harmful: Sequence[str | Path],
    benign: Sequence[str | Path],
    out: str | Path | None = None,
    *,
    seed: int = 0,
    model: Chat | None = None,
    settings: GuardSettings = GuardSettings(),
    n_ask: int = 200,
) -> OperatorReport:
    """All of it: read, train, measure on the held-out part, save the guard into `out`/guard, and ask the model where there is one."""
    data = read_files(harmful, benign)
    guard, report = train_input_guard(data, constitution, seed=seed, settings=settings)
    measured = list(report.measurements)
    folder = None
    if out is not None:
        folder = Path(out) / "guard"
        guard.save(folder)
    if model is not None:
        model.check()
        asked = ask_model(model, guard, held_out(data, constitution, seed=seed, settings=settings), n=n_ask, seed=seed)
        subject = {"model": model.identity(), "guard": guard.identity(), "constitution": constitution.digest}
        measured += model_measurements(asked, subject, seed=seed)
    return OperatorReport(
        guard=folder,
        identity=guard.identity(),
        data=data.about(),
        counts=report.counts["input"],
        n_contradictory=report.n_contradictory,
        threshold=report.thresholds["input"],
        measurements=tuple(measured),
    )
