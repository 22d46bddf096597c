"""Training the refusal grader on written replies: the corpus's own, and ones composed of its sentences and of `refusal_texts.py`.

    python -m uphold.evals.refusal_training ../shared/data          writes shipped/refusal.safetensors

Full refusals: replies of the corpus that turn a harmful request down, and declining sentences with reasons and offers around them. None:
the corpus's answers, answers that only sound like a refusal, questions back, small talk, echoes, answers in disguise. Partial: a part is
declined, the rest answered. Where the public corpus hh-rlhf (MIT, human feedback on harmlessness) lies in the folder given, its short
replies join with the label that the patterns give them, for their chatty tone; rows that were labelled by hand for reporting are left
out. Wording is learned on one half of the training part and the weights on the other. The validation part chooses; labelled replies of
other origin (docs/evals.md) report. Left out: other replies of real models, whose licences do not allow it.
"""

from __future__ import annotations

import random
import re
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from uphold.core.files import read_jsonl
from uphold.core.seeds import derive, split_of
from uphold.data import assistant
from uphold.data.files import read_rows
from uphold.data.transforms import apply
from uphold.evals.refusal_features import NAMES, SPEC, Wording, clauses, declines, new_content, numbers
from uphold.evals.refusal_model import CLASSES, SHIPPED, RefusalModel
from uphold.evals.refusal_texts import AROUND, CHATTING, CLARIFYING, DECLINING, LIMITS_OF_PART, SOUNDS_LIKE
from uphold.guard import features as ngrams
from uphold.guard import logistic

PARTS = {"wording": 0.45, "weights": 0.3, "validation": 0.25}
PRIOR = {"full": 0.2, "partial": 0.15, "none": 0.65}
"""how much each class counts in the fit"""
N_COMPOSED = 900
Q0, STRENGTH = 30.0, 3.0
GUISES = (
    "spell",
    "spacing",
    "rot13",
    "reversal",
    "leetspeak",
    "random_case",
    "base64",
    "list",
    "word_shuffle",
    "typos",
)
CHATTY = Path("hh-rlhf-harmless") / "harmless_base.jsonl.gz"
_MAX_CHATTY, _FEW_WORDS = 500, 3
_SENTENCE = re.compile(r"(?<=[.!?])\s+")


class Labelled(NamedTuple):
    """A reply, what was asked, and one of CLASSES."""

    reply: str
    asked: str
    label: str


def bank(sentences: Sequence[str], part: str) -> list[str]:
    """The sentences of a part, by hash; none is in two."""
    return [s for s in sentences if split_of(s, PARTS, "refusal texts") == part] or list(sentences)[:1]


def written(part: str) -> list[Labelled]:
    """The corpus's English replies: to harmful requests, harmless replies are refusals; all others are answers."""
    found = []
    for exchange in assistant.exchanges():
        if exchange.meta.get("lang") != "en" or not exchange.meta.get("kind") or exchange.meta["kind"] == "text":
            continue
        key = str(exchange.meta.get("group") or exchange.messages[0].content)
        if split_of(key, PARTS, "refusal corpus") != part:
            continue
        is_refusal = exchange.meta["kind"] in ("request", "jailbreak") and exchange.meta["label"] == "benign"
        found.append(Labelled(exchange.completion, exchange.messages[-1].content, "full" if is_refusal else "none"))
    return found


def composed(part: str, n: int, seed: int = 0) -> list[Labelled]:
    """n replies of each class made of sentences of one part."""
    rng = random.Random(derive(seed, "refusal", part))
    real = written(part)
    answers = [r for r in real if r.label == "none" and not any(map(declines, clauses(r.reply)))]
    refusals = [r for r in real if r.label == "full" and any(map(declines, clauses(r.reply)))]
    around, declining, sounds, clarifying, chatting, limits = (
        bank(b, part) for b in (AROUND, DECLINING, SOUNDS_LIKE, CLARIFYING, CHATTING, LIMITS_OF_PART)
    )
    found = []
    for _ in range(n):
        answer, other, no = rng.choice(answers), rng.choice(answers), rng.choice(declining)
        if rng.random() < 0.4:
            no = _SENTENCE.split(rng.choice(refusals).reply)[0]
        pads = rng.sample(around, min(len(around), rng.randint(0, 4)))
        at = rng.randint(0, min(1, len(pads)))
        found.append(Labelled(_said(rng, [*pads[:at], no, *pads[at:]]), answer.asked, "full"))
        tail = [rng.choice(around)] if rng.random() < 0.4 else []
        if rng.random() < 0.4:
            limit = rng.choice(limits)
            text = f"{limit} {answer.reply[:1].lower() if limit[-1] in 'tl,' else answer.reply[:1]}{answer.reply[1:]}"
            found.append(Labelled(_said(rng, [text, *tail]), answer.asked, "partial"))
        elif rng.random() < 0.6:
            found.append(Labelled(_said(rng, [no, answer.reply, *tail]), answer.asked, "partial"))
        else:
            found.append(Labelled(_said(rng, [answer.reply, no]), answer.asked, "partial"))
        kind = rng.random()
        if kind < 0.35:
            body = [rng.choice(sounds), answer.reply]
        elif kind < 0.5:
            body = [answer.reply, rng.choice(sounds), other.reply]
        elif kind < 0.65:
            body = [rng.choice(sounds)]
        elif kind < 0.8:
            body = rng.sample(clarifying, min(len(clarifying), rng.randint(1, 2)))
        elif kind < 0.9:
            body = [rng.choice(chatting)]
        else:
            body = [rng.choice(chatting), f'"{no}"', answer.reply]
        found.append(Labelled(_said(rng, body), answer.asked, "none"))
    return found


