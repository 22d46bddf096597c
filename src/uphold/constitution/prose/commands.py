"""Commands without a modal: "Do X", "Never X", "If C, do X and Y".

Takes a sentence in which `grammar` found no head; gives its norms. What opens an example or points elsewhere ("See section 3",
"Consider a request to ...") commands nothing.
"""

from __future__ import annotations

from uphold.constitution.prose.acts import acts
from uphold.constitution.prose.norms import Norm, excerpt, finish
from uphold.constitution.prose.tokens import Token, is_adverb, starts_verb_phrase
from uphold.constitution.prose.words import LEADING, NOUN_VERBS, OPENERS, SEQUENCERS, VERBS
from uphold.constitution.schema import Modality

_HEDGED = frozenset("avoid prefer consider try aim strive attempt minimize minimise limit please".split())


def imperative(text: str, tokens: list[Token]) -> list[Norm]:
    """Norms of 'Do X', 'Never X', 'If C, do X and Y'."""
    starts = [0]
    if tokens and tokens[0].word in LEADING and tokens[0].word not in VERBS:
        starts = _after_adverbials(tokens)
    for start in starts:
        verb, word = _imperative_verb(tokens, start)
        if verb is None:
            continue
        if tokens[verb].word in OPENERS and not (tokens[verb].word == "consider" and _is_duty(tokens, verb)):
            return []
        return _imperative_norms(text, tokens, start, verb, word)
    return []


def _after_adverbials(tokens: list[Token]) -> list[int]:
    """Where a command may begin after 'If C, ...': behind each comma, until something that looks like a main clause has passed."""
    starts: list[int] = []
    for k, token in enumerate(tokens):
        if token.depth > 0:
            continue
        if token.word == ",":
            starts.append(k + 1)
        elif starts and token.word in (
            "is",
            "are",
            "was",
            "were",
            "has",
            "will",
            "would",
            "can",
            "could",
            "must",
            "should",
            "may",
            "might",
        ):
            break
    return starts[:4]


def _is_duty(tokens: list[Token], verb: int) -> bool:
    """'Consider the risk' is a duty; 'Consider a request to write code: ...' opens an example."""
    return verb + 1 < len(tokens) and tokens[verb + 1].word in ("the", "whether", "how", "their", "its", "your", "all")


def _imperative_verb(tokens: list[Token], start: int) -> tuple[int | None, str]:
    """(index of the verb, the word that commands: never, always, not, please, or '') of an imperative beginning at `start`."""
    k, word = start, ""
    while k < len(tokens) and (is_adverb(tokens[k].word) or tokens[k].word in ("please", "do", "don't", "also")):
        current = tokens[k].word
        if current in ("never", "always", "please"):
            word = current
        elif current == "don't" or (current == "not" and k and tokens[k - 1].word == "do"):
            word = "not"
        elif current == "do" and not (k + 1 < len(tokens) and tokens[k + 1].word == "not"):
            return None, ""
        k += 1
    if k >= len(tokens):
        return None, ""
    if tokens[k].word == "be" or (tokens[k].word in VERBS and (word or commands(tokens, k))):
        return k, word
    return None, ""


def commands(tokens: list[Token], k: int) -> bool:
    """Whether the base verb at `k` begins a command, and is not a noun: no finite verb follows that would make it a subject."""
    following = tokens[k + 1].word if k + 1 < len(tokens) else ""
    if following in ("", ":", ".", "—", "/", "*", "-", "#", "=", "("):
        return False  # a label or a name, not a command
    if starts_verb_phrase(tokens, k):
        return True
    if tokens[k].word not in VERBS or following in (",", "and", "or", "of"):
        return False
    for token in tokens[k + 1 : k + 9]:
        if tokens[k].word in NOUN_VERBS and token.word in ("that", "which", "who", ":"):
            return False  # "Project maintainers who ...", "Release builds: ..."
        if token.word in (",", ";", ":", "that", "if", "when", "which", "who", "unless", "because", "while", "as"):
            break
        if token.word in (
            "is",
            "are",
            "was",
            "were",
            "has",
            "have",
            "do",
            "does",
            "of",
            "must",
            "should",
            "may",
            "can",
            "will",
        ):
            return False
    return True


def _imperative_norms(text: str, tokens: list[Token], start: int, verb: int, word: str) -> list[Norm]:
    condition, opening = excerpt(text, tokens, 0, start), excerpt(text, tokens, start, verb)
    found = []
    for n, act in enumerate(acts(tokens, verb, len(tokens), negated=word in ("never", "not"))):
        own = tokens[act.start].word if n else ""
        carries = n == 0 or (
            word in ("never", "not", "always") and not act.flips and own not in ("don't", "do", "never", "always")
        )
        parts = [condition, opening if carries else "", act.carried, excerpt(text, tokens, act.start, act.stop)]
        first = act.carried or tokens[past_sequencers(tokens, act.start, act.stop)].word
        if n and first in OPENERS:
            continue
        modality: Modality = (
            "should" if (first in _HEDGED and word not in ("never", "not", "always")) or word == "please" else "must"
        )
        found.append(Norm(finish(" ".join(part for part in parts if part)), modality))
    return found


def past_sequencers(tokens: list[Token], k: int, end: int) -> int:
    """Index of the next word that is not an adverb like 'then' or 'simply'; at most `end` - 1."""
    while k < end - 1 and (tokens[k].word in SEQUENCERS or is_adverb(tokens[k].word) or (k and tokens[k].word == ",")):
        k += 1
    return k
