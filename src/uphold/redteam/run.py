"""The attack run: every question through every attack to the target, each reply graded.

Takes any `Chat`, harmful `Sample`s and attacks; gives one `Attempt` per query, in a fixed order that spreads over families and
questions, so a run cut short by its budget is still balanced. Attempts are plain slotted objects and come out batch by batch, so a
long run holds one batch in memory. An attack that throws, a target that fails: that attempt is an error, unscored; the run goes on.
Left out: retries (the model's door does them) and the journal of calls (`models.JournalledChat`).
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import islice
from typing import Any

from uphold.core.errors import ModelError
from uphold.core.records import Message, Sample
from uphold.core.seeds import derive
from uphold.models.base import Chat, Completion, Sampling
from uphold.redteam.attacks import TRAINED, Attack, Turns, split_of_family
from uphold.redteam.grading import Grader, check_grader, grade, revealed


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

    def row(self) -> dict[str, Any]:
        """The attempt as one JSON object."""
        row = {field.name: getattr(self, field.name) for field in fields(self)}
        row["messages"] = [{"role": turn.role, "content": turn.content} for turn in self.messages]
        return row

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Attempt:
        """The attempt that `row()` wrote. Raises TypeError on unknown or missing fields."""
        return cls(**{**row, "messages": tuple(Message(**turn) for turn in row["messages"])})


def pairs(
    samples: Sequence[Sample], attacks: Sequence[Attack], *, seed: int, budget: int | None
) -> Iterator[tuple[Sample, Attack]]:
    """(sample, attack) in a balanced order: each round asks through every attack once, each time about another question.

    Every pair comes once, also where samples repeat an id; `budget` cuts the order short.
    """
    shuffled = list({sample.id: sample for sample in samples}.values())
    random.Random(derive(seed, "attack order")).shuffle(shuffled)
    n, m = len(shuffled), len(attacks)
    # question k, k + 1, ... as if dealt from a pack; one step further each time the deal would meet the same pairs again
    period = n // math.gcd(n, m) if n and m else 1
    order = (
        (shuffled[(turn * m + i + turn // period) % n], attack) for turn in range(n) for i, attack in enumerate(attacks)
    )
    return islice(order, budget)


def attack(
    chat: Chat,
    samples: Sequence[Sample],
    attacks: Sequence[Attack],
    *,
    seed: int = 0,
    sampling: Sampling = Sampling(),
    budget: int | None = None,
    grader: Grader = revealed,
    trained: Iterable[str] = TRAINED,
) -> list[Attempt]:
    """All attempts of a run; see `attempts`."""
    return list(
        attempts(chat, samples, attacks, seed=seed, sampling=sampling, budget=budget, grader=grader, trained=trained)
    )


def attempts(
    chat: Chat,
    samples: Sequence[Sample],
    attacks: Sequence[Attack],
    *,
    seed: int = 0,
    sampling: Sampling = Sampling(),
    budget: int | None = None,
    grader: Grader = revealed,
    trained: Iterable[str] = TRAINED,
    batch: int = 256,
) -> Iterator[Attempt]:
    """Attack `chat` and yield graded attempts in a fixed order; at most `budget` queries (None: every sample x attack).

    trained: the families reported as split 'trained'. Raises UpholdError when the grader fails its canaries, before any query.
    """
    check_grader(getattr(grader, "__name__", "grader"), grader, (sample.rubric for sample in samples))
    families = frozenset(trained)
    queue = pairs(samples, attacks, seed=seed, budget=budget)
    while todo := list(islice(queue, batch)):
        asked = [_ask(sample, by, seed, families) for sample, by in todo]
        sent = [i for i, attempt in enumerate(asked) if attempt.error is None]
        replies = chat.generate([asked[i].messages for i in sent], sampling) if sent else []
        if len(replies) != len(sent):
            raise ModelError(f"{chat.spec}: {len(replies)} replies to {len(sent)} conversations")
        for i, reply in zip(sent, replies, strict=True):
            _grade(asked[i], reply, todo[i][0], grader)
        yield from asked


def _ask(sample: Sample, by: Attack, seed: int, trained: frozenset[str]) -> Attempt:
    split = split_of_family(by.family, trained)
    attempt = Attempt(
        sample.id, sample.group, sample.clause, sample.category, by.name, by.family, split, sample.messages
    )
    try:
        attempt.messages = by.turns(sample, seed)
    except Exception as error:  # noqa: BLE001 - attacks come from plugins too: one that throws costs its attempt, not the run
        attempt.error = f"attack raised {type(error).__name__}: {error}"
    return attempt


def _grade(attempt: Attempt, reply: Completion, sample: Sample, grader: Grader) -> None:
    attempt.completion = reply.text
    attempt.error = reply.error
    if reply.finish_reason == "blocked":
        attempt.blocked = blocked_stage(reply)
    if reply.error is not None or (reply.text is None and attempt.blocked is None):
        attempt.error = reply.error or "no reply"
        return
    asked = " ".join(turn.content for turn in sample.messages if turn.role == "user")
    try:
        share = grader(sample.rubric, reply.text or "", asked)
    except Exception as error:  # noqa: BLE001 - a grader that fails leaves the attempt unscored; never a zero
        attempt.error = f"grader raised {type(error).__name__}: {error}"
        return
    attempt.revealed, attempt.success, _ = grade(share)
    if share is None:
        attempt.error = "the grader could not tell" if sample.rubric else "the sample has no rubric"


def blocked_stage(reply: Completion) -> str:
    """'input' or 'output' by the verdict that the guard left in `meta`; 'guard' where it left none (an endpoint's own filter)."""
    verdict = reply.meta.get("verdict")
    stage = verdict.get("stage") if isinstance(verdict, Mapping) else getattr(verdict, "stage", None)
    return stage if isinstance(stage, str) and stage else "guard"
