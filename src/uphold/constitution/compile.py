"""A written policy to atomic clauses, each traced to the sentence it came from.

Markdown prose goes in; `Compilation` comes out: clauses with modality, category and exact source span, and what was passed over and
why. By rules alone it is deterministic and offline (`prose/`); with a model (`prose/refine.py`) each paragraph may be split better,
and falls back to the rules where the model's answer cannot be used. The id of a clause is made of its own sentence and paragraph, so
editing one paragraph leaves the ids of all others as they were. `to_constitution` gives the YAML that `Constitution.load` reads.
Left out: examples of harmful and harmless requests, which a person or `uphold data synth` adds; languages other than English.
"""

from __future__ import annotations

import hashlib
import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from uphold.constitution.language import STOPWORDS
from uphold.constitution.prose.lists import Lead, item_norms, read_lead
from uphold.constitution.prose.markdown import Block, Document, Role, parse_markdown
from uphold.constitution.prose.norms import Norm, strip_preamble
from uphold.constitution.prose.rules import MAX_SENTENCE, norms, speaker
from uphold.constitution.prose.sentences import clean, sentences
from uphold.constitution.prose.topics import category_of, standing
from uphold.constitution.schema import Modality, Scope
from uphold.core.errors import DataError
from uphold.core.files import read_text
from uphold.core.records import Record

if TYPE_CHECKING:
    from uphold.constitution.prose.refine import Refiner

BODY: tuple[Role, ...] = ("body",)
MAX_BYTES = 4 * 2**20  # some 700,000 words: longer than any policy; more is a corpus
MAX_CLAUSES = 20_000
_CONTENTS = re.compile(r"\[[^\[\]]+\]\(#[^()]*\)")  # an item that is nothing but a link into the document
_MODAL_HEADERS: dict[str, Modality] = {  # table columns whose cells complete "The assistant ..."
    "must": "must",
    "must not": "must",
    "must never": "must",
    "should": "should",
    "should not": "should",
    "may": "may",
    "may not": "must",
}
_RULING_HEADERS: dict[str, Modality] = {  # table columns whose cells are ruled on by the header
    "always": "must",
    "required": "must",
    "never": "must",
    "do not": "must",
    "don't": "must",
    "prohibited": "must",
    "forbidden": "must",
    "not allowed": "must",
    "disallowed": "must",
    "avoid": "should",
    "allowed": "may",
    "permitted": "may",
}


class CompiledClause(Record):
    """One clause and where it stands. `source[span[0]:span[1]]` is its sentence, in characters of the decoded file.

    lines: first and last line of the sentence, from 1. sentence: its plain words. also: spans where the same sentence stands in an equal
    paragraph again. lead: span of the list's lead-in where the clause took words from it. by: who made the cut.
    """

    id: str
    text: str
    modality: Modality
    category: str | None
    priority: int
    scope: Scope | None = None
    span: tuple[int, int]
    lines: tuple[int, int]
    sentence: str
    lead: tuple[int, int] | None = None
    also: tuple[tuple[int, int], ...] = ()
    by: Literal["rules", "model"] = "rules"


@dataclass
class Sentence:
    """A sentence of a paragraph: where it stands in the file, its Markdown and its plain words."""

    span: tuple[int, int]
    raw: str
    words: str


@dataclass
class Paragraph:
    """A block with its sentences and what the rules made of them: one list of norms a sentence."""

    block: Block
    raw: str
    sentences: list[Sentence]
    agents: list[str | None] = field(default_factory=list)  # who "it" is in each sentence
    lead: Lead | None = None
    lead_span: tuple[int, int] | None = None
    by_rules: list[list[Norm]] = field(default_factory=list)
    used_lead: bool = False
    case: str = ""  # the first cell of its table row, where that says when the others apply


