"""Which words command, forbid or permit, and when they only guess or tell.

Takes tokens; `modal_at` finds a modal phrase with its strength and negation, `binds` tells a duty or a leave from a possibility ("users
may be unaware") by the verb that follows and the kind of subject. `grammar` finds the subjects. Used by it alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from uphold.constitution.prose.tokens import Token, is_adverb, is_inflected
from uphold.constitution.prose.words import HAPPENING_ADVERBS, HAPPENINGS, VERBS
from uphold.constitution.schema import Modality

SubjectKind = Literal["model", "role", "you", "outsider", "thing"]

CUES = frozenset(  # without one of these there is no head to look for
    """must mustn't shall shan't should shouldn't ought may mayn't can can't cannot will won't need needs needn't has have is are do does
    don't doesn't aims strives tries never always prohibit prohibits forbid forbids""".split()
)
_STRONG: dict[str, Modality] = {"must": "must", "shall": "must", "should": "should", "ought": "should"}
_LEAVE: dict[str, Literal["may", "can", "will"]] = {"may": "may", "can": "can", "will": "will"}
_CONTRACTED = {
    "mustn't": "must",
    "shouldn't": "should",
    "shan't": "shall",
    "can't": "can",
    "cannot": "can",
    "won't": "will",
    "mayn't": "may",
}
_VERDICTS: dict[str, Modality] = {
    "required": "must",
    "obliged": "must",
    "obligated": "must",
    "mandatory": "must",
    "prohibited": "must",
    "forbidden": "must",
    "disallowed": "must",
    "unacceptable": "must",
    "banned": "must",
    "expected": "should",
    "encouraged": "should",
    "discouraged": "should",
    "preferred": "should",
    "recommended": "should",
    "allowed": "may",
    "permitted": "may",
    "acceptable": "may",
    "permissible": "may",
}


@dataclass(frozen=True)
class Modal:
    """A modal phrase at token `first`; `verb` is the token after it. kind: how its subject decides whether it binds (see `binds`)."""

    first: int
    verb: int
    kind: Literal["strong", "may", "can", "cannot", "will", "happening", "need", "verdict", "aim", "habit", "ban"]
    modality: Modality
    negated: bool
    only: bool


def _past_adverbs(tokens: list[Token], i: int) -> tuple[int, bool, bool, bool]:
    """(index of the next word that is not an adverb, saw a negation, saw 'only', saw an adverb of happening)."""
    negated = only = happening = False
    while i < len(tokens) and (
        tokens[i].depth > 0 or _is_adverbial(tokens, i) or tokens[i].word == "only" or _is_aside(tokens, i)
    ):
        word = tokens[i].word
        if tokens[i].depth == 0:
            if word == ",":
                i = _aside_end(tokens, i)
                continue
            negated |= word in ("not", "never")
            only |= word == "only"
            happening |= word in HAPPENING_ADVERBS
        i += 1
    return i, negated, only, happening


def _is_adverbial(tokens: list[Token], i: int) -> bool:
    """An adverb, or the 'and' between two."""
    if tokens[i].word in ("and", "or", "but") and i + 1 < len(tokens):
        return is_adverb(tokens[i - 1].word) and is_adverb(tokens[i + 1].word)
    return is_adverb(tokens[i].word)


def _is_aside(tokens: list[Token], i: int) -> bool:
    """A short comma-to-comma aside right after a modal: 'may, for example, answer'."""
    return tokens[i].word == "," and _aside_end(tokens, i) > i


def _aside_end(tokens: list[Token], i: int) -> int:
    for j in range(i + 1, min(i + 8, len(tokens))):
        if tokens[j].word == ",":
            return j + 1
        if tokens[j].word in VERBS and j == i + 1:
            break
    return i


def modal_at(tokens: list[Token], i: int) -> Modal | None:
    """The modal phrase that begins at token `i`, if one does."""
    word = tokens[i].word
    base = _CONTRACTED.get(word, word)
    contracted = base != word
    after, negated, only, happening = _past_adverbs(tokens, i + 1)
    negated |= contracted
    if base in _STRONG and any(
        token.word in ("sometimes", "occasionally", "inevitably") for token in tokens[i + 1 : after]
    ):
        return None  # "an assistant must sometimes guess" describes
    if base in _STRONG:
        after = after + 1 if base == "ought" and after < len(tokens) and tokens[after].word == "to" else after
        return Modal(i, after, "strong", _STRONG[base], negated, only)
    if word == "needn't":
        return Modal(i, after, "strong", "may", True, only)
    if base in ("may", "can", "will"):
        if base == "may" and "or" in (
            tokens[i - 1].word if i else "",
            tokens[i + 1].word if i + 1 < len(tokens) else "",
        ):
            return None  # "may or may not"
        only |= [token.word for token in tokens[after : after + 3]][::2] == ["be", "only"]  # "may be used only"
        modality: Modality = "must" if negated or only or base == "will" else "may"
        if happening or (base == "can" and negated):
            return Modal(i, after, "happening" if happening else "cannot", modality, negated, only)
        return Modal(i, after, _LEAVE[base], modality, negated, only)
    following = tokens[after].word if after < len(tokens) else ""
    if (
        word in ("needs", "need", "has", "have")
        and following == "to"
        and (i == 0 or tokens[i - 1].word not in ("not", "to"))
    ):
        return Modal(i, after + 1, "need", "must", negated, only)
    if word in ("does", "do", "doesn't", "don't", "is", "are"):
        return _verdict_or_negation(tokens, i, after, negated or word.endswith("n't"), only)
    if word in ("aims", "strives", "tries") and following == "to":
        return Modal(i, after + 1, "aim", "should", negated, only)
    if word in ("never", "always") and i + 1 < len(tokens) and is_inflected(tokens[i + 1].word):
        return Modal(i, i + 1, "habit", "must", word == "never", False)
    if word in ("prohibit", "prohibits", "forbid", "forbids"):
        return Modal(i, i + 1, "ban", "must", False, False)
    return None


def _verdict_or_negation(tokens: list[Token], i: int, after: int, negated: bool, only: bool) -> Modal | None:
    word, following = tokens[i].word, tokens[after].word if after < len(tokens) else ""
    if word in ("is", "are"):
        verdict = _VERDICTS.get(following)
        if verdict is None:
            return None
        next_word = tokens[after + 1].word if after + 1 < len(tokens) else ""
        if following == "expected" and next_word not in ("to", "that"):
            return None
        if following in ("allowed", "permitted") and (only or tokens[i - 1].word == "only"):
            verdict = "must"
        if negated:
            verdict = "may" if following in ("required", "obliged", "obligated", "mandatory", "expected") else "must"
        return Modal(i, after + 1, "verdict", verdict, negated, False)
    if negated and following in ("need", "have") and after + 1 < len(tokens) and tokens[after + 1].word == "to":
        return Modal(i, after + 2, "strong", "may", True, False)
    if negated and following in ("allow", "permit", "tolerate", "accept", "condone"):
        return Modal(i, after + 1, "ban", "must", True, False)
    return None


def binds(tokens: list[Token], modal: Modal, subject: SubjectKind, *, concessive: bool) -> bool:
    """Whether the modal lays a duty on its subject, or gives or refuses it leave. concessive: it stands in a "while ..." clause."""
    verb = tokens[modal.verb].word if modal.verb < len(tokens) else ""
    after = tokens[modal.verb + 1].word if modal.verb + 1 < len(tokens) else ""
    acts = subject in ("model", "role", "you")
    if verb == "have" and (after.endswith("ed") or after in ("been", "made", "had", "taken", "given", "done", "known")):
        return False  # "must have seen" guesses, it does not command
    if concessive and modal.kind != "strong":
        return False
    if modal.kind == "strong":
        return True
    if modal.kind == "happening":
        return False
    if modal.kind == "verdict":
        return True
    if modal.kind == "need":
        return acts
    if modal.kind == "ban":
        return subject in ("outsider", "thing", "role")
    if modal.kind in ("aim", "habit"):
        return subject == "model" and verb not in HAPPENINGS
    if modal.kind == "will":
        return ((acts and modal.negated) or subject == "you") and verb not in HAPPENINGS
    return _permits(modal, verb, after, subject)


def _permits(modal: Modal, verb: str, after: str, subject: SubjectKind) -> bool:
    """Whether a 'may' or 'can' gives or refuses leave, rather than saying what can happen."""
    acts = subject in ("model", "role", "you")
    is_passive = verb in ("be", "only") and (
        after.endswith(("ed", "en")) or after in ("only", "made", "done", "kept", "sent", "put", "shown")
    )
    if modal.only or (verb == "be" and after == "only"):
        return True
    if verb == "be" and after in ("acceptable", "permissible", "allowed", "permitted"):
        return True
    if verb == "be":
        return (
            modal.negated
            and is_passive
            and subject != "model"
            and after not in ("interested", "concerned", "needed", "intended")
        )
    if verb in HAPPENINGS or not (verb.isalpha() or "-" in verb):
        return verb == "" and acts  # "The assistant may:" before a list
    if modal.kind == "may":
        return acts or (modal.negated and subject == "outsider")
    return (subject == "model" and verb in VERBS) or (modal.kind == "cannot" and acts)
