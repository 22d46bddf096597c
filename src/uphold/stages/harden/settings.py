"""Settings of adversarial rounds, and what may not be asked for: an attack that is trained on cannot be held out as well.

Read from the command line or a file (`--config`); the defaults were chosen on the validation topics of the built-in world
(docs/harden.md has the figures).
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from uphold.core.errors import ConfigError
from uphold.core.records import Record
from uphold.redteam.attacks import Attack, attacks_named
from uphold.train.recovery import Recovery
from uphold.train.sft import SFTConfig


class Probe(Record):
    """How much is measured after every round. split: of the topics; validation is for choosing settings, test for reporting.

    n_behaviours: forbidden requests, each put through every attack; n_benign, n_tasks: honest prompts; n_validation: honest prompts of
    validation topics, of each kind, that the limits are judged on.
    search: the adaptive attack, over known and held-out attacks with a seed of its own, on the first n_searched of these requests within
    search_budget queries.
    """

    split: Literal["validation", "test"] = "test"
    n_behaviours: int = Field(40, ge=1)
    n_benign: int = Field(300, ge=1)
    n_tasks: int = Field(300, ge=0)
    n_validation: int = Field(200, ge=1)
    search: str = "bandit"
    n_searched: int = Field(30, ge=1)
    search_budget: int = Field(240, ge=1)


class Harden(Record):
    """Settings of a run. train: what learns. budget: attack queries per round and learner; `searched` of them go to the search, which
    makes compositions of `attacks`; the `grow` best that got through join the pool of every later round. held_out: attacks that are only
    ever measured. n_questions: forbidden training requests per round.

    Model: n_harmful failures per round (new ones first, then earlier ones), few at a time so that the next round attacks what is left; each
    is answered by the critic's revision (`revisions` rounds of critique); n_honest honest prompts, a share `wrapped` of them in strategies
    of the pool; blend: how far to go from the round's start (0) to what was trained (1). Guard: n_matched honest prompts in the same
    strategies, n_ordinary from the written corpus; the threshold is certified for fpr_budget on n_threshold honest prompts of validation
    topics, and moved up halfway to the replies that n_leaks attacks of the pool get on such topics.

    max_over_refusal: largest share of harmless validation prompts refused; max_helpfulness_loss: largest fall of the share of validation
    tasks answered right, against round 0. A round that breaks either is not kept, and is the last.
    """

    rounds: int = Field(3, ge=1, le=64)
    train: Literal["model", "guard", "both"] = "model"
    budget: int = Field(600, ge=2)
    attacks: tuple[str, ...] = ("trained",)
    held_out: tuple[str, ...] = ("held-out",)
    search: str = "bandit"
    searched: float = Field(0.5, ge=0, lt=1)
    grow: int = Field(6, ge=0)
    n_questions: int = Field(240, ge=1)
    revisions: int = Field(1, ge=1, le=16)
    n_harmful: int = Field(96, ge=1)
    n_honest: int = Field(800, ge=0)
    wrapped: float = Field(0.5, ge=0, le=1)
    recovery: Recovery = Recovery()
    sft: SFTConfig = SFTConfig(epochs=1.0, batch_tokens=2048, lr=2e-4)
    blend: float = Field(1.0, gt=0, le=1)
    n_matched: int = Field(600, ge=2)
    n_ordinary: int = Field(1500, ge=0)
    n_threshold: int = Field(1000, ge=2)
    n_leaks: int = Field(120, ge=0)
    fpr_budget: float = Field(0.005, gt=0, lt=1)
    max_over_refusal: float = Field(0.05, ge=0, le=1)
    max_helpfulness_loss: float = Field(0.03, ge=0, le=1)
    probe: Probe = Probe()
    max_new_tokens: int = Field(96, ge=1)
    seed: int = Field(0, ge=0)
    threads: int = Field(2, ge=1, le=256)


def library(settings: Harden) -> tuple[list[Attack], list[Attack]]:
    """(attacks that may be trained on, attacks that are held out). ConfigError where they share a part, or need more than answers."""
    known = attacks_named(settings.attacks, "--attacks")
    held_out = attacks_named(settings.held_out, "--held-out")
    reserved = {part for attack in held_out for part in attack.name.split("+")}
    for attack in known:
        if shared := reserved & set(attack.name.split("+")):
            raise ConfigError(
                f"--attacks: {attack.name!r} cannot be trained on and held out as well ({', '.join(sorted(shared))}). "
                "Leave it out of one of the two."
            )
    for attack in (*known, *held_out):
        if attack.needs:
            raise ConfigError(
                f"attack {attack.name!r} needs {' and '.join(attack.needs)}: rounds attack by questions alone. Leave it out."
            )
    return known, held_out
