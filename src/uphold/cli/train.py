"""`uphold train`: fine-tuning, preference training, Constitutional AI and AI feedback, on any model whose weights are here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from uphold.cli.common import Json, emit, table

if TYPE_CHECKING:
    from uphold.constitution import Constitution
    from uphold.core.records import Record, Sample
    from uphold.train.policy import Trained

    R = TypeVar("R", bound=Record)

app = typer.Typer(help="Train a model towards its constitution.", no_args_is_help=True)

Model = Annotated[str, typer.Argument(help="Where training starts: builtin:clerk or hf:PATH.")]
Out = Annotated[Path, typer.Option(help="Run folder; the same command continues in it.")]
Config = Annotated[Path | None, typer.Option(help="YAML file of settings; the options below override it.")]
Epochs = Annotated[float | None, typer.Option(help="Passes over the data.")]
Steps = Annotated[int | None, typer.Option(help="Stop after so many steps.")]
Rate = Annotated[float | None, typer.Option("--lr", help="Peak learning rate.")]
Rank = Annotated[int | None, typer.Option(help="Train LoRA adapters of this rank in place of all weights.")]
Seed = Annotated[int | None, typer.Option(help="Order of the data, draws, clauses.")]
Law = Annotated[str, typer.Option(help="Constitution file, or the name of a shipped one.")]
Harmful = Annotated[Path | None, typer.Option(help="JSONL of harmful prompts, in place of --source.")]
Benign = Annotated[Path | None, typer.Option(help="JSONL of benign prompts, in place of --source.")]
Source = Annotated[str, typer.Option(help="Where prompts come from when no file is given.")]


@app.command()
def sft(
    model: Model,
    data: Annotated[str, typer.Option(help="JSONL of exchanges, or a source such as builtin:storefront.")],
    out: Out,
    n: Annotated[int, typer.Option(min=1, help="Exchanges to draw when --data is a source.")] = 400,
    constitution: Annotated[str, typer.Option(help="What is allowed, when --data is a source.")] = "storefront",
    config: Config = None,
    epochs: Epochs = None,
    max_steps: Steps = None,
    lr: Rate = None,
    lora_rank: Rank = None,
    seed: Seed = None,
    as_json: Json = False,
) -> None:
    """Fine-tune MODEL to give the completions of its exchanges.

    \b
    uphold train sft builtin:clerk --data builtin:storefront --n 100 --max-steps 10 --out runs/sft
    uphold train sft hf:PATH --data exchanges.jsonl --lora-rank 16 --out runs/mine

    A line of the file is {"prompt": ..., "completion": ...} or {"messages": [...]} ending with the assistant's turn. The loss falls
    on the reply's tokens alone. OUT/model loads in plain transformers; OUT/log.jsonl has every step.
    """
    from uphold.train.sft import SFTConfig
    from uphold.train.sft import sft as train

    settings = _settings(SFTConfig, config, epochs=epochs, max_steps=max_steps, lr=lr, seed=seed, lora=_lora(lora_rank))
    exchanges = _exchanges(data, n, constitution, settings.seed)
    weights = _open(model)
    done = train(weights.model, weights.tokenizer, exchanges, out, settings, in_place=True)
    emit(_result(done, model), as_json, _text(done, out))


@app.command()
def dpo(
    model: Model,
    data: Annotated[Path, typer.Option(help="JSONL of preference pairs.")],
    out: Out,
    config: Config = None,
    beta: Annotated[float | None, typer.Option(help="How firmly the policy is held to its reference.")] = None,
    epochs: Epochs = None,
    max_steps: Steps = None,
    lr: Rate = None,
    lora_rank: Rank = None,
    seed: Seed = None,
    as_json: Json = False,
) -> None:
    """Train MODEL to prefer the chosen replies, held to MODEL itself as the reference.

    \b
    uphold train dpo builtin:clerk --data runs/rlaif/preferences.jsonl --out runs/dpo

    A line of the file is {"prompt": ..., "chosen": ..., "rejected": ...} and, where known, "p_chosen", from 0.5 to 1.
    accuracy is the share of pairs the policy ranks as labelled, margin the difference of the implicit rewards.
    """
    from uphold.train.dpo import DPOConfig
    from uphold.train.dpo import dpo as train
    from uphold.train.material import read_preferences

    settings = _settings(
        DPOConfig, config, beta=beta, epochs=epochs, max_steps=max_steps, lr=lr, seed=seed, lora=_lora(lora_rank)
    )
    preferences = read_preferences(data)
    weights = _open(model)
    done = train(weights.model, weights.tokenizer, preferences, out, settings, in_place=True)
    emit(_result(done, model), as_json, "\n".join([_learnt(done), _text(done, out)]))


@app.command()
def cai(
    model: Model,
    constitution: Law,
    out: Out,
    harmful: Harmful = None,
    benign: Benign = None,
    source: Source = "builtin:storefront",
    n_harmful: Annotated[int, typer.Option(min=1, help="Harmful prompts to draw from the source.")] = 120,
    n_benign: Annotated[int, typer.Option(min=0, help="Benign prompts to draw from the source.")] = 120,
    critic: Annotated[str | None, typer.Option(help="Model that critiques and revises; MODEL by default.")] = None,
    rounds: Annotated[int | None, typer.Option(help="Critique and revision rounds.")] = None,
    config: Config = None,
    seed: Seed = None,
    as_json: Json = False,
) -> None:
    """Supervised Constitutional AI: MODEL's replies are critiqued, revised, and taught back to it.

    \b
    uphold train cai builtin:clerk --constitution storefront --n-harmful 60 --n-benign 60 --rounds 1 --out runs/cai
    uphold train cai hf:PATH --constitution assistant --harmful bad.jsonl --benign good.jsonl --critic openai:URL#model --out runs/mine

    Benign prompts go through critique as well: the table shows how many of their replies each round would have changed.
    OUT/revisions.jsonl keeps every round of every reply with its clause and critique.
    """
    from uphold.constitution import Constitution
    from uphold.train.cai import CAIConfig
    from uphold.train.cai import cai as train

    settings = _settings(CAIConfig, config, n_rounds=rounds, seed=seed)
    law = Constitution.load(constitution)
    bad, good = _prompts(law, harmful, benign, source, n_harmful, n_benign, settings.seed)
    judge = _chat(critic)
    done = train(_open(model), law, bad, good, out, settings, critic=judge)
    emit(_result(done, model), as_json, "\n".join([_rounds(done), _text(done, out)]))


@app.command()
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
    config: Config = None,
    seed: Seed = None,
    as_json: Json = False,
) -> None:
    """AI feedback: MODEL answers twice, a judge prefers by the constitution, MODEL learns the preference (DPO).

    \b
    uphold train rlaif hf:runs/cai/model --constitution storefront --benign-clause help --n-harmful 60 --out runs/rlaif

    The judge sees every pair in both orders. Ties, identical replies and answers that name neither option are dropped and counted.
    """
    from uphold.constitution import Constitution
    from uphold.train.rlaif import RLAIFConfig
    from uphold.train.rlaif import rlaif as train

    settings = _settings(RLAIFConfig, config, seed=seed, benign_clauses=tuple(benign_clause) if benign_clause else None)
    law = Constitution.load(constitution)
    bad, good = _prompts(law, harmful, benign, source, n_harmful, n_benign, settings.seed)
    done = train(_open(model), law, [*bad, *good], out, settings, judge=_chat(judge))
    emit(_result(done, model), as_json, "\n".join([_labels(done), _learnt(done), _text(done, out)]))


def _settings(kind: type[R], path: Path | None, **overrides: Any) -> R:
    """The settings of a file, or the defaults, with the options that were given put over them."""
    from pydantic import ValidationError

    from uphold.core.config import load_config
    from uphold.core.errors import ConfigError

    settings = load_config(kind, path) if path is not None else kind()
    given = {key: value for key, value in overrides.items() if value is not None}
    try:
        return kind.model_validate(settings.model_dump() | given)
    except ValidationError as error:
        problems = [f"--{str(e['loc'][0]).replace('_', '-')}: {e['msg']}" for e in error.errors()]
        raise ConfigError("; ".join(problems) + ".") from None


def _lora(rank: int | None) -> dict[str, int] | None:
    return None if rank is None else {"rank": rank, "alpha": 2 * rank}


def _open(spec: str) -> Any:
    from uphold import models

    return models.load_weights(spec)


def _chat(spec: str | None) -> Any:
    from uphold import models

    if spec is None:
        return None
    chat = models.load(spec)
    chat.check()
    return chat


def _exchanges(data: str, n: int, constitution: str, seed: int) -> list[Any]:
    """Exchanges of a file, or the tasks of a source with their right replies."""
    from uphold.core import registry
    from uphold.train.material import read_exchanges

    if ":" not in data or Path(data).exists():
        return read_exchanges(data)
    from uphold.constitution import Constitution
    from uphold.core.records import Exchange

    law = Constitution.load(constitution)
    samples = registry.get("source", data, "--data").samples("task", constitution=law, split="train", n=n, seed=seed)
    return [Exchange(messages=s.messages, completion=s.expected) for s in samples if s.expected]


def _prompts(
    law: Constitution, harmful: Path | None, benign: Path | None, source: str, n_harmful: int, n_benign: int, seed: int
) -> tuple[list[Sample], list[Sample]]:
    """Harmful and benign training prompts: from files where given, else from the source's training split."""
    from uphold.core import registry
    from uphold.train.material import read_samples

    def drawn(kind: str, n: int) -> list[Sample]:
        found: list[Sample] = registry.get("source", source, "--source").samples(
            kind, constitution=law, split="train", n=n, seed=seed
        )
        return found

    bad = read_samples(harmful, "harmful") if harmful else drawn("harmful", n_harmful)
    good = read_samples(benign, "benign") if benign else drawn("task", n_benign)
    return bad, good