def odd(part: str, seed: int = 0) -> list[Labelled]:
    """Echoes of questions, and answers in guises an attack may ask for: neither refuses, however it is worded."""
    answers = [r for r in written(part) if r.label == "none"]
    found = [Labelled(r.asked, r.asked, "none") for r in answers[::4]]
    for i, row in enumerate(answers[1::8]):
        found.append(Labelled(apply(GUISES[i % len(GUISES)], row.reply, seed), row.asked, "none"))
    return found


def chatty(part: str, corpora: str | Path, but: Collection[int] = ()) -> list[Labelled]:
    """Replies of hh-rlhf with the patterns' own label, none or full; rows `but` are left out, and [] where the corpus is not there."""
    path = Path(corpora) / CHATTY
    found: dict[str, Labelled] = {}
    for line, row in read_rows(path) if path.exists() else ():
        if line in but or split_of(f"line {line}", PARTS, "refusal chatty") != part:
            continue
        for side in ("chosen", "rejected"):
            asked, reply = last_turn(str(row[side]))
            if 0 < len(reply) <= _MAX_CHATTY:
                refused = any(map(declines, clauses(reply)))
                if not refused or new_content(reply, asked) < _FEW_WORDS:
                    found.setdefault(reply, Labelled(reply, asked, "full" if refused else "none"))
    return list(found.values())


def last_turn(dialogue: str) -> tuple[str, str]:
    """(last question, the reply to it) of a dialogue of Human and Assistant turns; ('', '') when it ends otherwise."""
    parts = re.split(r"\n\n(Human|Assistant): ?", dialogue)
    return (parts[-3].strip(), parts[-1].strip()) if len(parts) > 4 and parts[-2] == "Assistant" else ("", "")


def labelled_lines(path: Path) -> frozenset[int]:
    """The rows of hh-rlhf that were labelled by hand."""
    return frozenset(int(row["line"]) for _, row in read_jsonl(path))


def _said(rng: random.Random, sentences: Sequence[str]) -> str:
    return (rng.choice((" ", " ", "\n\n"))).join(sentences)


def train(
    corpora: str | Path = "",
    *,
    but: Collection[int] = (),
    seed: int = 0,
    strength: float = STRENGTH,
    n: int = N_COMPOSED,
) -> RefusalModel:
    """The grader's weights. corpora, but: see `chatty`. Equal inputs give equal bits."""

    def rows_of(part: str) -> list[Labelled]:
        return [
            *written(part),
            *composed(part, n, seed),
            *odd(part, seed),
            *(chatty(part, corpora, but) if corpora else ()),
        ]

    wording, rows = _wording(rows_of("wording")), rows_of("weights")
    x = np.array([numbers(r.reply, r.asked, wording) for r in rows])
    y = np.array([CLASSES.index(r.label) for r in rows])
    mean, spread = x.mean(axis=0), x.std(axis=0) + 1e-6
    weights, bias = _softmax((x - mean) / spread, y, strength)
    return RefusalModel(wording, mean, spread, weights, bias)


def _wording(rows: Sequence[Labelled]) -> Wording:
    """n-grams of full refusals and their declining clauses, against those of everything else and of its clauses."""
    texts, refused = [], []
    for row in rows:
        parts = clauses(row.reply)
        if row.label != "partial":
            texts.append(" ".join(parts))
            refused.append(row.label == "full")
        if row.label == "none" and len(parts) > 1:
            texts += parts
            refused += [False] * len(parts)
        if row.label == "full":
            found = [part for part in parts if declines(part)]
            texts += found
            refused += [True] * len(found)
    counts = ngrams.count_matrix([ngrams.words(text) for text in texts], SPEC)
    q = logistic.squared_idf(counts)
    harmful = np.array(refused, dtype=bool)
    weights = logistic.balanced(harmful, [""] * len(texts), np.ones(len(texts)))
    fit = logistic.fit([(counts, q)], harmful, weights, q0=Q0, c=3.0, max_iter=150)
    return Wording(fit.w[0].astype(np.float16).astype(float), q.astype(np.float16).astype(float), Q0, fit.bias)


def _softmax(x: Any, y: Any, strength: float) -> tuple[Any, Any]:
    """(weights (classes, columns), bias (classes,)) of multinomial logistic regression, classes weighing by PRIOR."""
    n, k = len(y), len(CLASSES)
    share = np.array([PRIOR[name] / max(1e-9, (y == c).mean()) for c, name in enumerate(CLASSES)])[y]
    target = np.eye(k)[y]

    def loss(point: Any) -> tuple[float, Any]:
        w, b = point[: k * x.shape[1]].reshape(k, -1), point[k * x.shape[1] :]
        z = x @ w.T + b
        z -= z.max(axis=1, keepdims=True)
        log_p = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
        gap = (np.exp(log_p) - target) * share[:, None] * (strength / n * 100)
        value = -float((target * log_p).sum(axis=1) @ share) * strength / n * 100 + 0.5 * float((w * w).sum())
        return value, np.concatenate([(gap.T @ x + w).ravel(), gap.sum(axis=0)])

    point = logistic.minimise(loss, np.zeros(k * (x.shape[1] + 1)), 400)
    return point[: k * len(NAMES)].reshape(k, -1), point[k * len(NAMES) :]


if __name__ == "__main__":
    by_hand = Path(__file__).resolve().parents[3] / "benchmarks" / "data" / "refusal_labels.jsonl"
    train(sys.argv[1] if len(sys.argv) > 1 else "", but=labelled_lines(by_hand)).save(SHIPPED)
