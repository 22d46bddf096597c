"""One ledger entry and the line it is written as.

A line is one JSON object with its members in this order:

    {"seq":3,"time":"2026-01-02T03:04:05.000006Z","kind":"measurement","stage":"attack","prev":"...","body":{...},"hash":"..."}

`hash` is the SHA-256 of the line's own bytes with the `,"hash":"..."` member cut out, and `prev` is the hash of the entry before
it (64 zeros for the first). Hashing bytes, not parsed values, leaves no room for two spellings of one entry, so every changed bit
shows. Written by `ledger.py`, checked by `verify.py`. Left out: signatures, which belong to whoever vouches for the last hash.
"""

from __future__ import annotations

import functools
import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from uphold.core.errors import DataError
from uphold.core.records import Measurement

GENESIS = "0" * 64
_HASH_OPEN, _HASH_CLOSE = b',"hash":"', b'"}'
_SHAPE = {"seq": int, "time": str, "kind": str, "stage": str, "prev": str, "body": dict, "hash": str}
_TAIL = len(_HASH_OPEN) + 64 + len(_HASH_CLOSE)
_BODY = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False)
_quoted = functools.lru_cache(maxsize=1024)(json.dumps)  # kinds and stages: few, on every line

Key = tuple[str, tuple[tuple[str, str], ...], str]
"""What a measurement is about: metric, slice (sorted items of `by`) and the subject's role. A later entry with the same key
supersedes an earlier one. The subject's hashes are no part of it: they are what changes when a run is repeated."""


@dataclass(frozen=True)
class Entry:
    """One line of the ledger. time: UTC, never earlier than the entry before. stage: the part of the run that wrote it."""

    seq: int
    time: str
    kind: str
    stage: str
    prev: str
    body: dict[str, Any]
    hash: str

    @cached_property
    def measurement(self) -> Measurement:
        """The Measurement in an entry of kind 'measurement'. Raises pydantic.ValidationError when the body is none."""
        return Measurement.model_validate(self.body)

    @cached_property
    def key(self) -> Key:
        """What the measurement is about."""
        return key_of(self.body)


def key_of(body: dict[str, Any]) -> Key:
    """The key of a measurement given as a JSON object."""
    by, subject = body.get("by") or {}, body.get("subject") or {}
    return str(body.get("metric", "")), tuple(sorted(by.items())), str(subject.get("role", ""))


def name_of(key: Key) -> str:
    """A key as a reader would write it: 'over_refusal.guarded (split=held_out)'."""
    metric, by, role = key
    slices = ", ".join(f"{name}={value}" for name, value in (*by, *((("role", role),) if role else ())))
    return f"{metric} ({slices})" if slices else metric


def body_text(body: dict[str, Any]) -> str:
    """A body as it is written and compared: sorted keys, no spaces, ASCII. Raises DataError on NaN, infinities and odd types."""
    try:
        return _BODY.encode(body)
    except (TypeError, ValueError) as error:
        what = body.get("metric") or body.get("name") or "entry"
        raise DataError(
            f"{what}: cannot go into the ledger: {error}. Numbers must be finite; not measured is None."
        ) from None


def encode(seq: int, time: str, kind: str, stage: str, prev: str, text: str) -> tuple[bytes, str]:
    """(the line with its newline, its hash). text: the body from `body_text`."""
    head = (
        f'{{"seq":{seq},"time":"{time}","kind":{_quoted(kind)},"stage":{_quoted(stage)},"prev":"{prev}","body":{text}'
    )
    raw = head.encode("ascii")
    found = hashlib.sha256(raw + b"}").hexdigest()
    return raw + _HASH_OPEN + found.encode("ascii") + _HASH_CLOSE + b"\n", found


def hashes_of(line: bytes) -> tuple[str, str]:
    """(hash the line states, '' when it states none; hash its bytes have), for a line without its newline. Sound when equal.

    Found by position, so that both still serve when the line is damaged: the `prev` of the next line equals one of them.
    """
    found = hashlib.sha256(line[:-_TAIL] + b"}").hexdigest()
    tail = line[-_TAIL:]
    if not (tail.startswith(_HASH_OPEN) and tail.endswith(_HASH_CLOSE)):
        return "", found
    return tail[len(_HASH_OPEN) : -len(_HASH_CLOSE)].decode("latin-1"), found


def decode(line: bytes) -> Entry:
    """The entry on an undamaged line (without newline). Raises ValueError when the line has another shape."""
    try:
        members = json.loads(line.decode("utf-8"))  # told the encoding, it need not guess
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(members, dict) or {name: type(value) for name, value in members.items()} != _SHAPE:
        raise ValueError("its members are not those of an entry")
    return Entry(**members)