def _result(done: Trained, model: str) -> dict[str, Any]:
    return {"start": model, "model": f"hf:{done.path}", "reused": done.reused, **done.summary}


def _text(done: Trained, out: Path) -> str:
    s = done.summary
    if done.reused or s["last_loss_nats"] is None:
        change = f"{s['n_steps']} steps, done before"
    else:
        change = (
            f"loss {s['first_loss_nats']:.3f} -> {s['last_loss_nats']:.3f} nats in {s['n_steps']} steps "
            f"({s['tokens_per_s']:,.0f} tokens/s, {s['seconds']:.1f} s)"
        )
    return f"{change}\nwritten {done.path}    next: uphold models check hf:{done.path}"


def _learnt(done: Trained) -> str:
    first, last = done.summary["first_epoch"], done.summary["last_epoch"]
    rows = [("", "first epoch", "last epoch")]
    names = ("accuracy", "margin", "reward_chosen", "reward_rejected", "logprob_chosen", "logprob_rejected")
    rows += [(name, f"{first[name]:.3f}", f"{last[name]:.3f}") for name in names]
    dropped = f"{done.summary['n_identical']} identical, {done.summary['n_too_long']} too long"
    return f"{done.summary['n_pairs']} pairs ({dropped} left out)\n{table(rows)}"