@dataclass(frozen=True)
class Compilation:
    """All that came of one file. `skipped` counts blocks that are not rules; `model` tells what the model did (None without one)."""

    file: str
    source: str
    clauses: tuple[CompiledClause, ...]
    n_paragraphs: int
    n_sentences: int
    skipped: Mapping[str, int]
    warnings: tuple[str, ...]
    model: Mapping[str, Any] | None = None

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of the text that was compiled."""
        return hashlib.sha256(self.source.encode("utf-8", "surrogatepass")).hexdigest()


def compile_file(path: str | Path, *, include: Collection[Role] = BODY, refiner: Refiner | None = None) -> Compilation:
    """Compile the policy in `path`. Raises DataError when it is missing, empty, not UTF-8, too large or nested too deeply."""
    path = Path(path)
    try:
        size = path.stat().st_size
    except OSError:
        size = 0  # `read_text` says what is wrong
    if size > MAX_BYTES:
        raise DataError(
            f"{path}: {size / 2**20:.1f} MiB of prose; at most {MAX_BYTES // 2**20} MiB are compiled at a time. "
            "Split it into one file per policy."
        )
    source = read_text(path)
    if not source.strip():
        raise DataError(f"{path}: is empty. It needs at least one sentence.")
    return compile_text(source, str(path), include=include, refiner=refiner)


def compile_text(
    source: str, name: str = "text", *, include: Collection[Role] = BODY, refiner: Refiner | None = None
) -> Compilation:
    """Compile Markdown `source`; `name` is what messages and sources call it. include: kinds of block to read besides body text.

    Raises DataError when it is nested too deeply or yields more than MAX_CLAUSES clauses.
    """
    document = parse_markdown(source, name)
    paragraphs = _paragraphs(document, include)
    _apply_rules(paragraphs)
    refined = refiner.refine(list(paragraphs.values())) if refiner else {}
    places = _Places(source)
    made = _Ids()
    for number, paragraph in enumerate(paragraphs.values()):
        by_model = refined.get(number)
        for k, sentence in enumerate(paragraph.sentences):
            found = by_model[k] if by_model is not None else [(norm, None) for norm in paragraph.by_rules[k]]
            for n, (norm, category) in enumerate(found):
                lead = paragraph.lead_span if k == 0 and paragraph.used_lead else None
                made.add(_clause(paragraph, sentence, n, norm, category, places, lead, by_model is not None))
        if len(made) > MAX_CLAUSES:
            raise DataError(f"{name}: more than {MAX_CLAUSES} clauses. Split it into one file per policy.")
    skipped = document.skipped + Counter(block.role for block in document.blocks if block.role not in include)
    return Compilation(
        name,
        source,
        made.clauses(),
        len(paragraphs),
        sum(len(paragraph.sentences) for paragraph in paragraphs.values()),
        dict(sorted(skipped.items())),
        tuple(document.warnings),
        refiner.report() if refiner else None,
    )


def _paragraphs(document: Document, include: Collection[Role]) -> dict[int, Paragraph]:
    """Block index -> paragraph, for the blocks to be read."""
    source = document.source
    titles = {heading.anchor: heading.title for heading in document.headings if heading.anchor}
    found = {}
    for i, block in enumerate(document.blocks):
        if block.role not in include:
            continue
        text = block.text(source)
        parts = []
        for start, end in sentences(text):
            if end - start > MAX_SENTENCE:
                document.skipped["overlong sentence"] += 1
                continue
            if _CONTENTS.fullmatch(text):
                document.skipped["table of contents"] += 1
            elif words := clean(text[start:end], titles):
                span = (block.offset(start), block.offset(end))
                parts.append(Sentence(span, text[start:end], words))
        if parts:
            found[i] = Paragraph(block, text, parts, case=clean(block.case, titles))
    return found


def _apply_rules(paragraphs: Mapping[int, Paragraph]) -> None:
    """Fill in agents, leads and norms of every paragraph, in file order."""
    _name_agents(paragraphs)
    introducing = {paragraph.block.lead for paragraph in paragraphs.values()}
    leads: dict[int, Lead] = {}
    used: set[int] = set()
    for i, paragraph in paragraphs.items():
        lead_at = paragraph.block.lead
        if lead_at in leads:
            paragraph.lead, paragraph.lead_span = leads[lead_at], paragraphs[lead_at].sentences[-1].span
        elif heading := _column_lead(paragraph.block.column, paragraph.agents[0]):
            paragraph.lead = heading
        for k, sentence in enumerate(paragraph.sentences):
            is_first = k == 0 and paragraph.lead is not None
            found, took = _norms(paragraph, sentence.words, paragraph.agents[k], is_first)
            paragraph.by_rules.append(found)
            if took:
                paragraph.used_lead = True
                if lead_at is not None:
                    used.add(lead_at)
        if i in introducing and paragraph.raw.rstrip("*_ ").endswith(":"):
            leads[i] = read_lead(paragraph.sentences[-1].words, agent=paragraph.agents[-1], outer=paragraph.lead)
    for i in used:  # what the items say in full needs no clause of its own
        paragraphs[i].by_rules[-1] = []
    for i in leads:
        is_label = paragraphs[i].used_lead and len(paragraphs[i].sentences) == 1  # "Report quality:" over a nested list
        if (
            is_label
            or leads[i].is_open
            or re.search(r"\b(?:following|these|below)\b[^.]{0,40}:?$", paragraphs[i].sentences[-1].words)
        ):
            paragraphs[i].by_rules[-1] = []


def _norms(paragraph: Paragraph, words: str, agent: str | None, is_first: bool) -> tuple[list[Norm], bool]:
    quoted = paragraph.block.kind == "footnote" or paragraph.block.role != "body"
    if is_first and paragraph.lead is not None:
        return item_norms(words, paragraph.lead, agent=agent)
    return norms(words, agent=agent, imperatives=not quoted), False


def _name_agents(paragraphs: Mapping[int, Paragraph]) -> None:
    """Who "it" is in each sentence: the one bound last before it in its paragraph, else the one the whole document binds most."""
    spoken = {i: [speaker(sentence.words) for sentence in paragraph.sentences] for i, paragraph in paragraphs.items()}
    counted = Counter(who for names in spoken.values() for who in names if who is not None)
    usual = counted.most_common(1)[0][0] if counted else None
    usual = None if usual and usual.endswith("s") else usual  # a "they" far from its people is more likely things
    for i, paragraph in paragraphs.items():
        last = None
        for who in spoken[i]:
            paragraph.agents.append(last or who or usual)
            last = who or last


def _column_lead(column: str, agent: str | None) -> Lead | None:
    """A table column headed 'Must not' or 'Allowed' binds its cells by itself."""
    header = clean(column).strip(" :")
    name = header.lower().replace("’", "'")
    if name in _MODAL_HEADERS:
        return Lead(f"{agent} {name}" if agent else header, _MODAL_HEADERS[name], True)
    return Lead(header, _RULING_HEADERS[name], False) if name in _RULING_HEADERS else None


def _clause(
    paragraph: Paragraph,
    sentence: Sentence,
    n: int,
    norm: Norm,
    category: str | None,
    places: _Places,
    lead: tuple[int, int] | None,
    by_model: bool,
) -> CompiledClause:
    scope, priority = standing(paragraph.block.path)
    return CompiledClause(
        id=clause_id(sentence.raw, paragraph.raw, n),
        text=f"{paragraph.case}: {norm.text}" if paragraph.case else norm.text,
        modality=norm.modality,
        category=category or category_of(paragraph.block.path, sentence.words),
        priority=priority,
        scope=scope,
        span=sentence.span,
        lines=places.lines(sentence.span),
        sentence=sentence.words,
        lead=lead,
        by="model" if by_model else "rules",
    )


# -- ids and places ---------------------------------------------------------------------------------------------------


def clause_id(sentence: str, paragraph: str, n: int) -> str:
    """Id of the clause number `n` (from 0) of a sentence: some of its words, a hash of it and its paragraph, the number from 2 on.

    Takes Markdown as written. White space does not count, so re-wrapping a paragraph keeps its ids.
    """
    flowed = " ".join(sentence.split()), " ".join(paragraph.split())
    content = hashlib.sha256("\x00".join(flowed).encode("utf-8", "surrogatepass")).hexdigest()[:12]
    words = [word for word in re.findall(r"[a-z0-9]+", strip_preamble(clean(flowed[0])).lower()) if _tells(word)]
    name = "-".join(words[:4])[:40].strip("-")
    return f"{name or 'clause'}-{content}{f'-{n + 1}' if n else ''}"


_SAYS_LITTLE = STOPWORDS | {"assistant", "model", "models", "user", "users", "s", "t", "don", "e", "g"}


def _tells(word: str) -> bool:
    return word not in _SAYS_LITTLE


class _Ids:
    """Clauses by id. The same sentence in an equal paragraph again is one clause with two places, unless its list makes it differ."""

    def __init__(self) -> None:
        self._clauses: dict[str, CompiledClause] = {}
        self._also: dict[str, list[tuple[int, int]]] = {}

    def __len__(self) -> int:
        return len(self._clauses)

    def add(self, clause: CompiledClause) -> None:
        id, n = clause.id, 1
        while (held := self._clauses.get(id)) is not None:
            if held.text == clause.text and held.modality == clause.modality:
                if held.span != clause.span:
                    self._also.setdefault(id, []).append(clause.span)
                return
            n += 1
            id = f"{clause.id}.{n}"
        self._clauses[id] = clause if n == 1 else clause.model_copy(update={"id": id})

    def clauses(self) -> tuple[CompiledClause, ...]:
        """In file order, with all their places."""
        return tuple(
            clause.model_copy(update={"also": tuple(self._also[id])}) if id in self._also else clause
            for id, clause in self._clauses.items()
        )


class _Places:
    """Line numbers of character offsets."""

    def __init__(self, source: str) -> None:
        self._starts = [0, *(match.end() for match in re.finditer("\n", source))]

    def lines(self, span: tuple[int, int]) -> tuple[int, int]:
        return bisect_right(self._starts, span[0]), bisect_right(self._starts, max(span[0], span[1] - 1))


# -- output -----------------------------------------------------------------------------------------------------------


def to_constitution(compilation: Compilation, *, name: str | None = None, version: str = "1.0") -> dict[str, Any]:
    """The clauses as the plain data of a constitution file; `harmful` and `harmless` are empty, for a person or a generator to fill.

    name: by default made of the file's name. Raises DataError when there is no clause.
    """
    if not compilation.clauses:
        raise DataError(f"{compilation.file}: no clause was found, so there is no constitution to write.")
    file = Path(compilation.file).name
    return {
        "uphold": 1,
        "name": name or _file_name(file),
        "version": version,
        "description": f"Compiled from {file} (SHA-256 {compilation.digest[:12]}): {len(compilation.clauses)} clauses.",
        "clauses": list(_entries(compilation.clauses, file)),
    }


def _entries(clauses: Sequence[CompiledClause], file: str) -> Iterator[dict[str, Any]]:
    for clause in clauses:
        entry: dict[str, Any] = {
            "id": clause.id,
            "text": clause.text,
            "modality": clause.modality,
            "priority": clause.priority,
        }
        if clause.scope:
            entry["scope"] = clause.scope
        if clause.category:
            entry["category"] = clause.category
        place = f"{file}:{clause.lines[0]} characters {clause.span[0]}-{clause.span[1]}"
        yield entry | {"harmful": [], "harmless": [], "source": place}


def _file_name(file: str) -> str:
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(file).stem).strip("-._")
    return name[:100] or "compiled"
