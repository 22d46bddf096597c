"""A norm, and the small edits that make a piece of a sentence one that stands alone."""

from __future__ import annotations

import re
from dataclasses import dataclass

from uphold.constitution.prose.tokens import Token
from uphold.constitution.schema import Modality

_LABEL = re.compile(r"([A-Z\"“][^.:;!?()]{0,70}):\s+(?=[A-Z\"“(])")
_SAYS_MORE = re.compile(r"\b(?:must|should|may|shall|if|when)\b", re.IGNORECASE)
_CONNECTIVE = re.compile(
    r"^(?:(?:(?:and|but|so|also|however|instead|moreover|furthermore|in addition|additionally|that said|conversely|similarly|likewise"
    r"|for example|for instance|in particular|on the other hand|finally|nevertheless|still|rather|in practice|as a result"
    r"|accordingly|to this end|above all else|above all|of course|in other words|in short|as a reminder|worse)\s*,|(?:therefore|thus"
    r"|hence|but|and|so|yet),?)\s+)+",
    re.IGNORECASE,
)
_TRANSPARENT = re.compile(
    r"(?:(?:please )?(?:note|remember|be aware|keep in mind|bear in mind)(?:,? however,?| also)? that|it should be noted that"
    r"|this means that)\s+(?=\w)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Norm:
    """One act that is commanded, recommended or permitted. `text` is a sentence of its own; a negation stays in it."""

    text: str
    modality: Modality


def strip_preamble(text: str) -> str:
    """The sentence without brackets around it, its label, and the words that tie it to the one before."""
    text = text.strip()
    if text.startswith("(") and text.rstrip(".").endswith(")") and text.count("(") == text.count(")"):
        text = text.rstrip(".").removeprefix("(").removesuffix(")").strip()
    for _ in range(3):
        label = _LABEL.match(text)
        if label and len(label[1].split()) <= 8 and not _SAYS_MORE.search(label[1]):
            text = text[label.end() :]
        for pattern in (_CONNECTIVE, _TRANSPARENT):
            if match := pattern.match(text):
                text = text[match.end() :]
    return text


def finish(text: str) -> str:
    """One sentence: a capital first, a full stop last, no loose connectors at either end."""
    text = _CONNECTIVE.sub("", re.sub(r"\s+([,.;:])", r"\1", " ".join(text.split())), count=1)
    text = re.sub(r"(?:[\s,;:—–-]+(?:and|or|but))?[\s,;:—–]+$", "", text).strip()
    text = re.sub(r",?\s+(?:e\.?g|i\.?e|for example|for instance)[.:,]*$", "", text)
    if text and text[-1] not in ".!?" and not re.search(r"[.!?][\"'”’)]+$", text):
        text += "."
    return text[:1].upper() + text[1:]


def excerpt(text: str, tokens: list[Token], start: int, stop: int) -> str:
    """The text of tokens [start, stop); stop may lie past the end."""
    if start >= stop or start >= len(tokens):
        return ""
    return text[tokens[start].start : tokens[min(stop, len(tokens)) - 1].end].strip()
