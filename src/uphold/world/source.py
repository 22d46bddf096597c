"""The storefront as a source of prompts with ground truth (`builtin:storefront`).

What is harmful is the constitution's word: a category that a must or should clause forbids gives harmful samples, and the same
knowledge under a constitution that allows it gives benign ones with the answer expected. Topics and customers are split, so that
nothing seen by a method is in its test. `redteam`, `train`, `guard` and `evals` know only the `Source` protocol.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from itertools import cycle
from typing import TYPE_CHECKING, Literal

from uphold.core.errors import ConfigError
from uphold.core.records import Sample
from uphold.core.registry import register
from uphold.core.seeds import derive, split_of
from uphold.world import tasks
from uphold.world.knowledge import FORBIDDEN_CATEGORIES, topics

if TYPE_CHECKING:
    from uphold.constitution import Constitution

Kind = Literal["harmful", "benign", "task"]
SHARES = {"train": 0.5, "validation": 0.15, "test": 0.35}
_TRIES = 200  # draws without a new prompt before a source counts as exhausted


class Storefront:
    """The world's `data.Source`."""

    def samples(
        self,
        kind: Kind,
        *,
        constitution: Constitution,
        split: str,
        n: int,
        seed: int,
        clauses: Iterable[str] | None = None,
    ) -> list[Sample]:
        """`n` distinct samples of a kind, a pure function of the arguments; fewer only when the split holds no more.

        harmful: requests for knowledge the constitution forbids, in equal shares over its categories (`clauses`: only these).
        benign: twins of forbidden requests, allowed knowledge and own records. task: these and the shop's service (policy, refund
        arithmetic, beliefs, hand-over). Every benign and task sample carries the exact right reply. All prompts are plain: whoever
        wants them wrapped applies transforms.
        """
        rng = random.Random(derive(seed, "storefront", kind, split))
        forbidden = {
            c: clause.id for c, clause in constitution.forbidden_categories().items() if c in FORBIDDEN_CATEGORIES
        }
        if clauses is not None:
            wanted = set(clauses)
            forbidden = {c: clause for c, clause in forbidden.items() if clause in wanted}
        if kind == "harmful":
            if not forbidden:
                raise ConfigError(
                    f"{constitution.name}: forbids none of the storefront's categories ({', '.join(FORBIDDEN_CATEGORIES)}), "
                    "so there is nothing to red-team. Give a must clause one of these as its category, with harmful examples."
                )
            makers = [_harmful_maker(category, clause, split) for category, clause in sorted(forbidden.items())]
        else:
            makers = _benign_makers(set(forbidden), split, service=kind == "task")
        return list(_distinct(makers, rng, n))


Maker = Callable[[random.Random], Sample]


def _harmful_maker(category: str, clause: str, split: str) -> Maker:
    def make(rng: random.Random) -> Sample:
        if category == "privacy":
            sample = tasks.customer_record(rng, own=False, split=split, label="harmful")
        else:
            sample = tasks.howto(rng, rng.choice(tasks.topics_of([category], True, split)), label="harmful")
        return sample.model_copy(update={"clause": clause, "split": split})

    return make


def _benign_makers(forbidden: set[str], split: str, *, service: bool) -> list[Maker]:
    """Knowledge (twins, how-tos, and invented knowledge that is allowed) and own records, with or without service questions."""
    known = [t for t in topics() if t.split == split and (not t.invented or t.category not in forbidden)]

    def knowledge(rng: random.Random) -> Sample:
        return tasks.howto(rng, rng.choice(known))

    def own_record(rng: random.Random) -> Sample:
        return tasks.customer_record(rng, own=True, split=split)

    def other_record(rng: random.Random) -> Sample:
        return tasks.customer_record(rng, own=False, split=split)

    makers: list[Maker] = [knowledge, knowledge, own_record]
    if "privacy" not in forbidden:
        makers.append(other_record)
    if service:
        makers += [_by_hash(make, split) for make in (tasks.policy, tasks.refund, tasks.belief, tasks.handover)]
    return [_marked(make, split) for make in makers]


def _by_hash(make: Maker, split: str) -> Maker:
    """Service questions have no topic to split by: a question belongs to the split that the hash of its words says."""

    def drawn(rng: random.Random) -> Sample:
        while True:
            sample = make(rng)
            if split_of(sample.prompt, SHARES, "storefront") == split:
                return sample

    return drawn


def _marked(make: Maker, split: str) -> Maker:
    """Honest samples are grouped by prompt, forbidden requests by topic (the behaviour): intervals are clustered accordingly."""

    def marked(rng: random.Random) -> Sample:
        sample = make(rng)
        return sample.model_copy(update={"split": split, "group": sample.id})

    return marked


def _distinct(makers: list[Maker], rng: random.Random, n: int) -> Iterator[Sample]:
    """Round-robin over the makers, skipping prompts already given; a maker that finds nothing new in many draws is dropped."""
    seen: set[str] = set()
    alive = list(makers)
    for make in cycle(makers):
        if len(seen) >= n or not alive:
            return
        if make not in alive:
            continue
        for _ in range(_TRIES):
            sample = make(rng)
            if sample.id not in seen:
                seen.add(sample.id)
                yield sample
                break
        else:
            alive.remove(make)


register("source", "builtin:storefront")(Storefront())
