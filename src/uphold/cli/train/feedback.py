"""`uphold train rlhf|comparisons-export|comparisons-import`: from people's comparisons to a policy."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from uphold.cli.common import Json, emit, table
from uphold.cli.train.options import (
    Benign,
    Config,
    Harmful,
    Model,
    Out,
    Seed,
    Source,
    open_weights,
    prompts_of,
    settings_of,
    tell,
)

if TYPE_CHECKING:
    from uphold.train.comparisons import Agreement

Votes = Annotated[list[Path], typer.Option("--votes", help="JSONL that people filled in; may be repeated.")]


def rlhf(
    model: Model,
    votes: Votes,
    out: Out,
    backbone: Annotated[str | None, typer.Option(help="Where the reward model starts; MODEL by default.")] = None,
    members: Annotated[int | None, typer.Option(min=1, help="Reward models in the ensemble.")] = None,
    labels: Annotated[str | None, typer.Option(help="Votes to labels: dawid_skene or majority.")] = None,
    algorithm: Annotated[str | None, typer.Option(help="grpo, rloo, reinforce++ or ppo.")] = None,
    steps: Annotated[int | None, typer.Option(help="Rounds of sampling and updating.")] = None,
    harmful: Harmful = None,
    benign: Benign = None,
    source: Source = "builtin:storefront",
    constitution: Annotated[str, typer.Option(help="Says which prompts of the source are harmful.")] = "storefront",
    n_harmful: Annotated[int, typer.Option(min=0, help="Harmful prompts to draw from the source.")] = 30,
    n_benign: Annotated[int, typer.Option(min=0, help="Benign prompts to draw from the source.")] = 30,
    gold: Annotated[str | None, typer.Option(help="Reward that is logged and never trained on.")] = None,
    force: Annotated[
        bool | None, typer.Option("--force", help="Train against a sick reward model all the same.")
    ] = None,
    config: Config = None,
    seed: Seed = None,
    as_json: Json = False,
) -> None:
    """Votes to labels, labels to a reward model, its health card, then reinforcement learning of MODEL against it.

    \b
    uphold train rlhf builtin:clerk --votes votes.jsonl --gold expected --out runs/rlhf

    Stops before any RL when the reward model is sick. Make the file to vote on with: uphold train comparisons-export.
    """
    from uphold.constitution import Constitution
    from uphold.train.comparisons import Agreement, read_votes
    from uphold.train.reward_net import open_base
    from uphold.train.rewards import make_reward
    from uphold.train.rlhf import RLHFConfig
    from uphold.train.rlhf import rlhf as train

    settings = settings_of(RLHFConfig, config, members=members, labels=labels, force=force, seed=seed)
    rules = settings_of(type(settings.rl), None, **settings.rl.model_dump() | _given(algorithm, steps, seed))
    settings = settings.model_copy(update={"rl": rules})
    law, answers = Constitution.load(constitution), read_votes(votes)
    bad, good = prompts_of(law, harmful, benign, source, n_harmful, n_benign, settings.seed)
    judge = make_reward(gold, [*bad, *good], "--gold") if gold else None
    policy = open_weights(model)
    done = train(policy, open_base(backbone or model), answers, [*bad, *good], out, settings, gold=judge)
    report = Agreement.model_validate(done.summary["agreement"])
    health = done.summary["health"]
    verdict = "healthy" if health["is_healthy"] else f"SICK, trained against by order: {'; '.join(health['problems'])}"
    tell(done, model, as_json, agreement_told(report), f"reward model: {verdict}")


def _given(algorithm: str | None, steps: int | None, seed: int | None) -> dict[str, object]:
    given = {"algorithm": algorithm, "n_steps": steps, "seed": seed}
    return {key: value for key, value in given.items() if value is not None}


def comparisons_export(
    candidates: Annotated[
        Path, typer.Argument(help="JSONL of pairs of replies: prompt, chosen, rejected (in any order).")
    ],
    out: Annotated[Path, typer.Option(help="File for people to fill in.")],
    reward: Annotated[Path | None, typer.Option(help="Reward model or ensemble: ask where it is least sure.")] = None,
    n: Annotated[int, typer.Option(min=1, help="How many pairs to ask about.")] = 100,
    seed: Annotated[int, typer.Option(help="Which reply stands first; which pairs, without --reward.")] = 0,
    as_json: Json = False,
) -> None:
    """Choose pairs for people to compare, the least certain first, and write the file they fill in.

    \b
    uphold train comparisons-export pairs.jsonl --reward runs/reward --n 50 --out ask.jsonl

    Each annotator fills in `choice` (first, second or tie) and `annotator`, in a copy of their own.
    """
    from uphold.train.comparisons import choose_pairs, write_asks
    from uphold.train.material import read_preferences
    from uphold.train.reward_model import load_reward

    pairs = read_preferences(candidates)
    asks = choose_pairs(pairs, n, None if reward is None else load_reward(reward), seed)
    write_asks(out, asks)
    how = "drawn by the seed" if reward is None else "where the reward model is least sure"
    emit(
        {"n_candidates": len(pairs), "n_asked": len(asks), "file": str(out)},
        as_json,
        f"{len(asks)} pairs, {how}\nwritten {out}",
    )


def comparisons_import(
    votes: Annotated[list[Path], typer.Argument(help="Files that people filled in.")],
    out: Annotated[Path, typer.Option(help="JSONL of preference pairs with soft labels.")],
    labels: Annotated[str, typer.Option(help="Votes to labels: dawid_skene or majority.")] = "dawid_skene",
    as_json: Json = False,
) -> None:
    """Read people's choices back: how far they agree, how reliable each one is, and the pairs to train on.

    \b
    uphold train comparisons-import ada.jsonl bo.jsonl --out preferences.jsonl
    """
    from uphold.core.files import write_jsonl
    from uphold.train.comparisons import agreement, labels_named, preferences_of, read_votes

    answers = read_votes(votes)
    report, pairs = agreement(answers), preferences_of(answers, labels_named(labels))
    write_jsonl(out, pairs)
    text = f"{agreement_told(report)}\nwritten {out}, {len(pairs)} preference pairs    next: uphold train reward MODEL --data {out}"
    emit({"agreement": report, "n_preferences": len(pairs), "file": str(out)}, as_json, text)


def agreement_told(report: Agreement) -> str:
    alpha = report.alpha
    found = "not known" if alpha.value is None else f"{alpha.value:.3f}"
    inside = f" ({alpha.interval[0]:.2f} to {alpha.interval[1]:.2f})" if alpha.interval else ""
    rows = [("annotator", "votes", "accuracy", "chose first")]
    rows += [
        (name, f"{p['n_votes']:.0f}", f"{p['accuracy']:.2f}", f"{p['chose_first']:.2f}")
        for name, p in report.annotators.items()
    ]
    head = (
        f"{report.n_votes} votes on {report.n_items} pairs, {report.n_with_two_or_more} with two or more: "
        f"Krippendorff's alpha {found}{inside}"
    )
    return "\n".join([head, table(rows), *report.notes])


COMMANDS = {
    "rlhf": rlhf,
    "comparisons-export": comparisons_export,
    "comparisons-import": comparisons_import,
}
