"""Training the prompt-injection detector: a `DocumentGuard` from generated documents and, where they are there, public corpora.

Orders to an assistant are the harmful class, sentences of clean documents the benign one. Public corpora add breadth: instructions people
give to assistants (as text that is out of place in a document) and everyday prose. One corpus of injections chooses (`validation`),
another reports (`test`); neither is trained on. The threshold is set on whole clean documents of the validation split. Left out: adapting
the encoder itself, and languages other than English.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from uphold.core.errors import DataError
from uphold.core.progress import progress
from uphold.core.records import Sample
from uphold.core.seeds import derive, uniform
from uphold.data.files import read_rows
from uphold.guard import logistic
from uphold.guard.corpora import Corpus, provenance, read_corpus
from uphold.guard.document import DocumentGuard, features, reading_guard, sentences
from uphold.guard.injection_data import document, generated
from uphold.guard.scale import fit_scale

N_ORDERS, N_CLEAN, N_HELD_OUT = 1500, 700, 600
STRENGTHS = (0.001, 0.003, 0.01, 0.03, 0.1)
"""inverse strengths of regularisation to choose from, by AUROC on whole documents of the validation part"""
_MAX_ORDER = 300

_MIT, _APACHE, _CC_BY = "MIT", "Apache-2.0", "CC-BY-4.0"
ORDERS_OF_PEOPLE = (
    Corpus("self-instruct", "instructions.jsonl.gz", ("prompt",), _APACHE, "yizhongw/self-instruct", "train", take=350),
    Corpus(
        "pandalm-preferences", "preferences.jsonl.gz", ("instruction",), _APACHE, "WeOpenML/PandaLM", "train", take=350
    ),
    Corpus("llmbar-judge-pairs", "pairs.jsonl.gz", ("input",), _MIT, "princeton-nlp/LLMBar", "train", take=300),
)
PROSE = (
    Corpus(
        "sentiment-uci", "sentences.jsonl.gz", ("text",), _CC_BY, "UCI Sentiment Labelled Sentences", "train", take=500
    ),
    Corpus("multiple-choice-qa", "qa.jsonl.gz", ("context",), _APACHE, "yizhongw/self-instruct", "train", take=400),
    Corpus("repe", "emotions.jsonl", ("scenario",), _MIT, "andyzoujm/representation-engineering", "train", take=300),
    Corpus("openai-model-spec", "sections.jsonl.gz", ("text",), "CC0-1.0", "openai/model_spec", "train", take=60),
    Corpus(
        "banking77", "queries.jsonl.gz", ("prompt",), _CC_BY, "PolyAI-LDN/task-specific-datasets", "train", take=250
    ),
)
ANSWERS = (
    Corpus("self-instruct", "instructions.jsonl.gz", ("output",), _APACHE, "yizhongw/self-instruct", "train", take=250),
    Corpus(
        "pandalm-preferences", "preferences.jsonl.gz", ("response1",), _APACHE, "WeOpenML/PandaLM", "train", take=200
    ),
)
REAL = Corpus("mt-bench", "mt_bench_questions.jsonl", ("reference",), _APACHE, "lm-sys/FastChat", "validation")
CHOOSING = Corpus(
    "cyberseceval-prompt-injection", "prompt_injection.jsonl", ("prompt",), _MIT, "meta-llama/PurpleLlama",
    "validation", "harmful",
)  # fmt: skip
ATTACKS = Corpus("bipia-injection", "attacks.jsonl", ("prompt",), _MIT, "microsoft/BIPIA", "test", "harmful")
MAIL = Corpus("bipia-injection", "email_contexts.jsonl", ("context",), _MIT, "microsoft/BIPIA", "test")


class Trained(NamedTuple):
    """The guard; strength chosen; AUROC on validation documents by strength."""

    guard: DocumentGuard
    strength: float
    quality: dict[float, float]


def train_injection(
    *,
    corpora: str | Path | None = None,
    own: Sequence[Sample] = (),
    base: str = "builtin:assistant",
    budget: float = 0.01,
    seed: int = 0,
) -> Trained:
    """The detector. corpora: folder of public corpora, used as far as they lie there. own: labelled documents to learn from as well.

    budget: share of clean documents that may be flagged. Equal inputs give equal bits. Raises DataError on own rows without labels.
    """
    encoder = reading_guard(base)
    orders, prose, sources = material(corpora, seed)
    for sample in own:
        cut = [sample.prompt[a:b] for a, b in sentences(sample.prompt)]
        orders += [sample.prompt] if sample.label == "harmful" else []
        prose += cut if sample.label == "benign" else []
    held_out = choosing(corpora, seed)
    with progress("injection", 3, unit="parts") as bar:
        x = features(encoder, [*orders, *prose]).astype(np.float64)
        harmful = np.array([True] * len(orders) + [False] * len(prose))
        bar.advance()
        pieces = [[s.prompt[a:b] for a, b in sentences(s.prompt)] for s in held_out]
        held_x = features(encoder, [p for cut in pieces for p in cut]).astype(np.float64)
        bar.advance()
        owner = np.repeat(np.arange(len(pieces)), [len(cut) for cut in pieces])
        labels = [s.label == "harmful" for s in held_out]
        fits = {c: fit_dense(x, harmful, c) for c in STRENGTHS}
        peaks = {c: _peaks(held_x @ w + b, owner, len(pieces)) for c, (w, b) in fits.items()}
        quality = {c: _auroc(peak, labels) for c, peak in peaks.items()}
        best = max(quality, key=quality.__getitem__)
        bar.advance()
    weights, bias = fits[best]
    scale, threshold = fit_scale(peaks[best].tolist(), labels, [s.id for s in held_out], budget=budget)
    about = {
        "thresholds": {"input": threshold.model_dump(mode="json")},
        "sources": sources,
        "seed": seed,
        "strength": best,
        "counts": {"orders": len(orders), "sentences": len(prose), "held_out": len(held_out)},
    }
    guard = DocumentGuard(encoder, weights.astype(np.float32), bias, scale, about, base_name=base)
    return Trained(guard, best, quality)


def material(corpora: str | Path | None, seed: int) -> tuple[list[str], list[str], list[dict[str, Any]]]:
    """(orders, harmless sentences, provenance) to learn from, test and validation corpora left out."""
    rng = random.Random(derive(seed, "injection material"))
    rows = generated("train", N_ORDERS, seed, whole=False)[:N_ORDERS]
    orders = [s.prompt for s in rows]
    clean = generated("train", N_CLEAN, seed)[N_CLEAN:]
    prose = [s.prompt[a:b] for s in clean for a, b in sentences(s.prompt)]
    sources: list[dict[str, Any]] = [{"name": "generated", "licence": "Apache-2.0", "n": len(orders) + len(clean)}]
    for corpus, into in [*((c, orders) for c in ORDERS_OF_PEOPLE), *((c, prose) for c in (*PROSE, *ANSWERS))]:
        if corpora is None or not (Path(corpora) / corpus.name / corpus.file).exists():
            continue
        samples = read_corpus(corpora, corpus)
        if into is orders:
            into += [s.prompt for s in samples if len(s.prompt) <= _MAX_ORDER]
        else:
            into += [s.prompt[a:b] for s in samples for a, b in sentences(s.prompt)[:8]]
        sources.append(provenance(corpora, corpus, len(samples)))
    prose = list(dict.fromkeys(prose))
    rng.shuffle(prose)
    return list(dict.fromkeys(orders)), prose, sources


def choosing(corpora: str | Path | None, seed: int) -> list[Sample]:
    """The documents to choose and set the threshold on: generated ones, and real injections and prose where the corpora lie there."""
    found = generated("validation", N_HELD_OUT, seed)
    for corpus in (CHOOSING, REAL):
        if corpora is not None and (Path(corpora) / corpus.name / corpus.file).exists():
            found += read_corpus(corpora, corpus)
    return found


def fit_dense(x: Any, harmful: Any, c: float) -> tuple[Any, float]:
    """(weights, bias) of logistic regression on standardised columns, both classes weighing alike; c: inverse regularisation."""
    mean, spread = x.mean(axis=0), x.std(axis=0) + 1e-6
    z = (x - mean) / spread
    sign = np.where(harmful, 1.0, -1.0)
    weight = np.where(harmful, 0.5 / max(1, harmful.sum()), 0.5 / max(1, (~harmful).sum())) * len(harmful)

    def loss(point: Any) -> tuple[float, Any]:
        margin = sign * (z @ point[:-1] + point[-1])
        slope = -c * weight * sign / (1 + np.exp(np.clip(margin, -500, 500)))
        value = c * float(weight @ np.logaddexp(0.0, -margin)) + 0.5 * float(point[:-1] @ point[:-1])
        return value, np.append(z.T @ slope + point[:-1], slope.sum())

    found = logistic.minimise(loss, np.zeros(x.shape[1] + 1), 300)
    w = found[:-1] / spread
    return w, float(found[-1] - w @ mean)


def _peaks(logits: Any, owner: Any, n: int) -> Any:
    found = np.full(n, -np.inf)
    np.maximum.at(found, owner, logits)
    return found


def _auroc(scores: Any, labels: Sequence[bool]) -> float:
    from uphold.guard.metrics import auroc, ranking

    return float(auroc(ranking(list(scores), labels)))


def held_out_mail(corpora: str | Path) -> tuple[list[Sample], list[Sample]]:
    """(clean e-mails, the same with an attack in them) of the test corpus: each attack in one e-mail, at its start, middle or end.

    Which and where is drawn by hash; grouped by e-mail. Raises DataError when the corpus is not there.
    """
    folder = Path(corpora) / ATTACKS.name
    if not folder.exists():
        raise DataError(f"{folder}: no such folder. The test corpus is {ATTACKS.upstream}, licence {ATTACKS.licence}.")
    mails = [s.prompt for s in read_corpus(corpora, MAIL)]
    clean = [document(text, "benign", source="bipia", group=f"mail {i}") for i, text in enumerate(mails)]
    attacked = []
    for _, row in read_rows(folder / ATTACKS.file):
        attack = str(row["prompt"])
        i = int(uniform(attack, "mail") * len(mails))
        place = ("start", "middle", "end")[int(uniform(attack, "place") * 3)]
        text = inserted(mails[i], attack, place)
        made = document(text, "harmful", source="bipia", group=f"mail {i}")
        kind = f"{row.get('kind')}: {row.get('category')}"
        attacked.append(made.model_copy(update={"meta": {**made.meta, "place": place, "kind": kind, "attack": attack}}))
    return clean, attacked


def inserted(text: str, attack: str, place: str) -> str:
    """The text with an attack as a line of its own at its start, end, or the sentence end nearest its middle."""
    if place == "start":
        return f"{attack}\n{text}"
    if place == "end":
        return f"{text}\n{attack}"
    cuts = sentences(text)
    at = cuts[len(cuts) // 2][0] if len(cuts) > 1 else len(text)
    return f"{text[:at]}\n{attack}\n{text[at:]}"
