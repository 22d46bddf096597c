"""One model's answers to everything the tax is measured on.

Takes a `Chat` and `Questions`; gives `Said`: greedy replies to tasks, benign and harmful prompts, several draws of some of the prompts
for diversity, and, of a model whose weights are here, the log-probability it gives its own replies and its choices. An endpoint has
neither: calibration and choices are then left out. Left out: judging what was said (`metrics.py`).
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pydantic import Field

from uphold.core.errors import Unsupported
from uphold.core.progress import Bar, progress
from uphold.core.records import Message, Record, Sample
from uphold.core.seeds import derive
from uphold.evals.answers import Answer, answer
from uphold.models.base import Chat, Completion, Sampling, Weights
from uphold.train.tax.questions import Choice, Questions


class TaxConfig(Record):
    """How a tax is measured. max_new_tokens: of each reply. n_diverse: prompts that are asked `n_draws` times at `temperature`.

    has_steps: hold each stage to the one before as well, which says where something was lost. alpha: chance of a false alarm in all (BH
    over everything with a limit); intervals are at 1 - alpha. seed: of the draws.
    """

    max_new_tokens: int = Field(default=96, ge=1)
    n_diverse: int = Field(default=60, ge=0)
    n_draws: int = Field(default=4, ge=2, le=64)
    temperature: float = Field(default=1.0, gt=0, le=5)
    has_steps: bool = True
    alpha: float = Field(default=0.05, gt=0, lt=0.5)
    seed: int = Field(default=0, ge=0)


@dataclass(frozen=True, slots=True)
class Said:
    """What one model said. confidence: probability of each greedy reply to a task under the model itself, None where unknown; chosen:
    probabilities of each question's choices; drawn: texts of each prompt of `diverse_prompts`, None where one is missing."""

    tasks: list[Answer]
    benign: list[Answer]
    harmful: list[Answer]
    confidence: list[float | None]
    chosen: list[list[float]]
    drawn: list[list[str] | None]


def diverse_prompts(questions: Questions, config: TaxConfig) -> list[Sample]:
    """The honest prompts that are asked several times: a seeded draw that does not depend on the model."""
    unique = {s.id: s for s in (*questions.tasks, *questions.benign)}
    order = sorted(unique)
    random.Random(derive(config.seed, "diverse")).shuffle(order)
    return [unique[i] for i in sorted(order[: config.n_diverse])]


def ask(chat: Chat, questions: Questions, config: TaxConfig) -> Said:
    """Everything asked of one model. Raises Unsupported for choices put to a model whose weights are not here."""
    if questions.choices and not isinstance(chat, Weights):
        raise Unsupported(
            f"{chat.spec}: choices are weighed by their probabilities, and its weights are not here. Ask it tasks with an `answer`."
        )
    some = diverse_prompts(questions, config)
    plain = (questions.tasks, questions.benign, questions.harmful)
    total = sum(map(len, plain)) + len(questions.choices) + len(some) * config.n_draws
    sampling = Sampling(max_new_tokens=config.max_new_tokens, seed=config.seed)
    with progress(f"tax: {chat.spec}", total, unit="prompts") as bar:
        tasks, benign, harmful = (_counted(answer(chat, part, sampling=sampling), bar) for part in plain)
        drawn = _drawn(chat, some, config)
        bar.advance(len(some) * config.n_draws)
        chosen = _chosen(chat, questions.choices) if isinstance(chat, Weights) else []
        bar.advance(len(questions.choices))
    unknown: list[float | None] = [None] * len(tasks)
    confidence = _confidence(chat, tasks) if isinstance(chat, Weights) else unknown
    return Said(tasks, benign, harmful, confidence, chosen, drawn)


def _counted(found: Iterable[Answer], bar: Bar) -> list[Answer]:
    kept = []
    for one in found:
        kept.append(one)
        bar.advance(1)
    return kept


def _drawn(chat: Chat, prompts: Sequence[Sample], config: TaxConfig) -> list[list[str] | None]:
    n = config.n_draws
    sampling = Sampling(
        temperature=config.temperature, max_new_tokens=config.max_new_tokens, seed=derive(config.seed, "draws")
    )
    replies = chat.generate([s.messages for s in prompts for _ in range(n)], sampling)
    return [_texts(replies[i * n : (i + 1) * n]) for i in range(len(prompts))]


def _texts(replies: Sequence[Completion]) -> list[str] | None:
    texts = [r.text for r in replies if r.text is not None and r.error is None]
    return texts if len(texts) == len(replies) else None


def _chosen(chat: Weights, questions: Sequence[Choice]) -> list[list[float]]:
    """Questions with the same choices are asked in one call."""
    by_options: dict[tuple[str, ...], list[int]] = {}
    for i, question in enumerate(questions):
        by_options.setdefault(question.choices, []).append(i)
    found: list[list[float]] = [[] for _ in questions]
    for options, numbers in by_options.items():
        conversations: list[Sequence[Message]] = [questions[i].messages for i in numbers]
        for i, probabilities in zip(numbers, chat.choose(conversations, options), strict=True):
            found[i] = probabilities
    return found


def _confidence(chat: Weights, answers: Sequence[Answer]) -> list[float | None]:
    """exp of the summed log-probability of the model's own greedy reply, in [0, 1]; None without a reply."""
    known = [i for i, a in enumerate(answers) if a.completion]
    rows = chat.logprobs([answers[i].sample.messages for i in known], [answers[i].completion or "" for i in known])
    found: list[float | None] = [None] * len(answers)
    for i, row in zip(known, rows, strict=True):
        found[i] = min(1.0, math.exp(math.fsum(row))) if row else None
    return found
