"""Reinforcement learning: draw completions, reward them, make the better ones likelier, stay near the reference.

Takes prompts, a reward and a model in memory, which is both where the policy starts and the reference it is held to; GRPO and its
variants, RLOO, REINFORCE++ and PPO are settings of one loop (`RLStep.__call__`), with or without limits on costs (`constraints.py`).
Leaves `OUT/model`, `OUT/log.jsonl` (a line a step), `OUT/completions.jsonl` (every completion with every reward component) and
`OUT/train.json`. A run killed at any step goes on from its last checkpoint and ends with the same bits on a CPU: prompts and draws
follow from the step number and the weights; KL coefficient, multipliers and history are in the checkpoint.
Several processes share the prompts to draw, the reading and every update; the first alone judges, writes and probes, and what it finds
goes to all, so that the step is the one a single process takes, up to the order of additions (`parallel.py`).
Left out: several turns, a critic with a body of its own.
"""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from uphold.core.errors import UpholdError
from uphold.core.journal import Journal
from uphold.core.records import Sample, digest
from uphold.models.doors import load
from uphold.models.local import LocalModel
from uphold.train import parallel
from uphold.train.advantages import Earned, completion_advantages, critic_advantages
from uphold.train.batches import check_tokenizer
from uphold.train.constraints import Constraint, Multipliers
from uphold.train.explain import read_log
from uphold.train.judging import Judges, OnBatch, Scored, mean
from uphold.train.kl import KLCoefficient
from uphold.train.loop import Kept, Part, fit
from uphold.train.losses.policy import kl_tokens
from uphold.train.policy import Trained, finish, finished, hold, trainable, weights_digest
from uphold.train.ppo import ValueHead, WithValue
from uphold.train.rewards import Reward
from uphold.train.rl_config import RLConfig
from uphold.train.rl_report import OnLog, Report
from uphold.train.rl_update import Material, Rules, Sums, encode_rollouts, micro_batches, micro_loss, read, reply_mask
from uphold.train.rollout import EngineSampler, Prompts, Rollout, Sampler, ServerSampler
from uphold.train.sft import name_rows
from uphold.train.watch import WINDOW, explain, means

__all__ = ["RLConfig", "Scored", "rl"]

MICRO_TOKENS = 2048  # on a CPU: what a small model computes of so many tokens stays in its cache
MICRO_TOKENS_GPU = 16384
START_TOLERANCE = 1e-6  # nats per token: largest gap between policy and reference at step 0

Costs = Mapping[str, tuple[Reward, float | Constraint]]
"""Clause -> (cost, limit): the limit alone, or with settings of its multiplier."""


def rl(
    start: Any,
    tokenizer: Any,
    prompts: Sequence[Sample],
    reward: Reward,
    out_dir: str | Path,
    config: RLConfig = RLConfig(),
    *,
    gold: Reward | None = None,
    costs: Costs | None = None,
    probe: Sequence[Sample] = (),
    in_place: bool = False,
    on_log: OnLog | None = None,
    on_batch: OnBatch | None = None,
) -> Trained:
    """Train a copy of `start` to earn more of `reward` on `prompts`.

    start: a `Weights`, or a transformers causal LM in memory (then with its tokenizer). reward: a `WeightedSum` logs each component.
    gold: a score the update never sees, logged each step. costs: limits to keep, see `constraints`. probe: benign prompts answered
    greedily every `probe_every` steps for the over-refusal rate.
    on_log: called with every step's line; a text it returns stops the run after that step, as its reason. on_batch: called with the
    step's `Scored` before the update; a list it returns replaces the totals (None leaves that completion out). Neither is part of
    the settings a folder is checked against. Of several processes the first alone calls rewards, costs, gold and both of these.
    A step after the first of which nothing could be scored ends the run too.
    Raises DataError on prompts or rewards that cannot teach, UpholdError when policy and reference differ at step 0, StoreError when
    out_dir holds another run, Diverged on NaN.
    """
    model = start if isinstance(start, torch.nn.Module) else start.model
    tokenizer = start.tokenizer if tokenizer is None else tokenizer
    check_tokenizer(tokenizer)
    limits = {name: _constraint(limit) for name, (_, limit) in (costs or {}).items()}
    settings = {
        "method": "rl",
        **config.model_dump(mode="json"),
        "prompts": digest([s.model_dump(mode="json") for s in prompts]),
        "reference": weights_digest(model),
        "reward": reward.identity(),
        "gold": gold.identity() if gold else None,
        "costs": {n: [cost.identity(), limits[n].model_dump(mode="json")] for n, (cost, _) in (costs or {}).items()},
        "probe": digest([s.model_dump(mode="json") for s in probe]),
    }
    judges = Judges(reward, {name: cost for name, (cost, _) in (costs or {}).items()}, gold, config, on_batch)
    with hold(out := Path(out_dir)):
        if done := finished(out, settings):
            return done
        step = RLStep(model, tokenizer, prompts, judges, limits, probe, out, config, in_place)
        return step.run(settings, on_log)


