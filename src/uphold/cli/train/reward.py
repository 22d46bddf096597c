"""`uphold train reward|reward-check`: reward models from comparisons, and their health."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from uphold.cli.common import Json, emit, table
from uphold.cli.train.options import Config, Epochs, Out, Rank, Rate, Seed, Steps, lora_of, settings_of

if TYPE_CHECKING:
    from uphold.core.records import Preference
    from uphold.train.health import HealthCard

Backbone = Annotated[
    str, typer.Argument(help="Where it starts: builtin:clerk, hf:PATH (causal or encoder), encoder:minilm.")
]
Pairs = Annotated[str, typer.Option(help="JSONL of preference pairs, or a source such as builtin:storefront.")]


def reward(
    model: Backbone,
    data: Pairs,
    out: Out,
    held_out: Annotated[float, typer.Option(help="Share of the prompts kept for the health card.")] = 0.2,
    members: Annotated[int, typer.Option(min=1, help="Train an ensemble of so many seeds.")] = 1,
    combine: Annotated[str, typer.Option(help="How members make one reward: mean, min or uwo.")] = "uwo",
    lam: Annotated[float, typer.Option(help="uwo: mean - lam * variance.")] = 0.5,
    n: Annotated[int, typer.Option(min=2, help="Prompts to draw when --data is a source.")] = 400,
    constitution: Annotated[str, typer.Option(help="What is allowed, when --data is a source.")] = "storefront",
    length_head: Annotated[
        bool | None, typer.Option("--length-head", help="Take length out of the reward (ODIN).")
    ] = None,
    label_noise: Annotated[float | None, typer.Option(help="Known share of flipped labels.")] = None,
    frozen: Annotated[bool | None, typer.Option("--frozen", help="Train the head alone.")] = None,
    too_long: Annotated[str | None, typer.Option(help="refuse, drop, or cut the oldest tokens.")] = None,
    config: Config = None,
    epochs: Epochs = None,
    max_steps: Steps = None,
    lr: Rate = None,
    lora_rank: Rank = None,
    seed: Seed = None,
    as_json: Json = False,
) -> None:
    """Train a reward model on comparisons, and write its health card from prompts it has not seen.

    \b
    uphold train reward builtin:clerk --data builtin:storefront --n 200 --out runs/reward
    uphold train reward encoder:minilm --data pairs.jsonl --length-head --members 4 --out runs/rm

    A line of the file is {"prompt": ..., "chosen": ..., "rejected": ...} and, where known, "p_chosen", from 0.5 to 1.
    OUT/health/health.md says whether it may be trained against; RL refuses a sick reward model unless told.
    """
    from uphold.train.ensemble import combine_named, train_ensemble
    from uphold.train.health import health_card
    from uphold.train.reward_data import split_preferences
    from uphold.train.reward_model import RewardConfig, load_reward, train_reward
    from uphold.train.reward_net import open_base

    settings = settings_of(
        RewardConfig,
        config,
        epochs=epochs,
        max_steps=max_steps,
        lr=lr,
        seed=seed,
        lora=lora_of(lora_rank),
        length_head=length_head,
        label_noise=label_noise,
        frozen=frozen,
        too_long=too_long,
    )
    learning, held = split_preferences(pairs_of(data, n, constitution, settings.seed), held_out)
    base = open_base(model)
    if members > 1:
        done = train_ensemble(base, learning, out, settings, n=members, combine=combine_named(combine), lam=lam)
    else:
        done = train_reward(base, learning, out, settings, in_place=True)
    card = health_card(load_reward(out), held, out / "health", seed=settings.seed)
    result = {"start": model, "reward": str(out), "reused": done.reused, **done.summary, "health": health_of(card)}
    text = f"{_learnt(done.summary)}\n{told(card)}\nwritten {out}    read: {out / 'health' / 'health.md'}"
    emit(result, as_json, text)


def reward_check(
    rewards: Annotated[
        str, typer.Argument(help="Folder of a reward model or an ensemble; or judge:MODEL, a model that compares.")
    ],
    data: Pairs,
    out: Annotated[Path | None, typer.Option(help="Where the card goes; beside the model by default.")] = None,
    n: Annotated[int, typer.Option(min=2, help="Prompts to draw when --data is a source.")] = 400,
    constitution: Annotated[
        str, typer.Option(help="What is allowed, when --data is a source; what a judge compares under.")
    ] = "storefront",
    clause: Annotated[
        list[str] | None, typer.Option(help="Clause that a judge compares under; may be repeated. All by default.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="YAML file of the bars.")] = None,
    seed: Annotated[int, typer.Option(help="Which pairs the dearer checks take.")] = 0,
    as_json: Json = False,
) -> None:
    """Check a reward model on comparisons that it was not trained on. Exit code 1 when it is sick.

    \b
    uphold train reward-check runs/reward --data held_out.jsonl
    uphold train reward-check judge:builtin:clerk --data builtin:storefront --n 60 --clause help --out runs/judge

    A judge is asked in both orders everywhere; their mean is its answer, and how often they disagree is on the card.
    """
    from uphold.core.errors import ConfigError
    from uphold.train.health import Bars, health_card

    bars = settings_of(Bars, config)
    reward = _opened(rewards, constitution, clause)
    folder = out or reward.health
    if folder is None:
        raise ConfigError("--out FOLDER is missing: a judge has no folder of its own for its card.")
    card = health_card(reward, pairs_of(data, n, constitution, seed, split="test"), folder, bars=bars, seed=seed)
    emit({"reward": str(rewards), **health_of(card)}, as_json, f"{told(card)}\nwritten {folder}/health.md")
    if not card.is_healthy:
        raise typer.Exit(1)


def _opened(name: str, constitution: str, clauses: Sequence[str] | None) -> Any:
    """The reward model of a folder, or the judge that `judge:MODEL` names."""
    from uphold.cli.train.options import open_chat
    from uphold.constitution import Constitution
    from uphold.train.pair_judge import ChatJudge
    from uphold.train.reward_model import load_reward

    if not name.startswith("judge:"):
        return load_reward(name)
    law = Constitution.load(constitution)
    under = [law.clause(id) for id in clauses] if clauses else [c for c in law.clauses if c.modality != "may"]
    return ChatJudge(open_chat(name.removeprefix("judge:")), under)


def pairs_of(data: str, n: int, constitution: str, seed: int, split: str = "train") -> list[Preference]:
    """Comparisons of a file, or of a source's prompts with ground truth: right replies against refusals and wrong ones."""
    from uphold.train.material import read_preferences

    if ":" not in data or Path(data).exists():
        return read_preferences(data)
    from uphold.constitution import Constitution
    from uphold.core import registry
    from uphold.train.reward_data import pairs_from_samples

    law, source = Constitution.load(constitution), registry.get("source", data, "--data")
    samples = [
        s
        for kind, part in (("harmful", n // 2), ("task", n - n // 2))
        for s in source.samples(kind, constitution=law, split=split, n=part, seed=seed)
    ]
    return pairs_from_samples(samples, seed)


def health_of(card: HealthCard) -> dict[str, Any]:
    return {"is_healthy": card.is_healthy, "problems": card.problems, "card": card}


def told(card: HealthCard) -> str:
    words = {"pass": "ok", "fail": "SICK", "unknown": "NOT MEASURED", "not_applicable": "n/a"}
    rows = [(c.name, words[c.outcome], c.reason) for c in card.checks]
    verdict = "healthy" if card.is_healthy else "SICK: not to be trained against as it is"
    return f"{table(rows)}\n{card.reward} on {card.n_pairs} held-out comparisons: {verdict}"


def _learnt(summary: dict[str, Any]) -> str:
    last = summary["last_epoch"]
    more = f", {len(summary['members'])} members ({summary['combine']})" if "members" in summary else ""
    return (
        f"{summary['n_pairs']} pairs to learn from, {summary['n_calibration']} for the temperature ({summary['temperature']:.2f}), "
        f"{summary['n_identical']} identical and {summary['n_too_long']} too long left out{more}\n"
        f"last epoch: accuracy {last['accuracy']:.3f}, margin {last['margin']:.3f}, loss {last['loss']:.3f} nats"
    )


COMMANDS = {"reward": reward, "reward-check": reward_check}