def _rounds(done: Trained) -> str:
    counts = done.summary["cai"]
    columns = ("n", "guilty", "changed", "unchanged", "no_verdict", "unscored")
    rows: list[Sequence[str]] = [("round", "replies", "asked", *(name.replace("_", " ") for name in columns[1:]))]
    for r in counts["rounds"]:
        for label in ("harmful", "benign"):
            asked = r[label]
            rows += [(str(r["round"]), label, *(str(asked[key]) for key in columns))] if asked["n"] else []
    taught = (
        f"taught {counts['n_revised']} revisions and {counts['n_benign_kept'] + counts['n_helpful']} helpful replies; "
        f"{counts['n_never_revised']} harmful prompts left out, whose replies nobody objected to"
    )
    return f"{table(rows)}\n{taught}"


def _labels(done: Trained) -> str:
    c = done.summary["rlaif"]
    agreement = c["order_agreement"]["value"]
    return (
        f"{c['n_prompts']} prompts: {c['n_kept']} preferences, {c['n_ties']} ties, {c['n_identical']} identical, "
        f"{c['n_unscored']} unscored, {c['n_without_reply']} without two replies; both orders agree on "
        + ("none asked" if agreement is None else f"{agreement:.0%} of {c['order_agreement']['n_scored']}")
    )
