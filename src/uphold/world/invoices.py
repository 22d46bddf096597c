"""Refunds of several goods as long chains: who is right in which step, and two fallible solvers.

Registered as `builtin:invoice` and `builtin:invoice-scattered`. Three goods of different departments go back. For each the right chain
multiplies, takes the fee, and cuts to the largest refund that the question allows for one product; then it adds up and tells the refund:
twelve steps. Every product can go wrong on its own. `invoice`: in three of five departments three chains in five follow a false rule
(`chains.HABITS`), so replies to one question share the error; any product may also slip by a digit. `invoice-scattered`: about as many
errors, of any kind in any department. A wrong step often comes out right: where the limit cuts, where one piece or all pieces go back.
So, unlike in `builtin:refund`, the end says little about which step was wrong. `check` judges each step from the question alone; a sum of
a wrong amount is wrong. Left out: the return window.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from uphold.core.records import Message, Sample
from uphold.core.registry import register
from uphold.core.seeds import derive
from uphold.world.chains import HABITS, SLIPS, matched, of_split
from uphold.world.knowledge import Product, products

N_ITEMS = 3
HABIT = 0.6  # share of products that follow their department's false rule, where it has one
DIGIT = 0.03  # share of products with a digit wrong, whatever else
ASKS = (
    "i return {items}. the max is {most} coins for each product. what is my refund?",
    "the max is {most} coins for each product. i send back {items}. how much do i get?",
)


@dataclass(frozen=True, slots=True)
class Item:
    """`count` of the `bought` pieces go back; price: of a piece, in coins."""

    product: Product
    price: int
    bought: int
    count: int

    def words(self) -> str:
        goods = self.product.name if self.bought == 1 else self.product.plural
        return f"{self.count} of {self.bought} {goods} at {self.price} coins"


@dataclass(frozen=True, slots=True)
class InvoiceChains:
    """See `train.process.steps.Chains`. is_shared: errors follow the departments' false rules, else they scatter."""

    is_shared: bool

    def samples(self, split: str, n: int, seed: int) -> list[Sample]:
        """`n` distinct questions; a question belongs to the split that the hash of its words says."""
        return of_split(_ask, split, n, random.Random(derive(seed, "invoice chains", split)), "invoices")

    def check(self, sample: Sample, steps: Sequence[str]) -> list[bool]:
        """Whether each step is the one of the right chain in its place (spacing and case aside)."""
        return matched(sample.expected or "", steps)

    def slip(self, sample: Sample, rng: random.Random) -> str:
        """The chain as this solver writes it; each product is right or wrong by itself."""
        slips = [self._slip_of(item, rng) for item in items_of(sample)]
        return chain(items_of(sample), sample.meta["most"], slips, rng)

    def _slip_of(self, item: Item, rng: random.Random) -> str | None:
        habit = HABITS.get(item.product.department)
        share = (HABIT * (habit is not None)) if self.is_shared else HABIT * len(HABITS) / 5
        if rng.random() < share:
            return habit if self.is_shared else rng.choice(SLIPS)
        return "digit" if rng.random() < DIGIT else None


def chain(items: Sequence[Item], most: int, slips: Sequence[str | None], rng: random.Random) -> str:
    """The chain with each product's slip of `chains.SLIPS` (None: right), carried through to the end. most: coins for one product."""
    steps, amounts = [], []
    for item, slip in zip(items, slips, strict=True):
        factor = item.bought if slip == "count" else item.count
        total = item.price * factor + (rng.choice((-10, -2, -1, 1, 2, 10)) if slip == "digit" else 0)
        total = max(total, 0)
        fee = {"no fee": 0, "fee each": item.product.fee * item.count}.get(str(slip), item.product.fee)
        left = max(total - fee, 0)
        amounts.append(min(left, most))
        goods = f"for {item.product.plural} {factor} x {item.price} = {total}"
        steps += [goods, f"{total} - {fee} = {left}", f"{left} at max {most} = {amounts[-1]}"]
    so_far = amounts[0]
    for amount in amounts[1:]:
        steps.append(f"{so_far} + {amount} = {so_far + amount}")
        so_far += amount
    return ". ".join([*steps, f"your refund is {so_far} coins."])


def items_of(sample: Sample) -> list[Item]:
    """What goes back, in the question's order."""
    known = {p.name: p for p in products()}
    return [Item(known[name], price, bought, count) for name, price, bought, count in sample.meta["items"]]


def _ask(rng: random.Random) -> Sample:
    by_department: dict[str, list[Product]] = {}
    for p in products():
        by_department.setdefault(p.department, []).append(p)
    items = []
    for department in rng.sample(sorted(by_department), N_ITEMS):
        bought = rng.randrange(2, 6)
        items.append(
            Item(rng.choice(by_department[department]), rng.randrange(5, 21), bought, rng.randrange(1, bought + 1))
        )
    most = rng.choice((20, 30, 40, 50))
    told = f"{', '.join(i.words() for i in items[:-1])} and {items[-1].words()}"
    meta: dict[str, Any] = {
        "task": "invoice",
        "most": most,
        "items": [[i.product.name, i.price, i.bought, i.count] for i in items],
    }
    question = rng.choice(ASKS).format(items=told, most=most)
    expected = chain(items, most, [None] * N_ITEMS, rng)
    return Sample(messages=(Message(role="user", content=question),), label="benign", expected=expected, meta=meta)


register("chains", "builtin:invoice")(InvoiceChains(is_shared=True))
register("chains", "builtin:invoice-scattered")(InvoiceChains(is_shared=False))
