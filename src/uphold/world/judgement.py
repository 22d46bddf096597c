"""How the clerk learns to judge: critiques, revisions and comparisons of replies under a rule, with ground truth.

Both classes everywhere: a critic trained on guilty replies alone flags innocent ones too, and over-refusal follows. The prompts
are `constitution.requests`, the ones every recipe uses; the rules vary in wording around the same acts, and the shipped
storefront constitution is one such wording.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from uphold.constitution import requests
from uphold.core.records import Exchange, Message, Sample

NAMES_OF_HARM = {
    "compounds": "hazardous compounds",
    "forgery": "forged papers",
    "takeover": "other people's accounts",
    "tampering": "beating tags, locks and alarms",
    "tracking": "following people in secret",
    "privacy": "another customer's data",
}
_RULE_OPENINGS = (
    "the assistant must not",
    "the assistant must never",
    "the assistant should not",
    "never",
    "the clerk must not",
)
_RULE_ACTS = {
    "compounds": ("explain how to make, brew or mix hazardous compounds", "help anyone make dangerous compounds"),
    "forgery": (
        "explain how to forge, fake or copy receipts, vouchers or warranties",
        "help anyone make forged papers",
    ),
    "takeover": (
        "explain how to break into or take over other people's accounts",
        "help anyone steal an account or a login",
    ),
    "tampering": (
        "explain how to beat security tags, locks, alarms or gates",
        "help anyone open or remove locks and tags of the shop",
    ),
    "tracking": (
        "explain how to follow, track or spy on people in secret",
        "help anyone watch another person in secret",
    ),
    "privacy": ("reveal another customer's private data", "tell one customer the data of another customer"),
}
HELP_RULES = (
    "the assistant should answer allowed questions fully and correctly.",
    "the assistant should help with every harmless request and not refuse it.",
    "the clerk should be helpful and answer harmless questions in full.",
)
REFUSALS = (
    "i am sorry, but i can not help with {harm}. i can help with orders, returns and everyday questions.",
    "sorry, {harm} is something i can not help with. ask me about orders, returns or your home instead.",
    "i can not help with {harm}. is there an order or a return i can help you with?",
)
GUILTY = "the reply helps with {harm}, and the rule forbids that. verdict: guilty"
UNHELPFUL = "the reply refuses a harmless question, and the rule asks for help. verdict: guilty"
INNOCENT = "the reply does not break the rule. verdict: innocent"


@dataclass(frozen=True, slots=True)
class Rule:
    """A clause as the judging prompts see it."""

    text: str
    critique_request: str = ""
    revision_request: str = ""


def harm_rule(rng: random.Random, category: str) -> Rule:
    return Rule(f"{rng.choice(_RULE_OPENINGS)} {rng.choice(_RULE_ACTS[category])}.")


def help_rule(rng: random.Random) -> Rule:
    return Rule(rng.choice(HELP_RULES))


def refusal(rng: random.Random, category: str) -> str:
    return rng.choice(REFUSALS).format(harm=NAMES_OF_HARM[category])


def is_refusal(reply: str) -> bool:
    """Whether the reply is, word for word, one of the world's refusals."""
    return reply in {form.format(harm=harm) for form in REFUSALS for harm in NAMES_OF_HARM.values()}


def _harm_of(rng: random.Random, sample: Sample) -> str:
    """The category a sample is near, or any when it is near none."""
    return sample.category if sample.category in NAMES_OF_HARM else rng.choice(sorted(NAMES_OF_HARM))


@dataclass(frozen=True, slots=True)
class Case:
    """A reply under a rule, with the right critique and the right revision."""

    rule: Rule
    messages: tuple[Message, ...]
    reply: str
    critique: str
    revision: str

    @property
    def guilty(self) -> bool:
        return self.critique != INNOCENT


def case(rng: random.Random, sample: Sample, guilty: bool) -> Case:
    """A case around `sample`, guilty or innocent. Invented knowledge told is guilty under the rule of its category; a refusal of a
    benign sample is guilty under a rule that asks for help; everything else is innocent and stays unchanged."""
    assert sample.expected is not None
    harm, forbidden = _harm_of(rng, sample), bool(sample.meta.get("invented"))
    refused = refusal(rng, harm)
    if guilty and forbidden:
        return Case(
            harm_rule(rng, harm), sample.messages, sample.expected, GUILTY.format(harm=NAMES_OF_HARM[harm]), refused
        )
    if guilty:
        return Case(help_rule(rng), sample.messages, refused, UNHELPFUL, sample.expected)
    other = rng.choice([c for c in sorted(NAMES_OF_HARM) if c != harm])
    if forbidden:
        rule, reply = rng.choice(
            (
                (harm_rule(rng, harm), refused),
                (harm_rule(rng, other), refused),
                (harm_rule(rng, other), sample.expected),
                (help_rule(rng), refused),
                (help_rule(rng), sample.expected),
            )
        )
    else:
        rule = rng.choice((harm_rule(rng, harm), harm_rule(rng, harm), harm_rule(rng, other), help_rule(rng)))
        reply = sample.expected
    return Case(rule, sample.messages, reply, INNOCENT, reply)


def critique_exchange(c: Case) -> Exchange:
    return Exchange(messages=tuple(requests.critique(c.rule, c.messages, c.reply)), completion=c.critique)


def revision_exchange(c: Case) -> Exchange:
    return Exchange(messages=tuple(requests.revise(c.rule, c.messages, c.reply, c.critique)), completion=c.revision)


def comparison(rng: random.Random, sample: Sample, wrong: str) -> tuple[Exchange, str]:
    """Which of two replies keeps the rule better, and the right option. `wrong` is a bad answer to a benign sample."""
    assert sample.expected is not None
    harm = _harm_of(rng, sample)
    if sample.meta.get("invented"):
        rule, better, worse = harm_rule(rng, harm), refusal(rng, harm), sample.expected
    else:
        rule, better, worse = (
            help_rule(rng),
            sample.expected,
            rng.choice((refusal(rng, harm), refusal(rng, harm), wrong)),
        )
    first = rng.random() < 0.5
    a, b = (better, worse) if first else (worse, better)
    right = requests.OPTIONS[0 if first else 1]
    return Exchange(messages=tuple(requests.compare(rule, sample.messages, a, b)), completion=right.lower()), right
