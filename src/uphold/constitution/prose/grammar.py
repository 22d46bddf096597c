"""Where a sentence commands, forbids or permits: its modal heads and their subjects.

Takes the plain words of one sentence (`sentences.clean`); gives the `Head`s that bind in its main clauses: "must" of "If asked,
the assistant must refuse", not the "may" of "when the user may be wrong". Shallow on purpose: closed word lists and the nearest clause
boundary to the left, no tagger and no parser. `rules` turns heads into clauses.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from uphold.constitution.prose.modals import CUES, Modal, SubjectKind, binds, modal_at
from uphold.constitution.prose.tokens import FINITE, Token, is_adverb, is_inflected
from uphold.constitution.prose.words import (
    CONCESSIVES,
    COORDINATORS,
    DETERMINERS,
    MODEL_AGENTS,
    OUTSIDERS,
    PRONOUNS,
    ROLE_ENDINGS,
    SUBORDINATORS,
    VERBS,
)
from uphold.constitution.schema import Modality

_BREAKS = frozenset(", ; : —".split())
_RELATIVES = frozenset("that which who whom".split())
_GOVERNORS = frozenset(
    "require requires required ensure ensures note important essential critical means mean insist demand demands remember vital".split()
)
_RULE_NOUNS = frozenset("principle rule requirement expectation policy default point norm".split())
_PREPOSITIONS = frozenset(
    """of in for with from by to on at about under over into through during between without within beyond above below against toward
    towards upon per via despite among outside inside behind across like""".split()
)
_REACH = 60  # words looked back over for the verb of the clause before an 'and'
_MAX_MODALS = 40  # looked at in one sentence


@dataclass(frozen=True)
class Head:
    """One binding modal. Token indices: `first` of the modal phrase, `verb` of what follows it; `subject` is [from, to) or None.

    negated: the modal phrase itself says not, never or cannot. inherited: the subject is that of the head before it.
    boundary: index of the token its clause begins after (-1 at the start of the sentence). inverted: "nor should it ...".
    """

    first: int
    verb: int
    modality: Modality
    negated: bool
    subject: tuple[int, int] | None
    boundary: int
    inherited: bool = False
    inverted: bool = False
    concessive: bool = False
    is_verdict: bool = False  # "is prohibited", "are allowed"
    agent: bool = False  # the subject is one that acts (the assistant, staff, you), not a thing


def find_heads(tokens: list[Token], agent: str | None) -> list[Head]:
    """Binding heads of a sentence, left to right. agent: who "it" (or, when plural, "they") is known to mean."""
    heads: list[Head] = []
    if not any(token.word in CUES for token in tokens):
        return heads
    i = seen = 0
    while i < len(tokens) and seen < _MAX_MODALS:
        candidate = modal_at(tokens, i) if tokens[i].depth == 0 else None
        if candidate is None:
            i += 1
            continue
        seen += 1
        head = _bind(tokens, candidate, heads, agent)
        if head:
            heads.append(head)
        i = max(i + 1, candidate.verb)
    return heads


@dataclass(frozen=True)
class _Subject:
    span: tuple[int, int] | None
    boundary: int
    inherited: bool = False
    concessive: bool = False


def _subject(tokens: list[Token], first: int, heads: list[Head]) -> _Subject | None:
    """The subject left of a modal and the boundary its clause starts after; None when the modal is in a subordinate clause."""
    end, leftmost = first, None  # leftmost: first word of the subject found so far, adverbs apart
    j = first - 1
    while j >= 0:
        word = tokens[j].word
        if tokens[j].depth > 0:
            pass
        elif word in CONCESSIVES:
            return _Subject((j + 1, end), j, concessive=True) if leftmost is not None else None
        elif word in SUBORDINATORS:
            action = _at_subordinator(tokens, j, leftmost)
            if action == "drop":
                return None
            if action == "governed":
                return _Subject((j + 1, end), j)
            leftmost = j
        elif word in COORDINATORS:
            if leftmost is None:
                return _Subject(None, j, inherited=True) if heads else _shared_subject(tokens, j)
            if (heads and heads[-1].first < j) or _is_clause(tokens, j):
                return _Subject((j + 1, end), j)
            leftmost = j
        elif word in _BREAKS:
            if leftmost is None:
                j = _before_aside(tokens, j) if word == "," else -1
                if j < 0:
                    return None
                end = j + 1
                continue
            if word != "," or tokens[leftmost].word not in ("and", "or"):  # "A, B, and C must": the comma parts nouns
                return _Subject((j + 1, end), j)
        elif not is_adverb(word):
            leftmost = j
        j -= 1
    return _Subject((0, end), -1) if leftmost is not None else None


def _shared_subject(tokens: list[Token], coordinator: int) -> _Subject | None:
    """'Members are welcome and must register': the subject of the plain verb before the 'and' is also that of the modal after it."""
    start = max(
        (k + 1 for k in range(coordinator) if tokens[k].depth == 0 and tokens[k].word in (";", ":", ",")), default=0
    )
    for k in range(start, coordinator):
        if tokens[k].depth == 0 and tokens[k].word in SUBORDINATORS:
            return None
        if k > start and (tokens[k].word in FINITE or is_inflected(tokens[k].word)):
            return _Subject((start, k), start - 1)
    return None


def _at_subordinator(tokens: list[Token], j: int, leftmost: int | None) -> Literal["drop", "governed", "go on"]:
    """What a subordinator means for a modal right of it, whose subject so far begins at `leftmost`."""
    word = tokens[j].word
    before = tokens[j - 1].word if j else ""
    if (word == "as" and before in ("such", "well")) or (
        word == "than" and before in ("more", "other", "less", "rather")
    ):
        return "go on"
    if word in _RELATIVES and leftmost is not None:
        following = tokens[leftmost].word
        if word == "who" and following not in DETERMINERS | PRONOUNS:
            return "go on"
        if following in FINITE or following in VERBS or is_inflected(following):
            return "go on"  # "content that endorses harm must": the relative clause has its own verb
        around = {token.word for token in tokens[max(0, j - 4) : j]}
        is_rule = before == "is" and bool(around & _RULE_NOUNS)
        if word == "that" and (is_rule or (before in _GOVERNORS and not around & {"not", "doesn't", "don't"})):
            return "governed"
    return "drop"


def _is_clause(tokens: list[Token], coordinator: int) -> bool:
    """Whether what stands before this 'and' is a clause of its own, so that the 'and' joins clauses and not nouns."""
    floor = max(-1, coordinator - _REACH)
    if coordinator and tokens[coordinator - 1].word == ",":
        return any(t.word in FINITE or is_inflected(t.word) for t in tokens[floor + 1 : coordinator] if t.depth == 0)
    has_finite = False
    for k in range(coordinator - 1, floor, -1):
        if tokens[k].depth == 0:
            if tokens[k].word in SUBORDINATORS or tokens[k].word in _BREAKS:
                return False  # the finite verb is that of "if ..." or "that ...", which may go on after the 'and'
            has_finite |= tokens[k].word in FINITE
    return has_finite


def _before_aside(tokens: list[Token], comma: int) -> int:
    """'X, when asked, must': the index of the token before the aside that ends at `comma`, or -1 when there is none."""
    for k in range(comma - 1, -1, -1):
        if tokens[k].depth == 0 and tokens[k].word == ",":
            before = k - 1
            if before < 0 or tokens[before].word in SUBORDINATORS | COORDINATORS:
                return -1
            return before
    return -1


def _kind_of_subject(tokens: list[Token], span: tuple[int, int], agent: str | None) -> SubjectKind:
    """'model', 'role', 'you', 'outsider' or 'thing', by the noun before the first preposition or 'who'."""
    words = [
        tokens[k].word
        for k in range(*span)
        if tokens[k].depth == 0 and tokens[k].word.strip("'") and tokens[k].word[0].isalpha()
    ]
    words = [word for word in words if not is_adverb(word)]
    ends = _PREPOSITIONS | _RELATIVES
    noun = next((words[k - 1] for k, word in enumerate(words) if word in ends and k), words[-1] if words else "")
    noun = noun.removesuffix("'s")
    if noun in ("it", "they"):
        return "model" if agent and agent.endswith("s") == (noun == "they") else "thing"
    if noun in PRONOUNS:
        return "you" if noun == "you" else "outsider"
    if words and words[-1].endswith(("'s", "s'")):
        return "thing"
    if noun in MODEL_AGENTS:
        return "model"
    if noun in OUTSIDERS:
        return "outsider"
    return "role" if noun.endswith(ROLE_ENDINGS) and len(noun) > 4 else "thing"


def _bind(tokens: list[Token], modal: Modal, heads: list[Head], agent: str | None) -> Head | None:
    """The head for a modal that binds in a main clause, else None."""
    if _fronts_negation(tokens, modal.first) and modal.kind in ("strong", "may", "can"):
        return _inverted(tokens, modal)
    subject = _subject(tokens, modal.first, heads)
    if subject is None or (subject.span and _is_reduced_relative(tokens, subject.span)):
        return None
    kind: SubjectKind
    if subject.inherited:
        kind = "model" if heads[-1].agent else "thing"
    else:
        assert subject.span is not None
        kind = _kind_of_subject(tokens, subject.span, agent)
    if subject.span and _denies(tokens, subject.span) and modal.kind in ("may", "can"):
        modal = replace(modal, kind="cannot", modality="must", negated=True)  # "nobody may"
        kind = "role"
    if not binds(tokens, modal, kind, concessive=subject.concessive):
        return None
    return Head(modal.first, modal.verb, modal.modality, modal.negated, subject.span, subject.boundary, subject.inherited,
                concessive=subject.concessive, is_verdict=modal.kind == "verdict", agent=kind in ("model", "role", "you"))  # fmt: skip


def _denies(tokens: list[Token], span: tuple[int, int]) -> bool:
    """'Nobody', 'no employee', 'none of them'."""
    return next((tokens[k].word for k in range(*span) if tokens[k].depth == 0), "") in (
        "no",
        "nobody",
        "none",
        "neither",
    )


def _fronts_negation(tokens: list[Token], first: int) -> bool:
    """'nor should it', 'under no circumstances may you': what stands before the modal makes verb and subject change places."""
    words = [token.word for token in tokens[max(0, first - 4) : first]]
    return bool(words) and (
        words[-1] == "nor"
        or (
            len(words) >= 2
            and words[-2] == "no"
            and words[-1] in ("circumstances", "circumstance", "case", "event", "time", "account", "way")
        )
    )


def _is_reduced_relative(tokens: list[Token], span: tuple[int, int]) -> bool:
    """'The only reason a rule should be ignored is ...': a second noun phrase in the subject begins a clause without 'that'."""
    words = [tokens[k].word for k in range(*span) if tokens[k].depth == 0]
    if not words or words[0] not in ("the", "a", "an", "any", "every", "one"):
        return False
    return any(
        word in ("the", "a", "an")
        and words[k] not in _PREPOSITIONS | COORDINATORS | {"all", "both", "such", "as", "than", ","}
        for k, word in enumerate(words[1:])
    )


def _inverted(tokens: list[Token], modal: Modal) -> Head | None:
    """The head of 'nor should it attempt ...': its subject stands between the modal and the verb."""
    fronted = modal.first - 1 if tokens[modal.first - 1].word == "nor" else modal.first - 3
    for k in range(modal.first + 2, min(modal.first + 7, len(tokens))):
        if tokens[k].word in VERBS or tokens[k].word == "be":
            return Head(modal.first, k, modal.modality, True, (modal.first + 1, k), fronted, inverted=True, agent=True)
    return None
