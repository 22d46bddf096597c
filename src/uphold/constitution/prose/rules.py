"""Sentences to norms: one act per norm, each able to stand alone.

Takes the plain words of a sentence and who "it" is; gives `Norm`s with modality and text. Cuts coordinated
acts apart ("must A, B and C" -> three) only where each part is a whole verb phrase and the cut cannot turn the meaning: never inside
"refuse to A and B" or "requests that A and B", nor between verbs that share one object. Conditions ("If asked, ...") travel with every
part. English only, deterministic. `grammar` finds the modals, `acts` the cuts. Left out: descriptive norms ("the assistant
is kind"), which no closed list can tell from description.
"""

from __future__ import annotations

import re

from uphold.constitution.prose.clauses import Clauses
from uphold.constitution.prose.commands import imperative
from uphold.constitution.prose.grammar import find_heads
from uphold.constitution.prose.norms import Norm, finish, strip_preamble
from uphold.constitution.prose.tokens import is_adverb, tokenize
from uphold.constitution.prose.words import PRONOUNS
from uphold.constitution.schema import Modality

MAX_SENTENCE = 3_000  # characters; longer ones are not prose a rule was written in
MAX_ACTS = 24  # cut from one sentence

_IMPERSONAL = re.compile(
    r"(?:[^,]{1,120}, )?it(?:'s| is) (?P<not>not |never )?(?:also |always |generally |especially |very )*"
    r"(?P<how>important|essential|critical|crucial|vital|necessary|mandatory|best|better|preferable|advisable|acceptable|fine|okay"
    r"|permissible|allowed|permitted|forbidden|prohibited|unacceptable|wrong)\b(?: for [^,]{1,60}?)? to (?P<verb>\w+)",
    re.IGNORECASE,
)
_STRICT = frozenset(
    "essential critical crucial vital necessary mandatory forbidden prohibited unacceptable wrong".split()
)
_LENIENT = frozenset("acceptable fine okay permissible allowed permitted".split())
_FACTS = frozenset(
    "distinguish understand recognize recognise know remember recall see".split()
)  # "important to note", not to do
_RELATIVES = frozenset("who that which whose".split())
_NOBODY = frozenset("no nobody none neither".split())
_DENIAL = re.compile(  # says what is not ordered, or explains an example
    r"\s*(?:in theory|in principle|theoretically|hypothetically)\b|(?:this|that|it) (?:does not|doesn['’]t) (?:mean|imply|require)\b"
    r"|since the\b|here,|in (?:the|this) (?:above )?(?:example|case above)\b",
    re.IGNORECASE,
)


def norms(sentence: str, *, agent: str | None = None, imperatives: bool = True) -> list[Norm]:
    """Norms of one plain-text sentence, in its order; [] when it states none.

    agent: who "it" stands for ("the assistant"), put in its place. imperatives: whether a bare "Do X" counts.
    """
    text = strip_preamble(sentence)
    if not text or len(text) > MAX_SENTENCE or text.rstrip("\"'”’) ").endswith("?") or _DENIAL.match(text):
        return []
    tokens = tokenize(text)
    heads = find_heads(tokens, agent)
    if not heads:
        match = _IMPERSONAL.match(text)
        if match and match["verb"].lower() not in _FACTS:
            return [Norm(finish(text), _impersonal(match))]
        return imperative(text, tokens) if imperatives else []
    clauses = Clauses(text, tokens, heads, agent)
    found = [norm for i in range(len(heads)) for norm in clauses.norms(i)]
    return list(dict.fromkeys(found))[:MAX_ACTS]


def speaker(sentence: str) -> str | None:
    """Who a norm of this sentence binds, as words to put for a later "it": "the assistant", "employees"; None when it binds things."""
    text = strip_preamble(sentence)
    tokens = tokenize(text)
    for head in find_heads(tokens, None):
        if head.agent and head.subject is not None and not head.inverted:
            words = [
                t for t in tokens[slice(*head.subject)] if t.depth == 0 and t.word != "," and not is_adverb(t.word)
            ]
            end = next((k for k, t in enumerate(words) if t.word in _RELATIVES), len(words))  # "employees who travel"
            words = words[:end]
            if 0 < len(words) <= 3 and words[-1].word not in PRONOUNS and words[0].word not in _NOBODY:
                name = text[words[0].start : words[-1].end]
                return name if name[1:2].isupper() else name[:1].lower() + name[1:]
    return None


def _impersonal(match: re.Match[str]) -> Modality:
    how = match["how"].lower()
    if how in _LENIENT:
        return "must" if match["not"] else "may"
    return "must" if how in _STRICT else "should"
