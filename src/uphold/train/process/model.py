"""Process and outcome reward models: one network, read at the end of every step, or of the reply alone.

Takes labelled replies (`labels.py`) and a causal backbone; leaves a folder as `reward_net` writes it, with `process.json` beside the
head. A process model learns the label of every step (eq. 2 of arXiv:2312.08935), an outcome model the last one from `right` (a
classifier as in 2110.14168, read at the last step). Under causal attention the score of a step knows nothing of later ones.
`ProcessReward` is a `Reward` (registry: `process:FOLDER`, see `reward.py`). Left out: encoders, which see later steps; classes of
steps (`losses.reward.step_class_loss`).

Shape keys: B rows, T tokens, D width, S steps of all rows of a batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field

from uphold.core.errors import ConfigError, DataError
from uphold.core.files import read_json, write_json
from uphold.core.records import Exchange, digest
from uphold.train import parallel
from uphold.train.batches import EncodedSet, Plan, encode
from uphold.train.explain import read_log
from uphold.train.loop import Part, fit
from uphold.train.losses.reward import step_loss
from uphold.train.policy import Trained, finish, finished, hold, trainable, weights_digest
from uphold.train.process.aggregate import Aggregate, aggregate
from uphold.train.process.labels import Labelled
from uphold.train.process.steps import step_ends
from uphold.train.reward_data import pad
from uphold.train.reward_model import model_folder
from uphold.train.reward_net import Base, RewardNet, load_net, shape_of
from uphold.train.settings import TrainConfig

SCORE_TOKENS = 8192


class ProcessConfig(TrainConfig):
    """Settings of a process or outcome reward model. reads: 'steps' (process) or 'reply' (outcome). aggregate: how steps make one score."""

    reads: Literal["steps", "reply"] = "steps"
    aggregate: Aggregate = "product"
    epochs: float = Field(default=4.0, gt=0)
    lr: float = Field(default=3e-4, gt=0)
    weight_decay: float = Field(default=0.01, ge=0)


class ProcessNet(RewardNet):
    """A `RewardNet` that scores chosen tokens, and remembers how its scores are read."""

    reads: Literal["steps", "reply"] = "steps"
    aggregate: Aggregate = "product"

    def at(self, data: EncodedSet, rows: Sequence[int], ends: Sequence[Sequence[int]]) -> torch.Tensor:
        """Logits at these tokens of each row's reply, rows behind each other, shape (S,)."""
        hidden_BTD = self.hidden(pad(data, rows, self.device))
        at = [(i, int(data.n_prompt[r]) + end) for i, (r, of) in enumerate(zip(rows, ends, strict=True)) for end in of]
        row_S, token_S = (torch.tensor(part, device=self.device) for part in zip(*at, strict=True))
        return self.quality(hidden_BTD[row_S, token_S])

    def save_pretrained(self, folder: str | Path) -> None:
        write_json(Path(folder) / "process.json", {"reads": self.reads, "aggregate": self.aggregate})
        super().save_pretrained(folder)  # writes the hashes of all that is there


class ProcessReward:
    """A trained process or outcome model as a `Reward`: the aggregated probability, in [0, 1]."""

    def __init__(self, net: ProcessNet, identity: str, *, how: Aggregate | None = None, name: str = "process") -> None:
        self.name, self.net, self.how = name, net.eval(), how or net.aggregate
        self._identity = identity

    @classmethod
    def load(cls, path: str | Path, *, how: Aggregate | None = None) -> ProcessReward:
        """The model in a folder of `train_process`. ModelError when it is none or was changed; how: another aggregate than its own."""
        folder = model_folder(Path(path))
        plain, identity = load_net(folder)
        if not (folder / "process.json").exists():
            raise ConfigError(f"{folder}: a reward model of whole replies, not of steps. Use model:{path}.")
        kept = read_json(folder / "process.json")
        net = ProcessNet(plain.body, plain.tokenizer, plain.shape)
        net.head.load_state_dict(plain.head.state_dict())
        net.reads, net.aggregate = kept["reads"], kept["aggregate"]
        return cls(net, identity, how=how)

    def identity(self) -> str:
        return digest([self._identity, self.how])

    @torch.no_grad()
    def steps(self, exchanges: Sequence[Exchange]) -> list[tuple[float, ...] | None]:
        """Each reply's probabilities by step (of an outcome model: one). None for an empty reply or one too long for the context."""
        found: list[tuple[float, ...] | None] = [None] * len(exchanges)
        asked = [i for i, e in enumerate(exchanges) if e.completion.strip()]
        if not asked:
            return found
        spoken = [exchanges[i] for i in asked]
        data, ends = encode(self.net.tokenizer, spoken), read_at(self.net, spoken)
        most = self.net.shape.max_length
        fits = [i for i, n in enumerate(data.lengths) if most is None or n <= most]
        for part in Plan([int(data.lengths[i]) for i in fits], SCORE_TOKENS, 0).epoch(0) if fits else []:
            rows = [fits[i] for i in part]
            values = iter(torch.sigmoid(self.net.at(data, rows, [ends[r] for r in rows]).double()).tolist())
            for r in rows:
                scores = tuple(next(values) for _ in ends[r])
                found[asked[r]] = scores if all(map(math.isfinite, scores)) else None
        return found

    def score(self, exchanges: Sequence[Exchange]) -> list[float | None]:
        return [None if steps is None else aggregate(steps, self.how) for steps in self.steps(exchanges)]


