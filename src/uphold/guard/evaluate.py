"""Putting a guard to labelled examples: verdicts in, Measurements out.

Used by training on its test part, by `uphold guard eval`, and by the operator's loop. An example the guard could not judge is unscored: it
counts for the worst case and is in no mean. Left out: attacks and replies of a model (`redteam`, `operator.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from uphold.core.errors import DataError
from uphold.core.measure import proportion
from uphold.core.records import Exchange, Measurement
from uphold.guard.base import Guard, Unjudged, Verdict
from uphold.guard.examples import (
    Example,
    data_hash,
    exchange_of,
    family_of,
    group_of,
    is_harmful,
    is_prompt,
    source_of,
)
from uphold.guard.metrics import ranking_measurements, rate_measurements

LENGTHS = ((50, "up to 50"), (200, "51 to 200"), (1000, "201 to 1,000"))
"""buckets of length in characters of what is judged; beyond the last: 'over 1,000'"""


def length_of(example: Example) -> str:
    """The bucket of the prompt's last turn, or of the reply."""
    n = len(example.messages[-1].content if is_prompt(example) else exchange_of(example).completion)
    return next((name for most, name in LENGTHS if n <= most), "over 1,000")


def told(name: str) -> Callable[[Example], str]:
    """A slice by what a row says of itself in its meta; '' where it does not say."""
    return lambda example: str(example.meta.get(name) or "")


SLICES: dict[str, Callable[[Example], str]] = {
    "source": source_of,
    "family": family_of,
    "clause": lambda example: example.clause or "",
    "lang": told("lang"),
    "kind": told("kind"),
    "length": length_of,
}
FPRS = (0.001, 0.01)


def verdicts(guard: Guard, exchanges: Sequence[Exchange]) -> list[Verdict | None]:
    """A verdict per exchange, None where the guard failed on it alone."""
    try:
        return list(guard.score(exchanges))
    except Unjudged as partly:
        return partly.verdicts
    except Exception:  # noqa: BLE001  any guard may stand behind the protocol; a failure costs the exchange it was met on
        if len(exchanges) == 1:
            return [None]
        middle = len(exchanges) // 2
        return verdicts(guard, exchanges[:middle]) + verdicts(guard, exchanges[middle:])


def evaluate(
    guard: Guard,
    examples: Sequence[Example],
    *,
    prefix: str = "guard.",
    subject: Mapping[str, str] | None = None,
    fprs: Sequence[float] = FPRS,
    slices: Sequence[str] = ("source", "family", "clause"),
    seed: int = 0,
    note: str = "",
) -> list[Measurement]:
    """auprc, auroc, recall_at_fpr_X, then fpr, tpr and f1 at the guard's threshold; then fpr and tpr by slice.

    Examples need labels; one of them is the whole of its `group` for intervals. A slice with one value is not repeated. Raises
    DataError on no examples.
    """
    if not examples:
        raise DataError("no examples to evaluate a guard on.")
    found = verdicts(guard, [exchange_of(example) for example in examples])
    return measured(
        guard, examples, found, prefix=prefix, subject=subject, fprs=fprs, slices=slices, seed=seed, note=note
    )


def measured(
    guard: Guard,
    examples: Sequence[Example],
    found: Sequence[Verdict | None],
    *,
    prefix: str = "guard.",
    subject: Mapping[str, str] | None = None,
    fprs: Sequence[float] = FPRS,
    slices: Sequence[str] = (),
    seed: int = 0,
    note: str = "",
    by: Mapping[str, str] | None = None,
) -> list[Measurement]:
    """`evaluate` of verdicts that are there already, one per example. by: put on every measurement."""
    harmful = [is_harmful(example) for example in examples]
    groups = [group_of(example) for example in examples]
    about: dict[str, Any] = {
        "subject": {"guard": guard.identity()} | dict(subject or {}),
        "data": data_hash(examples),
        "note": note,
        "by": dict(by or {}),
    }
    scores = [None if verdict is None else verdict.score for verdict in found]
    flagged = [None if verdict is None else verdict.flagged for verdict in found]
    numbers = ranking_measurements(scores, harmful, groups, prefix=prefix, fprs=fprs, seed=seed, **about)
    numbers += rate_measurements(flagged, harmful, groups, prefix=prefix, seed=seed, **about)
    for name in slices:
        numbers += _sliced(name, examples, flagged, harmful, groups, prefix, seed, about)
    return numbers


def _sliced(
    name: str,
    examples: Sequence[Example],
    flagged: Sequence[bool | None],
    harmful: Sequence[bool],
    groups: Sequence[str],
    prefix: str,
    seed: int,
    about: Mapping[str, Any],
) -> list[Measurement]:
    """tpr and fpr of every value of a slice that has examples of that class."""
    values = [SLICES[name](example) for example in examples]
    if len(set(values)) < 2:
        return []
    numbers = []
    for value in sorted(set(values) - {""}):
        for metric, wanted in (("tpr", True), ("fpr", False)):
            at = [i for i, v in enumerate(values) if v == value and harmful[i] is wanted]
            if at:
                numbers.append(
                    proportion(
                        prefix + metric,
                        [flagged[i] for i in at],
                        groups=[groups[i] for i in at],
                        higher_is_better=wanted,
                        seeds=(seed,),
                        **(dict(about) | {"by": {**about.get("by", {}), name: value}}),
                    )
                )
    return numbers
