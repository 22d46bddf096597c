"""What can be told of a transformers model in memory: whether it changed, its hash, which tokens end its replies.

`local.py` asks before it answers, so that a model in training is never answered for with yesterday's weights or under
yesterday's hash.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from typing import Any

import torch

from uphold.core.errors import ConfigError
from uphold.core.records import canonical_json

_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def stamp(model: Any) -> int:
    """A number that changes when any parameter is replaced or written to in place, or an adapter is switched. Cheap: none is read."""
    # tensors made in inference mode count no versions, and cannot be written to outside it either
    counted = tuple((name, p.data_ptr(), 0 if p.is_inference() else p._version) for name, p in model.named_parameters())
    if not hasattr(model, "get_base_model"):
        return hash(counted)
    return hash((counted, tuple((name, *adapters) for name, _, adapters in _adapted(model.get_base_model()))))


def plain_tensors(model: Any) -> dict[str, torch.Tensor]:
    """The parameters of a model by their usual names; of one wrapped by peft, the base's with the adapters in use added in."""
    if not hasattr(model, "get_base_model"):
        return dict(model.named_parameters())
    inner = model.get_base_model()
    found = {n.replace(".base_layer.", "."): p for n, p in inner.named_parameters() if ".lora_" not in n}
    with torch.no_grad():
        for name, module, adapters in _adapted(inner):
            for adapter in adapters:
                found[f"{name}.weight"] = found[f"{name}.weight"] + module.get_delta_weight(adapter)
    return found


def _adapted(inner: Any) -> list[tuple[str, Any, tuple[str, ...]]]:
    """(name, module, adapters in use) of every layer that peft put an adapter on."""
    return [
        (name, module, () if module.disable_adapters else tuple(module.active_adapters))
        for name, module in inner.named_modules()
        if hasattr(module, "get_delta_weight")
    ]


def memory_identity(model: Any, tokenizer: Any, ends: frozenset[int]) -> str:
    """SHA-256 (hex) over every parameter's name, shape, type and bytes, the tokenizer, the chat template and the end tokens."""
    h = hashlib.sha256(canonical_json([tokenizer.chat_template, sorted(ends)]).encode())
    if getattr(tokenizer, "is_fast", False):
        h.update(tokenizer.backend_tokenizer.to_str().encode())
    else:
        h.update(canonical_json(tokenizer.get_vocab()).encode())
    for name, p in sorted(model.named_parameters()):
        h.update(f"{name} {tuple(p.shape)} {p.dtype}\n".encode())
        h.update(p.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return h.hexdigest()


def end_tokens(*settings: Mapping[str, Any]) -> frozenset[int]:
    """Every token that a config or generation config names as ending a reply."""
    found: set[int] = set()
    for table in settings:
        named = table.get("eos_token_id")
        found |= {int(t) for t in (named if isinstance(named, list) else [named]) if t is not None}
    return frozenset(found)


def pick_device(name: str) -> torch.device:
    """'auto' is CUDA where there is one, else the CPU; of several processes of a launch each takes a GPU of its own. ConfigError for what
    torch does not know or have."""
    if name == "auto" and not torch.cuda.is_available():
        return torch.device("cpu")
    if name == "auto":
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).partition("\n")[0]
        raise ConfigError(f"device {name!r} cannot be used here ({reason}). Use auto or cpu.") from None
    return device


def pick_dtype(name: str, config: Mapping[str, Any], device: torch.device) -> torch.dtype:
    """'auto' is float32 on a CPU and the checkpoint's own type elsewhere. ConfigError for another name."""
    if name == "auto":
        own = str(config.get("dtype") or config.get("torch_dtype") or "float32")
        return torch.float32 if device.type == "cpu" else _DTYPES.get(own, torch.float32)
    if name not in _DTYPES:
        raise ConfigError(f"unknown dtype {name!r}. Known: auto, {', '.join(_DTYPES)}.")
    return _DTYPES[name]
