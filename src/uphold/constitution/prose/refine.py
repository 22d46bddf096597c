"""A model's second look at each paragraph: better cuts, modality and category, checked before they are believed.

Takes the paragraphs that the rules have read; asks any `Chat` for strict JSON, one question a paragraph; gives back norms for those
answers that pass every check. An answer that is malformed, truncated, ungrounded or turned round costs that paragraph only: the rules'
norms stand, and the reason is counted. Calls go through a journal when one is given, so none is paid for twice. Used by `compile`.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from uphold.constitution.language import content
from uphold.constitution.prose.norms import Norm, finish
from uphold.constitution.prose.topics import category_of
from uphold.constitution.schema import Modality, Name
from uphold.core.journal import Journal
from uphold.core.records import Message
from uphold.models.base import Chat, Completion, Sampling

if TYPE_CHECKING:
    from uphold.constitution.compile import Paragraph

MAX_NEW_TOKENS = 2048
GROUNDED = 0.6  # share of a clause's content words that must stand in its paragraph, lead or headings
_ASK_ABOUT = re.compile(r"\w+\W+\w+\W+\w+")  # fewer than three words hold no rule
_NEGATION = re.compile(
    r"\b(?:not|never|no|nor|neither|without|avoid\w*|refus\w+|refrain\w*|prohibit\w*|forbid\w*|forbidden|cannot|declin\w+|only|unless"
    r"|prevent\w*|stop\w*)\b|n['’]t\b",
    re.IGNORECASE,
)
_FENCE = re.compile(r"\s*```(?:json)?\s*\n(.*?)\n?```\s*", re.DOTALL)

INSTRUCTIONS = """You split written policy into atomic rules. You get one paragraph as JSON: its headings, the sentence that introduces it \
(lead, may be null) and its numbered sentences. Find every rule: an act that somebody must, should or may do, or must not do.
Write each rule as one sentence that can be read alone: name who acts, keep conditions and negations, change no meaning, add nothing. \
One act per rule. "A or B" as a choice is one rule. Explanations, examples, definitions and statements of fact are not rules.
Answer with JSON only: {"clauses": [{"n": 1, "text": "...", "modality": "must", "category": null}]}
n: number of the sentence the rule comes from. modality: must, should or may (a prohibition is must or should). \
category: a short name in lower case with hyphens for the topic, or null. No rules: {"clauses": []}"""


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    n: int
    text: str = Field(min_length=8, max_length=1000)
    modality: Modality
    category: Name | None = None


class _Reply(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    clauses: list[_Answer] = Field(max_length=64)


class Refiner:
    """Asks `chat` about paragraphs and checks what it says. journal: keeps replies, so that the same text is asked about once."""

    def __init__(self, chat: Chat, journal: Journal | None = None) -> None:
        from uphold.models.journalled import journalled

        self._chat: Chat = journalled(chat, journal, label="compile") if journal is not None else chat
        self._asked = 0
        self._refined = 0
        self._fallbacks: Counter[str] = Counter()

    def refine(self, paragraphs: Sequence[Paragraph]) -> dict[int, list[list[tuple[Norm, str | None]]]]:
        """Index of a paragraph -> for each of its sentences, norms with the category the model named. Paragraphs to leave are missing."""
        numbers = [i for i, paragraph in enumerate(paragraphs) if _ASK_ABOUT.search(paragraph.raw)]
        prompts = [_prompt(paragraphs[i]) for i in numbers]
        self._chat.check()
        completions = self._chat.generate(prompts, Sampling(max_new_tokens=MAX_NEW_TOKENS)) if prompts else []
        self._asked += len(numbers)
        found = {}
        for i, completion in zip(numbers, completions, strict=True):
            norms, problem = _read(completion, paragraphs[i])
            if problem:
                self._fallbacks[problem] += 1
            else:
                self._refined += 1
                found[i] = norms
        return found

    def report(self) -> Mapping[str, Any]:
        """What was asked, what was used, and why the rest fell back to the rules."""
        return {
            "spec": self._chat.spec,
            "identity": self._chat.identity(),
            "asked": self._asked,
            "refined": self._refined,
            "fallbacks": dict(sorted(self._fallbacks.items())),
        }


def _prompt(paragraph: Paragraph) -> list[Message]:
    asked = {
        "headings": [heading.title for heading in paragraph.block.path],
        "lead": paragraph.lead.opening if paragraph.lead else None,
        "sentences": [{"n": n, "text": sentence.words} for n, sentence in enumerate(paragraph.sentences, start=1)],
    }
    text = json.dumps(asked, ensure_ascii=False)
    return [Message(role="system", content=INSTRUCTIONS), Message(role="user", content=text)]


def _read(completion: Completion, paragraph: Paragraph) -> tuple[list[list[tuple[Norm, str | None]]], str]:
    """(norms by sentence, '') or ([], why the answer cannot be used)."""
    if completion.text is None or completion.finish_reason == "blocked":
        return [], "no reply"
    fenced = _FENCE.fullmatch(completion.text)
    try:
        reply = _Reply.model_validate_json(fenced[1] if fenced else completion.text.strip())
    except ValidationError:
        return [], "truncated" if completion.finish_reason == "length" else "not the JSON asked for"
    if not reply.clauses and any(paragraph.by_rules):
        return [], "no rule found where the rules found one"
    by_sentence: list[list[tuple[Norm, str | None]]] = [[] for _ in paragraph.sentences]
    for answer in reply.clauses:
        if not 1 <= answer.n <= len(by_sentence):
            return [], "no such sentence"
        if problem := _problem(answer, paragraph):
            return [], problem
        category = answer.category or category_of(paragraph.block.path, answer.text)
        by_sentence[answer.n - 1].append((Norm(finish(answer.text), answer.modality), category))
    return [list(dict.fromkeys(norms)) for norms in by_sentence], ""


def _problem(answer: _Answer, paragraph: Paragraph) -> str:
    """Why a well-formed clause cannot be believed: words from nowhere, or a negation that came or went."""
    lead = f"{paragraph.lead.opening} " if paragraph.lead else ""
    around = " ".join(
        [*(heading.title for heading in paragraph.block.path), lead, *(s.words for s in paragraph.sentences)]
    )
    said, there = content(answer.text), content(f"{around} {paragraph.agents[answer.n - 1] or ''}")
    if said and len(said & there) < GROUNDED * len(said):
        return "not grounded in the paragraph"
    sentence = lead + paragraph.sentences[answer.n - 1].words
    denies = bool(_NEGATION.search(answer.text))
    ruled = paragraph.by_rules[answer.n - 1]
    if denies and not _NEGATION.search(sentence):
        return "a negation was added"
    if not denies and ruled and all(_NEGATION.search(norm.text) for norm in ruled):
        return "a negation was lost"
    return ""
