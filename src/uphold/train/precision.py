"""How forward passes are computed: in which precision, and with which attention kernel.

Used by the loop around every step and by recipes around frozen models, so that policy and reference are computed alike.
Left out: float16 with loss scaling, float8.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Literal

import torch

Precision = Literal["auto", "float32", "bfloat16"]
Resolved = Literal["float32", "bfloat16"]
SHORT_T = (
    512  # tokens: below this the fused attention's backward pass on a CPU is several times slower than plain matrices
)


def resolve_precision(precision: Precision, device: torch.device) -> Resolved:
    """What 'auto' means here: bfloat16 where the processor multiplies it in hardware, else float32."""
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return "bfloat16" if capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") else "float32"


def forward_in(precision: Resolved, device: torch.device) -> torch.autocast:
    """Context for forward passes: matrices are multiplied in that precision; weights, losses and updates stay float32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")


@contextlib.contextmanager
def short_attention(model: Any, n_tokens: int) -> Iterator[None]:
    """Plain-matrix attention for the calls inside, where that is the faster kernel: a CPU and rows of at most SHORT_T tokens."""
    config = model.config
    if model.device.type != "cpu" or n_tokens > SHORT_T or getattr(config, "_attn_implementation", None) != "sdpa":
        yield
        return
    config._attn_implementation = "eager"
    try:
        yield
    finally:
        config._attn_implementation = "sdpa"
