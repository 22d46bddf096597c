"""Words of a sentence, and the few things every reader of them asks: how deep, an adverb, the start of a verb phrase.

Takes plain text from `sentences.clean`; `modals`, `grammar`, `acts` and `rules` read the tokens.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from uphold.constitution.prose.sentences import protected
from uphold.constitution.prose.words import DETERMINERS, NOUN_VERBS, VERBS

_TOKEN = re.compile(r"\w+(?:[’'‑-]\w+)*(?:/\w+)?|[^\w\s]")
FINITE = frozenset(
    """is are was were has have does do did can could will would may might must should shall isn't aren't doesn't don't can't cannot
    won't shouldn't mustn't""".split()
)
_ADVERBS = frozenset(
    """always never also only still generally typically usually normally strictly mostly explicitly expressly therefore thus additionally
    not instead just simply sometimes often rarely further both either ideally considered highly strongly already then""".split()
)


@dataclass(frozen=True)
class Token:
    word: str  # lower case, straight apostrophes
    start: int
    end: int
    depth: int  # > 0 inside brackets, quotation marks or paired dashes


def tokenize(text: str) -> list[Token]:
    """Words and punctuation of `text`, with how deep inside brackets, quotations or paired dashes each stands."""
    depth = [0] * (len(text) + 1)
    for start, end in protected(text):
        for i in range(start, end + 1):
            depth[i] += 1
    tokens = [
        Token(
            match[0].lower().replace("’", "'").replace("–", "—").replace("--", "—"),
            match.start(),
            match.end(),
            depth[match.start()],
        )
        for match in _TOKEN.finditer(text)
    ]
    for i, token in enumerate(tokens[:-1]):  # a comma inside a closing quotation mark belongs to the sentence around it
        if (
            token.word == ","
            and token.depth > 0
            and text[tokens[i + 1].start] in "\"”’'"
            and tokens[i + 1].start == token.end
        ):
            tokens[i] = replace(token, depth=token.depth - 1)
    return _lower_dashes(tokens)


def _lower_dashes(tokens: list[Token]) -> list[Token]:
    """Text between two dashes is an aside."""
    dashes = [i for i, token in enumerate(tokens) if token.word == "—" and token.depth == 0]
    for left, right in zip(dashes[::2], dashes[1::2], strict=False):
        for i in range(left, right + 1):
            tokens[i] = replace(tokens[i], depth=tokens[i].depth + 1)
    return tokens


def is_adverb(word: str) -> bool:
    """Whether a word may stand between a modal and its verb without changing who does what."""
    return word in _ADVERBS or (word.endswith("ly") and word not in VERBS and word != "only")


def starts_verb_phrase(tokens: list[Token], i: int) -> bool:
    """Whether a bare verb phrase begins at token `i`: a base-form verb, and for words that are also nouns, the company of a verb."""
    if i >= len(tokens) or tokens[i].word not in VERBS:
        return False
    after = tokens[i + 1].word if i + 1 < len(tokens) else ""
    if after in FINITE and after not in ("do", "have"):
        return False
    if tokens[i].word not in NOUN_VERBS or after in DETERMINERS or (after.endswith("ly") and after not in VERBS):
        return True
    if after == "to":
        return i + 2 < len(tokens) and tokens[i + 2].word in VERBS and tokens[i].word in ("aim", "attempt", "plan")
    return after in ("about", "out", "up", "off", "on")


def is_inflected(word: str) -> bool:
    """Third person singular of a known verb."""
    return word.endswith("s") and (word[:-1] in VERBS or (word.endswith("es") and word[:-2] in VERBS)
                                   or (word.endswith("ies") and word[:-3] + "y" in VERBS))  # fmt: skip
