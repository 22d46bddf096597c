"""Any causal language model of transformers behind the `engine.Engine` door, through its own `forward` and its own cache.

Takes a model in memory: one loaded from a folder that `engine_llama` does not cover, or one that is being trained
(adapters in place, gradients on elsewhere). Prompts are padded on the left. Finished rows leave the batch when the
model's cache allows it. The model is put into evaluation mode while it answers and back afterwards, so dropout never
reaches a reply.

Shape keys: B rows, T tokens, V vocabulary.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from uphold.models.engine import Tokens

KEEP_BELOW = 0.5  # moving the cache costs about one step: worth it once half of the rows are done


class TransformersEngine:
    """See the module. The model stays the caller's: its weights are read at every call, so a training step shows at once."""

    def __init__(self, model: Any) -> None:
        self.model = model
        config = model.config.get_text_config() if hasattr(model.config, "get_text_config") else model.config
        self.n_context: int | None = getattr(config, "max_position_embeddings", None) or getattr(
            config, "n_positions", None
        )
        self.n_vocab = int(config.vocab_size)
        self.device = next(model.parameters()).device
        self.kv_bytes_per_token = _kv_bytes(config, next(model.parameters()).dtype.itemsize)
        takes = inspect.signature(_innermost(model).forward).parameters
        self._last_only = {"logits_to_keep": 1} if "logits_to_keep" in takes else {}
        self._takes_positions = "position_ids" in takes

    def fork(self) -> TransformersEngine:
        return TransformersEngine(self.model)

    @torch.inference_mode()
    def begin(self, prompts: Sequence[Tokens], room: int) -> Tensor:
        width = max(len(prompt) for prompt in prompts)
        ids_BT = self._tensor([[*[0] * (width - len(prompt)), *prompt] for prompt in prompts])
        self._mask_BT = self._tensor([[*[0] * (width - len(prompt)), *[1] * len(prompt)] for prompt in prompts])
        self._at_B = self._mask_BT.sum(1)
        positions = (self._mask_BT.cumsum(1) - 1).clamp(min=0)
        self._cache: Any = None
        self._alive = torch.arange(len(prompts), device=self.device)
        return self._forward(ids_BT, positions)

    @torch.inference_mode()
    def step(self, tokens_B: Tensor) -> Tensor:
        every = torch.zeros(len(self._mask_BT), dtype=torch.long, device=self.device)
        every[self._alive] = tokens_B  # rows that are done but still in the cache read token 0
        self._mask_BT = torch.cat([self._mask_BT, self._mask_BT.new_ones(len(every), 1)], 1)
        logits = self._forward(every.unsqueeze(1), self._at_B.unsqueeze(1))
        self._at_B = self._at_B + 1
        return logits[self._alive]

    @torch.inference_mode()
    def keep(self, rows: Sequence[int]) -> None:
        self._alive = self._alive[self._tensor(rows)]
        can_shrink = hasattr(self._cache, "batch_select_indices")
        if can_shrink and len(self._alive) <= KEEP_BELOW * len(self._mask_BT):
            self._cache.batch_select_indices(self._alive)
            self._mask_BT, self._at_B = self._mask_BT[self._alive], self._at_B[self._alive]
            self._alive = torch.arange(len(self._alive), device=self.device)

    @torch.inference_mode()
    def logprobs(self, rows: Sequence[Tokens], starts: Sequence[int]) -> list[list[float]]:
        width = max(len(row) for row in rows)
        ids_BT = self._tensor([[*row, *[0] * (width - len(row))] for row in rows])
        mask_BT = self._tensor([[*[1] * len(row), *[0] * (width - len(row))] for row in rows])
        with evaluating(self.model):
            logits_BTV = self.model(input_ids=ids_BT, attention_mask=mask_BT, use_cache=False).logits
        found = []
        for row, start, logits_TV in zip(rows, starts, logits_BTV, strict=True):
            target = self._tensor(row[start:]).unsqueeze(1)
            log_p = torch.log_softmax(logits_TV[start - 1 : len(row) - 1].float(), -1)
            found.append(log_p.gather(1, target).squeeze(1).tolist())
        return found

    def _forward(self, ids_BT: Tensor, positions_BT: Tensor) -> Tensor:
        extra = self._last_only | ({"position_ids": positions_BT} if self._takes_positions else {})
        with evaluating(self.model):
            out = self.model(
                input_ids=ids_BT,
                attention_mask=self._mask_BT,
                past_key_values=self._cache,
                use_cache=True,
                **extra,
            )
        self._cache = out.past_key_values
        last: Tensor = out.logits[:, -1].float()
        return last

    def _tensor(self, values: Sequence[Any]) -> Tensor:
        return torch.tensor(values, dtype=torch.long, device=self.device)


@contextlib.contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """Evaluation mode for the block, then what it was."""
    training = [module for module in model.modules() if module.training]
    if training:
        model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def _innermost(model: Any) -> Any:
    """The model inside an adapter's wrapper: only its `forward` names what it takes."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def _kv_bytes(config: Any, itemsize: int) -> int:
    n_heads = config.num_attention_heads
    d_head = getattr(config, "head_dim", None) or config.hidden_size // n_heads
    return int(
        2 * config.num_hidden_layers * (getattr(config, "num_key_value_heads", None) or n_heads) * d_head * itemsize
    )
