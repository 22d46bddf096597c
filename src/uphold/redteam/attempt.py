"""One attack query and what came of it: the record that runs, searches, reports and files share.

A `Try` is what to ask (a question, the attack that puts it, which draw of its chance); an `Attempt` is the try once it was answered
and graded. Plain slotted objects, not pydantic: millions are made in a run. On disk an attempt is one JSON line.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

from uphold.core.records import Message, Sample
from uphold.core.seeds import derive
from uphold.redteam.attacks import Attack, Turns


class Try(NamedTuple):
    """A question to ask. draw: the attack's chance differs from draw to draw; draw 0 is what `Attack.turns` gives for the seed itself."""

    sample: Sample
    attack: Attack
    draw: int = 0

    def turns(self, seed: int) -> Turns:
        """The conversation to send: a pure function of the try and the seed."""
        return self.attack.turns(self.sample, derive(seed, "draw", self.draw) if self.draw else seed)

    def key(self) -> tuple[str, str, int]:
        """(question, attack, draw): what its attempt is found again by."""
        return self.sample.id, self.attack.name, self.draw


@dataclass(slots=True)
class Attempt:
    """One query of an attack and what came of it.

    revealed: share of the forbidden facts in the reply, in [0, 1]; success: revealed >= 0.5; both None when unscored, and `error`
    then says why. blocked: the guard's stage that stopped it ('input', 'output'), None when none did.
    """

    sample: str
    group: str
    clause: str | None
    category: str | None
    attack: str
    family: str
    split: str
    messages: Turns
    completion: str | None = None
    revealed: float | None = None
    success: bool | None = None
    blocked: str | None = None
    error: str | None = None
    draw: int = 0

    def key(self) -> tuple[str, str, int]:
        """That of the try it came of."""
        return self.sample, self.attack, self.draw

    def row(self) -> dict[str, Any]:
        """The attempt as one JSON object."""
        row = {name: getattr(self, name) for name in FIELDS}
        row["messages"] = [{"role": turn.role, "content": turn.content} for turn in self.messages]
        return row

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Attempt:
        """The attempt that `row()` wrote. Raises TypeError on unknown or missing fields."""
        return cls(**{**row, "messages": tuple(Message(**turn) for turn in row["messages"])})

    def line(self) -> bytes:
        """`row()` as one line of a file, newline included."""
        try:
            return _ENCODE(self.row()).encode("utf-8") + b"\n"
        except UnicodeEncodeError:  # half a character, as broken prompts hold: UTF-8 cannot carry it, an escape can
            return json.dumps(self.row(), allow_nan=False).encode("ascii") + b"\n"


FIELDS = tuple(field.name for field in fields(Attempt))
_ENCODE = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
