"""One step's completions as tensors, and the loss of each micro-batch of them.

Takes rollouts and advantages; gives padded matrices, the log-probs that policy and reference give them, and losses for `loop.fit`.
Old log-probs are the trainer's own: computed again before the first update, or, where there is only one update, the very ones it steps
on. What the sampler drew with serves to measure the gap alone. Several processes read their shares and add them up.

Shape keys: B completions, T reply tokens, N reply tokens of a micro-batch, H value heads.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch

from uphold.train import parallel
from uphold.train.batches import Batch, EncodedSet
from uphold.train.losses.logprobs import reply_outputs, sum_by_row
from uphold.train.losses.policy import Aggregation, KLEstimator, aggregate, clipped_surrogate, kl_tokens, value_loss
from uphold.train.ppo import ValueHead
from uphold.train.rollout import Rollout


@dataclass(slots=True)
class Material:
    """A step's completions. old_BT None: the policy's own at the one update. returns_BTH and values_BTH: with a value head."""

    data: EncodedSet
    mask_BT: torch.Tensor
    ref_BT: torch.Tensor
    advantages_BT: torch.Tensor
    old_BT: torch.Tensor | None = None
    values_BTH: torch.Tensor | None = None
    returns_BTH: torch.Tensor | None = None


@dataclass(frozen=True, slots=True)
class Rules:
    """How losses are made; the fields of `RLConfig` that matter for it. kl: coefficient in the loss, 0 when paid from the reward."""

    clip_low: float
    clip_high: float | None
    how: Aggregation
    level: Literal["token", "completion"]
    kl: float
    kl_estimator: KLEstimator
    entropy_weight: float
    value_weight: float
    value_clip: float | None
    temperature: float
    max_tokens: int


@dataclass(slots=True)
class Sums:
    """Totals over the tokens of a step's first pass through the updates; for the log and the completions file."""

    n_tokens: int = 0
    entropy: float = 0.0
    clipped: float = 0.0
    n_clippable: int = 0
    value: float = 0.0
    logprobs: dict[int, torch.Tensor] = field(default_factory=dict)  # of each completion when it was first stepped on

    def pool_logprobs(self) -> None:
        """After the first pass, in which every completion was stepped on by one process: all know all."""
        self.logprobs = {row: values for share in parallel.gather(self.logprobs) for row, values in share.items()}

    def pool(self) -> None:
        """After the step: all know the totals over all."""
        names = ("n_tokens", "entropy", "clipped", "n_clippable", "value")
        shares = parallel.gather([getattr(self, name) for name in names])
        for name, values in zip(names, zip(*shares, strict=True), strict=True):
            setattr(self, name, sum(values))


def encode_rollouts(rollouts: Sequence[Rollout], pad_id: int) -> EncodedSet:
    """Prompt and reply of each as one row, the loss on the reply."""
    rows = [(*r.prompt_ids, *r.reply_ids) for r in rollouts]
    return EncodedSet(
        ids=np.fromiter((t for row in rows for t in row), dtype=np.int32),
        offsets=np.cumsum([0, *map(len, rows)], dtype=np.int64),
        n_prompt=np.array([len(r.prompt_ids) for r in rollouts], dtype=np.int64),
        pad_id=pad_id,
        kept=tuple(range(len(rows))),
    )


def reply_mask(rollouts: Sequence[Rollout], device: torch.device) -> torch.Tensor:
    """Which columns hold reply tokens, bool (B, T)."""
    lengths_B = torch.tensor([len(r.reply_ids) for r in rollouts], device=device)
    return torch.arange(int(lengths_B.max()), device=device) < lengths_B[:, None]


def micro_batches(lengths: Sequence[int], rows: Sequence[int], tokens: int) -> list[list[int]]:
    """Rows cut, in order of length, into parts of at most `tokens` padded tokens (one row at least), and one for each process where
    rows suffice."""
    parts: list[list[int]] = []
    most = math.ceil(len(rows) / parallel.world_size())
    for row in sorted(rows, key=lambda r: (lengths[r], r)):
        if parts and len(parts[-1]) < most and lengths[row] * (len(parts[-1]) + 1) <= tokens:
            parts[-1].append(row)
        else:
            parts.append([row])
    return parts


