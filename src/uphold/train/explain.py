"""What a run's numbers mean, in plain words, for `train.json` and the text that a command prints.

Reads the log of steps; gives `notes`: sentences about what surprises people in such curves (a loss of 0, chosen log-probs that fall,
margins that stop growing, a KL of 0), each with what to do about it. Says nothing where there is nothing to say.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from uphold.train import parallel

Line = Mapping[str, float | None]
STILL = 1e-3  # nats: a change smaller than this is none
AT_THE_REFERENCE = {
    **dict.fromkeys(("sigmoid", "cdpo", "robust", "beta"), "log 2"),
    "hinge": "1",
    "ipo": "1 / (4 beta^2)",
}  # what a loss is at a margin of 0; simpo and orpo have no reference and no such value
SATURATED = 0.02  # of its first value: a loss below it has next to no gradient left


def read_log(path: Path) -> list[dict[str, float]]:
    """The lines of a run's log, as every process of the run sees them."""
    parallel.wait()
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def epoch_means(lines: Sequence[Line], n_steps: int, keys: Sequence[str]) -> dict[str, dict[str, float]]:
    """Means of the keys over the first and the last `n_steps` steps; a key that no line has is left out."""
    n = min(n_steps, len(lines))
    return {"first_epoch": _means(lines[:n], keys), "last_epoch": _means(lines[-n:], keys)}


def _means(lines: Sequence[Line], keys: Sequence[str]) -> dict[str, float]:
    found = {key: [v for line in lines if (v := line.get(key)) is not None] for key in keys}
    return {key: sum(values) / len(values) for key, values in found.items() if values}


def _ends(lines: Sequence[Line], key: str) -> tuple[float, float]:
    """Mean over the first and over the last tenth of the steps."""
    n = max(1, len(lines) // 10)
    first, last = _means(lines[:n], [key]), _means(lines[-n:], [key])
    return first.get(key, math.nan), last.get(key, math.nan)


def _shared(lines: Sequence[Line]) -> list[str]:
    norms = [line["grad_norm"] for line in lines]
    if lines and not any(norms):
        return [
            "The gradient was 0 at every step: the weights have not changed. Nothing in the data asks for a change, or what should be "
            "trained is frozen."
        ]
    return []


def explain_sft(lines: Sequence[Line]) -> list[str]:
    """Notes on a supervised run."""
    notes = _shared(lines)
    first, last = _ends(lines, "loss")
    if first < 0.01:
        notes.append(
            f"The loss was {first:.4f} from the start: the model already gives these replies word for word, so there is nothing to learn "
            "from them."
        )
    elif last < 0.01:
        notes.append(
            f"The loss fell to {last:.4f}: the replies are known by heart. More epochs teach nothing; measure on other prompts."
        )
    return notes


def explain_preferences(lines: Sequence[Line], loss: str, sft_weight: float) -> list[str]:
    """Notes on a run on pairs. loss: its name in `dpo.LOSSES`."""
    notes = _shared(lines)
    first, last = _ends(lines, "loss")
    margin, accuracy = _ends(lines, "margin")[1], _ends(lines, "accuracy")[1]
    before, after = _ends(lines, "logprob_chosen")
    other_before, other_after = _ends(lines, "logprob_rejected")
    if loss == "robust" and min(line["loss"] or 0.0 for line in lines) < 0:
        notes.append(
            "The loss went below 0. The robust loss may: it subtracts what wrong labels would have added, so only its fall means something."
        )
    elif loss in ("sigmoid", "beta", "hinge") and abs(last) < SATURATED * max(first, STILL):
        notes.append(
            f"The loss is about 0 (from {first:.3f}) because the margins have saturated: at {margin:.1f} nats nearly every pair is "
            "certain, so hardly any gradient is left. That is fitting these pairs, not necessarily being better: stop earlier, raise "
            "beta, or take ipo or cdpo, whose margins have a finite best value."
        )
    elif len(lines) > 1 and abs(last - first) < STILL and abs(margin) < STILL and loss in AT_THE_REFERENCE:
        value = "" if sft_weight else f", which is {AT_THE_REFERENCE[loss]}, what {loss} gives where every margin is 0"
        notes.append(
            f"The loss stayed at {last:.3f}{value}: the policy has hardly left its reference. Raise lr or the number of steps, and look "
            "at how many pairs were kept."
        )
    if after < before - STILL:
        also = (
            "and those of the rejected fell further"
            if other_after - other_before < after - before
            else "more than the rejected"
        )
        mend = (
            "Raise sft_weight if that matters" if sft_weight == 0 else f"sft_weight is {sft_weight:g}; raise it further"
        )
        notes.append(
            f"The log-probs of the chosen replies fell, from {before:.2f} to {after:.2f} nats, {also}. These losses reward the difference "
            f"alone, and lowering both widens it: the probability goes to replies that are in no pair. {mend}, or lower lr."
        )
    if accuracy < 0.5 and len(lines) > 1:
        notes.append(
            f"Only {accuracy:.0%} of the last pairs are ranked as labelled: contradictory labels, or too few steps."
        )
    return notes


def explain_ratings(lines: Sequence[Line], n_up: int, n_down: int, up_weight: float, down_weight: float) -> list[str]:
    """Notes on a KTO run. n_up, n_down: replies liked and not."""
    notes = _shared(lines)
    kl = [line["kl"] for line in lines if line.get("kl") is not None]
    if len(lines) > 1 and kl and max(value or 0.0 for value in kl) == 0:
        notes.append(
            "The KL baseline was 0 at every step. It is estimated on replies put to other prompts and cut off below at 0: the policy made "
            "those no likelier than the reference does. That is usual early on and after thumbs down, and no error."
        )
    first, last = _ends(lines, "loss")
    if last < SATURATED * first:
        notes.append(
            f"The loss is about 0 (from {first:.3f}): the values have saturated, so hardly any gradient is left. Stop earlier, or "
            "lower beta."
        )
    before, after = _ends(lines, "logprob_desirable")
    if after < before - STILL:
        notes.append(
            f"The log-probs of the liked replies fell, from {before:.2f} to {after:.2f} nats: what the disliked ones lost they share with "
            "similar replies. Raise desirable_weight, or lower lr."
        )
    ratio = up_weight * n_up / (down_weight * n_down)
    if not 1 <= ratio <= 4 / 3:
        notes.append(
            f"Up and down weigh {ratio:.2f} to 1 in all ({n_up} and {n_down} ratings). The paper (section 4.2) asks for 1 to 1.33: "
            f"desirable_weight {down_weight * n_down / n_up:.2g} to {4 / 3 * down_weight * n_down / n_up:.2g} gives that."
        )
    return notes
