"""`uphold train tax`: what each stage of training cost."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from uphold.cli.common import Json, emit
from uphold.cli.train.check import table_of
from uphold.cli.train.options import Benign, Config, Harmful, Source, settings_of

if TYPE_CHECKING:
    from uphold.train.tax.questions import Questions
    from uphold.train.tax.report import TaxReport


def tax(
    models: Annotated[
        list[str],
        typer.Argument(help="The base, then what each stage made of it: SPEC or NAME=SPEC.", show_default=False),
    ],
    constitution: Annotated[str, typer.Option(help="Constitution file, or the name of a shipped one.")] = "storefront",
    capability: Annotated[
        list[Path] | None, typer.Option(help="JSONL of questions: prompt and answer, or choices; may be repeated.")
    ] = None,
    benign: Benign = None,
    harmful: Harmful = None,
    source: Source = "builtin:storefront",
    split: Annotated[str, typer.Option(help="train, validation or test, of the source.")] = "test",
    n: Annotated[int, typer.Option(min=1, help="Tasks, benign and harmful prompts each, of the source.")] = 200,
    max_tax: Annotated[
        float | None, typer.Option(help="Stated tax on capability and over-refusal, a share; exit code 1 beyond it.")
    ] = None,
    limit: Annotated[
        list[str] | None, typer.Option(help="METRIC=X: stated tax on one metric, such as brier=0.02; may be repeated.")
    ] = None,
    config: Config = None,
    seed: Annotated[int, typer.Option(help="Which prompts and draws.")] = 0,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the figure, the numbers, a ledger, and the calls, to continue from.")
    ] = None,
    as_json: Json = False,
) -> None:
    """The alignment tax: the same prompts to the base and to each stage, and what was lost, with paired intervals.

    \b
    uphold train tax builtin:clerk sft=hf:runs/sft/model dpo=hf:runs/dpo/model --max-tax 0.02 --out runs/tax
    uphold train tax hf:BASE hf:TUNED --capability questions.jsonl --benign good.jsonl --limit brier=0.02

    Capability, over-refusal, calibration, diversity, length, and the refusals that it bought. A row of --capability is
    {"prompt", "answer"} or {"prompt", "choices", "answer"}. Exit codes: 0 every stated tax is shown to be kept (or none was
    stated), 1 one is exceeded or not shown to be kept.
    """
    from uphold import models as doors
    from uphold.constitution import Constitution
    from uphold.train.tax.ask import TaxConfig
    from uphold.train.tax.report import limits_of
    from uphold.train.tax.report import tax as measure

    limits = limits_of(max_tax, _limits(limit or ()))
    law = Constitution.load(constitution)
    settings = settings_of(TaxConfig, config, seed=seed)
    questions = _questions(law, capability, benign, harmful, source, split, n, seed)
    chain = {}
    for name, spec in _named(models).items():
        chat = doors.load(spec)
        chat.check()
        chain[name] = chat
    with _folder(out) as record:
        report = measure(chain, questions, settings, limits=limits, constitution=law.digest, out=out)
        record(report)
    emit(report.model_dump(mode="json"), as_json, _text(report, out))
    raise typer.Exit(report.exit_code)


def _limits(given: Sequence[str]) -> dict[str, float]:
    from uphold.core.errors import ConfigError

    found = {}
    for one in given:
        metric, _, number = one.partition("=")
        try:
            found[metric] = float(number)
        except ValueError:
            raise ConfigError(f"--limit {one}: write METRIC=X, such as brier=0.02.") from None
    return found


def _named(models: Sequence[str]) -> dict[str, str]:
    """Names and specs: NAME=SPEC, or the last telling part of the spec; a number is added where two are alike."""
    found: dict[str, str] = {}
    for one in models:
        name, is_named, spec = one.partition("=")
        if not is_named or ":" in name or "/" in name:
            name, spec = _own_name(one), one
        unique, k = name, 2
        while unique in found:
            unique, k = f"{name}-{k}", k + 1
        found[unique] = spec
    return found


def _own_name(spec: str) -> str:
    parts = [p for p in spec.partition(":")[2].replace("#", "/").split("/") if p not in ("", "model")]
    return parts[-1] if parts else spec


def _questions(
    law: Any,
    capability: Sequence[Path] | None,
    benign: Path | None,
    harmful: Path | None,
    source: str,
    split: str,
    n: int,
    seed: int,
) -> Questions:
    """From files where any is given, else from the source."""
    from uphold.core import registry
    from uphold.train.material import read_samples
    from uphold.train.tax.questions import Questions, read_questions

    found = Questions()
    if capability or benign or harmful:
        for path in capability or ():
            tasks, choices = read_questions(path)
            found.tasks += tasks
            found.choices += choices
        found.benign = read_samples(benign, "benign") if benign else []
        found.harmful = read_samples(harmful, "harmful") if harmful else []
        if not capability:
            found.tasks = [s for s in found.benign if s.expected is not None]
        return found
    where = registry.get("source", source, "--source")
    about: dict[str, Any] = {"constitution": law, "split": split, "n": n, "seed": seed}
    found.tasks, found.benign, found.harmful = (where.samples(k, **about) for k in ("task", "benign", "harmful"))
    return found


@contextlib.contextmanager
def _folder(out: Path | None) -> Iterator[Callable[[TaxReport], None]]:
    """A run folder, so that `uphold gate OUT --policy FILE` can hold what goes into its ledger to a policy."""
    if out is None:
        yield lambda report: None
        return
    from uphold.core.store import RunStore
    from uphold.evidence.ledger import Ledger

    def record(report: TaxReport) -> None:
        Ledger(out).append_measurements("tax", report.measurements())

    with RunStore.open(out):
        yield record


def _text(report: TaxReport, out: Path | None) -> str:
    parts: list[str] = [] if report.verdict is None else [report.verdict]
    parts += [f"{stage.name} against {report.base}\n{table_of(stage.since_base)}" for stage in report.stages]
    if report.left_out:
        parts.append(f"not measured: {', '.join(report.left_out)}")
    verdicts = [c.verdict for stage in report.stages for c in stage.since_base if c.limit is not None]
    told = zip(report.reasons, [*verdicts, *[None] * len(report.reasons)], strict=False)
    if why := [text for text, verdict in told if verdict != "ok"]:
        parts.append("\n".join(why))
    if out is not None:
        parts.append(f"written {out}    figure {out / 'tax.png'}    next: uphold gate {out} --policy FILE")
    return "\n\n".join(parts)


COMMANDS = {"tax": tax}
