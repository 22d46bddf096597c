"""Public corpora of prompts and texts for guards: what each holds, its licence, and what it may be used for here.

Takes a folder with one sub-folder per corpus, as upstream published them in JSONL; gives labelled `Sample`s with source and weight, and
the provenance that a guard records. A whole corpus is for one use: to train on, to choose on (`validation`) or to report on (`test`),
so that no test prompt has a sibling in training; rows to train on that share OVERLAP words in a row with one of the other uses are left
out (n-gram overlap, as in Brown et al. 2020, arXiv:2005.14165). Corpora with a non-commercial licence are for testing alone, and
never redistributed. Left out: fetching them, and corpora of a user's own (`read_prompts` reads those).
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from uphold.core.errors import DataError
from uphold.core.records import Label, Message, Sample
from uphold.core.seeds import uniform
from uphold.data.dedupe import words
from uphold.data.files import read_rows, well_formed

Role = Literal["train", "validation", "test"]
MIN_CHARS, MAX_CHARS = 3, 20_000
OVERLAP = 8  # words in a row


@dataclass(frozen=True)
class Corpus:
    """One file of a public corpus.

    columns: joined by a line break where filled. label: of every row; where `label_column` is set, `harmful` and `benign` list the
    values of it that stand for each, and other rows are left out. drop: column, and values of it whose rows are left out. take: at most so
    many rows, drawn by hash. weight: how far the label is trusted, in (0, 1].
    """

    name: str
    file: str
    columns: tuple[str, ...]
    licence: str
    upstream: str
    role: Role
    label: Label | None = "benign"
    label_column: str = ""
    harmful: tuple[object, ...] = ()
    benign: tuple[object, ...] = ()
    drop: tuple[str, tuple[object, ...]] = ("", ())
    take: int = 0
    weight: float = 1.0

    @property
    def is_free(self) -> bool:
        """Whether what is trained on it may be redistributed for any purpose."""
        return "NC" not in self.licence


_MIT, _APACHE, _CC_BY = "MIT", "Apache-2.0", "CC-BY-4.0"
_MILD = ("Political Lobbying", "Legal Opinion", "Financial Advice", "Health Consultation", "Gov Decision")
_ADVICE = ("spc_lgl", "spc_fin", "spc_hlt", "spc_ele")

CATALOGUE: tuple[Corpus, ...] = (
    Corpus("red-instruct", "harmful_questions.jsonl.gz", ("prompt",), _APACHE, "declare-lab/red-instruct",
           "train", "harmful", take=900, weight=0.3),
    Corpus("ailuminate-demo", "prompts.jsonl.gz", ("prompt",), _CC_BY, "mlcommons/ailuminate", "train",
           "harmful", drop=("hazard", _ADVICE), weight=0.6),
    Corpus("clinc150", "queries.jsonl.gz", ("prompt",), "CC-BY-3.0", "clinc/oos-eval", "train", take=900),
    Corpus("banking77", "queries.jsonl.gz", ("prompt",), _CC_BY, "PolyAI-LDN/task-specific-datasets",
           "train", take=500),
    Corpus("self-instruct", "instructions.jsonl.gz", ("prompt", "input"), _APACHE, "yizhongw/self-instruct", "train"),
    Corpus("llmbar-judge-pairs", "pairs.jsonl.gz", ("input",), _MIT, "princeton-nlp/LLMBar", "train"),
    Corpus("pandalm-preferences", "preferences.jsonl.gz", ("instruction", "input"), _APACHE,
           "WeOpenML/PandaLM", "train"),
    Corpus("gsm8k", "train.jsonl.gz", ("question",), _MIT, "openai/grade-school-math", "train", take=400),
    Corpus("truthfulqa", "truthfulqa.jsonl.gz", ("question",), _APACHE, "sylinrl/TruthfulQA", "train"),
    Corpus("sentiment-uci", "sentences.jsonl.gz", ("text",), _CC_BY, "UCI Sentiment Labelled Sentences", "train", take=700),
    Corpus("repe", "emotions.jsonl", ("scenario",), _MIT, "andyzoujm/representation-engineering", "train",
           take=600),
    Corpus("repe", "facts_true_false.jsonl", ("statement",), _MIT, "andyzoujm/representation-engineering",
           "train", take=300),
    Corpus("bbq", "bbq.jsonl.gz", ("context", "question"), _CC_BY, "nyu-mll/BBQ", "train", take=500),
    Corpus("winogenerated", "winogenerated.jsonl.gz", ("sentence_with_blank",), _CC_BY, "anthropics/evals",
           "train", take=200),
    Corpus("multiple-choice-qa", "qa.jsonl.gz", ("context", "question"), _APACHE, "yizhongw/self-instruct",
           "train", take=400),
    Corpus("hate-speech-davidson", "tweets.jsonl.gz", ("text",), _MIT, "t-davidson/hate-speech-and-offensive-language", "train",
           None, "label", harmful=(0,), benign=(2,), weight=0.7),
    Corpus("advbench", "harmful_behaviors.jsonl", ("prompt",), _MIT, "llm-attacks/llm-attacks", "train", "harmful"),
    Corpus("inthewild-jailbreaks", "jailbreak_prompts.jsonl.gz", ("prompt",), _MIT,
           "verazuo/jailbreak_llms", "train", "harmful"),
    Corpus("forbidden-questions", "forbidden_questions.jsonl", ("prompt",), _MIT, "verazuo/jailbreak_llms",
           "validation", "harmful", drop=("category", _MILD)),
    Corpus("mt-bench", "mt_bench_questions.jsonl", ("turns",), _APACHE, "lm-sys/FastChat", "validation"),
    Corpus("mt-bench", "vicuna_bench_questions.jsonl", ("turns",), _APACHE, "lm-sys/FastChat", "validation"),
    Corpus("harmbench", "behaviors.jsonl", ("prompt", "context"), _MIT, "centerforaisafety/HarmBench",
           "test", "harmful", drop=("functional_category", ("copyright",))),
    Corpus("cyberseceval-frr", "frr.jsonl.gz", ("prompt",), _MIT, "meta-llama/PurpleLlama", "test"),
    Corpus("cyberseceval-interpreter", "interpreter.jsonl.gz", ("prompt",), _MIT, "meta-llama/PurpleLlama",
           "test", "harmful"),
    Corpus("self-reminder-jailbreaks", "jailbreak_prompts.jsonl", ("prompt",), _MIT,
           "yjw1029/Self-Reminder-Data", "test", "harmful"),
    Corpus("do-not-answer-nc", "questions.jsonl", ("prompt",), "CC-BY-NC-SA-4.0", "Libr-AI/do-not-answer",
           "test", "harmful"),
    Corpus("alpaca-prompts-nc", "prompts.jsonl.gz", ("prompt",), "CC-BY-NC-4.0",
           "tatsu-lab/stanford_alpaca", "test", take=3000),
)  # fmt: skip


def of_role(root: str | Path, role: Role) -> tuple[list[Sample], list[dict[str, Any]]]:
    """(samples, provenance) of every catalogued corpus of a role that lies under `root`.

    provenance: name, licence, upstream, rows and SHA-256 of each file used. Of the role `train`, rows that share words with the other
    roles' corpora under `root` are left out. Raises DataError when there is none, or a file is damaged.
    """
    root, samples, used = Path(root), [], []
    there = [corpus for corpus in CATALOGUE if (root / corpus.name / corpus.file).exists()]
    others = [corpus for corpus in there if role == "train" and corpus.role != role]
    kept_back = {run for corpus in others for s in read_corpus(root, corpus) for run in _runs(s.prompt)}
    for corpus in there:
        if corpus.role == role:
            read = [s for s in read_corpus(root, corpus) if kept_back.isdisjoint(_runs(s.prompt))]
            samples += read
            used.append(provenance(root, corpus, len(read)))
    if not used:
        known = ", ".join(sorted({corpus.name for corpus in CATALOGUE if corpus.role == role}))
        raise DataError(f"{root}: holds none of the corpora known for this use ({known}), one folder each.")
    return samples, used


def read_corpus(root: str | Path, corpus: Corpus) -> list[Sample]:
    """Its labelled samples, repeats and blank rows left out, with `source` and `weight` in their meta."""
    path = Path(root) / corpus.name / corpus.file
    found: dict[str, Sample] = {}
    for line, row in read_rows(path):
        label = _label(corpus, row)
        text = _joined(corpus.columns, row)
        if label is None or len(text) < MIN_CHARS or not _is_wanted(corpus, row):
            continue
        meta = {"source": corpus.name, "line": line, "weight": corpus.weight}
        found.setdefault(
            text, Sample(messages=(Message(role="user", content=text),), label=label, family=corpus.name, meta=meta)
        )
    if not found:
        raise DataError(f"{path}: no row has text under {', '.join(corpus.columns)}. Copy the corpus again.")
    samples = list(found.values())
    if corpus.take and len(samples) > corpus.take:
        samples = sorted(samples, key=lambda s: uniform(s.prompt, f"corpus {corpus.name}"))[: corpus.take]
    return samples


def _runs(text: str) -> set[tuple[str, ...]]:
    """Every OVERLAP words in a row; a shorter text is one run."""
    found = words(text)
    return {tuple(found[i : i + OVERLAP]) for i in range(max(1, len(found) - OVERLAP + 1))}


def _label(corpus: Corpus, row: dict[str, Any]) -> Label | None:
    if not corpus.label_column:
        return corpus.label
    value = row.get(corpus.label_column)
    if value in corpus.harmful:
        return "harmful"
    return "benign" if value in corpus.benign else None


def _is_wanted(corpus: Corpus, row: dict[str, Any]) -> bool:
    column, dropped = corpus.drop
    return not column or row.get(column) not in dropped


def _joined(columns: Iterable[str], row: dict[str, Any]) -> str:
    parts = []
    for column in columns:
        value = row.get(column) or ""
        value = value[0] if isinstance(value, list) and value else value
        parts.append(str(value).strip())
    return well_formed("\n".join(part for part in parts if part))[:MAX_CHARS]


def provenance(root: str | Path, corpus: Corpus, n: int) -> dict[str, Any]:
    """What a guard records of a corpus it was trained on."""
    return {
        "name": corpus.name,
        "file": corpus.file,
        "licence": corpus.licence,
        "upstream": corpus.upstream,
        "n": n,
        "sha256": sha256(Path(root) / corpus.name / corpus.file),
    }


def own_provenance(paths: Sequence[Path], licences: Sequence[str], counts: Sequence[int]) -> list[dict[str, Any]]:
    """The same of a user's files; a licence that was not given is recorded as not stated."""
    given = [*licences, *["not stated"] * (len(paths) - len(licences))]
    return [
        {"name": path.name, "file": path.name, "licence": licence, "upstream": "", "n": n, "sha256": sha256(path)}
        for path, licence, n in zip(paths, given, counts, strict=True)
    ]


def sha256(path: Path) -> str:
    """SHA-256 (hex) of what a file holds, unpacked where it is gzipped."""
    h = hashlib.sha256()
    for block in _blocks(path):
        h.update(block)
    return h.hexdigest()


def _blocks(path: Path) -> Iterator[bytes]:
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else open(path, "rb") as file:
            while block := file.read(1 << 20):
                yield block
    except OSError as error:
        raise DataError(f"{path}: cannot read: {error.strerror or error}.") from error
