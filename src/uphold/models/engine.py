"""What a decode loop needs of a model: read some prompts, then take one token per row at a time.

Two engines stand behind this door. `engine_llama.LlamaEngine` runs plain Llama checkpoints (the clerk among them) on
bare tensors: it loads without importing the transformers model, and it is the fast one for small models.
`engine_transformers.TransformersEngine` runs every other causal language model, and models that live in memory, through
their own `forward`.

Shape keys: B rows, T tokens, V vocabulary, D model width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

Tokens = Sequence[int]


class Engine(Protocol):
    """One batch at a time: `begin` forgets the batch before."""

    n_context: int | None
    """most tokens a row can hold, prompt and reply together; None when the model sets no limit"""
    n_vocab: int
    kv_bytes_per_token: int
    device: Any

    def fork(self) -> Engine:
        """Another engine over the same weights, for a batch that runs in between this one's."""
        ...

    def begin(self, prompts: Sequence[Tokens], room: int) -> Any:
        """Read the prompts (none empty), leave `room` tokens for each reply; the next token's logits, float (B, V)."""
        ...

    def step(self, tokens_B: Any) -> Any:
        """Append one token, int64 (B,), to each row; the next token's logits, float (B, V)."""
        ...

    def keep(self, rows: Sequence[int]) -> None:
        """Drop every row but these; row i is from now on what row `rows[i]` was. `rows` is shorter than B and has no repeats."""
        ...

    def logprobs(self, rows: Sequence[Tokens], starts: Sequence[int]) -> list[list[float]]:
        """Natural-log probability of each row's tokens from position `starts[i]` >= 1 on, given all before it."""
        ...
