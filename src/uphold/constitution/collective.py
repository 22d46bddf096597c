"""Clauses from a public consultation: what people of different minds agree on.

Takes votes on statements (`opinions.votes`); finds opinion groups (`opinions.groups`), how far each group stands behind each statement
(`opinions.support`) and what bridges them (`opinions.bridging`); gives clause proposals: statements that most of *every* group agrees
with, near-duplicates merged, each with its support. After Collective Constitutional AI (Huang et al. 2024, arXiv:2406.07814: about
1,000 people, 1,127 statements and 38,252 votes became 75 principles). Left out: collecting votes, moderating statements, rewording them.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uphold.constitution.language import STOPWORDS, content, directives, similar_pairs, without_common
from uphold.constitution.opinions.bridging import Bridging, measure_bridging
from uphold.constitution.opinions.figure import group_name
from uphold.constitution.opinions.groups import MIN_VOTES, Groups, find_groups
from uphold.constitution.opinions.support import Distinctive, Support, distinctive, measure_support
from uphold.constitution.opinions.votes import Revotes, Votes, read_votes
from uphold.constitution.prose.rules import norms
from uphold.constitution.prose.topics import category_of
from uphold.constitution.schema import Modality
from uphold.core.errors import ConfigError, DataError
from uphold.core.files import finite
from uphold.core.records import Record
from uphold.core.seeds import derive

CONFIDENCE = 0.9
SIMILAR = (
    0.75  # shared content words over all, from which two statements count as one; words in a fifth of them left aside
)


class GroupSupport(Record):
    """One group on one statement. agree, disagree, passed: votes. p_agree: posterior mean of the share that agrees, with its interval.

    majority: posterior probability that more than half of the group agrees.
    """

    group: str
    agree: int
    disagree: int
    passed: int
    p_agree: float
    interval: tuple[float, float]
    majority: float


class StatementResult(Record):
    """A statement with its support. consensus: product over groups of p_agree; bridging: see `opinions.bridging`; None without votes."""

    id: str
    text: str
    n: int
    agree: int
    disagree: int
    passed: int
    groups: tuple[GroupSupport, ...]
    consensus: float | None
    consensus_interval: tuple[float, float] | None
    bridging: float | None
    bridging_interval: tuple[float, float] | None


class Proposal(Record):
    """A clause made of a statement that every group supports. merged: ids of near-duplicate statements it stands for as well."""

    id: str
    text: str
    modality: Modality
    category: str | None
    statement: str
    merged: tuple[str, ...]
    consensus: float
    consensus_interval: tuple[float, float]
    bridging: float
    bridging_interval: tuple[float, float]
    groups: tuple[GroupSupport, ...]


class Opposition(Record):
    """A statement that sets a group apart from the others: shares of those who voted on it, p-value adjusted within the group."""

    group: str
    statement: str
    text: str
    direction: str
    share_in: float
    share_out: float
    n_in: int
    n_out: int
    p_value: float


@dataclass(frozen=True)
class Opinions:
    """Everything found in one consultation."""

    file: str
    votes: Votes
    groups: Groups
    statements: tuple[StatementResult, ...]
    representative: tuple[Opposition, ...]
    proposals: tuple[Proposal, ...]
    confidence: float
    level: float
    n_boot: int


def read_opinions(
    votes: str | Path,
    statements: str | Path,
    *,
    n_groups: int | None = None,
    min_votes: int = MIN_VOTES,
    confidence: float = CONFIDENCE,
    revotes: Revotes = "error",
    n_boot: int = 200,
    seed: int = 0,
) -> Opinions:
    """Read and analyse one consultation; see `analyse`. Raises DataError on files that cannot be used."""
    found = read_votes(votes, statements, revotes=revotes)
    return analyse(
        found, file=str(votes), n_groups=n_groups, min_votes=min_votes, confidence=confidence, n_boot=n_boot, seed=seed
    )


def analyse(
    votes: Votes,
    *,
    file: str = "votes",
    n_groups: int | None = None,
    min_votes: int = MIN_VOTES,
    confidence: float = CONFIDENCE,
    level: float = 0.95,
    n_boot: int = 200,
    seed: int = 0,
) -> Opinions:
    """Groups, support, bridging scores and proposals.

    n_groups: force that many. min_votes: people with fewer are not placed in a group. confidence: posterior probability, in every group,
    that most of it agrees, from which a statement is proposed. n_boot: resamples for the intervals of bridging scores.
    """
    if n_groups is not None and not 1 <= n_groups <= len(votes.participants):
        raise ConfigError(
            f"--groups {n_groups}: give a number from 1 to {len(votes.participants)}, the number of participants."
        )
    if not 0.5 <= confidence < 1:
        raise ConfigError(f"--confidence {confidence}: give a probability from 0.5 up to, but not including, 1.")
    groups = find_groups(votes, n=n_groups, min_votes=min_votes, seed=derive(seed, "groups"))
    support = measure_support(votes, groups.group_P, groups.n, level=level, seed=derive(seed, "support"))
    bridging = measure_bridging(votes, n_boot=n_boot, level=level, seed=derive(seed, "bridging"))
    results = tuple(_result(votes, support, bridging, s) for s in range(len(votes.statements)))
    apart = tuple(_opposition(votes, g, one) for g in range(groups.n) for one in distinctive(support, g))
    return Opinions(
        file, votes, groups, results, apart, _proposals(results, support, confidence), confidence, level, n_boot
    )


def _result(votes: Votes, support: Support, bridging: Bridging, s: int) -> StatementResult:
    value_N = votes.value_V[votes.column_V == s]
    by_group = tuple(
        GroupSupport(
            group=group_name(g),
            agree=int(support.agree_GS[g, s]),
            disagree=int(support.disagree_GS[g, s]),
            passed=int(support.n_GS[g, s] - support.agree_GS[g, s] - support.disagree_GS[g, s]),
            p_agree=float(support.p_agree_GS[g, s]),
            interval=(support.interval(g, s).low, support.interval(g, s).high),
            majority=float(support.majority_GS[g, s]),
        )
        for g in range(len(support.n_GS))
    )
    is_voted = len(value_N) > 0
    low, high = support.consensus_interval_S2[s]
    b_low, b_high = (finite(float(x)) for x in bridging.interval_S2[s])
    return StatementResult(
        id=votes.statements[s].id,
        text=votes.statements[s].text,
        n=len(value_N),
        agree=int((value_N > 0).sum()),
        disagree=int((value_N < 0).sum()),
        passed=int((value_N == 0).sum()),
        groups=by_group,
        consensus=float(support.consensus_S[s]) if is_voted else None,
        consensus_interval=(float(low), float(high)) if is_voted else None,
        bridging=finite(float(bridging.score_S[s])),
        bridging_interval=(b_low, b_high) if b_low is not None and b_high is not None else None,
    )


def _opposition(votes: Votes, g: int, one: Distinctive) -> Opposition:
    statement = votes.statements[one.statement]
    return Opposition(
        group=group_name(g),
        statement=statement.id,
        text=statement.text,
        direction=one.direction,
        share_in=one.share_in,
        share_out=one.share_out,
        n_in=one.n_in,
        n_out=one.n_out,
        p_value=one.p_value,
    )


# -- proposals --------------------------------------------------------------------------------------------------------


def _proposals(results: Sequence[StatementResult], support: Support, confidence: float) -> tuple[Proposal, ...]:
    """Statements that every group supports, the widest consensus first; a near-duplicate of a better one is merged into it."""
    agreed = [i for i in range(len(results)) if results[i].n and (support.majority_GS[:, i] >= confidence).all()]
    agreed.sort(key=lambda i: (-support.consensus_S[i], results[i].id))
    sets = without_common([content(results[i].text) for i in agreed])
    alike: dict[int, list[int]] = {}
    for a, b, _ in similar_pairs(sets, SIMILAR):
        if _polarity(results[agreed[a]].text) == _polarity(results[agreed[b]].text):
            alike.setdefault(b, []).append(a)
            alike.setdefault(a, []).append(b)
    made: dict[int, list[int]] = {}
    for rank in range(len(agreed)):
        kept = next((other for other in sorted(alike.get(rank, [])) if other < rank and other in made), None)
        made.setdefault(rank if kept is None else kept, [])
        if kept is not None:
            made[kept].append(rank)
    taken: set[str] = set()
    return tuple(
        _proposal(results[agreed[rank]], [results[agreed[r]].id for r in merged], taken)
        for rank, merged in made.items()
    )


def _polarity(text: str) -> tuple[bool, ...]:
    """What a statement speaks for and against: 'should share' and 'should not share' must never be merged."""
    return tuple(directive.is_negative for directive in directives(text))


def _proposal(result: StatementResult, merged: Sequence[str], taken: set[str]) -> Proposal:
    found = norms(result.text)
    assert result.consensus is not None
    assert result.consensus_interval is not None
    assert result.bridging is not None
    assert result.bridging_interval is not None
    return Proposal(
        id=_clause_id(result, taken),
        text=result.text,
        modality=found[0].modality if found else "should",
        category=category_of((), result.text),
        statement=result.id,
        merged=tuple(merged),
        consensus=result.consensus,
        consensus_interval=result.consensus_interval,
        bridging=result.bridging,
        bridging_interval=result.bridging_interval,
        groups=result.groups,
    )


def _clause_id(result: StatementResult, taken: set[str]) -> str:
    """Some words of the statement and its id; a hash of the id where that is no name."""
    words = [word for word in re.findall(r"[a-z0-9]+", result.text.lower()) if word not in STOPWORDS and len(word) > 1]
    plain = re.fullmatch(r"[A-Za-z0-9._-]{1,24}", result.id)
    tail = result.id if plain else hashlib.sha256(result.id.encode()).hexdigest()[:8]
    id = f"{'-'.join(words[:4])[:60].strip('-') or 'statement'}-{tail}"
    while id in taken:
        id += "x"
    taken.add(id)
    return id


# -- output -----------------------------------------------------------------------------------------------------------


def to_constitution(opinions: Opinions, *, name: str | None = None, version: str = "1.0") -> dict[str, Any]:
    """The proposals as the plain data of a constitution file. Raises DataError when there is none."""
    if not opinions.proposals:
        raise DataError(
            f"{opinions.file}: no statement has the support of every group at confidence {opinions.confidence:g}, "
            "so there is no constitution to write. Lower --confidence, or gather more votes."
        )
    votes = opinions.votes
    return {
        "uphold": 1,
        "name": name or re.sub(r"[^A-Za-z0-9._-]+", "-", Path(opinions.file).stem).strip("-._")[:100] or "opinions",
        "version": version,
        "description": (
            f"Supported by every one of {opinions.groups.n} opinion groups among {len(votes.participants)} people "
            f"({votes.n} votes on {len(votes.statements)} statements)."
        ),
        "clauses": [_entry(proposal, opinions) for proposal in opinions.proposals],
    }


def _entry(proposal: Proposal, opinions: Opinions) -> dict[str, Any]:
    entry: dict[str, Any] = {"id": proposal.id, "text": proposal.text, "modality": proposal.modality, "priority": 50}
    if proposal.category:
        entry["category"] = proposal.category
    shares = ", ".join(f"{g.group} {g.agree}/{g.agree + g.disagree + g.passed}" for g in proposal.groups)
    low, high = proposal.consensus_interval
    source = (
        f"{Path(opinions.file).name}, statement {proposal.statement}: agreed by group {shares}; "
        f"group-aware consensus {proposal.consensus:.2f} ({opinions.level:.0%} {low:.2f}-{high:.2f})"
    )
    low, high = proposal.bridging_interval
    source += f"; bridging {proposal.bridging:+.2f} ({low:+.2f} to {high:+.2f})"
    if proposal.merged:
        source += f"; also statements {', '.join(proposal.merged)}"
    return entry | {"harmful": [], "harmless": [], "source": source}


def summary(opinions: Opinions) -> dict[str, Any]:
    """Plain data of the whole result, for JSON."""
    votes, groups = opinions.votes, opinions.groups
    return {
        "votes": opinions.file,
        "layout": votes.layout,
        "n_participants": len(votes.participants),
        "n_statements": len(votes.statements),
        "n_votes": votes.n,
        "missing": round(votes.missing, 6),
        "n_duplicates": votes.n_duplicates,
        "n_revised": votes.n_revised,
        "n_moderated": votes.n_moderated,
        "confidence": opinions.confidence,
        "level": opinions.level,
        "groups": {
            "n": groups.n,
            "sizes": {group_name(g): size for g, size in enumerate(groups.sizes)},
            "n_unplaced": int((groups.group_P < 0).sum()),
            "dimensions": groups.dimensions,
            "silhouettes": groups.silhouettes,
            "silhouette_of_shuffled_votes": groups.shuffled,
            "stability": groups.stability,
            "members": {p: group_name(int(g)) or None for p, g in zip(votes.participants, groups.group_P, strict=True)},
        },
        "proposals": opinions.proposals,
        "representative": opinions.representative,
        "statements": opinions.statements,
    }
