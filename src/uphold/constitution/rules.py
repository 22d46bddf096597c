"""The rules of the lint: each looks at the clauses in force and yields the weaknesses it finds, as warnings.

Takes clauses and their origins from `resolution.py`; `lint.py` runs every rule of `RULES`. A rule compares meaning only as far as
`language.py` reads it, so it may miss what is put in other words; what it reports is meant to be worth a look every time.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from uphold.constitution.language import (
    Directive,
    content,
    directives,
    share_of_smaller,
    similar_pairs,
    without_common,
)
from uphold.constitution.problems import Code, Problem
from uphold.constitution.resolution import Origin
from uphold.constitution.schema import SCOPE_RANK, Clause, prevails

NEAR_DUPLICATE = 0.8  # Jaccard of content words
SAME_ACT = 0.5  # Jaccard of acts at which two directives may concern the same thing ...
SAME_ACT_CONTAINED = 0.75  # ... if this share of the shorter one is in the longer
SAME_CONDITION = 0.6  # the same for what stands after 'if' and 'when', where both have such
MAX_PER_CLAUSE = 3  # pairs reported per clause and rule: a copied file should not give 100,000 lines

_VAGUE = re.compile(
    r"\b(?:(?:in)?appropriate(?:ly)?|(?:un)?reasonabl[ey]|(?:un)?suitabl[ey]|(?:in)?adequate(?:ly)?|(?:im)?proper(?:ly)?|"
    r"sufficient(?:ly)?|excessive(?:ly)?|undu(?:e|ly)|(?:un)?acceptabl[ey]|problematic|questionable|"
    r"(?:as|if|when|where(?:ver)?|whenever) (?:needed|necessary|possible|applicable|required)|etc|and so on|and the like|"
    r"try to|attempt to|usually|generally|normally|typically|in most cases|best efforts?|common sense|"
    r"be (?:good|nice|careful|ethical)|do the right thing)\b",
    re.IGNORECASE,
)


Meeting = tuple[Clause, Clause, str]  # two clauses in file order, and what they meet on


@dataclass(frozen=True)
class Book:
    """The clauses in force, in order, and where each was written."""

    clauses: Sequence[Clause]
    origins: dict[str, Origin]

    def warning(self, code: Code, clause: Clause, message: str, mend: str) -> Problem:
        at = self.origins[clause.id]
        return Problem(
            severity="warning", code=code, file=at.file, line=at.line, clause=clause.id, message=message, mend=mend
        )

    @cached_property
    def conflicts(self) -> list[Meeting]:
        """Pairs that contradict in wording, then those that give one category opposite rulings; each pair once."""
        found: dict[tuple[str, str], Meeting] = {}
        for first, second, what in [*_opposite_wording(self), *_opposite_rulings(self)]:
            found.setdefault((first.id, second.id), (first, second, what))
        return list(found.values())

    @cached_property
    def disputes(self) -> list[Meeting]:
        """Pairs of which one calls a request harmful and the other the same request harmless."""
        return _disputed_examples(self)

    def at(self, clause: Clause) -> str:
        """The clause by name and place; the file is left out when there is only one."""
        at = self.origins[clause.id]
        is_one_file = len({origin.file for origin in self.origins.values()}) == 1
        return f"{clause.id!r} (line {at.line})" if is_one_file else f"{clause.id!r} ({at.file}:{at.line})"


Rule = Callable[[Book], Iterator[Problem]]


def duplicates(book: Book) -> Iterator[Problem]:
    """Clauses that say the same, word for word or nearly; each is reported once, against the nearest earlier one."""
    sets = [content(clause.text) for clause in book.clauses]
    nearest: dict[int, tuple[float, int]] = {}
    for i, j, alike in similar_pairs(sets, NEAR_DUPLICATE):
        if alike > nearest.get(j, (0.0, 0))[0] and not _opposed(book.clauses[i], book.clauses[j]):
            nearest[j] = (alike, i)
    for j, (alike, i) in sorted(nearest.items()):
        first, second = book.clauses[i], book.clauses[j]
        differs = (
            ""
            if first.modality == second.modality
            else f", but one says {first.modality} and the other {second.modality}"
        )
        if first.text.casefold() == second.text.casefold():
            yield book.warning("duplicate", second, f"says the same as {book.at(first)}{differs}", "Keep one of them")
        else:
            what = f"says nearly the same as {book.at(first)}: {alike:.0%} of their words are shared{differs}"
            yield book.warning("near-duplicate", second, what, "Merge them, or say what sets them apart")


def contradictions(book: Book) -> Iterator[Problem]:
    """Clauses of one scope that order opposite things about one act, unless `over` says which one holds."""
    reported: Counter[str] = Counter()
    for first, second, what in book.conflicts:
        if first.scope != second.scope or first.id in second.over or second.id in first.over:
            continue
        if reported[second.id] >= MAX_PER_CLAUSE:
            continue
        reported[second.id] += 1
        winner = prevails(first, second)
        outcome = f"; the higher priority of {winner.id!r} decides in silence" if winner else ""
        mend = f"Reword one, or say which one holds: `over: [{first.id}]` here, or `over: [{second.id}]` there"
        yield book.warning("contradiction", second, f"contradicts {book.at(first)}: {what}{outcome}", mend)


def open_precedence(book: Book) -> Iterator[Problem]:
    """Clauses of one scope and priority that contradict, or share an example under opposite labels, with no `over` between them."""
    reported: Counter[str] = Counter()
    meetings = [*book.conflicts, *book.disputes]
    for first, second, _ in meetings:
        if prevails(first, second) is None and reported[second.id] < MAX_PER_CLAUSE:
            reported[second.id] += 1
            mend = f"Give one the higher priority, or write `over: [{first.id}]` here"
            what = f"nothing says whether this or {book.at(first)} prevails where they meet"
            yield book.warning("open-precedence", second, what, mend)


def disputed_examples(book: Book) -> Iterator[Problem]:
    """A request that one clause calls harmful and another harmless."""
    for first, second, what in book.disputes:
        yield book.warning(
            "disputed-example", second, f"disagrees with {book.at(first)}: {what}", "Remove it from one of them"
        )


def repeated_examples(book: Book) -> Iterator[Problem]:
    """The same request under two clauses with the same label: it would count twice."""
    for label in ("harmful", "harmless"):
        first_use: dict[str, Clause] = {}
        for clause in book.clauses:
            for line in getattr(clause, label):
                first = first_use.setdefault(_plain(line), clause)
                if first is not clause:
                    what = f"the {label} example {line!r} also stands under {book.at(first)}"
                    yield book.warning("repeated-example", clause, what, "Keep it under the clause it fits best")


def vague_terms(book: Book) -> Iterator[Problem]:
    """Words that leave the decision to the reader."""
    for clause in book.clauses:
        found = list(dict.fromkeys(match.group().casefold() for match in _VAGUE.finditer(clause.text)))
        if found:
            terms = ", ".join(repr(term) for term in found)
            mend = "Say what it means here: a number, a list, or a test that two readers would apply alike"
            yield book.warning("vague-term", clause, f"leaves open what is meant by {terms}", mend)


def missing_twins(book: Book) -> Iterator[Problem]:
    """Must-clauses without harmless examples: nothing shows where the rule ends, and over-refusal cannot be measured."""
    for clause in book.clauses:
        if clause.modality == "must" and not clause.harmless:
            mend = "Add under `harmless:` requests that share its words and must be answered"
            yield book.warning("no-harmless", clause, "is a must-clause without harmless twins", mend)


def missing_examples(book: Book) -> Iterator[Problem]:
    """Categories that no example shows."""
    by_category: dict[str, list[Clause]] = defaultdict(list)
    for clause in book.clauses:
        if clause.category is not None:
            by_category[clause.category].append(clause)
    for category, clauses in by_category.items():
        if not any(clause.harmful or clause.harmless for clause in clauses):
            mend = "Add requests of this kind under `harmful:` and near misses under `harmless:`"
            yield book.warning("no-examples", clauses[0], f"the category {category!r} has no examples", mend)
        elif not any(clause.harmful for clause in clauses) and any(clause.modality != "may" for clause in clauses):
            mend = "Add requests of this kind under `harmful:`; without them the category is not forbidden"
            yield book.warning("no-examples", clauses[0], f"the category {category!r} has no harmful examples", mend)


def unreachable_precedence(book: Book) -> Iterator[Problem]:
    """`over` across scopes: the scopes decide before `over` is looked at."""
    by_id = {clause.id: clause for clause in book.clauses}
    for clause in book.clauses:
        for other in (by_id[id] for id in clause.over if id in by_id):
            if SCOPE_RANK[other.scope] > SCOPE_RANK[clause.scope]:
                what = f"`over: {other.id}` has no effect: scope {other.scope} prevails over scope {clause.scope}"
                yield book.warning("unreachable-override", clause, what, "Remove it, or change a scope")
            elif SCOPE_RANK[other.scope] < SCOPE_RANK[clause.scope]:
                what = (
                    f"`over: {other.id}` is not needed: scope {clause.scope} prevails over scope {other.scope} anyway"
                )
                yield book.warning("unreachable-override", clause, what, "Remove it")


RULES: tuple[Rule, ...] = (
    duplicates,
    contradictions,
    open_precedence,
    disputed_examples,
    repeated_examples,
    vague_terms,
    missing_twins,
    missing_examples,
    unreachable_precedence,
)


def _opposite_wording(book: Book) -> Iterator[Meeting]:
    owners: list[Clause] = []
    orders: list[Directive] = []
    for clause in book.clauses:
        for directive in directives(clause.text):
            owners.append(clause)
            orders.append(directive)
    for i, j, _ in similar_pairs(without_common([order.act for order in orders]), SAME_ACT):
        if owners[i] is not owners[j] and _are_opposite(orders[i], orders[j]):
            yield owners[i], owners[j], f"{orders[i].text!r} and {orders[j].text!r}"


def _are_opposite(a: Directive, b: Directive) -> bool:
    """Same act, one for it and one against it. One word in common is too little unless it is all there is; exceptions must be alike."""
    return (
        a.is_negative != b.is_negative
        and a.exceptions == b.exceptions
        and (not a.condition or not b.condition or share_of_smaller(a.condition, b.condition) >= SAME_CONDITION)
        and (len(a.act & b.act) >= 2 or a.act == b.act)
        and share_of_smaller(a.act, b.act) >= SAME_ACT_CONTAINED
    )


def _opposed(a: Clause, b: Clause) -> bool:
    return any(_are_opposite(x, y) for x in directives(a.text) for y in directives(b.text))


def _opposite_rulings(book: Book) -> Iterator[Meeting]:
    by_category: dict[str, list[Clause]] = defaultdict(list)
    for clause in book.clauses:
        if clause.category is not None:
            by_category[clause.category].append(clause)
    for category, clauses in by_category.items():
        for j, second in enumerate(clauses):
            for first in clauses[:j]:
                if first.forbids != second.forbids and "may" in (first.modality, second.modality):
                    verbs = ("forbids", "allows") if first.forbids else ("allows", "forbids")
                    yield first, second, f"the first {verbs[0]} the category {category!r} and the second {verbs[1]} it"


def _disputed_examples(book: Book) -> list[Meeting]:
    refused: dict[str, Clause] = {}
    for clause in book.clauses:
        for line in clause.harmful:
            refused.setdefault(_plain(line), clause)
    order = {clause.id: i for i, clause in enumerate(book.clauses)}
    found: list[Meeting] = []
    for clause in book.clauses:
        for line in clause.harmless:
            other = refused.get(_plain(line))
            if other is not None and other is not clause:
                first, second = sorted((clause, other), key=lambda c: order[c.id])
                found.append(
                    (first, second, f"{line!r} is harmful under {other.id!r} and harmless under {clause.id!r}")
                )
    return found


def _plain(line: str) -> str:
    return " ".join(line.casefold().split()).rstrip(".?! ")