def read_at(net: ProcessNet, exchanges: Sequence[Exchange]) -> list[list[int]]:
    """Where each reply is read: the end of every step, or of the last one."""
    ends = step_ends(net.tokenizer, exchanges)
    return ends if net.reads == "steps" else [of[-1:] for of in ends]


def train_process(
    base: Base,
    labelled: Sequence[Labelled],
    out_dir: str | Path,
    config: ProcessConfig = ProcessConfig(),
    *,
    in_place: bool = False,
    on_log: Callable[[dict[str, float]], None] | None = None,
) -> Trained:
    """Train a process (or outcome) model on a copy of the backbone; logs accuracy against labels cut at one half.

    Raises ConfigError on an encoder, DataError when no step is labelled or all labels are of one class, StoreError when out_dir holds
    another run, Diverged on NaN.
    """
    if base.backbone != "causal":
        raise ConfigError("a process reward model reads the end of each step, so it needs a causal backbone.")
    if config.packed:
        raise ConfigError("a process reward model is not trained on packed rows. Leave 'packed' out.")
    labels = [x.labels if config.reads == "steps" else (x.right,) for x in labelled]
    used = [i for i, of in enumerate(labels) if any(v is not None for v in of)]
    sides = {v >= 0.5 for i in used for v in labels[i] if v is not None}
    if len(sides) < 2:
        raise DataError(
            "no step is labelled." if not sides else "every label is of one class: there is nothing to tell apart."
        )
    exchanges = [labelled[i].exchange for i in used]
    shape = shape_of(base, "last", config.max_length, config.too_long)
    data = encode(base.tokenizer, exchanges, max_length=shape.max_length, too_long=config.too_long)
    kept = [labels[used[i]] for i in data.kept]
    settings = {"method": "process", **config.model_dump(mode="json"), "data": data.digest, "labels": digest(kept)}
    settings["backbone"] = weights_digest(base.body)
    with hold(out := Path(out_dir)):
        if (done := finished(out, settings)) is not None:
            return done
        body = trainable(base.body, config.lora, config.seed, in_place=in_place, task_type="FEATURE_EXTRACTION")
        net = ProcessNet(body, base.tokenizer, shape)
        net.reads, net.aggregate = config.reads, config.aggregate
        all_ends = read_at(net, [exchanges[i] for i in data.kept])
        step = ProcessStep(net, data, all_ends, kept, Plan(data.lengths, config.batch_tokens, config.seed), config)
        n_steps = step.plan.n_steps(config.epochs, config.max_steps)
        result = fit(
            net, step, n_steps, **config.fit_arguments(out), settings=settings, label="process rewards", on_log=on_log
        )
        if config.lora is not None:
            net.body = net.body.merge_and_unload()
        n_labels = sum(v is not None for of in kept for v in of)
        lines = read_log(out / "log.jsonl")
        counts = {"n_replies": len(kept), "n_labels": n_labels, "n_dropped": data.dropped, "reads": config.reads}
        return finish(
            out, net, net.tokenizer, settings, {**counts, "accuracy": lines[-1]["accuracy"], **result.report()}
        )


@dataclass(frozen=True, slots=True)
class ProcessStep:
    """The step of a process model: called with a step number, yields its loss. Every label of the step weighs the same."""

    net: ProcessNet
    data: EncodedSet
    ends: Sequence[Sequence[int]]
    labels: Sequence[Sequence[float | None]]
    plan: Plan
    config: ProcessConfig

    def __call__(self, step: int) -> Iterator[Part]:
        rows = self.plan.rows(step)
        total = sum(v is not None for r in rows for v in self.labels[r])
        for part in parallel.share(self.plan.parts(rows, self.config.micro_tokens, parallel.world_size())):
            marked = [
                [(e, v) for e, v in zip(self.ends[r], self.labels[r], strict=True) if v is not None] for r in part
            ]
            score_S = self.net.at(self.data, part, [[e for e, _ in of] for of in marked])
            label_S = torch.tensor([v for of in marked for _, v in of], device=score_S.device)
            right = float(((score_S.detach() > 0) == (label_S >= 0.5)).float().mean())
            n_tokens = int(self.data.lengths[part].sum())
            yield Part(
                step_loss(score_S, label_S) * (len(label_S) / total),
                n_tokens,
                {"accuracy": right},
                f"replies {part[:20]}",
                weight=len(label_S),
            )
