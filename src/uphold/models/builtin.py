"""The backend `builtin:NAME[+ADAPTER]`: the models that come with Uphold, found beside the code.

`builtin:clerk` is the model of the built-in world; adapters on it are folders anywhere.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from uphold.core.errors import ConfigError, ModelError, did_you_mean
from uphold.core.registry import register
from uphold.models.folder import ModelFolder
from uphold.models.hf import open_local

if TYPE_CHECKING:
    from uphold.models.local import LocalModel

FOLDERS = {"clerk": Path(__file__).parents[1] / "world" / "weights" / "clerk"}


@register("backend", "builtin")
def open_builtin(
    rest: str, *, device: str = "auto", dtype: str = "auto", batch_tokens: int | None = None
) -> LocalModel:
    """builtin:clerk or builtin:clerk+ADAPTER: the built-in model, a LoRA adapter on top"""
    name, plus, adapter = rest.partition("+")
    where = f"model 'builtin:{rest}'"
    if name not in FOLDERS:
        raise ConfigError(f"{where}: no built-in model {name!r}. {did_you_mean(name, FOLDERS)}")
    if plus and not adapter:
        raise ConfigError(f"{where}: nothing after '+'. Write builtin:{name}+ADAPTER, or builtin:{name} alone")
    folder = FOLDERS[name]
    if not (folder / "model.safetensors").exists():
        raise ModelError(
            f"{where}: its weights are not installed ({folder}). "
            f"Install Uphold again from a full package, or rebuild them with: uphold world train-{name}"
        )
    return open_local(
        ModelFolder(folder, adapter or None), f"builtin:{rest}", device=device, dtype=dtype, batch_tokens=batch_tokens
    )
