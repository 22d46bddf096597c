"""What a step's completions earned: rewards by component, costs by clause, the gold score, and the totals the update goes by.

Takes rollouts; gives `Scored`. Here stand all refusals of material that cannot teach: empty completions, scores that are no numbers,
nothing scored, rewards without any difference. Of several processes the first alone scores, and tells the others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from uphold.core.errors import DataError
from uphold.train import parallel
from uphold.train.losses.policy import overlong_penalty
from uphold.train.rewards import Reward, Scores, scored
from uphold.train.rl_config import RLConfig
from uphold.train.rollout import Rollout
from uphold.train.watch import distinct

FLAT_STEPS = 10  # steps from the start without any difference in reward, after which a run is given up


@dataclass(slots=True)
class Scored:
    """A step's completions with what they earned, before the update; `on_batch` sees it and may answer with other totals.

    components: reward by name; costs: by clause; total: what the update goes by, None where unscored; gold: unseen by the update.
    """

    step: int
    rollouts: list[Rollout]
    components: dict[str, Scores]
    costs: dict[str, Scores]
    total: Scores
    gold: Scores | None

    def equal_groups(self, group_size: int) -> float:
        """Share of groups (of one completion a prompt: of the whole step) whose scored totals are all equal."""
        size = group_size if group_size > 1 else len(self.total)
        groups = [{t for t in self.total[i : i + size] if t is not None} for i in range(0, len(self.total), size)]
        return sum(len(g) < 2 for g in groups) / len(groups)


OnBatch = Callable[[Scored], Sequence[float | None] | None]


class Judges:
    """Everything that scores completions. What it remembers of earlier steps goes into checkpoints (`loop.Kept`)."""

    def __init__(
        self,
        reward: Reward,
        costs: Mapping[str, Reward],
        gold: Reward | None,
        config: RLConfig,
        on_batch: OnBatch | None = None,
    ) -> None:
        self.reward, self.costs, self.gold = reward, dict(costs), gold
        self._config, self._on_batch = config, on_batch
        self._n_flat, self._is_flat = 0, True

    def score(self, step: int, rollouts: list[Rollout]) -> Scored:
        """The scores, with overlong completions punished or left out and `on_batch` heard. DataError when there is nothing to learn."""
        told = parallel.by_main(lambda: replace(self._scored(step, rollouts), rollouts=[]))
        return replace(told, rollouts=rollouts)

    def _scored(self, step: int, rollouts: list[Rollout]) -> Scored:
        if not any(r.text.strip() for r in rollouts):
            raise DataError(
                f"step {step}: every completion is empty. The model ends its reply at once: check the chat template, or start from a "
                "model that answers."
            )
        found = self._asked(step, rollouts)
        self._shorten(found)
        if self._on_batch is not None and (changed := self._on_batch(found)) is not None:
            if len(changed) != len(rollouts):
                raise DataError(f"step {step}: on_batch gave {len(changed)} totals for {len(rollouts)} completions.")
            found.total = list(changed)
        if step == 0 and all(total is None for total in found.total):
            raise DataError(
                f"step {step}: not one of {len(rollouts)} completions could be scored. Check the reward on these prompts, "
                f"for example sample {rollouts[0].sample.id}."
            )
        self._refuse_flat(found)
        return found

    def _asked(self, step: int, rollouts: list[Rollout]) -> Scored:
        exchanges = [r.exchange for r in rollouts]
        components, total = scored(self.reward, exchanges)
        costs = {name: scored(cost, exchanges)[1] for name, cost in self.costs.items()}
        gold = scored(self.gold, exchanges)[1] if self.gold else None
        for name, values in [*components.items(), *costs.items(), *([("gold", gold)] if gold else [])]:
            for value, rollout in zip(values, rollouts, strict=True):
                if value is not None and not math.isfinite(value):
                    raise DataError(
                        f"step {step}: {name!r} scored a completion of sample {rollout.sample.id} {value}. "
                        "A score is a finite number, or None where there is none."
                    )
        return Scored(step, rollouts, components, costs, list(total), gold)

    def _shorten(self, found: Scored) -> None:
        config = self._config
        for i, r in enumerate(found.rollouts):
            total = found.total[i]
            if total is None or config.overlong == "keep":
                continue
            if config.overlong == "mask":
                found.total[i] = None if r.is_cut_off else total
            else:
                found.total[i] = total + overlong_penalty(
                    len(r.reply_ids), config.max_new_tokens, config.overlong_buffer, r.is_cut_off
                )

    def _refuse_flat(self, found: Scored) -> None:
        self._is_flat = self._is_flat and found.equal_groups(self._config.group_size) == 1.0
        self._n_flat += self._is_flat
        if self._is_flat and self._n_flat >= FLAT_STEPS and not self.costs:
            raise DataError(
                f"the reward was the same for all completions of a prompt, on each of the first {self._n_flat} steps: there is "
                "nothing to learn from. Raise the temperature or group_size, or take a reward that tells these completions apart."
            )

    def state_dict(self) -> dict[str, Any]:
        return {"n_flat": self._n_flat, "is_flat": self._is_flat}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._n_flat, self._is_flat = int(state["n_flat"]), bool(state["is_flat"])


def numbers(found: Scored, group_size: int) -> dict[str, float]:
    """What can be told of a step's completions without the policy; a number that was not scored is left out."""
    rollouts = found.rollouts
    line: dict[str, float | None] = {"reward": mean(found.total)}
    line |= {f"reward/{name}": mean(values) for name, values in found.components.items()}
    line |= {f"cost/{name}": mean(values) for name, values in found.costs.items()}
    if found.gold is not None:
        line["gold"] = mean(found.gold)
    line |= {
        "equal_groups": found.equal_groups(group_size),
        "unscored": sum(t is None for t in found.total) / len(rollouts),
        "length": sum(len(r.reply_ids) for r in rollouts) / len(rollouts),
        "cut_off": sum(r.is_cut_off for r in rollouts) / len(rollouts),
        "empty": sum(not r.text.strip() for r in rollouts) / len(rollouts),
        "distinct_2": distinct([r.text for r in rollouts]),
    }
    return {key: value for key, value in line.items() if value is not None}


def mean(values: Scores) -> float | None:
    """Mean of what was scored; None when nothing was."""
    known = [v for v in values if v is not None]
    return sum(known) / len(known) if known else None