def _constraint(limit: float | Constraint) -> Constraint:
    return limit if isinstance(limit, Constraint) else Constraint(limit=limit)


class RLStep:
    """A run: what it holds, and the step that `loop.fit` takes again and again. Its checkpointed state is `state_dict`'s."""

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        samples: Sequence[Sample],
        judges: Judges,
        limits: Mapping[str, Constraint],
        probe: Sequence[Sample],
        out: Path,
        config: RLConfig,
        in_place: bool,
    ) -> None:
        self.config, self.judges, self.out, self.tokenizer = config, judges, out, tokenizer
        self.policy = trainable(model, config.lora, config.seed, in_place=in_place)
        self.policy.eval()  # no dropout: policy, old policy and reference must differ by their weights alone
        self._frozen = None if config.lora else copy.deepcopy(self.policy).requires_grad_(False)
        self.local = LocalModel.from_memory(self.policy, tokenizer)
        self.prompts = Prompts(self.local, samples, config.max_new_tokens, config.seed, config.too_long)
        self.value = self._value_head(1 + len(limits)) if config.algorithm == "ppo" else None
        suited = MICRO_TOKENS if self.policy.device.type == "cpu" else MICRO_TOKENS_GPU
        self.micro_tokens = config.micro_tokens or suited
        self.beta = KLCoefficient(config.kl, config.kl_target)
        self.multipliers = Multipliers(limits)
        self.report = Report(out, config, self.local, probe)
        self.sampler, self._close = self._sampler()

    # --- the loop

    def __call__(self, step: int) -> Iterator[Part]:
        """Sample, score, advantages, updates, log."""
        self.policy.eval()
        config, device = self.config, self.policy.device
        with torch.autocast(device.type, enabled=False):  # the sampler keeps its own precision
            rollouts = self.sampler.draw(self.prompts.at(step, config.prompts_per_step), config.group_size, step)
        found = self.judges.score(step, rollouts)
        used = [i for i, total in enumerate(found.total) if total is not None]
        if not used:  # at the first step an error; later, such as when a monitor screens them all, the end
            line = parallel.by_main(lambda: self.report.unscored(found))
            self.report.watch.stopped = f"step {step}: none of {len(rollouts)} completions could be scored"
            yield Part(None, 0, line if parallel.is_main() else {})
            return
        material, drawn_BT = self._material(step, found)
        rng, sums = np.random.default_rng([config.seed, step]), Sums()
        for epoch in range(config.n_epochs):
            for rows in np.array_split(rng.permutation(used), min(config.n_minibatches, len(used))):
                micros = micro_batches(material.data.lengths.tolist(), rows.tolist(), self.micro_tokens)
                n_tokens = int(material.mask_BT[rows].sum())
                mine = parallel.share(micros)
                for i, micro in enumerate(mine):
                    batch = material.data.batch(micro).to(device)
                    loss = micro_loss(
                        self.policy, self.value, material, micro, batch, self._rules(), len(rows), n_tokens, sums
                    )
                    is_last = i + 1 == len(mine)
                    yield Part(loss, batch.n_tokens, batch=_named(epoch, micro, found), update=is_last)
                if not mine:  # a minibatch of fewer completions than processes
                    yield Part(None, 0, update=True)
            if epoch == 0:
                sums.pool_logprobs()
        sums.pool()
        line = parallel.by_main(lambda: self.report.line(found, material, drawn_BT, sums, self._prices()))
        self.beta.update(line["kl"])
        self.multipliers.update({name: mean(values) for name, values in found.costs.items()})
        yield Part(None, 0, line if parallel.is_main() else {})

    def run(self, settings: Mapping[str, Any], on_log: OnLog | None) -> Trained:
        """All steps, then the folder."""
        config = self.config
        try:
            result = fit(
                self.policy if self.value is None else WithValue(self.policy, self.value),
                self,
                config.n_steps,
                lr=config.lr,
                warmup=config.warmup,
                schedule=config.schedule,
                weight_decay=config.weight_decay,
                grad_clip=config.grad_clip,
                precision=config.precision,
                seed=config.seed,
                checkpoint_dir=self.out / "checkpoints",
                checkpoint_every=config.checkpoint_every,
                settings=settings,
                label="reinforcement learning",
                log_path=self.out / "log.jsonl",
                on_log=lambda line: self.report.seen(line, on_log),
                kept=self,
                should_stop=lambda: self.report.watch.stopped is not None,
            )
        finally:
            self._close()
            self.report.close()
        lines = read_log(self.out / "log.jsonl")
        results = {
            "n_prompts": len(self.prompts),
            "n_dropped": self.prompts.n_dropped,
            "n_completions": result.n_steps * config.prompts_per_step * config.group_size,
            "first": means(lines[:WINDOW]),
            "last": means(lines[-WINDOW:]),
            "multipliers": self.multipliers.values,
            "stopped": self.report.watch.stopped,
            "gaming": self.report.watch.gaming(),
            "notes": explain(lines),
            **result.report(),
        }
        return finish(self.out, self.policy, self.tokenizer, settings, results)

    # --- a step's parts

    def _material(self, step: int, found: Scored) -> tuple[Material, torch.Tensor | None]:
        """Tensors of the step with advantages, and the log-probs the sampler drew with (B, T), where it tells."""
        config, rollouts, device = self.config, found.rollouts, self.policy.device
        data = encode_rollouts(rollouts, int(self.tokenizer.pad_token_id))
        mask_BT = reply_mask(rollouts, device)
        tokens, heat = self.micro_tokens, config.temperature
        with self._reference() as reference:
            ref_BT, _ = read(reference, data, mask_BT, heat, tokens)
        n_updates = config.n_epochs * config.n_minibatches
        old_BT, values_BTH = None, None
        if n_updates > 1 or config.is_kl_in_reward or self.value is not None or step == 0:
            old_BT, values_BTH = read(self.policy, data, mask_BT, heat, tokens, self.value)
        if step == 0 and old_BT is not None:
            self._check_start(old_BT, ref_BT)
        old_for_update = old_BT if n_updates > 1 else None
        if config.sampler != "engine":
            old_for_update = ref_BT  # what the server drew with: the weights the run started from
        kl_BT = torch.zeros_like(ref_BT)
        if config.is_kl_in_reward and old_BT is not None:
            kl_BT = self.beta.beta * kl_tokens(old_BT, ref_BT, "k1")
        earned = Earned(
            torch.tensor([math.nan if t is None else t for t in found.total], device=device),
            torch.tensor(
                [[row[i] or 0.0 for row in found.costs.values()] for i in range(len(rollouts))], device=device
            ).view(len(rollouts), -1),
            torch.tensor(list(self.multipliers.values.values()), device=device),
            kl_BT,
            mask_BT,
        )
        material = Material(data, mask_BT, ref_BT, torch.zeros_like(ref_BT), old_for_update, values_BTH)
        if values_BTH is not None:
            material.advantages_BT, material.returns_BTH = critic_advantages(
                earned, values_BTH, config.gamma, config.lam
            )
        else:
            scale, _, _ = config.shape
            material.advantages_BT = completion_advantages(earned, config.algorithm, config.group_size, scale)
        return material, _drawn(rollouts, mask_BT)

    def _check_start(self, policy_BT: torch.Tensor, ref_BT: torch.Tensor) -> None:
        gap = float((policy_BT - ref_BT).abs().max())
        if not gap <= START_TOLERANCE:
            raise UpholdError(
                f"reinforcement learning: at step 0 the policy is not its reference (log-probs differ by up to {gap:.2g} nats, so the "
                "KL is not 0). Start from the very weights that are the reference, in the same precision."
            )

    def _rules(self) -> Rules:
        config = self.config
        _, how, high = config.shape
        return Rules(
            clip_low=config.clip,
            clip_high=high,
            how=how,
            level="completion" if config.algorithm == "rloo" else "token",
            kl=0.0 if config.is_kl_in_reward else self.beta.beta,
            kl_estimator=config.kl_estimator,
            entropy_weight=config.entropy_weight,
            value_weight=config.value_weight,
            value_clip=config.value_clip,
            temperature=config.temperature,
            max_tokens=config.max_new_tokens,
        )

    def _prices(self) -> dict[str, float]:
        """What the step went by: the KL coefficient and the multipliers, before they move."""
        prices = {f"multiplier/{name}": value for name, value in self.multipliers.values.items()}
        return {"kl_coefficient": self.beta.beta, **prices}

    # --- what it holds

    @contextlib.contextmanager
    def _reference(self) -> Iterator[Any]:
        """The model the run started from: a frozen copy, or with LoRA the policy without its adapter."""
        if self._frozen is not None:
            yield self._frozen
            return
        with self.policy.disable_adapter():
            yield self.policy

    def _value_head(self, n_heads: int) -> ValueHead:
        width = self.policy.get_input_embeddings().weight.shape[1]
        return ValueHead(width, n_heads, self.policy.device)

    def _sampler(self) -> tuple[Sampler, Callable[[], None]]:
        config = self.config
        if config.sampler == "engine":
            return EngineSampler(self.local, config.temperature, config.max_new_tokens, config.seed), lambda: None
        journal = Journal(self.out / "journal.jsonl") if parallel.is_main() else None
        close = journal.close if journal is not None else lambda: None
        sampler = ServerSampler(
            load(config.sampler), self.local, journal, config.temperature, config.max_new_tokens, config.seed
        )
        try:
            sampler.check(self.prompts.at(0, config.prompts_per_step))
        except UpholdError:
            close()
            raise
        return sampler, close

    def _parts(self) -> dict[str, Kept]:
        return {"kl": self.beta, "multipliers": self.multipliers, "watch": self.report.watch, "judges": self.judges}

    def state_dict(self) -> dict[str, Any]:
        self.report.sync()
        return {name: part.state_dict() for name, part in self._parts().items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for name, part in self._parts().items():
            part.load_state_dict(state[name])


def _named(epoch: int, rows: Sequence[int], found: Scored) -> str:
    ids = list(dict.fromkeys(found.rollouts[r].sample.id for r in rows))
    shown = ", ".join(ids[:10]) + (f" and {len(ids) - 10} more" if len(ids) > 10 else "")
    return f"epoch {epoch + 1}, completions {name_rows(rows)} to samples {shown}"


def _drawn(rollouts: Sequence[Rollout], mask_BT: torch.Tensor) -> torch.Tensor | None:
    found_BT = torch.zeros(mask_BT.shape, device=mask_BT.device)
    for i, r in enumerate(rollouts):
        if r.drawn_logprobs is None:
            return None
        found_BT[i, : len(r.drawn_logprobs)] = torch.tensor(r.drawn_logprobs, device=mask_BT.device)
    return found_BT
