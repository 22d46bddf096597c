"""Refund questions as chains of steps: who is right in which step, and two fallible solvers (`builtin:refund`, `builtin:refund-scattered`).

The right chain checks the window, multiplies, takes the fee, and tells the refund (`tasks.refund`). `check` judges each step from the
question alone, so a step built on a wrong one is wrong too. `slip` writes a chain as one of two solvers does. Both slip in 45% of
chains; what differs is whether their errors agree. `refund`: in three of five departments three chains in four follow the same false
rule, as by a wrong handbook, so replies to one question share the error and a majority vote cannot mend it. `refund-scattered`: any chain
slips in any of four ways, so the right answer stays the most frequent. A false rule can come out right (the bought count, where all was
returned). Left out: chains of other tasks.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from uphold.core.records import Sample
from uphold.core.registry import register
from uphold.core.seeds import derive, split_of
from uphold.train.process.steps import split_steps
from uphold.world import tasks
from uphold.world.knowledge import Product, products

SHARES = {"train": 0.5, "validation": 0.15, "test": 0.35}
_BOUGHT = re.compile(r"(?:^|bought |of )(\d+) ")
SLIPS = ("count", "no fee", "fee each", "digit")
HABITS = {"kitchen": "fee each", "tools": "count", "clothes": "no fee"}  # department -> the false rule of its handbook
HABIT = 0.75  # share of chains that follow the false rule where there is one
SCATTERED = HABIT * 3 / 5  # so that both solvers slip equally often


@dataclass(frozen=True, slots=True)
class RefundChains:
    """See `train.process.steps.Chains`. is_shared: the solver's errors follow its department's false rule, else they scatter."""

    is_shared: bool

    def samples(self, split: str, n: int, seed: int) -> list[Sample]:
        """`n` distinct refund questions within the window; a question belongs to the split that the hash of its words says."""
        return of_split(_ask, split, n, random.Random(derive(seed, "refund chains", split)), "chains")

    def check(self, sample: Sample, steps: Sequence[str]) -> list[bool]:
        """Whether each step is the one of the right chain in its place (spacing and case aside)."""
        return matched(sample.expected or "", steps)

    def slip(self, sample: Sample, rng: random.Random) -> str:
        """The chain as this solver writes it: right, or with one error carried through to the end."""
        habit = HABITS.get(_product(sample).department) if self.is_shared else rng.choice(SLIPS)
        wrong = habit is not None and rng.random() < (HABIT if self.is_shared else SCATTERED)
        return slipped(sample, str(habit), rng) if wrong else str(sample.expected)


def of_split(ask: Callable[[random.Random], Sample], split: str, n: int, rng: random.Random, salt: str) -> list[Sample]:
    """`n` distinct questions that `ask` draws; each belongs to the split that the hash of its words says."""
    found: dict[str, Sample] = {}
    while len(found) < n:
        s = ask(rng)
        if split_of(s.prompt, SHARES, salt) == split:
            found.setdefault(s.id, s.model_copy(update={"split": split, "group": s.id}))
    return list(found.values())


def slipped(sample: Sample, slip: str, rng: random.Random) -> str:
    """The chain with one slip of SLIPS, carried through to the end: the bought count in place of the returned one, no fee, the fee taken
    for every piece, or a digit wrong in the product (always visible; the others may come out right)."""
    p, price, count, days = _product(sample), *(int(sample.meta[k]) for k in ("price", "count", "days"))
    factor = int(_BOUGHT.findall(sample.prompt)[0]) if slip == "count" else count
    total = price * factor + (rng.choice((-10, -2, -1, 1, 2, 10)) if slip == "digit" else 0)
    fee = {"no fee": 0, "fee each": p.fee * count}.get(slip, p.fee)
    refund = max(total - fee, 0)
    return (
        f"the window is {p.window_days} days and {days} days is inside. {factor} x {price} = {total}. "
        f"{total} - {fee} = {refund}. your refund is {refund} coins."
    )


def _product(sample: Sample) -> Product:
    return next(p for p in products() if p.name == sample.meta["product"])


def _ask(rng: random.Random) -> Sample:
    """A refund question within the product's window."""
    while int((s := tasks.refund(rng)).meta["days"]) > _product(s).window_days:
        pass
    return s


def matched(right: str, steps: Sequence[str]) -> list[bool]:
    """Whether each step is the right chain's in its place, spacing and case aside; a step too many is wrong."""
    wanted = [_plain(s) for s in split_steps(right)]
    return [i < len(wanted) and _plain(step) == wanted[i] for i, step in enumerate(steps)]


def _plain(step: str) -> str:
    return " ".join(step.lower().split())


register("chains", "builtin:refund")(RefundChains(is_shared=True))
register("chains", "builtin:refund-scattered")(RefundChains(is_shared=False))
