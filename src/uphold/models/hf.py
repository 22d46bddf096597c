"""The backend `hf:PATH[+ADAPTER]`: a transformers model folder on this machine, with a LoRA adapter on top where one is
named.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from uphold.core.errors import ModelError
from uphold.core.registry import register
from uphold.models.folder import ModelFolder, import_extra, split_adapter

if TYPE_CHECKING:
    from uphold.models.local import LocalModel


@register("backend", "hf")
def open_folder(
    rest: str,
    *,
    device: str = "auto",
    dtype: str = "auto",
    batch_tokens: int | None = None,
    chat_template: str | None = None,
) -> LocalModel:
    """hf:PATH or hf:PATH+ADAPTER: a transformers model folder, a LoRA adapter on top"""
    path, adapter = split_adapter(rest, where=f"model 'hf:{rest}'")
    return open_local(
        ModelFolder(path, adapter),
        f"hf:{rest}",
        device=device,
        dtype=dtype,
        batch_tokens=batch_tokens,
        chat_template=chat_template,
    )


def open_local(folder: ModelFolder, spec: str, **options: object) -> LocalModel:
    """The model in `folder`, under the name `spec`; options as `LocalModel` takes them."""
    import_extra("torch")
    from uphold.models.local import LocalModel

    try:
        return LocalModel(folder, spec, **options)  # type: ignore[arg-type]
    except MemoryError:
        raise ModelError(f"{spec}: not enough memory to load this model. Use a smaller one, or an endpoint.") from None
