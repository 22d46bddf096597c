"""Ensembles of reward models: several seeds, one cautious reward.

Takes reward models trained alike from different seeds; gives their mean, their minimum, or mean - lambda * variance, the two of
which Coste et al. (arXiv:2310.02743) find to stop over-optimisation where the mean does not. `disagreement` says where people should
look next. On disk: `OUT/member-0`, `OUT/member-1`, ... and `OUT/ensemble.json` with each member's identity. Left out: members with
different pretraining, which err less alike (arXiv:2312.09244); bring them in as folders.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from uphold.core.errors import ConfigError, DataError, ModelError
from uphold.core.files import read_json, write_json
from uphold.core.records import Exchange, Preference, digest
from uphold.core.seeds import derive
from uphold.train import parallel
from uphold.train.policy import Trained
from uphold.train.reward_model import RewardConfig, RewardModel, train_reward
from uphold.train.reward_net import Base

Combine = Literal["mean", "min", "uwo"]
COMBINES: tuple[Combine, ...] = ("mean", "min", "uwo")


class EnsembleReward:
    """Several rewards as one; a `Reward`. combine: 'mean', 'min', or 'uwo' (mean - lam * variance over the members)."""

    def __init__(
        self,
        models: Sequence[Any],
        combine: Combine = "mean",
        lam: float = 0.5,
        *,
        name: str = "ensemble",
        path: Path | None = None,
    ) -> None:
        """Raises ConfigError on no members, an unknown way to combine them, or a lam that is negative."""
        if not models:
            raise ConfigError("an ensemble needs at least one reward model.")
        if not lam >= 0:
            raise ConfigError(f"lam weighs the variance and must be 0 or more, not {lam}.")
        self.models, self.combine, self.lam = tuple(models), combine_named(combine), lam
        self.name, self.path = name, path

    @classmethod
    def load(cls, path: str | Path, *, combine: Combine | None = None, lam: float | None = None) -> EnsembleReward:
        """The ensemble in a folder. Raises ModelError when a member is missing, damaged, or not the one it was made of."""
        folder = Path(path)
        try:
            kept = read_json(folder / "ensemble.json")
            members: list[dict[str, str]] = kept["members"]
            models = [RewardModel.load(folder / m["folder"], name=m["folder"]) for m in members]
            ways: tuple[Combine, float] = (combine or kept["combine"], kept["lam"] if lam is None else lam)
        except (DataError, KeyError, TypeError) as error:
            raise ModelError(f"{folder}: no ensemble ({error}). Train one: uphold train reward --members 4.") from None
        for member, model in zip(members, models, strict=True):
            if model.identity() != member["identity"]:
                raise ModelError(f"{folder / member['folder']}: not the member that the ensemble was made of.")
        return cls(models, *ways, path=folder)

    @property
    def health(self) -> Path | None:
        """The folder for its health card."""
        return None if self.path is None else self.path / "health"

    def identity(self) -> str:
        """Hash of the members' identities and how they are combined."""
        return digest({"members": [m.identity() for m in self.models], "combine": self.combine, "lam": self.lam})

    def member_scores(self, exchanges: Sequence[Exchange]) -> list[list[float | None]]:
        """Per exchange, the reward of each member."""
        by_member = [m.score(exchanges) for m in self.models]
        return [list(scores) for scores in zip(*by_member, strict=True)] if exchanges else []

    def score(self, exchanges: Sequence[Exchange]) -> list[float | None]:
        """One reward per exchange; None where any member gave none."""
        return [self._combined(scores) for scores in self.member_scores(exchanges)]

    def _combined(self, scores: Sequence[float | None]) -> float | None:
        known = [s for s in scores if s is not None]
        if len(known) < len(scores):
            return None
        if self.combine == "min":
            return min(known)
        mean = statistics.fmean(known)
        return mean if self.combine == "mean" else mean - self.lam * statistics.pvariance(known, mean)

    def disagreement(self, pairs: Sequence[Preference]) -> list[float | None]:
        """Standard deviation over the members of (reward of chosen - reward of rejected), per pair; None where one is unscored."""
        chosen = self.member_scores([Exchange(messages=p.messages, completion=p.chosen) for p in pairs])
        rejected = self.member_scores([Exchange(messages=p.messages, completion=p.rejected) for p in pairs])
        found: list[float | None] = []
        for won, lost in zip(chosen, rejected, strict=True):
            leads = [w - x for w, x in zip(won, lost, strict=True) if w is not None and x is not None]
            found.append(statistics.pstdev(leads) if len(leads) == len(won) else None)
        return found


def train_ensemble(
    base: Base,
    preferences: Sequence[Preference],
    out_dir: str | Path,
    config: RewardConfig = RewardConfig(),
    *,
    n: int = 4,
    combine: Combine = "uwo",
    lam: float = 0.5,
    on_log: Callable[[dict[str, float]], None] | None = None,
) -> Trained:
    """Train `n` members that differ in their seed (order of the data, dropout, adapters). A killed run continues at the member it was at.

    Raises ConfigError on fewer than 2 members, and as `train_reward`.
    """
    if n < 2:
        raise ConfigError(f"an ensemble needs at least 2 members, not {n}.")
    out = Path(out_dir)
    members, done = [], []
    for i in range(n):
        own = config.model_copy(update={"seed": derive(config.seed, "member", i) % 2**31})
        done.append(train_reward(base, preferences, out / f"member-{i}", own, on_log=on_log))
        members.append({"folder": f"member-{i}", "identity": RewardModel.load(out / f"member-{i}").identity()})
    kept = {"combine": combine, "lam": lam, "members": members}
    parallel.by_main(lambda: write_json(out / "ensemble.json", kept))
    summary = {**done[0].summary, **kept, "members": [{**m, **d.summary} for m, d in zip(members, done, strict=True)]}
    return Trained(out, summary, reused=all(d.reused for d in done))


def combine_named(name: str) -> Combine:
    """The way to combine members called `name`. Raises ConfigError on an unknown one."""
    for combine in COMBINES:
        if combine == name:
            return combine
    raise ConfigError(f"unknown way to combine an ensemble: {name!r}. Known: {', '.join(COMBINES)}.")
