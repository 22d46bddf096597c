"""Guards that come with Uphold, and the kinds they are: `builtin:assistant` (encoder) and `builtin:injection` (document).

`builtin:assistant` judges real English against the shipped constitution `assistant`. Its weights lie in `shipped/assistant` in 8 bits
with their tokenizer, so that a fresh machine needs no download and no other package; every file is checked by its hash when it is opened.
How it was made, from what, and how well it does: docs/guard_training.md. `builtin:injection` finds instructions hidden in documents with
a head of a few kB on the same encoder: docs/injection.md. Left out: guards of a user's own (`kinds.py` opens those).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from uphold.core.registry import register

if TYPE_CHECKING:
    from uphold.guard.document import DocumentGuard
    from uphold.guard.encoder import EncoderGuard
    from uphold.guard.onnx_export import OnnxGuard

FOLDER = Path(__file__).parent / "shipped"


@register("guard", "encoder")
def encoder(folder: Path) -> EncoderGuard:
    """a fine-tuned text encoder that reads a prompt, or a prompt and its reply, as a whole"""
    from uphold.guard.encoder import EncoderGuard

    return EncoderGuard.load(folder)


@register("guard", "onnx")
def onnx(folder: Path) -> OnnxGuard:
    """an encoder exported to ONNX with 8-bit arithmetic"""
    from uphold.guard.onnx_export import OnnxGuard

    return OnnxGuard.load(folder)


@register("guard", "document")
def document(folder: Path) -> DocumentGuard:
    """a head on an encoder guard that finds instructions inside documents, sentence by sentence"""
    from uphold.guard.document import DocumentGuard

    return DocumentGuard.load(folder)


@register("builtin-guard", "assistant")
def assistant() -> Path:
    """for real English: prompts and replies judged against the shipped constitution `assistant`"""
    return FOLDER / "assistant"


@register("builtin-guard", "injection")
def injection() -> Path:
    """for tool results, mail and web pages: instructions to an assistant hidden in them"""
    return FOLDER / "injection"
