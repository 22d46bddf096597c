"""What a bounty's target does to ordinary people: how much of everyday traffic it refuses.

Takes harmless `Sample`s and any `Chat`; keeps the refusal grade of each in the campaign, so that the headline figures stand beside it: a
target that refuses everything is never broken. Published bounties report the difference to the unguarded model (+0.38 points,
Sharma et al. 2025, arXiv:2501.18837): record both and `ordinary` gives it, paired.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from uphold.core.measure import paired_difference, proportion
from uphold.core.records import Measurement, Sample
from uphold.evals import answer
from uphold.models.base import Chat, Sampling
from uphold.redteam.campaign.store import Campaign, Row


def ask_traffic(campaign: Campaign, chat: Chat, samples: Sequence[Sample], *, sampling: Sampling = Sampling()) -> int:
    """Ask every harmless sample once and keep whether it was refused; returns how many. What the target did before is replaced."""
    distinct = list({sample.id: sample for sample in samples}.values())
    rows: list[Row] = [
        {"sample": made.sample.id, "topic": made.sample.group[:200], "refusal": made.refusal, "error": made.error}
        for made in answer(chat, distinct, sampling=sampling)
    ]
    campaign.add_traffic(chat.identity(), rows)
    return len(rows)


def ordinary(campaign: Campaign, **about: Any) -> dict[str, Measurement]:
    """{target's identity: share of ordinary requests refused in full}, the first recorded first, clustered by topic."""
    by_target: dict[str, list[Row]] = {}
    for row in campaign.rows("traffic"):
        by_target.setdefault(row["target"], []).append(row)
    return {
        target: proportion(
            "refusal_of_ordinary_traffic",
            [_refused(row) for row in rows],
            groups=[row["topic"] for row in rows],
            higher_is_better=False,
            subject={"model": target},
            **about,
        )
        for target, rows in by_target.items()
    }


def added(campaign: Campaign, **about: Any) -> Measurement | None:
    """Refusals of the last target minus those of the first, on the requests that both were asked; None with fewer than two targets."""
    rows = campaign.rows("traffic")
    targets = list(dict.fromkeys(row["target"] for row in rows))
    if len(targets) < 2:
        return None
    before, after = ({r["sample"]: r for r in rows if r["target"] == t} for t in (targets[0], targets[-1]))
    both = [sample for sample in before if sample in after]
    return paired_difference(
        "refusal_of_ordinary_traffic",
        [_refused(before[sample]) for sample in both],
        [_refused(after[sample]) for sample in both],
        groups=[before[sample]["topic"] for sample in both],
        higher_is_better=False,
        **about,
    )


def _refused(row: Row) -> bool | None:
    return None if row["refusal"] is None else row["refusal"] == "full"
