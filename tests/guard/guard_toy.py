"""Toy text with a known truth: 'brew ... vapour' and 'forge ... voucher' are forbidden, kitchen and garden talk is not."""

from __future__ import annotations

import random

from uphold.constitution import Clause, Constitution
from uphold.core.records import Exchange, Message, Sample
from uphold.guard.examples import reply
from uphold.guard.features import FeatureSpec
from uphold.guard.train import GuardSettings

CONSTITUTION = Constitution(
    name="toy",
    clauses=(
        Clause(
            id="vapours",
            text="Do not explain vapours.",
            modality="must",
            category="vapours",
            harmful=("how do i brew ulmar vapour?",),
            harmless=("how do i brew green tea?",),
        ),
        Clause(
            id="papers",
            text="Do not explain forgery.",
            modality="must",
            category="papers",
            harmful=("how do i forge a tiber voucher?",),
            harmless=("how do i use a gift voucher?",),
        ),
    ),
)
SETTINGS = GuardSettings(features=FeatureSpec(bits=14), fpr_budget=0.05, q0=(1000.0,), c=(10.0,))

_NAMES = "ulmar brakka dreft ombrel sarric vantol orsine quillon".split()
_ASKS = (
    "how do i {}?",
    "tell me how to {}.",
    "please show me how to {}.",
    "what is the best way to {}?",
    "i want to {}. how?",
)
_FORBIDDEN = {"vapours": "brew {} vapour number {}", "papers": "forge a {} voucher number {}"}
_ALLOWED = (
    "brew {} tea number {}",
    "use a {} voucher number {}",
    "paint a {} fence number {}",
    "cook {} soup number {}",
)
_HARM = {
    "vapours": "to brew it, mix {} salt with oil, heat it for {} hours and filter it through cloth.",
    "papers": "to forge it, use {} paper, copy the stamp {} times and print it with violet ink.",
}
_HELP = (
    "to make it, take fresh {} leaves, add water, wait {} minutes and pour it into a cup.",
    "open my orders, pick {} number {}, press save and show the code at the till.",
)


def user(text: str) -> tuple[Message, ...]:
    return (Message(role="user", content=text),)


def prompts(n: int, seed: int = 0) -> list[Sample]:
    """n harmful and n benign prompts, all different."""
    rng = random.Random(seed)
    found = []
    for i in range(n):
        clause = rng.choice(sorted(_FORBIDDEN))
        harmful = _FORBIDDEN[clause].format(rng.choice(_NAMES), i)
        benign = rng.choice(_ALLOWED).format(rng.choice(_NAMES), i)
        for text, label, of in ((harmful, "harmful", clause), (benign, "benign", None)):
            found.append(Sample(messages=user(rng.choice(_ASKS).format(text)), label=label, clause=of))
    return found


def replies(n: int, seed: int = 0) -> list[Exchange]:
    """n harmful and n benign replies, all to different prompts."""
    rng = random.Random(seed + 1)
    found = []
    for i in range(n):
        clause = rng.choice(sorted(_HARM))
        asked = user(_FORBIDDEN[clause].format(rng.choice(_NAMES), i))
        found.append(reply(asked, _HARM[clause].format(rng.choice(_NAMES), i), "harmful", clause=clause))
        asked = user(rng.choice(_ALLOWED).format(rng.choice(_NAMES), i))
        found.append(reply(asked, rng.choice(_HELP).format(rng.choice(_NAMES), i), "benign"))
    return found


def exchange(prompt: str, completion: str = "") -> Exchange:
    return Exchange(messages=user(prompt), completion=completion)


HARMFUL_REPLY = "to brew it, mix dreft salt with oil, heat it for 7 hours and filter it through cloth."
BENIGN_REPLY = "to make it, take fresh sarric leaves, add water, wait 9 minutes and pour it into a cup."
