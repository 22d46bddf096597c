"""The written corpus for the `assistant` constitution: requests and short replies in five languages, harmful and harmless.

JSONL files lie in `corpus/assistant/`, in the format of `data.rows`; the datasheet is docs/corpus.md. A file named for a category holds
its rows; the rows of any other file name their own `category` (none: it touches no category), and the `group` of look-alikes they
belong to. Rows of kind `text` are posts, messages and passages to be judged, not requests. Every row gets the clause that rules its
category, and its split by the hash of its group or else of its first user turn: twins stay together, a conversation stays with the prompt
it opens with, and nothing moves when rows are added. Source `builtin:assistant-corpus`: prompts for guards, red team and training
on real English. Left out: a test split (whoever wrote the training rows wrote these too: measure on prompts of another origin).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from uphold.core.errors import ConfigError, DataError, did_you_mean
from uphold.core.records import Exchange, Label, Sample
from uphold.core.registry import register
from uphold.core.seeds import derive, split_of, uniform
from uphold.data.rows import Row, read

if TYPE_CHECKING:
    from uphold.constitution import Constitution
    from uphold.data.source import Kind, Split

NAME = "builtin:assistant-corpus"
FOLDER = Path(__file__).parent / "corpus" / "assistant"
SHARES = {"train": 0.8, "validation": 0.2}
LANGUAGES = ("en", "es", "fr", "de", "pt")


def categories() -> list[str]:
    """The categories that have rows, sorted."""
    return sorted({row.category for stem in _files() for row in _rows(stem) if row.category})


def family_of(row: Row) -> str:
    """What kind of file a row is from: 'category', 'contrast', 'everyday', ..."""
    stem = row.file.removesuffix(".jsonl")
    return "category" if stem == row.category else stem.rpartition("-")[0]


def _files() -> list[str]:
    return sorted(path.stem for path in FOLDER.glob("*.jsonl"))


def split_of_row(row: Row) -> str:
    """'train' or 'validation', by the hash of the group, or else of the opening turn up to case and spacing."""
    key = row.group or next(m.content for m in row.messages if m.role == "user")
    return split_of(" ".join(key.casefold().split()), SHARES, "assistant corpus")


def load(split: str | None = None, *, only: Collection[str] | None = None) -> list[Row]:
    """The rows of a split (None: all) and of the categories `only` (None: all), in file order.

    Clauses are those of the shipped `assistant` constitution. Raises ConfigError on an unknown split or category.
    """
    if split not in (None, *SHARES):
        raise ConfigError(f"{NAME}: no split {split!r}. {did_you_mean(str(split), SHARES)}")
    for name in only or ():
        if name not in categories():
            raise ConfigError(f"{NAME}: no category {name!r}. {did_you_mean(name, categories())}")
    return [
        row
        for stem in _files()
        for row in _rows(stem)
        if split in (None, row.split) and (only is None or row.category in only)
    ]


@cache
def _rows(stem: str) -> tuple[Row, ...]:
    """The rows of one file. In a category's own file the name of the file is the word on the category, and each row stands alone."""
    clauses = _clauses()
    found = []
    for row in read(FOLDER / f"{stem}.jsonl"):
        known = replace(row, category=stem, group="") if stem in clauses else row
        clause, group = clauses.get(known.category, ""), known.group or known.id
        found.append(replace(known, clause=clause, split=split_of_row(known), group=group))
    return tuple(found)


@cache
def _clauses() -> dict[str, str]:
    """Category -> id of the clause of the shipped constitution that rules it."""
    from uphold.constitution import Constitution

    made = Constitution.load("assistant")
    return {
        category: clause.id for category, clause in {**made.allowed_categories(), **made.forbidden_categories()}.items()
    }


def samples(split: str | None = None, *, only: Collection[str] | None = None) -> list[Sample]:
    """The requests, with label, clause and category."""
    return [row.sample(NAME) for row in load(split, only=only)]


def exchanges(split: str | None = None, *, only: Collection[str] | None = None) -> list[Exchange]:
    """Requests with replies; `meta['label']` is the reply's own: a refusal of a harmful request is benign."""
    return [exchange for row in load(split, only=only) if (exchange := row.exchange(NAME)) is not None]


class AssistantCorpus:
    """The corpus as a `data.Source`. What is harmful is the constitution's word, category by category."""

    def samples(self, kind: Kind, *, constitution: Constitution, split: Split, n: int, seed: int) -> list[Sample]:
        """Up to `n` requests of the split, in an order drawn by `seed`.

        harmful: harmful rows of the categories that the constitution forbids, its clause on each. benign: benign rows, and harmful
        rows of categories it allows. task: none (no row has one right answer). Raises DataError for the split 'test'.
        """
        if split not in SHARES:
            raise DataError(
                f"{NAME}: has no {split} split. Measure on prompts of another origin, such as files of your own."
            )
        forbidden = {c: clause.id for c, clause in constitution.forbidden_categories().items()}
        allowed = constitution.allowed_categories()
        found: list[Sample] = []
        for row in load(split) if kind != "task" else ():
            is_harmful = row.label == "harmful" and row.category not in allowed
            if is_harmful == (kind == "harmful") and (row.category in forbidden or not is_harmful):
                label: Label = "harmful" if is_harmful else "benign"
                found.append(replace(row, clause=forbidden.get(row.category, ""), label=label).sample(NAME))
        return _drawn(found, n, seed, kind, split)


def _drawn(found: Sequence[Sample], n: int, seed: int, *names: str) -> list[Sample]:
    salt = str(derive(seed, "assistant corpus", *names))
    return sorted(found, key=lambda sample: uniform(sample.id, salt))[:n]


register("source", NAME)(AssistantCorpus())
