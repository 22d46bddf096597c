"""Labelled text for guards: prompts as `Sample`s, replies as `Exchange`s that carry their label.

Samples and exchanges come from a source, from files or from the pipeline; the constitution's own examples join them. Here they get what
training and evaluation need to know of them: stage, label, group, kind, a split by content, and a hash. Left out: making new examples.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from uphold.core.errors import DataError
from uphold.core.records import Exchange, Label, Message, Sample, digest
from uphold.core.seeds import split_of
from uphold.guard.base import turns_text

if TYPE_CHECKING:
    from uphold.constitution import Constitution

Example = Sample | Exchange
CONSTITUTION = "constitution"


def reply(
    messages: Sequence[Message],
    completion: str,
    label: Label,
    *,
    clause: str | None = None,
    group: str = "",
    family: str = "direct",
    source: str = "",
) -> Exchange:
    """A labelled reply: an Exchange whose meta holds label, group, family and source."""
    meta = {"label": label, "group": group, "family": family, "source": source}
    return Exchange(messages=tuple(messages), completion=completion, clause=clause, meta=meta)


def is_harmful(example: Example) -> bool:
    """The label as a claim. Raises DataError on an exchange without one."""
    label = example.label if isinstance(example, Sample) else example.meta.get("label")
    if label not in ("harmful", "benign"):
        raise DataError(
            f"a reply to train or test a guard on has label {label!r} in its meta. Make it with uphold.guard.examples.reply, "
            "or set meta['label'] to 'harmful' or 'benign'."
        )
    return label == "harmful"


def exchange_of(example: Example) -> Exchange:
    """What a guard is asked to judge."""
    if isinstance(example, Exchange):
        return example
    return Exchange(messages=example.messages, completion="", clause=example.clause)


def is_prompt(example: Example) -> bool:
    return isinstance(example, Sample) or not example.completion


def _said(example: Example, field: str, default: str = "") -> str:
    value = getattr(example, field, None) if isinstance(example, Sample) else example.meta.get(field)
    return str(value or default)


def family_of(example: Example) -> str:
    return _said(example, "family", "direct")


def source_of(example: Example) -> str:
    """The file or source it came from; '' when unknown."""
    return str(example.meta.get("source") or "")


def group_of(example: Example) -> str:
    """What repeats across examples: intervals are clustered by it."""
    return _said(example, "group") or key_of(example)


def _folded(text: str) -> str:
    return " ".join(text.casefold().split())


def prompt_key(example: Example) -> str:
    """The prompt up to case and spacing: examples that share it never straddle two splits."""
    return _folded("\n".join(turns_text(example.messages)))


def key_of(example: Example) -> str:
    """Prompt and reply up to case and spacing: examples that share it are duplicates."""
    completion = exchange_of(example).completion
    return f"{prompt_key(example)}\x00{_folded(completion)}" if completion else prompt_key(example)


def from_constitution(constitution: Constitution) -> list[Sample]:
    """Every example request of the constitution. Harmful: those of the clauses that forbid a category. Benign: harmless twins, and the
    examples of categories that are allowed. Source 'constitution'."""
    forbidden = {clause.id for clause in constitution.forbidden_categories().values()}
    samples = []
    for clause in constitution.clauses:
        for text, label in [(t, "harmful") for t in clause.harmful] + [(t, "benign") for t in clause.harmless]:
            if label == "harmful" and clause.id not in forbidden:
                if clause.category is None or clause.category in constitution.forbidden_categories():
                    continue  # not about a category, or one that a prevailing clause rules on
                label = "benign"
            samples.append(
                Sample.model_validate(
                    {
                        "messages": (Message(role="user", content=text),),
                        "label": label,
                        "clause": clause.id,
                        "category": clause.category,
                        "meta": {"source": CONSTITUTION},
                    }
                )
            )
    return samples


class Cleaned(NamedTuple):
    """Examples with different content; how many repeated one, and how many were dropped because the same text has both labels."""

    examples: list[Example]
    n_duplicates: int
    n_contradictory: int


def cleaned(examples: Iterable[Example]) -> Cleaned:
    """Drops repeats (the first stays) and texts that are labelled both ways, prompts and replies apart."""
    first: dict[str, Example] = {}
    contradictory: set[str] = set()
    n = 0
    for example in examples:
        n += 1
        key = key_of(example)
        held = first.setdefault(key, example)
        if is_harmful(held) != is_harmful(example):
            contradictory.add(key)
    kept = [example for key, example in first.items() if key not in contradictory]
    return Cleaned(kept, n - len(first), len(contradictory))


def split(examples: Iterable[Example], shares: Mapping[str, float], salt: str = "guard") -> dict[str, list[Example]]:
    """Examples by part, assigned by the hash of their prompt: equal prompts land together, whatever their order or file."""
    parts: dict[str, list[Example]] = {name: [] for name in shares}
    for example in examples:
        parts[split_of(prompt_key(example), shares, salt)].append(example)
    return parts


def data_hash(examples: Sequence[Example]) -> str:
    """Hash of the texts and labels, in order."""
    return digest([[key_of(example), is_harmful(example)] for example in examples])
