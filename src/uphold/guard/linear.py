"""The linear guard: hashed n-grams, one logistic head for harm and one per clause, prompts and replies, whole or streaming.

Made by `train.train_guard`; lives in a folder as `guard.json` (settings, thresholds, calibration, what it was trained on) and
`weights.safetensors` (16-bit whole numbers, non-zero buckets only). The identity is the hash of both, checked on loading. Costs
microseconds a word on one core, so it can see all traffic; deeper guards can be asked about what it finds suspicious.
Left out: joining guards (a cascade is a guard of its own behind `base.Guard`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from uphold.core.errors import ConfigError, StoreError, Unsupported, did_you_mean
from uphold.core.records import Exchange, Message, Record
from uphold.guard import features, manifest
from uphold.guard.base import GuardStream, Stage, Verdict, turns_text
from uphold.guard.features import FeatureSpec
from uphold.guard.heads import Head, Table
from uphold.guard.stage import LinearStream, StageModel

KIND, FORMAT = "linear", 2
_BATCH = 1024  # exchanges judged at a time


class HeadRecord(Record):
    """How a head reads its words; its numbers are in the safetensors file."""

    features: FeatureSpec
    window: int
    q0: float
    links: bool = Field(False, exclude_if=lambda links: not links)  # heads without keep their identity


class StageRecord(Record):
    """A stage without its weights."""

    prompt: HeadRecord | None = None
    reply: HeadRecord | None = None
    bias: float
    clauses: tuple[str, ...] = ()
    clause_bias: tuple[float, ...] = ()
    slope: float
    shift: float
    flag_at: float


class Manifest(manifest.Manifest):
    """`guard.json` of a linear guard."""

    kind: str = KIND
    format: int = FORMAT
    stages: dict[Stage, StageRecord]


class LinearGuard:
    """A `Guard`. about: what it was trained on and how well it did, as plain values; part of the identity."""

    def __init__(self, stages: Mapping[Stage, StageModel], about: Mapping[str, Any]) -> None:
        if not stages:
            raise ConfigError("a guard needs at least one stage: input, output or exchange")
        self._stages = dict(stages)
        self.about = dict(about)
        self._blob = _pack(self._stages)
        self._manifest = _manifest(self._stages, self.about, self._blob)

    def __repr__(self) -> str:
        return f"LinearGuard({'+'.join(sorted(self._stages))}, {self.identity()[:12]})"

    def identity(self) -> str:
        return self._manifest.identity

    @property
    def stages(self) -> frozenset[Stage]:
        return frozenset(self._stages)

    def stage(self, name: Stage) -> StageModel:
        """One of its stages. Raises Unsupported when it was not trained for it."""
        if name not in self._stages:
            raise Unsupported(
                f"this guard judges {' and '.join(sorted(self._stages))}, not {name}. Train one with examples of that kind."
            )
        return self._stages[name]

    @property
    def thresholds(self) -> dict[Stage, float]:
        """The score that flags, by stage."""
        return {name: stage.threshold for name, stage in self._stages.items()}

    def at(self, thresholds: Mapping[Stage, float]) -> LinearGuard:
        """The same guard flagging at other scores, each strictly between 0 and 1."""
        for name, score in thresholds.items():
            if name not in self._stages:
                raise ConfigError(f"this guard has no stage {name!r}. {did_you_mean(name, self._stages)}")
            if not 0 < score < 1:
                raise ConfigError(f"threshold of {name} is {score}: it must lie strictly between 0 and 1")
        moved = {n: s.at_threshold(thresholds[n]) if n in thresholds else s for n, s in self._stages.items()}
        return LinearGuard(moved, self.about)

    @property
    def reply_stage(self) -> Stage:
        """The stage that judges replies: with their prompts where it was trained so."""
        return "exchange" if "exchange" in self._stages else "output"

    def score(self, exchanges: Sequence[Exchange]) -> list[Verdict]:
        """One verdict per exchange; one with an empty completion is judged as a prompt, others as replies.

        Raises Unsupported when a stage is asked for that it does not have, ArithmeticError when a score is not a number.
        """
        exchanges = list(exchanges)
        verdicts: dict[int, Verdict] = {}
        kinds: dict[Stage, list[int]] = {}
        for i, exchange in enumerate(exchanges):
            kinds.setdefault(self.reply_stage if exchange.completion else "input", []).append(i)
        for name, numbers in kinds.items():
            for part in _batched(numbers):
                verdicts.update(zip(part, self._judge(name, [exchanges[i] for i in part]), strict=True))
        return [verdicts[i] for i in range(len(exchanges))]

    def _judge(self, name: Stage, exchanges: Sequence[Exchange]) -> Iterable[Verdict]:
        stage, identity = self.stage(name), self.identity()
        for exchange, peak in zip(exchanges, stage.peaks(exchanges), strict=True):
            position = None
            if name != "input" and peak is not None and peak.first is not None:
                position = stage.position(exchange, peak.first)
            yield stage.verdict(peak, position, identity)

    def score_prompts(self, prompts: Iterable[str]) -> list[Verdict]:
        """`score` of single user turns."""
        return self.score([Exchange(messages=(Message(role="user", content=text),), completion="") for text in prompts])

    def flops(self, exchanges: Sequence[Exchange]) -> float:
        """Additions that judging these exchanges takes at most: one per feature and head, as if no word had been met before."""
        total = 0.0
        for exchange in exchanges:
            stage = self.stage(self.reply_stage if exchange.completion else "input")
            head = stage.reply if exchange.completion else stage.prompt
            text = exchange.completion or turns_text(exchange.messages)[1]
            if head is not None and (words := features.words(text)):
                n_features = int(features.word_buckets(words, head.spec).edges[-1]) + len(words) * head.spec.pairs
                total += (n_features + 3 * len(words)) * (2.0 + len(stage.clauses))
        return total

    def stream(self, conversation: Sequence[Message]) -> GuardStream:
        return LinearStream(self.stage(self.reply_stage), conversation, self.identity())

    def save(self, folder: str | Path) -> None:
        """Write `guard.json` and `weights.safetensors` into `folder`. Raises StoreError when the system refuses."""
        manifest.write(folder, self._manifest, {manifest.WEIGHTS: self._blob})

    @classmethod
    def load(cls, folder: str | Path) -> LinearGuard:
        """The guard in `folder`. Raises DataError when a file is missing, StoreError when one is damaged, altered or foreign."""
        read, files = manifest.read(folder, Manifest, KIND, FORMAT)
        try:
            return cls(_unpack(read, files[manifest.WEIGHTS]), read.about)
        except (KeyError, ValueError, TypeError) as error:
            where = Path(folder) / manifest.WEIGHTS
            raise StoreError(f"{where}: cannot be read as a guard's weights: {error}. {manifest.MEND}") from error


def _batched(numbers: Sequence[int]) -> Iterable[Sequence[int]]:
    return (numbers[i : i + _BATCH] for i in range(0, len(numbers), _BATCH))


def _manifest(stages: Mapping[Stage, StageModel], about: Mapping[str, Any], blob: bytes) -> Manifest:
    def head(h: Head | None) -> HeadRecord | None:
        return None if h is None else HeadRecord(features=h.spec, window=h.window, q0=h.q0, links=h.links)

    records = {
        name: StageRecord(
            prompt=head(s.prompt),
            reply=head(s.reply),
            bias=s.bias,
            clauses=s.clauses,
            clause_bias=tuple(s.clause_bias.tolist()),
            slope=s.slope,
            shift=s.shift,
            flag_at=s.flag_at,
        )
        for name, s in stages.items()
    }
    return manifest.signed(Manifest(stages=records, about=dict(about), files=manifest.hashes({manifest.WEIGHTS: blob})))


def _pack(stages: Mapping[Stage, StageModel]) -> bytes:
    from safetensors.numpy import save

    tensors: dict[str, Any] = {}
    for name, stage in stages.items():
        for block, head in (("prompt", stage.prompt), ("reply", stage.reply)):
            if head is not None:
                table = head.table
                used = np.flatnonzero(table.main.any(axis=1) | table.clauses.any(axis=1))
                tensors[f"{name}.{block}.buckets"] = used.astype(np.int32)
                tensors[f"{name}.{block}.main"] = np.ascontiguousarray(table.main[used])
                tensors[f"{name}.{block}.clauses"] = np.ascontiguousarray(table.clauses[used])
                tensors[f"{name}.{block}.scale"] = table.scale
    return bytes(save(tensors))


def _unpack(read: Manifest, blob: bytes) -> dict[Stage, StageModel]:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        tensors = load(blob)
    except SafetensorError as error:
        raise ValueError(str(error)) from None

    def head(name: Stage, block: str, record: HeadRecord | None, n_clauses: int) -> Head | None:
        if record is None:
            return None
        key, size = f"{name}.{block}", 1 << record.features.bits
        buckets, scale = tensors[f"{key}.buckets"], tensors[f"{key}.scale"]
        main, clauses = np.zeros((size, 2), dtype=np.int16), np.zeros((size, n_clauses), dtype=np.int16)
        if scale.shape != (2 + n_clauses,) or not np.isfinite(scale).all() or (len(buckets) and buckets.min() < 0):
            raise ValueError(f"{key} has weights that do not fit its settings")
        try:
            main[buckets], clauses[buckets] = tensors[f"{key}.main"], tensors[f"{key}.clauses"]
        except IndexError as error:
            raise ValueError(f"{key}: {error}") from None
        table = Table(main, clauses, scale.astype(np.float64))
        return Head(table, record.features, record.window, record.q0, record.links)

    return {
        name: StageModel(
            name,
            head(name, "prompt", r.prompt, len(r.clauses)),
            head(name, "reply", r.reply, len(r.clauses)),
            r.bias,
            r.clauses,
            np.array(r.clause_bias, dtype=np.float64),
            r.slope,
            r.shift,
            r.flag_at,
        )
        for name, r in read.stages.items()
    }
