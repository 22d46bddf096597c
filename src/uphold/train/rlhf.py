"""Reinforcement learning from human feedback, from votes to policy (arXiv:2203.02155, 2204.05862).

Takes votes of people on pairs; leaves `OUT/labels` (the agreement report and the pairs with soft labels), `OUT/reward` (an ensemble of
reward models), `OUT/reward/health` (its card, on prompts held out), `OUT/rl` (the policy with every completion) and `OUT/rlhf.json`. Each
stage is found again by the settings it was made with, so a killed run goes on where it was. A sick reward model stops the run before
any reinforcement learning, unless told otherwise.
Of several processes the first reads the votes and makes the card; all train.
Left out: rounds of new comparisons on the new policy (run it again on them).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from uphold.core.files import write_json, write_jsonl
from uphold.core.records import Preference, Record, Sample
from uphold.train import parallel
from uphold.train.comparisons import Agreement, Labels, Vote, agreement, preferences_of
from uphold.train.ensemble import EnsembleReward, train_ensemble
from uphold.train.health import HealthCard, health_card, require_healthy
from uphold.train.policy import Trained
from uphold.train.reward_data import split_preferences
from uphold.train.reward_model import RewardConfig, RewardModel, train_reward
from uphold.train.reward_net import Base
from uphold.train.rl import rl
from uphold.train.rl_config import RLConfig

if TYPE_CHECKING:
    from uphold.models.base import Weights
    from uphold.train.rewards import Reward


class RLHFConfig(Record):
    """Settings of the recipe. labels: how votes become labels. held_out: share of the prompts for the health card. members: reward
    models in the ensemble (1: a single one), combined as `EnsembleReward` does. force: train against a sick reward all the same."""

    labels: Labels = "dawid_skene"
    held_out: float = Field(default=0.2, gt=0, lt=1)
    members: int = Field(default=4, ge=1)
    combine: Literal["mean", "min", "uwo"] = "uwo"
    lam: float = Field(default=0.5, ge=0)
    force: bool = False
    seed: int = Field(default=0, ge=0)
    reward: RewardConfig = RewardConfig()
    rl: RLConfig = RLConfig()


def rlhf(
    policy: Weights,
    base: Base,
    votes: Sequence[Vote],
    prompts: Sequence[Sample],
    out_dir: str | Path,
    config: RLHFConfig = RLHFConfig(),
    *,
    gold: Reward | None = None,
    on_log: Callable[[dict[str, float]], str | None] | None = None,
) -> Trained:
    """Labels, reward model, health card, reinforcement learning; the summary is the RL's with agreement and health beside it.

    base: the backbone of the reward model. gold: a score that training never sees, logged at every step. Raises UpholdError on a sick
    reward unless `force`, DataError on votes that say nothing, and as `train_reward` and `rl`.
    """
    parallel.join()
    out = Path(out_dir)
    report, pairs = parallel.by_main(lambda: _labels(votes, out / "labels", config))
    reward, card, learnt = learn_reward(base, pairs, out / "reward", config)
    parallel.by_main(lambda: require_healthy(reward, config.force))
    done = rl(policy, policy.tokenizer, prompts, reward, out / "rl", config.rl, gold=gold, on_log=on_log)
    summary = {
        **done.summary,
        "agreement": report.model_dump(mode="json"),
        "n_preferences": len(pairs),
        "reward": {key: learnt[key] for key in ("n_pairs", "n_calibration", "temperature")},
        "health": {"is_healthy": card.is_healthy, "problems": card.problems},
        "was_forced": config.force and not card.is_healthy,
    }
    parallel.by_main(lambda: write_json(out / "rlhf.json", {**summary, "card": card}))
    return Trained(done.path, summary, done.reused)


def _labels(votes: Sequence[Vote], out: Path, config: RLHFConfig) -> tuple[Agreement, list[Preference]]:
    """How far the votes agree, and the pairs they make; both written."""
    report, pairs = agreement(votes, config.seed), preferences_of(votes, config.labels)
    write_json(out / "agreement.json", report)
    write_jsonl(out / "preferences.jsonl", pairs)
    return report, pairs


def learn_reward(
    base: Base, pairs: Sequence[Preference], out: Path, config: RLHFConfig
) -> tuple[Any, HealthCard, dict[str, Any]]:
    """(the reward model or ensemble, its health card, what its training found), from pairs split by prompt."""
    learning, held = split_preferences(pairs, config.held_out)
    own = config.reward.model_copy(update={"seed": config.seed})
    reward: Any
    if config.members == 1:
        learnt = train_reward(base, learning, out, own)
        reward = RewardModel.load(out)
    else:
        learnt = train_ensemble(base, learning, out, own, n=config.members, combine=config.combine, lam=config.lam)
        reward = EnsembleReward.load(out)
    card = parallel.by_main(lambda: health_card(reward, held, out / "health", seed=config.seed))
    return reward, card, learnt.summary
