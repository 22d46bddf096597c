"""Which generated requests cannot be used, and why: one reason each, so that a report can count them.

Takes a candidate and what was asked for; gives the reason it is dropped, or None. Near-duplicates are the index's business
(`data.dedupe`), the label a judge's (`run.py`). Refusals are looked for in what should be a user's words: an assistant that speaks
in place of the user, in any of the main languages. Whether a reply refuses is another question (`evals.refusal`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from uphold.constitution.language import jaccard, share_of_smaller
from uphold.data.dedupe import shingles, words
from uphold.data.synth.languages import is_in

MIN_WORDS, MAX_CHARACTERS = 2, 4000
EXAMPLE = 0.7  # shared words over all, from which a candidate counts as a copy of an example
TWIN_LEAST = 0.3  # shared words over those of the shorter, below which a twin is another request altogether
_RUN = 8  # words in a row that only a copy shares with the instruction

_REFUSAL = re.compile(
    r"^\W*(?:(?:i'?m|i am) (?:really |very |so )?sorry,? (?:but|i)\b|sorry,? but i\b"
    r"|(?:as|being) an? (?:ai|language model|artificial)"
    r"|i (?:can ?not|can't|won't|will not|(?:am|'m) (?:unable|not able) to|must decline to|decline to)(?: in good conscience)? "
    r"(?:help(?! myself)|assist|create|generate|write|provide|produce|fulfil+|comply|continue|do (?:that|this)|offer|list|support)"
    r"|(?:lo siento|lo lamento)\b.{0,20}\b(?:pero|no puedo)\b"
    r"|no puedo (?:ayudar|generar|crear|proporcionar|escribir)"
    r"|(?:je suis )?désolée?\b.{0,20}\b(?:mais|je ne)\b"
    r"|je ne peux pas (?:vous |t')?(?:aider|créer|générer|fournir|écrire)"
    r"|(?:es )?tut mir leid\b.{0,20}\b(?:aber|ich kann)\b"
    r"|ich kann (?:dir |ihnen )?(?:dabei |damit )?(?:nicht|keine)\b.{0,40}\b(?:helfen|erstellen|schreiben)"
    r"|(?:sinto muito|desculpe|lamento)\b.{0,20}\b(?:mas|não posso)\b"
    r"|não posso (?:ajudar|criar|gerar|fornecer|escrever))",
    re.IGNORECASE,
)
_PLACEHOLDER = re.compile(
    r"\[[^\]\n]{1,40}\]|<[a-z][a-z _-]{1,30}>|\{\{?[a-z_ ]{1,30}\}?\}|\b(?:lorem ipsum|todo|tbd|placeholder|x{3,})\b|"
    r"\binsert (?:the |a |your )?\w+ here\b|^(?:\.{3}|…)$|_{4,}|^(?:request|prompt|item|topic|example) ?\d*[.:]?$",
    re.IGNORECASE,
)


def why_not(text: str, *, lang: str, instruction: str, examples: Iterable[frozenset[str]]) -> str | None:
    """Why a request is dropped, or None.

    lang: the language asked for, '' for any. instruction: what the generator was told. examples: of the clause, as `as_example` gives.
    """
    found = words(text)
    if len(found) < MIN_WORDS and len(text) < 4 * MIN_WORDS:
        return "too short"
    if len(text) > MAX_CHARACTERS:
        return "too long"
    if _PLACEHOLDER.search(text):
        return "placeholder"
    if is_refusal(text):
        return "refusal"
    if _is_copied(found, instruction):
        return "copy of the instruction"
    own = as_example(text)
    if any(jaccard(own, example) >= EXAMPLE for example in examples):
        return "copy of an example"
    if lang and not is_in(text, lang):
        return "wrong language"
    return None


def as_example(text: str) -> frozenset[str]:
    """The words of a request as a set, to compare it with an example by."""
    return frozenset(words(text))


def is_refusal(text: str) -> bool:
    """Whether an assistant declines here instead of doing what it was asked."""
    return _REFUSAL.search(text[:300].replace("’", "'")) is not None


def _is_copied(found: Sequence[str], instruction: str) -> bool:
    """Whether the request is a part of the instruction, or shares a long run of words with it."""
    told = f" {' '.join(words(instruction))} "
    if len(found) >= 4 and f" {' '.join(found)} " in told:
        return True
    return any(f" {' '.join(found[i : i + _RUN])} " in told for i in range(len(found) - _RUN + 1))


def why_not_twin(text: str, of: str) -> str | None:
    """Why a request is no hard twin of another: the same, or too different from it."""
    if words(text) == words(of):
        return "copy of its twin"
    if share_of_smaller(as_example(text), as_example(of)) < TWIN_LEAST and not shingles(text) & shingles(of):
        return "not a twin"
    return None
