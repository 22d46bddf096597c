"""Lists and tables: what the sentence before them says about their items.

`read_lead` reads the lead-in ("The assistant must not:"), `item_norms` an item under it. An item that is a norm by itself stands alone;
one that completes the lead takes the lead's words.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from uphold.constitution.prose.clauses import Clauses, is_kept
from uphold.constitution.prose.commands import commands, past_sequencers
from uphold.constitution.prose.grammar import find_heads
from uphold.constitution.prose.norms import Norm, excerpt, finish, strip_preamble
from uphold.constitution.prose.rules import norms
from uphold.constitution.prose.tokens import tokenize
from uphold.constitution.prose.words import CONDITIONS, VERBS
from uphold.constitution.schema import Modality

_LEAD_ENDS = frozenset(
    """to that by if when where whether with of from in for on about as than is are be include includes including must should may can shall
    not only never against without through and or""".split()
)


@dataclass(frozen=True)
class Lead:
    """What a list hangs from. `opening` is the text its items complete; `is_open` when it breaks off ("The assistant must not").

    modality: None when the lead binds nobody. duty: "The assistant should", for items that begin with a verb although the lead already
    has one; "" when the lead says not. is_condition: it only says when ("When testing:").
    """

    opening: str
    modality: Modality | None
    is_open: bool
    duty: str = ""
    is_condition: bool = False


def read_lead(sentence: str, *, agent: str | None = None, outer: Lead | None = None) -> Lead:
    """What the last sentence before a list says about its items. outer: the lead of the list that this one stands in."""
    body = re.sub(r"[\s:*_]+$", "", strip_preamble(sentence).rstrip())
    tokens = tokenize(body)
    heads = find_heads(tokens, agent)
    if not heads:
        if tokens and tokens[0].word in CONDITIONS | {"before", "after", "during", "while"}:
            return Lead(body, outer.modality if outer else None, False, is_condition=True)
        if outer and outer.modality and body:
            return Lead(_join(outer, body), outer.modality, False)
        return Lead(body, None, bool(tokens) and tokens[-1].word in _LEAD_ENDS)
    head = heads[-1]
    condition, subject = Clauses(body, tokens, heads, agent).subject(len(heads) - 1)
    modal = " ".join(body[t.start : t.end] for t in tokens[head.first : head.verb] if t.depth == 0 and is_kept(t.word))
    opening = f"{condition}{subject} {excerpt(body, tokens, head.first, len(tokens))}"
    is_plain = not head.negated and head.agent and not head.is_verdict
    return Lead(opening, head.modality, head.verb >= len(tokens), f"{condition}{subject} {modal}" if is_plain else "")


def _join(lead: Lead, item: str) -> str:
    """Lead and item as one text."""
    last = re.search(r"([\w'’]+)\W*$", lead.opening)
    runs_on = lead.is_open or (last is not None and last[1].lower() in _LEAD_ENDS)
    keeps_case = bool(re.match(r"[A-Z][A-Z]|I\b|\"|“", item))
    lowered = item if keeps_case or not runs_on else item[:1].lower() + item[1:]
    return f"{lead.opening}{' ' if runs_on else ': '}{lowered}"


def item_norms(item: str, lead: Lead, *, agent: str | None = None) -> tuple[list[Norm], bool]:
    """Norms of the first sentence of a list item or table cell under `lead`, and whether they took the lead into their text."""
    if own := norms(item, agent=agent, imperatives=False):
        return own, False
    if lead.is_condition:
        words = strip_preamble(item)
        found = norms(f"{lead.opening}, {words[:1].lower()}{words[1:]}", agent=agent)
        return found, bool(found)
    if lead.modality is None:
        return ([], False) if lead.is_open else (norms(item, agent=agent), False)
    text = re.sub(r"[;,]?\s*(?:and|or)?\s*$", "", strip_preamble(item))
    if not text:
        return [], False
    tokens = tokenize(text)
    begins = past_sequencers(tokens, 0, len(tokens))
    if tokens[begins].word in VERBS and not tokens[0].word.endswith("ing"):
        lowered = re.sub(r"^(\w+),", r"\1", text[:1].lower() + text[1:])
        if lead.is_open:
            return norms(f"{lead.opening} {lowered}", agent=agent), True
        if lead.duty and commands(tokens, begins) and not re.search(r"following\W*$", lead.opening):
            return norms(f"{lead.duty} {lowered}", agent=agent), True
    return [Norm(finish(_join(lead, text)), lead.modality)], True
