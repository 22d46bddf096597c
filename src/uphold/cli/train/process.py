"""`uphold train prm|best-of`: a process (or outcome) reward model from labelled steps, and what best of n by any reward is worth."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Annotated, Any

import typer

from uphold.cli.common import Json, emit, table
from uphold.cli.train.options import Config, Epochs, Out, Rank, Rate, Seed, Steps, lora_of, open_weights, settings_of

if TYPE_CHECKING:
    from uphold.core.records import Measurement
    from uphold.train.process.labels import Labelled


def prm(
    model: Annotated[str, typer.Argument(help="Where it starts: builtin:clerk or hf:PATH of a causal model.")],
    data: Annotated[
        str, typer.Option(help="JSONL of replies with labelled steps, or chains: builtin:refund, builtin:invoice.")
    ],
    out: Out,
    outcome: Annotated[bool, typer.Option("--outcome", help="Learn whether the whole reply is right (ORM).")] = False,
    aggregate: Annotated[str | None, typer.Option(help="How steps make one score: product, min, last or mean.")] = None,
    labels: Annotated[
        str, typer.Option(help="With chains: rollout, judge (ground truth), or both agreeing.")
    ] = "judge",
    solver: Annotated[str | None, typer.Option(help="With --labels rollout or both: the model that continues.")] = None,
    rollouts: Annotated[int, typer.Option(min=1, help="Continuations from each step.")] = 4,
    n: Annotated[int, typer.Option(min=2, help="Questions to draw when --data names chains.")] = 200,
    config: Config = None,
    epochs: Epochs = None,
    max_steps: Steps = None,
    lr: Rate = None,
    lora_rank: Rank = None,
    seed: Seed = None,
    as_json: Json = False,
) -> None:
    """Train a process reward model: the probability, at the end of each step of a reply, that the step is right.

    \b
    uphold train prm builtin:clerk --data builtin:refund --n 100 --out runs/prm
    uphold train prm hf:runs/sft/model --data steps.jsonl --aggregate min --out runs/prm

    A line of the file is {"prompt": ..., "completion": ..., "labels": [1, 1, 0], "right": 0}: a label for each sentence or line, null
    where there is none. Use it in RL as --reward process:runs/prm.
    """
    from uphold.train.process.model import ProcessConfig, train_process
    from uphold.train.reward_net import open_base

    settings = settings_of(
        ProcessConfig,
        config,
        epochs=epochs,
        max_steps=max_steps,
        lr=lr,
        seed=seed,
        lora=lora_of(lora_rank),
        reads="reply" if outcome else None,
        aggregate=aggregate,
    )
    learning = labelled_of(data, labels, solver, rollouts, n, settings.seed)
    done = train_process(open_base(model), learning, out, settings, in_place=True)
    s = done.summary
    what = "outcome" if s["reads"] == "reply" else "process"
    text = (
        f"{what} reward model: {s['n_labels']} labels on {s['n_replies']} replies, {s['n_dropped']} too long left out\n"
        f"last step: accuracy {s['accuracy']:.3f} on its own training labels\n"
        f"written {out}    use: --reward process:{out}"
    )
    emit({"start": model, "reward": str(out), "reused": done.reused, **s}, as_json, text)


def labelled_of(data: str, labels: str, solver: str | None, rollouts: int, n: int, seed: int) -> list[Labelled]:
    """Labelled replies of a file; or questions of registered chains, answered with the chain's slips and labelled as asked."""
    from pathlib import Path

    from uphold.core import registry
    from uphold.core.errors import ConfigError
    from uphold.train.process.labels import Labelled, agreed, judge_labels, read_labelled, rollout_labels
    from uphold.train.process.steps import is_right

    if ":" not in data or Path(data).exists():
        return read_labelled(data)
    if labels not in ("rollout", "judge", "both"):
        raise ConfigError(f"--labels {labels}: choose rollout, judge or both.")
    chains = registry.get("chains", data, "--data")
    rng = random.Random(seed)
    pairs = [(s, chains.slip(s, rng)) for s in chains.samples("train", n, seed)]
    found: list[Any] = judge_labels(chains.check, pairs) if labels != "rollout" else []
    if labels != "judge":
        if solver is None:
            raise ConfigError(f"--labels {labels}: name the model that continues the replies with --solver.")
        drawn = rollout_labels(open_weights(solver), pairs, n=rollouts, seed=seed)
        found = [agreed(d, j) for d, j in zip(drawn, found, strict=True)] if found else drawn
    return [
        Labelled(messages=s.messages, completion=c, labels=of, right=float(is_right(s, c)))
        for (s, c), of in zip(pairs, found, strict=True)
    ]


def best_of(
    model: Annotated[str, typer.Argument(help="The solver: builtin:clerk or hf:PATH.")],
    rewards: Annotated[
        list[str], typer.Option("--reward", help="NAME[:REST], such as process:runs/prm; may be repeated.")
    ],
    data: Annotated[str, typer.Option(help="Registered chains: the questions, with known answers.")] = "builtin:refund",
    split: Annotated[str, typer.Option(help="train, validation or test.")] = "validation",
    questions: Annotated[int, typer.Option(min=2, help="Questions to ask.")] = 50,
    n: Annotated[
        int, typer.Option("--n", min=1, help="Replies to each question; told for 1, 2, 4, ... up to it.")
    ] = 32,
    temperature: Annotated[float, typer.Option(min=0.01, help="Of the sampling.")] = 1.0,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Most tokens of a reply.")] = 96,
    seed: Annotated[int, typer.Option(help="Of questions and draws.")] = 0,
    as_json: Json = False,
) -> None:
    """Draw several replies to each question: how often is the one right that a reward ranks first, or the majority?

    \b
    uphold train best-of hf:runs/solver/model --reward process:runs/prm --reward process:runs/orm --n 32
    """
    from uphold.core import registry
    from uphold.models.base import Sampling
    from uphold.train.goodhart.curve import draw
    from uphold.train.process.bestof import Drawn, compared, outcomes
    from uphold.train.rewards import make_reward

    asked = registry.get("chains", data, "--data").samples(split, questions, seed)
    made = {name: make_reward(name, asked) for name in dict.fromkeys(rewards)}
    sampling = Sampling(temperature=temperature, max_new_tokens=max_new_tokens, seed=seed)
    drawn = Drawn(asked, draw(open_weights(model), asked, n, sampling))
    ns = sorted({*(2**k for k in range(n.bit_length())), n})
    found = compared(
        outcomes(drawn, {name: drawn.scores(reward) for name, reward in made.items()}, ns),
        seeds=[seed],
        subject={"model": model},
    )
    result = {str(k): {name: m.model_dump(mode="json") for name, m in of.items()} for k, of in found.items()}
    emit({"model": model, "data": data, "split": split, "questions": questions, "by_n": result}, as_json, _told(found))


def _told(found: dict[int, dict[str, Measurement]]) -> str:
    """Shares right by n, and the differences at the largest n, with their intervals."""
    last = found[max(found)]
    shares = [name for name, m in last.items() if m.unit != "difference"]
    rows = [("n", *shares), *((str(n), *(f"{of[name].value:.3f}" for name in shares)) for n, of in found.items())]
    lines = [
        f"{name} at n = {max(found)}: {m.value:+.3f} (95% {m.interval[0]:+.3f} to {m.interval[1]:+.3f})"
        for name, m in last.items()
        if m.unit == "difference" and m.interval is not None
    ]
    return "\n".join([f"share right of {last[shares[0]].n_asked} questions", table(rows), *lines])


COMMANDS = {"prm": prm, "best-of": best_of}
