"""The document guard: finds instructions to an assistant inside text that should be data (tool results, mail, web pages, files).

A logistic head on the last layer of an encoder guard (`encoder.py`), which stays as it is: the head alone is saved, a few kB, with the
hash of the weights it reads. A document is cut into sentences; each is judged by itself (a short one with the next), the worst decides,
and the verdict says where it stands. Decoded views (`canonical.py`) are judged too. What such a text asks for need not be harmful: out of
place is enough (Greshake et al. 2023, arXiv:2302.12173; BIPIA, arXiv:2312.14197). Left out: training (`injection.py`), replies.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from uphold.core.errors import ConfigError, StoreError, Unsupported
from uphold.core.records import Exchange, Message
from uphold.guard import manifest
from uphold.guard.base import Guard, GuardStream, Stage, Verdict, turns_text
from uphold.guard.canonical import views
from uphold.guard.encoder import EncoderGuard
from uphold.guard.encoder_model import padded
from uphold.guard.scale import Scale, moved

KIND, FORMAT = "document", 1
MAX_CHARS = 200_000
MAX_SENTENCE = 400
"""characters; a longer sentence is cut, so that one endless line is many"""
MIN_SENTENCE = 20
"""characters; a shorter one is judged together with the next"""
MAX_TOKENS = 96
BATCH = 64

Floats = np.ndarray[Any, np.dtype[np.float32]]
_END = re.compile(r"(?<=[.!?:;])[\"')\]]*\s+|\s*\n\s*|</?(?:p|div|li|br|td|h\d|title|body|html|span)\b[^>]*>|(?:\\n)+")


class Span(NamedTuple):
    """A sentence of a document: characters start to end, and the score of that sentence."""

    start: int
    end: int
    score: float
    flagged: bool


class Manifest(manifest.Manifest):
    """`guard.json` of a document guard. base: the encoder guard it reads with; base_weights: SHA-256 of that guard's weights."""

    kind: str = KIND
    format: int = FORMAT
    stages: dict[Stage, Scale]
    clause: str
    base: str
    base_weights: str


def sentences(text: str) -> list[tuple[int, int]]:
    """(start, end) of the sentences of a text, in order; together they hold every word. [] for a blank text."""
    found: list[tuple[int, int]] = []
    start = 0
    for end, after in [*((m.start(), m.end()) for m in _END.finditer(text)), (len(text), len(text))]:
        length = len(text[start:end].strip())
        if not length or length >= MIN_SENTENCE or after == len(text):
            found += _cut(text, start, end)
            start = after
    return found