@torch.no_grad()
def read(
    policy: Any,
    data: EncodedSet,
    mask_BT: torch.Tensor,
    temperature: float,
    tokens: int,
    value: ValueHead | None = None,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Log-probs (B, T), 0 outside the mask, and with a value head values (B, T, H)."""
    found_BT = torch.zeros(mask_BT.shape, device=mask_BT.device)
    values_BTH = None if value is None else torch.zeros(*mask_BT.shape, len(value.bias_H), device=mask_BT.device)
    for rows in parallel.share(micro_batches(data.lengths.tolist(), range(len(data)), tokens)):
        logprobs_N, _, hidden_ND = reply_outputs(policy, data.batch(rows).to(mask_BT.device), temperature)
        order = _aligned(rows, mask_BT)
        found_BT[order] = logprobs_N
        if value is not None and values_BTH is not None:
            values_BTH[order] = value(hidden_ND)
    parallel.add(found_BT)
    if values_BTH is not None:
        parallel.add(values_BTH)
    return found_BT, values_BTH


def _aligned(rows: Sequence[int], mask_BT: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(row, column) of each reply token of a batch of these rows, in the batch's order."""
    at = torch.tensor(rows, device=mask_BT.device)
    place_N, column_N = mask_BT[at].nonzero(as_tuple=True)
    return at[place_N], column_N


def micro_loss(
    policy: Any,
    value: ValueHead | None,
    material: Material,
    rows: Sequence[int],
    batch: Batch,
    rules: Rules,
    n_rows: int,
    n_tokens: int,
    sums: Sums,
) -> torch.Tensor:
    """These rows' share of a minibatch of `n_rows` completions and `n_tokens` reply tokens; scalar. Adds to `sums`."""
    at = _aligned(rows, material.mask_BT)
    logprobs_N, entropy_N, hidden_ND = reply_outputs(
        policy, batch, rules.temperature, entropy_gradient=rules.entropy_weight > 0
    )
    lengths_B = torch.bincount(batch.row_N, minlength=len(rows))
    old_N = logprobs_N.detach() if material.old_BT is None else material.old_BT[at]
    advantages_N = material.advantages_BT[at]

    def joined(values_N: torch.Tensor) -> torch.Tensor:
        return aggregate(
            values_N, batch.row_N, lengths_B, rules.how, n_rows=n_rows, n_tokens=n_tokens, max_tokens=rules.max_tokens
        )

    if rules.level == "completion":
        whole = [sum_by_row(values_N, batch.row_N, len(rows)) for values_N in (logprobs_N, old_N)]
        advantages_B = sum_by_row(advantages_N, batch.row_N, len(rows)) / lengths_B
        loss_B, is_clipped = clipped_surrogate(whole[0], whole[1], advantages_B, rules.clip_low, rules.clip_high)
        loss = loss_B.sum() / n_rows
    else:
        loss_N, is_clipped = clipped_surrogate(logprobs_N, old_N, advantages_N, rules.clip_low, rules.clip_high)
        loss = joined(loss_N)
    if rules.kl:
        loss = loss + rules.kl * joined(kl_tokens(logprobs_N, material.ref_BT[at], rules.kl_estimator))
    if rules.entropy_weight:
        loss = loss - rules.entropy_weight * entropy_N.sum() / n_tokens
    if value is not None and material.values_BTH is not None and material.returns_BTH is not None:
        value_N = value_loss(value(hidden_ND), material.values_BTH[at], material.returns_BTH[at], rules.value_clip)
        value_part = value_N.sum() / n_tokens
        loss = loss + rules.value_weight * value_part
        sums.value += float(value_part.detach())
    sums.n_tokens += len(logprobs_N)
    sums.entropy += float(entropy_N.detach().sum())
    sums.clipped += float(is_clipped.sum())
    sums.n_clippable += is_clipped.numel()
    for row, part in zip(rows, logprobs_N.detach().cpu().split(lengths_B.tolist()), strict=True):
        sums.logprobs.setdefault(row, part)
    return loss
