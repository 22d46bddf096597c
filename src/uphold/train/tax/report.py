"""The alignment tax of a chain of models: base, and what each stage of training made of it.

"Alignment tax" is what a model loses while it learns to behave (Askell et al. 2021, arXiv:2112.00861; InstructGPT, arXiv:2203.02155,
saw it on public benchmarks and answered it by mixing pretraining into RL). `tax` asks every model the same prompts (`ask.py`) and
gives the paired change of each metric (`metrics.py`) against the base, which limits are about, and against the stage before, which says
where it was lost. Its differences are Measurements named `tax.METRIC`, sliced by `stage` (and `task`), that a gate policy can bind to.
Left out: answering a tax (mix, KL, LoRA scale, blend: docs/alignment_tax.md has what each did).
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from uphold.core.errors import ConfigError, DataError, did_you_mean
from uphold.core.files import write_json
from uphold.core.journal import Journal
from uphold.core.records import Measurement, Record
from uphold.models.base import Chat
from uphold.models.journalled import journalled
from uphold.train.changes import Change, Verdict, judged, reason, verdict_of
from uphold.train.tax.ask import Said, TaxConfig, ask, diverse_prompts
from uphold.train.tax.metrics import METRICS, STATED, changes
from uphold.train.tax.questions import Questions


class Stage(Record):
    """One stage. since_base: changes from the base to it, judged; step: from the stage before (none for the first)."""

    name: str
    model: str
    identity: str
    since_base: tuple[Change, ...]
    step: tuple[Change, ...] = ()


class TaxReport(Record):
    """limits: the stated tax by metric; verdict: over all stages against their limits, None where none was stated."""

    base: str
    stages: tuple[Stage, ...]
    limits: dict[str, float]
    verdict: Verdict | None
    reasons: tuple[str, ...]
    left_out: tuple[str, ...]
    config: TaxConfig

    @property
    def exit_code(self) -> int:
        """1 when a stated tax is exceeded or not shown to be kept, else 0."""
        return 0 if self.verdict in (None, "ok") else 1

    def measurements(self) -> list[Measurement]:
        """Every change against the base as `tax.METRIC`, and each stage's own value as METRIC, both by stage."""
        found = []
        for stage in self.stages:
            for change in stage.since_base:
                by = {"stage": stage.name}
                d, after = change.difference, change.after
                found.append(d.model_copy(update={"metric": f"tax.{change.metric}", "by": {**d.by, **by}}))
                found.append(after.model_copy(update={"by": {**after.by, **by}}))
        return found


def limits_of(max_tax: float | None = None, more: Mapping[str, float] | None = None) -> dict[str, float]:
    """The stated tax by metric: `max_tax` for capability and over-refusal, `more` for these or any other. ConfigError for an unknown
    metric, or a limit that is not positive."""
    found = {} if max_tax is None else dict.fromkeys(STATED, max_tax)
    found |= dict(more or {})
    for metric, limit in found.items():
        if metric not in METRICS:
            raise ConfigError(f"no metric {metric!r} in the tax. {did_you_mean(metric, METRICS)}")
        if not limit > 0:
            raise ConfigError(
                f"the stated tax on {metric} must be positive, not {limit:g}: no finite test shows a tax of 0."
            )
    return found


def tax(
    chain: Mapping[str, Chat],
    questions: Questions,
    config: TaxConfig = TaxConfig(),
    *,
    limits: Mapping[str, float] | None = None,
    constitution: str = "",
    out: str | Path | None = None,
) -> TaxReport:
    """The tax of each stage. chain: base first, then the stages in order, by name. constitution: its hash, for the record.

    out: folder for `calls.jsonl` (read back on resume), `tax.json`, `tax.png` and `tax.csv`. Raises DataError without tasks or
    choices, ConfigError with fewer than two models.
    """
    if len(chain) < 2:
        raise ConfigError("a tax needs at least two models: the base and one stage.")
    if not questions.tasks and not questions.choices:
        raise DataError("no tasks and no choices: without right answers nothing says what capability was lost.")
    stated = limits_of(more=limits)
    folder = Path(out) if out is not None else None
    with contextlib.ExitStack() as stack:
        journal = stack.enter_context(Journal(folder / "calls.jsonl")) if folder is not None else None
        said = [ask(c if journal is None else journalled(c, journal), questions, config) for c in chain.values()]
    report = _report(chain, questions, said, config, stated, constitution)
    if folder is not None:
        save(report, folder)
    return report


def save(report: TaxReport, folder: Path) -> None:
    """Write tax.json, tax.png and tax.csv into the folder."""
    from uphold.train.tax.figure import draw

    write_json(folder / "tax.json", report)
    draw(folder, report)


def _report(
    chain: Mapping[str, Chat],
    questions: Questions,
    said: Sequence[Said],
    config: TaxConfig,
    limits: Mapping[str, float],
    constitution: str,
) -> TaxReport:
    names, chats = list(chain), list(chain.values())
    identities = [chat.identity() for chat in chats]
    about: dict[str, Any] = {
        "data": questions.digest(),
        "seed": config.seed,
        "level": 1 - config.alpha,
        "subject": {"constitution": constitution} if constitution else {},
    }
    groups = [sample.group for sample in diverse_prompts(questions, config)]

    def between(i: int, j: int, stated: Mapping[str, float]) -> list[Change]:
        return changes(questions, groups, said[i], said[j], (identities[i], identities[j]), stated, about)

    since_base = [between(0, j, limits) for j in range(1, len(chats))]
    flat = judged([c for one in since_base for c in one], config.alpha)  # adjusted over all stages
    stages, at, reasons = [], 0, []
    for j, one in enumerate(since_base, start=1):
        mine = flat[at : at + len(one)]
        at += len(one)
        reasons += [f"{names[j]}: {reason(c)}" for c in mine if c.limit is not None]
        step = judged(between(j - 1, j, {}), config.alpha) if j > 1 and config.has_steps else []
        stages.append(
            Stage(name=names[j], model=chats[j].spec, identity=identities[j], since_base=tuple(mine), step=tuple(step))
        )
    measured = {c.metric for c in flat}
    missing = [metric for metric in METRICS if metric not in measured]
    verdict = verdict_of(flat) if limits else None
    if limits and any(metric in missing for metric in limits):
        verdict = "degraded" if verdict == "degraded" else "insufficient evidence"
        reasons += [f"{metric} has a limit and was not measured" for metric in limits if metric in missing]
    return TaxReport(
        base=chats[0].spec, stages=tuple(stages), limits=dict(limits), verdict=verdict, reasons=tuple(reasons),
        left_out=tuple(missing), config=config,
    )  # fmt: skip
