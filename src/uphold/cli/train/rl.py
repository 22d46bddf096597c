"""`uphold train grpo|ppo|safe`: reinforcement learning, with or without limits on costs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from uphold.cli.common import Json, table
from uphold.cli.train.options import (
    Benign,
    Config,
    Harmful,
    Model,
    Out,
    Rank,
    Rate,
    Seed,
    Source,
    lora_of,
    open_weights,
    prompts_of,
    settings_of,
    tell,
)

if TYPE_CHECKING:
    from uphold.core.records import Sample
    from uphold.train.policy import Trained
    from uphold.train.rl import RLConfig

Rewards = Annotated[
    list[str], typer.Option("--reward", help="NAME[:REST][=WEIGHT]; may be repeated. See: uphold list rewards.")
]
Gold = Annotated[str | None, typer.Option(help="Reward that is logged and never trained on: the gold score.")]
Laws = Annotated[str, typer.Option(help="Constitution that says which prompts of the source are harmful.")]
NHarmful = Annotated[int, typer.Option(min=0, help="Harmful prompts to draw from the source.")]
NBenign = Annotated[int, typer.Option(min=0, help="Benign prompts to draw from the source.")]
NProbe = Annotated[
    int, typer.Option(min=0, help="Benign validation prompts for the over-refusal probe; needs --source.")
]
NSteps = Annotated[int | None, typer.Option("--steps", help="Rounds of sampling and updating.")]
Prompts = Annotated[int | None, typer.Option("--prompts-per-step", help="Prompts asked in a round.")]
Group = Annotated[int | None, typer.Option("--group-size", help="Completions of each prompt.")]
KL = Annotated[float | None, typer.Option("--kl", help="How firmly the policy is held to MODEL.")]
KLTarget = Annotated[float | None, typer.Option("--kl-target", help="Nats per completion to steer the KL to.")]
Heat = Annotated[float | None, typer.Option("--temperature", help="Of the sampling.")]
Longest = Annotated[int | None, typer.Option("--max-new-tokens", help="Most tokens of a completion.")]
Sampler = Annotated[
    str | None, typer.Option(help="Who draws: engine (the model itself) or openai:URL#NAME serving MODEL.")
]


def grpo(
    model: Model,
    rewards: Rewards,
    out: Out,
    harmful: Harmful = None,
    benign: Benign = None,
    source: Source = "builtin:storefront",
    constitution: Laws = "storefront",
    n_harmful: NHarmful = 60,
    n_benign: NBenign = 60,
    n_probe: NProbe = 0,
    gold: Gold = None,
    algorithm: Annotated[str | None, typer.Option(help="grpo, rloo or reinforce++.")] = None,
    variant: Annotated[str | None, typer.Option(help="Of grpo: grpo, mean-only, dapo or dr-grpo.")] = None,
    steps: NSteps = None,
    prompts_per_step: Prompts = None,
    group_size: Group = None,
    lr: Rate = None,
    kl: KL = None,
    kl_target: KLTarget = None,
    temperature: Heat = None,
    max_new_tokens: Longest = None,
    sampler: Sampler = None,
    lora_rank: Rank = None,
    config: Config = None,
    seed: Seed = None,
    as_json: Json = False,
) -> None:
    """MODEL answers each prompt several times and learns from the answers that are rewarded above the others.

    \b
    uphold train grpo builtin:clerk --reward expected --temperature 1.8 --steps 20 --out runs/grpo
    uphold train grpo hf:PATH --reward guard:runs/guard=-1 --reward expected=0.5 --benign prompts.jsonl --harmful bad.jsonl --out runs/mine

    OUT/completions.jsonl keeps every completion with every reward; OUT/log.jsonl has reward, KL, length and diversity of every step.
    """
    overrides = {"algorithm": algorithm, "variant": variant, "sampler": sampler, "group_size": group_size}
    settings = _settings(
        config, overrides, steps, prompts_per_step, lr, kl, kl_target, temperature, max_new_tokens, lora_rank, seed
    )
    if settings.algorithm == "ppo":
        raise typer.BadParameter("ppo has a command of its own: uphold train ppo", param_hint="--algorithm")
    samples, probe = _samples(constitution, harmful, benign, source, n_harmful, n_benign, n_probe, settings.seed)
    done = _train(model, samples, rewards, gold, probe, out, settings)
    tell(done, model, as_json, told(done))


def ppo(
    model: Model,
    rewards: Rewards,
    out: Out,
    harmful: Harmful = None,
    benign: Benign = None,
    source: Source = "builtin:storefront",
    constitution: Laws = "storefront",
    n_harmful: NHarmful = 60,
    n_benign: NBenign = 60,
    n_probe: NProbe = 0,
    gold: Gold = None,
    n_epochs: Annotated[int | None, typer.Option("--epochs", help="Passes over each round's completions.")] = None,
    n_minibatches: Annotated[int | None, typer.Option("--minibatches", help="Updates per pass.")] = None,
    steps: NSteps = None,
    prompts_per_step: Prompts = None,
    group_size: Group = None,
    lr: Rate = None,
    kl: KL = None,
    kl_target: KLTarget = None,
    temperature: Heat = None,
    max_new_tokens: Longest = None,
    lora_rank: Rank = None,
    config: Config = None,
    seed: Seed = None,
    as_json: Json = False,
) -> None:
    """Proximal policy optimisation: a value head says what each token was worth; the KL to MODEL is paid out of the reward.

    \b
    uphold train ppo builtin:clerk --reward expected --temperature 1.8 --steps 20 --out runs/ppo
    """
    overrides: dict[str, Any] = {
        "algorithm": "ppo",
        "n_epochs": n_epochs,
        "n_minibatches": n_minibatches,
        "group_size": group_size,
    }
    settings = _settings(
        config, overrides, steps, prompts_per_step, lr, kl, kl_target, temperature, max_new_tokens, lora_rank, seed
    )
    samples, probe = _samples(constitution, harmful, benign, source, n_harmful, n_benign, n_probe, settings.seed)
    done = _train(model, samples, rewards, gold, probe, out, settings)
    tell(done, model, as_json, told(done))


def safe(
    model: Model,
    rewards: Rewards,
    costs: Annotated[
        list[str], typer.Option("--cost", help="CLAUSE=LIMIT, the largest share of replies that may break it.")
    ],
    out: Out,
    harmful: Harmful = None,
    benign: Benign = None,
    held_out: Annotated[
        str | None, typer.Option(help="JSONL of harmful prompts for the final test, in place of --source.")
    ] = None,
    source: Source = "builtin:storefront",
    constitution: Laws = "storefront",
    n_harmful: NHarmful = 60,
    n_benign: NBenign = 60,
    n_test: Annotated[int, typer.Option(min=1, help="Held-out prompts to draw from the source's test split.")] = 400,
    cost_judge: Annotated[
        str, typer.Option(help="Reward that says, from 0.5 on, that a reply breaks the clause.")
    ] = "revealed",
    algorithm: Annotated[str | None, typer.Option(help="grpo, rloo, reinforce++ or ppo.")] = None,
    steps: NSteps = None,
    prompts_per_step: Prompts = None,
    group_size: Group = None,
    lr: Rate = None,
    kl: KL = None,
    temperature: Heat = None,
    max_new_tokens: Longest = None,
    lora_rank: Rank = None,
    config: Config = None,
    seed: Seed = None,
    as_json: Json = False,
) -> None:
    """Reinforcement learning under limits: as much reward as the costs allow, then a test on held-out prompts. Exit 1 if one fails.

    \b
    uphold train safe runs/start/model --reward expected --cost no-hazards=0.1 --out runs/safe

    Each clause has a multiplier that rises while its cost is above the limit. A limit counts as held when the upper 95% bound of the
    rate on prompts never trained on is below it; a reply breaks a clause when it reveals half of the forbidden facts or more.
    """
    from uphold.train.constraints import Bound
    from uphold.train.material import read_samples
    from uphold.train.rewards import make_rewards
    from uphold.train.safe import safe as train

    overrides = {"algorithm": algorithm, "group_size": group_size}
    settings = _settings(
        config, overrides, steps, prompts_per_step, lr, kl, None, temperature, max_new_tokens, lora_rank, seed
    )
    limits = _limits(costs)
    samples, _ = _samples(constitution, harmful, benign, source, n_harmful, n_benign, 0, settings.seed)
    test = (
        read_samples(held_out, "harmful")
        if held_out
        else _drawn(constitution, source, "harmful", "test", n_test, settings.seed)
    )
    test = [s for s in test if s.clause in limits]
    weights = open_weights(model)
    reward = make_rewards(rewards, samples)
    done = train(
        weights.model, weights.tokenizer, samples, reward, limits, out, settings,
        held_out=test, judge=cost_judge, in_place=True,
    )  # fmt: skip
    found = [Bound.model_validate(b) for b in done.summary["bounds"].values()]
    tell(done, model, as_json, told(done), *(b.sentence for b in found))
    if not all(b.held for b in found):
        raise typer.Exit(1)


def _settings(
    config: Config, overrides: dict[str, Any], steps: int | None, prompts_per_step: int | None, lr: float | None, kl: float | None,
    kl_target: float | None, temperature: float | None, max_new_tokens: int | None, lora_rank: int | None, seed: int | None,
) -> RLConfig:  # fmt: skip
    from uphold.train.rl import RLConfig

    return settings_of(
        RLConfig, config, **overrides, n_steps=steps, prompts_per_step=prompts_per_step, lr=lr, kl=kl, kl_target=kl_target,
        temperature=temperature, max_new_tokens=max_new_tokens, lora=lora_of(lora_rank), seed=seed,
    )  # fmt: skip


def _samples(
    constitution: str,
    harmful: Harmful,
    benign: Benign,
    source: str,
    n_harmful: int,
    n_benign: int,
    n_probe: int,
    seed: int,
) -> tuple[list[Sample], list[Sample]]:
    """(prompts to train on, benign validation prompts for the probe)."""
    from uphold.constitution import Constitution

    bad, good = prompts_of(Constitution.load(constitution), harmful, benign, source, n_harmful, n_benign, seed)
    return [*bad, *good], _drawn(constitution, source, "benign", "validation", n_probe, seed) if n_probe else []


def _drawn(constitution: str, source: str, kind: str, split: str, n: int, seed: int) -> list[Sample]:
    from uphold.constitution import Constitution
    from uphold.core import registry

    law = Constitution.load(constitution)
    found: list[Sample] = registry.get("source", source, "--source").samples(
        kind, constitution=law, split=split, n=n, seed=seed
    )
    return found


def _train(
    model: str,
    samples: Sequence[Sample],
    rewards: list[str],
    gold: str | None,
    probe: Sequence[Sample],
    out: Any,
    settings: RLConfig,
) -> Trained:
    from uphold.train.rewards import make_reward, make_rewards
    from uphold.train.rl import rl

    reward = make_rewards(rewards, samples)
    judge = make_reward(gold, samples, "--gold") if gold else None
    weights = open_weights(model)
    return rl(weights.model, weights.tokenizer, samples, reward, out, settings, gold=judge, probe=probe, in_place=True)


def _limits(costs: Sequence[str]) -> dict[str, float]:
    from uphold.core.errors import ConfigError

    found = {}
    for entry in costs:
        clause, equals, limit = entry.rpartition("=")
        try:
            if not equals:
                raise ValueError
            found[clause] = float(limit)
        except ValueError:
            raise ConfigError(f"--cost {entry!r}: write CLAUSE=LIMIT, such as no-hazards=0.1.") from None
        if not 0 <= found[clause] <= 1:
            raise ConfigError(f"--cost {entry!r}: a limit is a share of replies, from 0 to 1.")
    return found


def told(done: Trained) -> str:
    """First and last steps side by side, and why it stopped; the notes follow with what every run tells."""
    first, last = done.summary["first"], done.summary["last"]
    shown = [k for k in last if k.split("/")[0] in _SHOWN]
    rows = [("", "first steps", "last steps"), *((k, f"{first.get(k, 0):.3f}", f"{last[k]:.3f}") for k in shown)]
    stopped = [f"stopped: {done.summary['stopped']}"] if done.summary["stopped"] else []
    return "\n".join([table(rows), *stopped])


_SHOWN = {
    "reward",
    "cost",
    "gold",
    "kl",
    "length",
    "distinct_2",
    "entropy",
    "clipped",
    "sampler_gap",
    "over_refusal",
    "multiplier",
}

COMMANDS = {"grpo": grpo, "ppo": ppo, "safe": safe}
