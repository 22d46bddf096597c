"""Reward models from comparisons: training on pairs, and scoring replies.

Takes preference pairs (people's, or AI labels) and a backbone; leaves `OUT/model`, which `RewardModel.load` opens, `OUT/log.jsonl` and
`OUT/train.json`. The head starts where a logistic regression on frozen features puts it, then everything is trained by Bradley and
Terry's model; a tenth of the prompts stays out of it to set the temperature, so that sigmoid of a difference of two rewards is a
probability. With `length_head`, a second head takes what goes with length and is then thrown away (ODIN, arXiv:2402.07319).
A reward says only which of two replies to one prompt is better; its zero is the mean of the training replies. Left out: rewards
of several aspects, generative judges (see `labels.py`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field, model_validator

from uphold.core.records import Exchange, Preference, Record
from uphold.core.seeds import split_of
from uphold.train import parallel
from uphold.train.batches import EncodedSet, Plan
from uphold.train.explain import read_log
from uphold.train.loop import Part, Schedule, fit
from uphold.train.losses.reward import bradley_terry_loss, correlation, two_head_loss
from uphold.train.policy import LoRA, Trained, finish, finished, hold, trainable, weights_digest
from uphold.train.precision import Precision
from uphold.train.reward_data import RewardPairs, TooLong, encode_pairs, encode_replies, pad
from uphold.train.reward_net import Base, RewardNet, load_net, shape_of
from uphold.train.reward_probe import length_probe, probe, share_of_length, temperature
from uphold.train.sft import name_rows

METRICS = ("accuracy", "margin", "reward_chosen", "reward_rejected")
SCORE_TOKENS = 8192


class RewardConfig(Record):
    """Settings of a reward model.

    pooling: where the reply is read (auto: the last token of a causal backbone, the mean over the reply of an encoder).
    label_noise: known share of flipped labels. centering: weight that holds the sum of a pair's rewards near 0. length_head: train a
    second head for length and drop it; length_weight: how strongly. frozen: train the head alone. calibration: share of the
    prompts kept out of training to set the temperature (0: none). The rest as in `SFTConfig`; batch_tokens and
    micro_tokens count both replies of a pair (with length_head, correlations are those of a micro-batch); too_long 'cut' takes the
    oldest tokens of a prompt away, then the end of a reply that fills the context.
    """

    pooling: Literal["auto", "last", "mean"] = "auto"
    label_noise: float = Field(default=0.0, ge=0, lt=0.5)
    centering: float = Field(default=0.0, ge=0)
    length_head: bool = False
    length_weight: float = Field(default=1.0, ge=0)
    frozen: bool = False
    calibration: float = Field(default=0.1, ge=0, le=0.5)
    epochs: float = Field(default=1.0, gt=0)
    max_steps: int | None = Field(default=None, ge=1)
    batch_tokens: int = Field(default=4096, ge=1)
    micro_tokens: int | None = Field(default=None, ge=1)
    lr: float = Field(default=5e-5, gt=0)
    warmup: float = Field(default=0.1, ge=0, lt=1)
    schedule: Schedule = "linear"
    weight_decay: float = Field(default=0.01, ge=0)
    grad_clip: float | None = Field(default=1.0, gt=0)
    max_length: int | None = Field(default=None, ge=2)
    too_long: TooLong = "refuse"
    lora: LoRA | None = None
    precision: Precision = "auto"
    seed: int = Field(default=0, ge=0)
    checkpoint_every: int = Field(default=200, ge=1)

    @model_validator(mode="after")
    def _consistent(self) -> RewardConfig:
        if self.frozen and self.lora is not None:
            raise ValueError("a frozen backbone has no use for LoRA: set one of the two")
        return self


class RewardModel:
    """A trained reward model; a `Reward`. `health` is where its health card lies, when it was loaded from a folder."""

    def __init__(self, net: RewardNet, identity: str, *, name: str = "reward_model", path: Path | None = None) -> None:
        self.name, self.path, self.net = name, path, net.eval()
        self._identity = identity

    def __repr__(self) -> str:
        return f"RewardModel({str(self.path or 'in memory')!r})"

    @classmethod
    def load(cls, path: str | Path, *, name: str = "reward_model") -> RewardModel:
        """The reward model in a folder of `train_reward`, or its `model` folder. ModelError when there is none, or a changed one."""
        folder = model_folder(Path(path))
        net, identity = load_net(folder)
        return cls(net, identity, name=name, path=folder)

    @property
    def health(self) -> Path | None:
        """The folder for its health card."""
        return None if self.path is None else self.path.parent / "health"

    def identity(self) -> str:
        """Hash of weights, head, tokenizer and shape; where the folder lies plays no part."""
        return self._identity

    def score(self, exchanges: Sequence[Exchange]) -> list[float | None]:
        """One reward per exchange. None for an empty reply, one too long for the context, and a score that is no finite number."""
        asked = [i for i, e in enumerate(exchanges) if e.completion.strip()]
        scores: list[float | None] = [None] * len(exchanges)
        if not asked:
            return scores
        shape = self.net.shape
        data, fits = encode_replies(
            self.net.tokenizer, [exchanges[i] for i in asked], shape.backbone, shape.max_length, shape.too_long
        )
        for row, score in zip(fits, score_rows(self.net, data, fits), strict=True):
            scores[asked[row]] = score if math.isfinite(score) else None
        return scores


def model_folder(path: Path) -> Path:
    """`path`, or the `model` folder in it where that is the one with the reward model."""
    inner = path / "model"
    return inner if (inner / "reward.json").exists() and not (path / "reward.json").exists() else path


@torch.no_grad()
def features_of(net: RewardNet, data: EncodedSet, rows: Sequence[int]) -> torch.Tensor:
    """Pooled features of the rows in their order, (len(rows), D), on the CPU. Rows of like length go through together."""
    if not rows:
        return torch.zeros(0, net.head.in_features)
    was_training = net.training
    net.eval()
    found: list[torch.Tensor] = [torch.empty(0)] * len(rows)
    plan = Plan([int(data.lengths[r]) for r in rows], SCORE_TOKENS, 0)
    for batch in plan.epoch(0):
        features_BD = net.features(pad(data, [rows[i] for i in batch], net.device)).cpu()
        for i, feature_D in zip(batch, features_BD, strict=True):
            found[i] = feature_D
    net.train(was_training)
    return torch.stack(found)


@torch.no_grad()
def score_rows(net: RewardNet, data: EncodedSet, rows: Sequence[int]) -> list[float]:
    """The reward of each row."""
    features_RD = features_of(net, data, rows).to(net.device)
    return [float(s) for s in net.quality(features_RD)]


def train_reward(
    base: Base,
    preferences: Sequence[Preference],
    out_dir: str | Path,
    config: RewardConfig = RewardConfig(),
    *,
    in_place: bool = False,
    on_log: Callable[[dict[str, float]], None] | None = None,
) -> Trained:
    """Train a reward model on a copy of the backbone (on the backbone itself when `in_place`).

    Logged each step beside the loss (nats): accuracy (share of pairs the model ranks as labelled), margin, reward_chosen and
    reward_rejected, and with length_head length_correlation of the quality head in the batch. train.json holds their means over the
    first and last epoch, temperature, and what the head started from. Raises DataError on pairs that teach nothing, StoreError when
    out_dir holds another run, Diverged on NaN.
    """
    shape = shape_of(base, config.pooling, config.max_length, config.too_long)
    pairs = encode_pairs(base.tokenizer, preferences, base.backbone, shape.max_length, config.too_long)
    settings = {
        "method": "reward",
        **config.model_dump(mode="json"),
        "shape": shape.model_dump(),
        "data": pairs.digest,
        "backbone": weights_digest(base.body),
    }
    with hold(out := Path(out_dir)):
        done = finished(out, settings)
        if done is not None:
            return done
        body = trainable(base.body, config.lora, config.seed, in_place=in_place, task_type="FEATURE_EXTRACTION")
        net = RewardNet(body, base.tokenizer, shape, two_heads=config.length_head, frozen=config.frozen)
        return _train(net, pairs, out, config, settings, on_log)


def _train(
    net: RewardNet,
    pairs: RewardPairs,
    out: Path,
    config: RewardConfig,
    settings: Mapping[str, Any],
    on_log: Callable[[dict[str, float]], None] | None,
) -> Trained:
    learning, held = _calibration_split(pairs, config.calibration)
    l2 = _start(net, pairs, learning)
    plan = _plan(pairs, learning, config)
    result = fit(
        net,
        RewardStep(net, pairs, learning, plan, config),
        plan.n_steps(config.epochs, config.max_steps),
        lr=config.lr,
        warmup=config.warmup,
        schedule=config.schedule,
        weight_decay=config.weight_decay,
        grad_clip=config.grad_clip,
        precision=config.precision,
        seed=config.seed,
        checkpoint_dir=out / "checkpoints",
        checkpoint_every=config.checkpoint_every,
        settings=settings,
        label="reward model",
        log_path=out / "log.jsonl",
        on_log=on_log,
    )
    if config.lora is not None:
        net.body = net.body.merge_and_unload()
    settled = _settle(net, pairs, learning, held)
    lines = read_log(out / "log.jsonl")
    epoch = min(len(plan.epoch(0)), len(lines))
    results = {
        "n_pairs": len(learning),
        "n_calibration": len(held),
        "n_identical": pairs.n_identical,
        "n_too_long": pairs.n_too_long,
        "head_l2": l2,
        **settled,
        "first_epoch": _means(lines[:epoch]),
        "last_epoch": _means(lines[-epoch:]),
        **result.report(),
    }
    return finish(out, net, net.tokenizer, settings, results)


def _means(lines: Sequence[Mapping[str, float]]) -> dict[str, float]:
    keys = [key for key in ("loss", *METRICS, "length_correlation") if key in lines[0]]
    return {key: sum(line[key] for line in lines) / len(lines) for key in keys}


def _calibration_split(pairs: RewardPairs, share: float) -> tuple[list[int], list[int]]:
    """Items to learn from and items to set the temperature on: apart by prompt; all to learn from where the second would be too few."""
    shares = {"learn": 1 - share, "calibrate": share}
    side = [split_of(g, shares, "calibration") if share else "learn" for g in pairs.groups]
    learning = [i for i, s in enumerate(side) if s == "learn"]
    if not learning:
        return list(range(len(side))), []
    return learning, [i for i, s in enumerate(side) if s == "calibrate"]


def _plan(pairs: RewardPairs, learning: Sequence[int], config: RewardConfig) -> Plan:
    costs = [pairs.costs[i] for i in learning]
    if (
        config.length_head
    ):  # batches of like length would hide what the second head has to see: mix them, about as many to a batch
        costs = [max(1, round(sum(costs) / len(costs)))] * len(costs)
    return Plan(costs, config.batch_tokens, config.seed)


def _pair_features(net: RewardNet, pairs: RewardPairs, items: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """(features of all their replies (2P, D), chosen first; characters of each)."""
    rows = pairs.rows(items)
    return features_of(net, pairs.data, rows), pairs.size[rows]


def _start(net: RewardNet, pairs: RewardPairs, learning: Sequence[int]) -> float:
    """Put the head (and the length head) where the frozen features put them; the L2 strength that was chosen."""
    features_RD, size_R = _pair_features(net, pairs, learning)
    n = len(learning)
    weight_D, l2 = probe(
        features_RD[:n] - features_RD[n:], pairs.p_chosen[list(learning)], [pairs.groups[i] for i in learning]
    )
    with torch.no_grad():
        net.head.weight.copy_(weight_D[None])
        net.head.bias.copy_(-(features_RD @ weight_D).mean()[None])
        if net.length_head is not None:
            length_D = length_probe(features_RD, size_R)
            net.length_head.weight.copy_(length_D[None])
            quality_R, length_R = features_RD @ weight_D, features_RD @ length_D
            net.head.weight.sub_(share_of_length(quality_R, length_R, size_R) * net.length_head.weight)
    return l2


@torch.no_grad()
def _settle(net: RewardNet, pairs: RewardPairs, learning: Sequence[int], held: Sequence[int]) -> dict[str, Any]:
    """After training: drop the length head with what is left of it in the other, put the mean at 0, set the temperature."""
    features_RD, size_R = _pair_features(net, pairs, learning)
    found: dict[str, Any] = {}
    weight, bias = net.head.weight.cpu(), net.head.bias.cpu()
    if net.length_head is not None:
        length_weight = net.length_head.weight.cpu()
        share = share_of_length(features_RD @ weight[0], features_RD @ length_weight[0], size_R)
        weight = weight - share * length_weight
        net.length_head = None
        found["length_share"] = share
    bias = -(features_RD @ weight[0]).mean()[None]
    n = len(held)
    held_RD, _ = _pair_features(net, pairs, held)
    scale = temperature((held_RD[:n] - held_RD[n:]) @ weight[0], pairs.p_chosen[list(held)])
    net.head.weight.copy_(weight / scale)
    net.head.bias.copy_(bias / scale)
    quality_R = features_RD @ (weight[0] / scale)
    return {
        **found,
        "temperature": scale,
        "train_accuracy": float((quality_R[: len(learning)] > quality_R[len(learning) :]).float().mean()),
        "train_length_correlation": float(correlation(quality_R, size_R)),
    }


@dataclass(frozen=True, slots=True)
class RewardStep:
    """The step of a reward model: called with a step number, yields its loss."""

    net: RewardNet
    pairs: RewardPairs
    learning: Sequence[int]
    plan: Plan
    config: RewardConfig

    def __call__(self, step: int) -> Iterator[Part]:
        rows = self.plan.rows(step)
        epoch, _ = self.plan.locate(step)
        for part in parallel.share(self.plan.parts(rows, self.config.micro_tokens, parallel.world_size())):
            yield self._part([self.learning[i] for i in part], len(rows), f"epoch {epoch + 1}")

    def _part(self, items: Sequence[int], n_items: int, epoch: str) -> Part:
        """One micro-batch's share of the step's loss, and its numbers for the log."""
        rows = self.pairs.rows(items)
        batch = pad(self.pairs.data, rows, self.net.device)
        features_RD = self.net.features(batch)
        quality_R = self.net.quality(features_RD)
        n, device = len(items), quality_R.device
        total_R, extra, metrics = quality_R, None, {}
        if self.net.length_head is not None:
            length_R = self.net.length(features_RD)
            total_R = quality_R + length_R
            size_R = self.pairs.size[rows].to(device)
            extra = self.config.length_weight * two_head_loss(quality_R, length_R, size_R)
            metrics["length_correlation"] = float(correlation(quality_R.detach(), size_R))
        margins = self.pairs.margins
        loss = bradley_terry_loss(
            total_R[:n],
            total_R[n:],
            p_chosen_B=self.pairs.p_chosen[list(items)].to(device),
            margin_B=None if margins is None else margins[list(items)].to(device),
            label_noise=self.config.label_noise,
            centering=self.config.centering,
        )
        loss = (loss if extra is None else loss + extra) * (n / n_items)
        with torch.no_grad():
            chosen_B, rejected_B = quality_R[:n], quality_R[n:]
            lead_B = chosen_B - rejected_B
            means = [(lead_B > 0).float().mean(), lead_B.mean(), chosen_B.mean(), rejected_B.mean()]
            metrics |= dict(zip(METRICS, torch.stack(means).tolist(), strict=True))
        named = name_rows([self.pairs.kept[i] for i in items])
        return Part(loss, batch.n_tokens, metrics, f"{epoch}, pairs {named}", weight=n)


def load_reward(path: str | Path) -> Any:
    """A reward model or an ensemble of them, by its folder."""
    from uphold.train.ensemble import EnsembleReward

    if (Path(path) / "ensemble.json").exists():
        return EnsembleReward.load(path)
    return RewardModel.load(path)
