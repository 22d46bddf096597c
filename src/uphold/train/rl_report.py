"""What a run of reinforcement learning writes while it goes: the step's line, every completion, and alarms.

`OUT/completions.jsonl` is only ever added to; on resume, lines of steps that are run again are cut off first. Of several
processes the first alone writes, probes and is listened to.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from uphold.core.records import Sample, canonical_json
from uphold.models.base import Sampling
from uphold.models.local import LocalModel
from uphold.train import parallel
from uphold.train.judging import Scored, numbers
from uphold.train.loop import StepLog
from uphold.train.losses.policy import kl_tokens
from uphold.train.rl_config import RLConfig
from uphold.train.rl_update import Material, Sums
from uphold.train.watch import GAP_ALARM, Watch

log = logging.getLogger(__name__)

OnLog = Callable[[dict[str, float]], str | None]


class Report:
    """The reporter of one run. Its history (`watch`) goes into checkpoints through `state_dict`."""

    def __init__(self, out: Path, config: RLConfig, local: LocalModel, probe: Sequence[Sample]) -> None:
        self._out, self._config, self._local, self._probe = out, config, local, list(probe)
        self._completions: StepLog | None = None
        self._has_warned: set[str] = set()
        self.watch = Watch()

    def line(
        self, found: Scored, material: Material, drawn_BT: torch.Tensor | None, sums: Sums, extra: Mapping[str, float]
    ) -> dict[str, float]:
        """The numbers of a step after its updates; writes its completions."""
        config = self._config
        new_BT, seen_BT = _stepped_on(material, sums)
        k1_B, k3_B = ((kl_tokens(new_BT, material.ref_BT, k) * seen_BT).sum(1) for k in ("k1", "k3"))
        n_seen = max(1, len(sums.logprobs))
        line = numbers(found, config.group_size)
        line |= {
            "kl": float(k3_B.sum()) / n_seen,
            "kl_k1": float(k1_B.sum()) / n_seen,
            "entropy": sums.entropy / max(1, sums.n_tokens),
            "clipped": sums.clipped / max(1, sums.n_clippable),
        }
        if drawn_BT is not None:
            gaps = (new_BT - drawn_BT)[seen_BT].abs()
            line |= {"sampler_gap": float(gaps.mean()), "sampler_gap_max": float(gaps.max())}
        if material.values_BTH is not None:
            line["value_loss"] = sums.value / (config.n_epochs * config.n_minibatches)
        line |= extra
        if self._probe and (found.step % config.probe_every == 0 or found.step + 1 == config.n_steps):
            line["over_refusal"] = self._over_refusal()
        self._write(found, material, k3_B)
        return line

    def unscored(self, found: Scored) -> dict[str, float]:
        """The numbers of a step of which nothing was scored, and so no update made; writes its completions."""
        self._keep(found, None)
        return numbers(found, self._config.group_size)

    def seen(self, line: dict[str, float], on_log: OnLog | None) -> None:
        """After a step: the watch, alarms, and whoever listens (in the first process); any of them may stop the run, for all."""
        self.watch.see(line)
        gap = line.get("sampler_gap", 0.0)
        if gap > GAP_ALARM:
            self._warn("gap", f"step {line['step']}: sampler and trainer differ by {gap:.3g} nats per token")
        if (why := self.watch.gaming()) is not None:
            if self._config.on_gaming == "stop":
                self.watch.stopped = why
            self._warn("gaming", f"step {line['step']}: {why}")
        if on_log is not None and isinstance(why := parallel.by_main(lambda: on_log(line)), str):
            self.watch.stopped = self.watch.stopped or why

    def sync(self) -> None:
        if self._completions is not None:
            self._completions.sync()

    def close(self) -> None:
        if self._completions is not None:
            self._completions.close()

    def _warn(self, what: str, message: str) -> None:
        if what not in self._has_warned and parallel.is_main():  # once is enough: the log has every step
            self._has_warned.add(what)
            log.warning(message)

    def _over_refusal(self) -> float:
        """Share of the probe's benign prompts that the policy, answering greedily, refuses in full."""
        from uphold.evals.refusal import grade_refusal

        with torch.autocast(next(self._local.model.parameters()).device.type, enabled=False):
            sampling = Sampling(max_new_tokens=self._config.max_new_tokens)
            replies = self._local.generate([s.messages for s in self._probe], sampling)
        graded = [
            grade_refusal(r.text, asked=s.prompt, expected=s.expected) == "full"
            for s, r in zip(self._probe, replies, strict=True)
            if r.text is not None
        ]
        return sum(graded) / max(1, len(graded))

    def _write(self, found: Scored, material: Material, kl_B: torch.Tensor) -> None:
        advantage_B = (material.advantages_BT.sum(1) / material.mask_BT.sum(1)).tolist()
        self._keep(found, list(zip(advantage_B, kl_B.tolist(), strict=True)))

    def _keep(self, found: Scored, known: Sequence[tuple[float, float]] | None) -> None:
        """Write the completions, with (advantage, KL) of each where it is known."""
        if self._completions is None:
            self._completions = StepLog(self._out / "completions.jsonl", found.step)
        lines = (_told(found, i, *(known[i] if known else (None, None))) for i in range(len(found.rollouts)))
        self._completions.write(*lines)


def _told(found: Scored, i: int, advantage: float | None, kl: float | None) -> dict[str, Any]:
    """One completion as a line."""
    r = found.rollouts[i]
    line: dict[str, Any] = {
        "step": found.step,
        "sample": r.sample.id,
        "clause": r.sample.clause,
        "prompt": hashlib.sha256(canonical_json(list(r.sample.messages)).encode()).hexdigest()[:16],
        "completion": r.text,
        "n_tokens": len(r.reply_ids),
        "finish_reason": r.finish_reason,
        "rewards": {name: values[i] for name, values in found.components.items()},
        "reward": found.total[i],
        "advantage": advantage,
        "kl": None if found.total[i] is None else kl,  # a completion that was left out was not read again
    }
    if found.costs:
        line["costs"] = {name: values[i] for name, values in found.costs.items()}
    if found.gold is not None:
        line["gold"] = found.gold[i]
    return line


def _stepped_on(material: Material, sums: Sums) -> tuple[torch.Tensor, torch.Tensor]:
    """(log-probs of each completion when it was first stepped on (B, T), which tokens were stepped on at all)."""
    new_BT, seen_BT = torch.zeros_like(material.ref_BT), torch.zeros_like(material.mask_BT)
    for row, values in sums.logprobs.items():
        new_BT[row, : len(values)] = values.to(new_BT)
        seen_BT[row, : len(values)] = True
    return new_BT, seen_BT
