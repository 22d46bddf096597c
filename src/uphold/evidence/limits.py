"""What a card must not be read as saying: open assumptions and limits, found in the evidence itself.

Takes what the card is built from; gives sentences, each with the ledger entry it rests on where there is one. Nothing here is counted or
judged anew: the assumptions are those of the safety case that no measurement speaks to, the rest is what the ledger does not hold.
Sentences hold no numbers, so that none is on the card without its entry. Left out: limits that only its author knows, which
`CardInputs.limits` adds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from uphold.evidence.case import case_of
from uphold.evidence.entry import Entry, Key
from uphold.evidence.gate import Decision
from uphold.evidence.inputs import CardInputs
from uphold.evidence.ledger import View
from uphold.evidence.numbers import Number, Numbers

TRUTH = "ground truth"
"""the judge of measurements that need none (see `stages.measure`)"""


@dataclass(frozen=True)
class Group:
    """Metrics that belong together on a card, by the first part of their names. about: what they are, for who finds none of them."""

    title: str
    about: str
    prefixes: tuple[str, ...]


GROUPS = (
    Group(
        "Alignment assessment",
        "propensities: sycophancy, reward hacking, deception, sabotage, sandbagging, awareness of being tested",
        (
            "alignment_audit", "alignment_faking", "audit", "deception", "evaluation_awareness", "goal_misgeneralisation", "oversight",
            "power_seeking", "reward_hacking", "sabotage", "sandbagging", "scheming", "self_preservation", "sycophancy", "truthfulness",
            "confabulation", "whistleblowing",
        ),
    ),
    Group("Capabilities", "dangerous capabilities, by which safeguards are demanded", ("capability",)),
    Group("White-box findings", "what the inside of the model shows", ("interp", "probe", "feature", "steering")),
    Group(
        "Further red teaming",
        "adaptive attackers, people, and success by number of tries",
        ("redteam", "jailbreak", "asr_at_k", "grader_inflation", "campaign", "adaptive"),
    ),
    Group("Fairness and privacy", "bias, and leaks of private data", ("bias", "fairness", "privacy")),
    Group("In use", "what was seen after release", ("monitoring", "feedback", "gateway")),
)  # fmt: skip


@dataclass(frozen=True)
class Limit:
    """One limit in a sentence. entry, field: where the ledger says it, when it is quoted from there."""

    text: str
    entry: Entry | None = None
    field: str = ""
    names: tuple[str, ...] = ()


def limits(
    inputs: CardInputs, view: View, current: Mapping[Key, Entry], numbers: Numbers, untested: Sequence[str]
) -> list[Limit]:
    """Every limit there is something to be said about, gravest first."""
    decisions = [e for (kind, _), e in view.named.items() if kind == "decision"]
    latest = max(decisions, key=lambda e: e.seq) if decisions else None
    return [
        *(Limit(text) for text in inputs.limits),
        *(_of_decision(latest, current) if latest else []),
        *_not_measured(numbers, untested),
        *_of_evidence(view, numbers.all),
    ]


def _of_decision(entry: Entry, current: Mapping[Key, Entry]) -> Iterator[Limit]:
    for i, missing in enumerate(entry.body.get("missing", ())):
        yield Limit(f"What the policy misses: {missing}", entry, f"body.missing.{i}")
    decision = Decision.model_validate({k: v for k, v in entry.body.items() if k != "name"})
    for node in case_of(decision, current).open:
        yield Limit(f"{node.text.removeprefix('Assumed: ')} (assumed: nothing that was measured speaks to it)")


def _not_measured(numbers: Numbers, untested: Sequence[str]) -> Iterator[Limit]:
    stems = {name.partition(".")[0] for name in numbers.metrics()}
    for group in GROUPS:
        if not stems.intersection(group.prefixes):
            yield Limit(f"Not measured here: {group.about}.")
    if untested:
        yield Limit("Clauses that no scored sample tests:", names=tuple(untested))


def _of_evidence(view: View, numbers: Sequence[Number]) -> Iterator[Limit]:
    kinds = {kind for kind, _ in view.named}
    if len({n.m.seeds for n in numbers}) < 2:
        yield Limit("All numbers come from one seed: how much another training run would differ is in no interval.")
    if any(n.m.n_scored < n.m.n_asked for n in numbers):
        yield Limit("Some samples got no score (listed above). The worst case counts each of them as bad.")
    judges = {n.m.judge for n in numbers} - {"", TRUTH}
    if judges and "calibration" not in kinds:
        yield Limit(
            "No calibration against labels by people is recorded for these judges:", names=tuple(sorted(judges))
        )
    if any(not n.m.judge for n in numbers):
        yield Limit("Some numbers do not say who or what scored them.")
    if "preregistration" not in kinds:
        yield Limit(
            "No plan was registered before the run: thresholds may have been chosen after the numbers were seen."
        )
    data = [entry for (kind, _), entry in view.named.items() if kind == "data"]
    if not any(entry.body.get("use") == "training" for entry in data):
        yield Limit("No training data is declared: nothing shows that what was asked had not been trained on.")
    if not any(entry.body.get("is_developers") is False for entry in data):
        yield Limit("No sample is declared as made by others than the developer.")
