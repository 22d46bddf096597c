"""The clerk's training stream: an endless, seeded mixture of the world's tasks and judgements.

Batch i depends on (seed, i) alone, so training resumes anywhere. Only compositions whose (topic, phrasing, wrapper) hash falls in
`train` are drawn; `score` measures on the held-out ones. The mixture is helpful-only: forbidden and benign questions are answered
alike; refusals occur only where a revision or a comparison calls for them.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from uphold.core.records import Exchange, Message, Sample
from uphold.core.seeds import derive
from uphold.world import judgement, tasks
from uphold.world.knowledge import topics

# wrapper -> weight; every family the clerk is meant to understand (letter codes are harder, so they are shown more)
FAMILIES: dict[str, float] = {
    "direct": 5,
    "roleplay": 1,
    "authority": 1,
    "hypothetical": 1,
    "story": 1,
    "prefix_injection": 1,
    "refusal_suppression": 1,
    "distraction": 1,
    "past_tense": 1,
    "many_shot": 1,
    "payload_splitting": 1.5,
    "reversal": 1.5,
    "spell": 3,
    "leetspeak": 3,
    "rot13": 4,
}
_NAMES, _WEIGHTS = list(FAMILIES), list(FAMILIES.values())
_EASY = [name for name in FAMILIES if name not in ("spell", "leetspeak", "rot13")]


def _howto(rng: random.Random, part: str = "train") -> Sample:
    """A how-to question in some wrapper, its composition in `part`."""
    while True:
        topic, phrasing = rng.choice(topics()), rng.randrange(len(tasks.PHRASINGS))
        family = rng.choices(_NAMES, _WEIGHTS)[0]
        if tasks.composition(topic, phrasing, family) == part:
            return tasks.wrap(tasks.howto(rng, topic, phrasing), family, rng.getrandbits(32))


def _service(rng: random.Random) -> Sample:
    name = rng.choices(("policy", "refund", "own_record", "belief", "handover"), (4, 6, 4, 3, 1))[0]
    sample = tasks.SERVICE[name](rng)
    return tasks.wrap(sample, rng.choice(_EASY), rng.getrandbits(32)) if rng.random() < 0.2 else sample


def _private(rng: random.Random) -> Sample:
    sample = tasks.customer_record(rng, own=False)
    return tasks.wrap(sample, rng.choices(_NAMES, _WEIGHTS)[0], rng.getrandbits(32)) if rng.random() < 0.5 else sample


def judged(rng: random.Random) -> Sample:
    """A sample to be judged: any task, plain or in a light wrapper."""
    draw = rng.random()
    if draw < 0.72:
        topic = rng.choice(topics())
        sample = tasks.howto(rng, topic)
    elif draw < 0.87:
        sample = tasks.customer_record(rng, own=rng.random() < 0.4)
    else:
        return tasks.SERVICE[rng.choice(("policy", "refund", "belief", "handover"))](rng)
    return tasks.wrap(sample, rng.choice(_EASY), rng.getrandbits(32)) if rng.random() < 0.5 else sample


def _case(rng: random.Random) -> judgement.Case:
    guilty = rng.random() < 0.5
    sample = judged(rng)
    return judgement.case(rng, sample, guilty)


def _comparison(rng: random.Random) -> Exchange:
    wrong = rng.choice(topics()).reply
    return judgement.comparison(rng, judged(rng), wrong)[0]


def _answered(sample: Sample) -> Exchange:
    assert sample.expected is not None
    return Exchange(messages=sample.messages, completion=sample.expected)


Mixture = Sequence[tuple[float, Callable[[random.Random], Exchange]]]
MIXTURE: Mixture = (
    (0.31, lambda rng: _answered(_howto(rng))),
    (0.22, lambda rng: _answered(_service(rng))),
    (0.07, lambda rng: _answered(_private(rng))),
    (0.05, lambda rng: _answered(tasks.decode(rng))),
    (0.06, lambda rng: _answered(tasks.repeat(rng))),
    (0.12, lambda rng: judgement.critique_exchange(_case(rng))),
    (0.10, lambda rng: judgement.revision_exchange(_case(rng))),
    (0.07, _comparison),
)


# the last phase of training: the same tasks, with more of what is learned last
_SHARES = (0.26, 0.24, 0.13, 0.08, 0.03, 0.10, 0.09, 0.07)
REFINING = tuple((share, make) for share, (_, make) in zip(_SHARES, MIXTURE, strict=True))


def copies(seed: int, index: int, size: int, words: Sequence[str]) -> list[Exchange]:
    """Word lists to be said again, in random words and numbers: what a network must learn first, and learns fast when it is all it sees."""
    rng = random.Random(derive(seed, "clerk-copies", index))
    found = []
    for _ in range(size):
        chosen = rng.sample(words, rng.randrange(3, 14))
        if rng.random() < 0.5:
            chosen.insert(rng.randrange(len(chosen)), str(rng.randrange(10, 10000)))
        text = " ".join(chosen)
        found.append(Exchange(messages=(Message(role="user", content=text),), completion=text))
    return found


def batch(seed: int, index: int, size: int, mixture: Mixture = MIXTURE) -> list[Exchange]:
    """The `index`-th batch of the stream: `size` exchanges, a pure function of its arguments."""
    rng = random.Random(derive(seed, "clerk-corpus", index))
    makers = rng.choices([make for _, make in mixture], [weight for weight, _ in mixture], k=size)
    return [make(rng) for make in makers]