def _cut(text: str, start: int, end: int) -> list[tuple[int, int]]:
    """A sentence in pieces of at most MAX_SENTENCE characters, cut after a space where there is one; blank ones left out."""
    found = []
    while start < end:
        stop = min(end, start + MAX_SENTENCE)
        if stop < end and (space := text.rfind(" ", start + MAX_SENTENCE // 2, stop)) > 0:
            stop = space + 1
        if text[start:stop].strip():
            found.append((start, stop))
        start = stop
    return found


def weights_hash(guard: EncoderGuard) -> str:
    """SHA-256 of the encoder's weights: names and values, heads left out."""
    found = hashlib.sha256()
    for name, value in sorted(guard.model.encoder.state_dict().items()):
        if value.is_floating_point():
            found.update(name.encode())
            found.update(value.detach().contiguous().numpy().tobytes())
    return found.hexdigest()


def features(base: EncoderGuard, texts: Sequence[str]) -> Floats:
    """Mean and maximum of the encoder's last layer over each text, shape (texts, 2 * width)."""
    import torch

    rows = [base.texts.framed(ids[:MAX_TOKENS]) for ids in base.texts.ids(texts)]
    found: list[Any] = [None] * len(rows)
    order = sorted(range(len(rows)), key=lambda i: len(rows[i][0]))
    with torch.no_grad():
        for start in range(0, len(order), BATCH):
            at = order[start : start + BATCH]
            batch = padded([rows[i] for i in at], base.texts.reading.special.pad)
            for i, row in zip(at, base.model.features(batch).numpy(), strict=True):
                found[i] = row
    return np.array(found, dtype=np.float32)


class DocumentGuard:
    """A `Guard` on documents, which it takes as prompts. about: what it was trained on and how well it did."""

    def __init__(
        self,
        base: EncoderGuard,
        weights: Floats,
        bias: float,
        scale: Scale,
        about: Mapping[str, Any],
        *,
        clause: str = "instruction-hijacking",
        base_name: str = "builtin:assistant",
        base_weights: str = "",
    ) -> None:
        from safetensors.numpy import save

        self.base, self.weights, self.bias, self.about = base, weights.astype(np.float32), float(bias), dict(about)
        tensors = {"weights": self.weights, "bias": np.array([bias], dtype=np.float32)}
        self._blob = bytes(save(tensors))
        self._manifest = manifest.signed(
            Manifest(
                stages={"input": scale},
                clause=clause,
                base=base_name,
                base_weights=base_weights or weights_hash(base),
                about=self.about,
                files=manifest.hashes({manifest.WEIGHTS: self._blob}),
            )
        )

    def __repr__(self) -> str:
        return f"DocumentGuard({self.identity()[:12]})"

    def identity(self) -> str:
        return self._manifest.identity

    @property
    def scale(self) -> Scale:
        return self._manifest.stages["input"]

    @property
    def stages(self) -> frozenset[Stage]:
        return frozenset({"input"})

    @property
    def thresholds(self) -> dict[Stage, float]:
        """The score that flags, by stage."""
        return {"input": self.scale.threshold}

    def at(self, thresholds: Mapping[Stage, float]) -> DocumentGuard:
        """The same guard flagging at another score, strictly between 0 and 1."""
        return self._with(moved(self._manifest.stages, thresholds)["input"])

    def _with(self, scale: Scale) -> DocumentGuard:
        read = self._manifest
        kept = {"clause": read.clause, "base_name": read.base, "base_weights": read.base_weights}
        return DocumentGuard(self.base, self.weights, self.bias, scale, self.about, **kept)

    def logits(self, texts: Sequence[str]) -> list[list[float]]:
        """The logits of each text's sentences, in order; then those of its decoded views."""
        cut: list[list[str]] = []
        for text in texts:
            pieces = [text[a:b] for a, b in sentences(text)]
            cut.append(pieces + [view[a:b] for view in views(text) for a, b in sentences(view)])
        flat = [piece for pieces in cut for piece in pieces]
        if not flat:
            return [[] for _ in texts]
        logit_N = features(self.base, flat) @ self.weights + self.bias
        found, at = [], 0
        for pieces in cut:
            found.append([float(x) for x in logit_N[at : at + len(pieces)]])
            at += len(pieces)
        return found

    def score(self, exchanges: Sequence[Exchange]) -> list[Verdict]:
        """One verdict per document: that of its worst sentence, position where that sentence ends. Unread beyond MAX_CHARS: flagged.

        Raises Unsupported when asked for a reply.
        """
        if any(e.completion for e in exchanges):
            raise Unsupported("this guard judges documents (input), not replies. Give the document as the prompt.")
        texts = [turns_text(e.messages)[1] for e in exchanges]
        logits = iter(self.logits([t for t in texts if len(t) <= MAX_CHARS]))
        return [self._verdict(t, next(logits) if len(t) <= MAX_CHARS else None) for t in texts]

    def _verdict(self, text: str, logits: Sequence[float] | None) -> Verdict:
        about: dict[str, Any] = {"threshold": self.scale.threshold, "stage": "input", "guard": self.identity()}
        clause = self._manifest.clause
        if logits is None:
            return Verdict(score=1.0, by_clause={clause: 1.0}, flagged=True, position=0, **about)
        if not logits:
            return Verdict(score=0.0, by_clause={clause: 0.0}, flagged=False, **about)
        top = int(np.argmax(logits))  # the first NaN, where there is one: `Scale.verdict` refuses it
        spans = sentences(text)
        position = spans[top][1] if top < len(spans) and logits[top] >= self.scale.flag_at else None
        return self.scale.verdict(logits[top], "input", self.identity(), shares={clause: 1.0}, position=position)

    def spans(self, text: str) -> list[Span]:
        """Every sentence of a document with its score, in order."""
        if len(text) > MAX_CHARS:
            return [Span(0, len(text), 1.0, True)]
        logits = self.logits([text])[0]
        return [
            Span(a, b, self.scale.score(z), z >= self.scale.flag_at)
            for (a, b), z in zip(sentences(text), logits, strict=False)
        ]

    def stream(self, conversation: Sequence[Message]) -> GuardStream:
        raise Unsupported("this guard judges documents (input), not replies. Judge the document before it is read.")

    def save(self, folder: str | Path) -> None:
        """Write `guard.json` and `weights.safetensors` into `folder`; the encoder is not copied. Raises StoreError."""
        manifest.write(folder, self._manifest, {manifest.WEIGHTS: self._blob})

    @classmethod
    def load(cls, folder: str | Path) -> DocumentGuard:
        """The guard in `folder`. Raises StoreError when it is damaged, or when the encoder it reads with has changed."""
        from safetensors import SafetensorError
        from safetensors.numpy import load

        read, files = manifest.read(folder, Manifest, KIND, FORMAT)
        base = reading_guard(read.base)
        if weights_hash(base) != read.base_weights:
            raise StoreError(
                f"{folder}: was trained on an encoder that {read.base} no longer holds. Train it again: uphold guard injection"
            )
        try:
            tensors = load(files[manifest.WEIGHTS])
            weights, bias = tensors["weights"], float(tensors["bias"][0])
        except (SafetensorError, KeyError, IndexError) as error:
            raise StoreError(f"{folder}: cannot be read as a guard's weights: {error}. {manifest.MEND}") from error
        if weights.shape != (2 * int(base.model.encoder.config.hidden_size),):
            raise StoreError(f"{folder}: its weights do not fit {read.base}. {manifest.MEND}")
        kept = {"clause": read.clause, "base_name": read.base, "base_weights": read.base_weights}
        return cls(base, weights, bias, read.stages["input"], read.about, **kept)


def reading_guard(where: str) -> EncoderGuard:
    """The encoder guard at a folder or under a shipped name. Raises ConfigError when it is of another kind."""
    guard = Guard.load(where)
    if not isinstance(guard, EncoderGuard):
        raise ConfigError(f"{where}: is no encoder guard. Give one, or leave --base at builtin:assistant.")
    return guard
