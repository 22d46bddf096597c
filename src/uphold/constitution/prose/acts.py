"""Where one verb phrase holds several acts.

Takes the tokens of a clause from its verb on; gives the acts that "and", "or", "but", ";" and commas join, as token ranges. A cut is
made only where both sides are whole verb phrases and the second cannot belong to something inside the first. Used by `rules`
for modal clauses and imperatives alike.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import Literal

from uphold.constitution.prose.tokens import Token, is_adverb, starts_verb_phrase
from uphold.constitution.prose.words import (
    COORDINATORS,
    DETERMINERS,
    NEGATIVE_INDUCERS,
    NOUN_VERBS,
    PRONOUNS,
    SEQUENCERS,
    VERBS,
)


@dataclass(frozen=True)
class Act:
    """Tokens [start, stop) of one act. flips: a 'but' undoes the negation before it. carried: 'avoid' for 'avoid A-ing or B-ing'."""

    start: int
    stop: int
    flips: bool = False
    carried: str = ""


@dataclass(frozen=True)
class _Join:
    at: int  # end of the act before
    begin: int  # start of the act after, with its adverbs
    kind: Literal["verb", "gerund"]
    word: str  # ',' ';' 'and' 'or' ...; a comma takes the word that ends its series
    flips: bool = False


_PARTICLES = frozenset("on in up out off over with to for from of about against into through upon at by".split())
_GERUND_BLOCKS = frozenset(
    "by when while after before that which who without via unless if because than rather".split()
)
_NOT_GERUNDS = frozenset(
    "thing something nothing everything anything during string spring morning evening meeting ceiling wedding bring".split()
)
_MODALS = frozenset("must should may can will could would might shall".split())


def acts(tokens: list[Token], start: int, end: int, *, negated: bool, permits: bool = False) -> list[Act]:
    """The acts in tokens [start, end), whose first word is the verb.

    negated: the modal before it says not. permits: it gives leave. "must A or B" is one duty with a choice, and "must not A and B"
    forbids the two together, so those stay whole; "must A and B", "must not A or B", "may A or B" are cut.
    """
    found: list[Act] = []
    begin, flips, carried = start, False, ""
    words = {"or", "nor", "but"} if negated else {"and", "but", "or", "and/or"} if permits else {"and", "but"}
    for join in _joins(tokens, start, end, negated, words):
        if not _is_complete(tokens, begin, join.at):
            continue
        found.append(Act(begin, join.at, flips, carried))
        begin, flips = join.begin, join.flips
        carried = _gerund_verb(tokens, start) if join.kind == "gerund" else ""
    return [*found, Act(begin, end, flips, carried)]


def _joins(tokens: list[Token], start: int, end: int, negated: bool, words: set[str]) -> list[_Join]:
    found: list[_Join] = []
    for k in range(start + 1, end - 1):
        word = tokens[k].word
        if tokens[k].depth > 0:
            continue
        if word in (",", ";") and tokens[k + 1].word not in COORDINATORS:
            kind = _opens(tokens, start, k, _past_sequencers(tokens, k + 1, end), end)
            if kind and not _is_inside(tokens, start, k, kind, is_set_off=True):
                found.append(_Join(k, k + 1, kind, word if word == "," else _tie(tokens, k + 1, "and")))
        elif word in ("and", "or", "but", "nor", "and/or"):
            join = _coordinated(tokens, start, k, end, negated)
            if join:
                found.append(join)
    return [join for join in _without_loose_commas(found) if join.kind == "gerund" or join.word in words]


def _coordinated(tokens: list[Token], start: int, k: int, end: int, negated: bool) -> _Join | None:
    has_comma = tokens[k - 1].word in (",", ";")
    verb = _past_sequencers(tokens, k + 1, end)
    kind = _opens(tokens, start, k, verb, end)
    if kind is None or (not has_comma and _shares_object(tokens, k)):
        return None
    between = {token.word for token in tokens[k + 1 : verb]}
    is_set_off = has_comma or bool(between & {"then", "instead"}) or tokens[k].word == "but"
    if _is_inside(tokens, start, k, kind, is_set_off=is_set_off):
        return None
    flips = tokens[k].word == "but" and negated and not between & {"not", "never"}
    return _Join(k - 1 if has_comma else k, k + 1, kind, _tie(tokens, k + 1, tokens[k].word), flips)


def _tie(tokens: list[Token], begin: int, word: str) -> str:
    """'and never B': a duty of its own under any modal, as after 'but'."""
    says_not = {token.word for token in tokens[begin : begin + 2]} & {"not", "never", "don't"}
    return "but" if word == "and" and says_not else word


def _without_loose_commas(joins: list[_Join]) -> list[_Join]:
    """Commas count as joins only when a later 'and' or 'or' of their kind closes the series; they join as it does."""
    kept: list[_Join] = []
    closing: _Join | None = None
    for join in reversed(joins):
        if join.word != ",":
            closing = join
            kept.append(join)
        elif closing is not None and closing.kind == join.kind:
            kept.append(replace(join, word=closing.word))
    return kept[::-1]


def _past_sequencers(tokens: list[Token], k: int, end: int) -> int:
    """Past 'then', 'generally' and asides set off by commas, to where the next verb may stand."""
    while k < end:
        word = tokens[k].word
        if word == "," and tokens[k].depth == 0:
            close = next((m for m in range(k + 2, min(k + 8, end)) if tokens[m].word == ","), None)
            if close is None:
                return k
            k = close
        elif word not in SEQUENCERS and word != "don't" and not is_adverb(word) and tokens[k].depth == 0:
            return k
        k += 1
    return k


def _opens(tokens: list[Token], start: int, at: int, verb: int, end: int) -> Literal["verb", "gerund"] | None:
    """What kind of act the word at `verb` opens, if any."""
    if verb >= end:
        return None
    if _gerund_verb(tokens, start) and is_gerund(tokens[verb].word):
        return "gerund"
    return "verb" if starts_verb_phrase(tokens, verb) or (tokens[verb].word == "be" and verb > at) else None


def _gerund_verb(tokens: list[Token], verb: int) -> str:
    """'avoid' or 'refrain from' when that is the act at `verb`, whose objects may be a list of -ing forms; else ''."""
    if tokens[verb].word == "avoid":
        return "avoid"
    following = tokens[verb + 1].word if verb + 1 < len(tokens) else ""
    return "refrain from" if tokens[verb].word == "refrain" and following == "from" else ""


def is_gerund(word: str) -> bool:
    """An '-ing' form that may name an act."""
    return word.endswith("ing") and len(word) > 4 and word not in _NOT_GERUNDS


def _shares_object(tokens: list[Token], coordinator: int) -> bool:
    """'to transform or analyze content', 'confirming or denying it': two bare verbs side by side have one object."""
    last = tokens[coordinator - 1].word
    before = next((t.word for t in reversed(tokens[: coordinator - 1]) if not is_adverb(t.word)), "")
    return is_gerund(last) or (last in VERBS and (last not in NOUN_VERBS or before == "to"))


def _is_plural_verb(word: str) -> bool:
    """What follows a relative 'that' is a verb in the plural, and not a subject ('that the user') or a singular verb ('that praises')."""
    return word in ("do", "are", "have", "were") or not (
        word in DETERMINERS | PRONOUNS
        or word in ("is", "was", "has", "does", "i", "we")
        or word in _MODALS
        or word.endswith("s")
        or word in ",.;"
    )


def _is_inside(tokens: list[Token], start: int, at: int, kind: str, *, is_set_off: bool) -> bool:
    """Whether a verb after `at` may belong to something inside the act [start, at) rather than to the modal."""
    words = [token.word for token in tokens[start:at] if token.depth == 0]
    if kind == "gerund":
        return any(word in _GERUND_BLOCKS for word in words[1:])
    for k, word in enumerate(words):
        if word in _MODALS and not is_set_off:
            return True  # "explain that users may appeal and ask for review"
        if word not in ("that", "which", "who"):
            continue
        rest = [w for w in words[k + 1 : k + 25] if not is_adverb(w)]
        if rest and _is_plural_verb(rest[0]):
            return True  # "requests that include slurs and promote hate"
        if not is_set_off and any(w in VERBS and w not in NOUN_VERBS for w in rest):
            return True  # "ensure that agents keep the scope and respect changes"
    if words and words[0] in ("help", "let", "make", "have") and any(word in VERBS for word in words[1:]):
        return True  # "help users feel heard, explore options, and find a way"
    if is_set_off or not words:
        return False
    if words[0] in NEGATIVE_INDUCERS and words[0] not in ("avoid", "refrain"):
        return True
    return any(
        word == "to" and after in VERBS for word, after in itertools.pairwise(words)
    )  # "ask users to wait and call again"


def _is_complete(tokens: list[Token], start: int, at: int) -> bool:
    """A verb with an object or complement of its own; 'elaborate on' in 'elaborate on, endorse, or justify X' is not."""
    words = [token.word for token in tokens[start:at] if not is_adverb(token.word)]
    separators = (",", ";", "and", "or")
    return any(
        before not in separators
        and word not in separators
        and word not in _PARTICLES
        and (word not in VERBS or word in NOUN_VERBS)
        for before, word in itertools.pairwise(words)
    )
