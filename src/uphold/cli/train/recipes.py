"""`uphold train cai|rlaif`: recipes over the trainers: critique and revision, AI feedback."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from uphold.cli.common import Json, emit, table
from uphold.cli.train.options import (
    Benign,
    Config,
    Harmful,
    Law,
    Model,
    Out,
    Seed,
    Source,
    open_chat,
    open_weights,
    prompts_of,
    settings_of,
    tell,
)
from uphold.cli.train.preference import learnt_of

if TYPE_CHECKING:
    from uphold.train.policy import Trained


def cai(
    model: Model,
    constitution: Law,
    out: Out,
    harmful: Harmful = None,
    benign: Benign = None,
    source: Source = "builtin:storefront",
    critic: Annotated[
        list[str] | None, typer.Option(help="Model that critiques and revises; repeated: a mixture. MODEL by default.")
    ] = None,
    judge: Annotated[
        list[str] | None, typer.Option(help="Model that compares; repeated: a mixture. MODEL by default.")
    ] = None,
    n_harmful: Annotated[
        int | None, typer.Option(min=1, help="Harmful prompts that are critiqued and revised.")
    ] = None,
    n_benign: Annotated[int | None, typer.Option(min=1, help="Benign prompts put through critique as well.")] = None,
    n_helpful: Annotated[int | None, typer.Option(min=0, help="Right answers mixed into fine-tuning.")] = None,
    rounds: Annotated[int | None, typer.Option(help="Critique and revision rounds (4).")] = None,
    recoveries: Annotated[
        int | None, typer.Option(min=0, help="Examples of turning back per revised reply; 0: the paper's plain recipe.")
    ] = None,
    how: Annotated[
        str | None, typer.Option(help="Learn preferences by dpo, or by rl through a preference model.")
    ] = None,
    supervised_only: Annotated[bool, typer.Option("--supervised-only", help="Stop before AI preferences.")] = False,
    behaviours: Annotated[int, typer.Option(min=1, help="Forbidden requests that the result is attacked with.")] = 120,
    tasks: Annotated[int, typer.Option(min=1, help="Honest requests of each kind it is asked.")] = 600,
    config: Config = None,
    seed: Annotated[int, typer.Option(help="Order of the data, draws, clauses.")] = 0,
    as_json: Json = False,
) -> None:
    """Constitutional AI, whole: critique and revision, fine-tuning, AI preferences, preference training, and what came of it.

    \b
    uphold train cai builtin:clerk --constitution storefront --out runs/cai
    uphold train cai hf:PATH --constitution assistant --harmful bad.jsonl --benign good.jsonl --critic openai:URL#model --out runs/mine

    The table shows how harmless and how helpful the replies are after each revision, then the model before and after training,
    attacked in families it may have met and in families it never did, and what each stage cost. OUT/revisions.png and OUT/tax.png are
    the figures, OUT/result.json what --json prints, OUT/stages/ every revision, label and checkpoint. --config takes a YAML
    file of these settings.
    """
    from uphold.project import Align, Measure
    from uphold.stages.constitutional import run

    given: dict[str, Any] = {
        "n_harmful": n_harmful,
        "n_benign": n_benign,
        "n_helpful": n_helpful,
        "rounds": rounds or (None if config else 4),
        "recoveries": recoveries,
        "how": how,
        "preferences": False if supervised_only else None,
        "critics": tuple(critic) if critic else None,
        "judges": tuple(judge) if judge else None,
    }
    result = run(
        model,
        constitution,
        out,
        source=file_source(harmful, benign) or source,
        settings=settings_of(Align, config, **given),
        measured=Measure(n_behaviours=behaviours, n_benign=tasks, n_tasks=tasks),
        seed=seed,
    )
    emit(result, as_json, _chain(result, out))


def file_source(harmful: Path | None, benign: Path | None) -> Any:
    """The two files as a source; None when neither is given. ConfigError when one is missing."""
    from uphold.core.errors import ConfigError
    from uphold.data.file_source import FileSource
    from uphold.train.material import read_samples

    if harmful is None and benign is None:
        return None
    if harmful is None or benign is None:
        missing = "--harmful" if harmful is None else "--benign"
        raise ConfigError(f"{missing} FILE is missing: both kinds of prompt are needed.")
    return FileSource(read_samples(harmful, "harmful"), read_samples(benign, "benign"))


def rlaif(
    model: Model,
    constitution: Law,
    out: Out,
    harmful: Harmful = None,
    benign: Benign = None,
    source: Source = "builtin:storefront",
    n_harmful: Annotated[int, typer.Option(min=1, help="Harmful prompts to draw from the source.")] = 120,
    n_benign: Annotated[int, typer.Option(min=0, help="Benign prompts to draw from the source.")] = 60,
    judge: Annotated[str | None, typer.Option(help="Model that compares; MODEL by default.")] = None,
    benign_clause: Annotated[
        list[str] | None, typer.Option(help="Clause to compare replies to benign prompts under; may be repeated.")
    ] = None,
    how: Annotated[str | None, typer.Option(help="Learn by dpo, or by rl through a preference model.")] = None,
    config: Config = None,
    seed: Seed = None,
    as_json: Json = False,
) -> None:
    """AI feedback: MODEL answers twice, a judge prefers by the constitution, MODEL learns the preference.

    \b
    uphold train rlaif hf:runs/cai/model --constitution storefront --benign-clause help --n-harmful 60 --out runs/rlaif

    The judge sees every pair in both orders. Ties, identical replies and answers that name neither option are dropped and counted.
    """
    from uphold.constitution import Constitution
    from uphold.train.rlaif import RLAIFConfig
    from uphold.train.rlaif import rlaif as train

    settings = settings_of(
        RLAIFConfig, config, seed=seed, how=how, benign_clauses=tuple(benign_clause) if benign_clause else None
    )
    law = Constitution.load(constitution)
    bad, good = prompts_of(law, harmful, benign, source, n_harmful, n_benign, settings.seed)
    done = train(open_weights(model), law, [*bad, *good], out, settings, judge=open_chat(judge))
    tell(done, model, as_json, _labels(done), *([learnt_of(done)] if settings.how == "dpo" else []))


def _chain(result: dict[str, Any], out: Path) -> str:
    from uphold.core.records import Measurement
    from uphold.evidence.format import describe

    def shown(plain: dict[str, Any] | None) -> str:
        if not plain:
            return "not measured"
        own = {key: value for key, value in plain.items() if key in Measurement.model_fields}  # slices stand beside
        return describe(Measurement.model_validate(own))

    rows: list[Sequence[str]] = [("revisions", "harmlessness", "helpfulness")]
    rows += [(str(r["round"]), shown(r["harmlessness"]), shown(r["helpfulness"])) for r in result["revisions"]]
    ends: list[Sequence[str]] = [("", "before", "after")]
    before, after = result["before"], result["final"]
    for split in ("trained", "held_out"):
        cells = [end["attack_success_rate"].get("by_split", {}).get(split) for end in (before, after)]
        ends.append((f"attack success, {split.replace('_', '-')} families", *map(shown, cells)))
    ends += [(m.replace("_", "-"), shown(before.get(m)), shown(after.get(m))) for m in ("over_refusal", "helpfulness")]
    labels = result["labels"]
    told = f"{labels['n']:,} AI labels, right on {shown(labels['agreement_with_truth'])}" if labels else "no AI labels"
    return (
        f"{table(rows)}\n\n{told}\n\n{table(ends)}\n\n{_taxes(result['tax'])}wall {result['wall_s']:.0f} s\n"
        f"written {out}    figure {out / 'revisions.png'}    next: uphold models check {result['model']}"
    )


def _taxes(stages: Sequence[dict[str, Any]]) -> str:
    """The changes from the model as it was to each stage: a row a metric, a column a stage."""
    from uphold.core.records import Measurement
    from uphold.evidence.format import describe

    if not stages:
        return ""
    found = [
        {
            d.metric: d
            for c in s["changes"]
            if (d := Measurement.model_validate(c["difference"])).unit == "difference" and not d.by
        }
        for s in stages
    ]
    rows: list[Sequence[str]] = [("change from the start", *(s["stage"] for s in stages))]
    rows += [
        (metric.replace("_", "-"), *(describe(one[metric]) if metric in one else "not measured" for one in found))
        for metric in found[0]
    ]
    return f"{table(rows)}\n\n"


def _labels(done: Trained) -> str:
    c = done.summary["rlaif"]
    agreement = c["order_agreement"]["value"]
    return (
        f"{c['n_prompts']} prompts: {c['n_kept']} preferences, {c['n_ties']} ties, {c['n_identical']} identical, "
        f"{c['n_unscored']} unscored, {c['n_without_reply']} without two replies; both orders agree on "
        + ("none asked" if agreement is None else f"{agreement:.0%} of {c['order_agreement']['n_scored']}")
    )


COMMANDS = {"cai": cai, "rlaif": rlaif}
