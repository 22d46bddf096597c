"""Opening a model by its name: `builtin:clerk`, `hf:PATH`, `openai:URL#model`, `fake:echo`, or just a model folder.

Takes the spec that a user wrote; hands what follows the prefix to the backend registered under it (kind "backend"). A
backend is a function `open(rest, **options) -> Chat`; its keyword arguments are the options that `load` accepts for it.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from uphold.core import registry
from uphold.core.errors import ConfigError, Unsupported, did_you_mean
from uphold.models.base import Chat, Weights
from uphold.models.endpoint import holds_secret
from uphold.models.folder import split_adapter


def load(spec: str, **options: Any) -> Chat:
    """Open the model behind `spec`. Raises ConfigError for a name or option nobody knows, ModelError when it cannot be opened.

    Local models are read now; endpoints are not contacted before the first question (or `check`).
    """
    prefix, rest = _parse(spec)
    shown = f"model {spec!r}" if not holds_secret(spec) else f"model '{prefix}:...'"
    opener = registry.get("backend", prefix, where=shown)
    known = [name for name, p in inspect.signature(opener).parameters.items() if p.kind is p.KEYWORD_ONLY]
    for name in options:
        if name not in known:
            raise ConfigError(f"{shown}: unknown option {name!r}. {did_you_mean(name, known)}")
    chat: Chat = opener(rest, **options)
    return chat


def load_weights(spec: str, **options: Any) -> Weights:
    """Open a model whose weights are here. Raises Unsupported for an endpoint or a fake, else as `load`."""
    chat = load(spec, **options)
    if not isinstance(chat, Weights):
        raise Unsupported(
            f"{chat.spec}: its weights are not here, so it can be asked but not read or trained. Use builtin:clerk or hf:PATH"
        )
    return chat


def _parse(spec: str) -> tuple[str, str]:
    """(prefix, rest) of a spec; a folder without prefix is a transformers folder."""
    prefix, colon, rest = spec.partition(":")
    if colon and prefix in ("http", "https"):
        raise ConfigError("a model at a URL is written openai:URL#MODEL, such as openai:http://127.0.0.1:8000/v1#clerk")
    if colon and prefix in registry.names("backend"):
        return prefix, rest
    folder = split_adapter(spec, where="model ''")[0]
    if Path(folder).exists():
        return "hf", spec
    if colon:
        return prefix, rest
    raise ConfigError(
        f"model {spec!r}: no such folder, and no known prefix. Write builtin:clerk, hf:PATH or openai:URL#MODEL"
    )
