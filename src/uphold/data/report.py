"""How varied a set of labelled requests is: counts, balance, distinct n-grams, near-duplicates, nearest neighbours, shared frames.

Takes rows (`data.rows`) of the written corpus, of synthetic data or of any file; gives a `Report` for `uphold data stats` and the
datasheet, every share as a Measurement. Distinct n-grams after Li et al. 2016 (arXiv:1510.03055); they fall with the size of a set, so
they are also given on a fixed number of words. Whether rows were stamped out of a template is measured, not declared: rows
that differ only in their rarer words share a frame. Left out: embedding similarity, which needs a model.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from uphold.core.measure import proportion, scalar
from uphold.core.records import Measurement, Record, digest
from uphold.core.seeds import derive
from uphold.data.dedupe import NearDuplicates, nearest_similarity, words
from uphold.data.rows import Row

FIELDS = ("label", "clause", "lang", "kind", "register", "difficulty", "split")
NEAR = 0.8  # Jaccard similarity of word triples from which a row repeats an earlier one
FIXED_WORDS = 10_000  # distinct n-grams of sets of different size are compared on this many
MAX_NEIGHBOURS = 20_000  # rows whose nearest neighbour is sought; a larger set is sampled
FRAME_WORDS = 150  # the set's commonest words: what stays of a row when its own words are taken out
MIN_FRAME = 6  # words of a row, and at least two thirds of the frame kept, before a shared frame says anything
MIN_SHARED = 3  # rows with one frame before it counts as a template


class ClauseBalance(Record):
    """Rows of one clause (or, without one, category): harmful, benign, and those without a label."""

    clause: str
    harmful: int
    benign: int
    unlabelled: int

    @property
    def share_benign(self) -> float | None:
        labelled = self.harmful + self.benign
        return self.benign / labelled if labelled else None


class Report(Record):
    """A set of rows described. counts: field -> value -> rows, for the fields that any row has. quantiles: of a distribution.

    nearest: Jaccard similarity of a row to the most similar other one. pairs: (place, earlier place, jaccard) of near-duplicates.
    """

    name: str
    data: str
    n: int
    n_multi_turn: int
    n_replies: int
    counts: dict[str, dict[str, int]]
    balance: tuple[ClauseBalance, ...]
    words: dict[str, float]
    distinct: dict[str, int]
    nearest: dict[str, float]
    pairs: tuple[tuple[str, str, float], ...]
    openings: tuple[tuple[str, int], ...]
    measurements: tuple[Measurement, ...]

    def measured(self, metric: str) -> Measurement:
        """The measurement of that name."""
        return next(m for m in self.measurements if m.metric == metric)


def describe(rows: Iterable[Row], name: str, *, threshold: float = NEAR, seed: int = 0) -> Report:
    """Everything that is known of the rows' variety. name: what they are called in the report. seed: of the samples drawn."""
    rows = list(rows)
    texts = [row.asked for row in rows]
    data = digest([[row.id, row.label, row.reply] for row in rows])
    about: dict[str, Any] = {"data": data, "seeds": (seed,)}
    matches = NearDuplicates(threshold)
    kept: list[int] = []
    pairs = []
    for i, match in enumerate(matches.add(texts)):
        if match is None:
            kept.append(i)
        else:
            pairs.append((rows[i].place, rows[kept[match.number]].place, round(match.jaccard, 3)))
    repeated = set(range(len(rows))) - set(kept)
    in_frame = template_rows(texts)
    labelled = [row.label == "benign" for row in rows if row.label is not None]
    tokens = [words(text) for text in texts]
    chosen = _sampled(len(rows), seed)
    nearest = nearest_similarity(texts, chosen).tolist()
    measurements = (
        proportion("near_duplicates", [i in repeated for i in range(len(rows))], higher_is_better=False, **about),
        proportion("template_rows", in_frame, higher_is_better=False, **about),
        proportion("benign_share", labelled, **about),
        scalar(
            "nearest_neighbour_similarity",
            _mean(nearest),
            len(nearest),
            unit="jaccard",
            higher_is_better=False,
            **about,
        ),
        *_distinct_measurements(tokens, seed, about),
    )
    return Report(
        name=name,
        data=data,
        n=len(rows),
        n_multi_turn=sum(sum(m.role == "user" for m in row.messages) > 1 for row in rows),
        n_replies=sum(bool(row.reply) for row in rows),
        counts=_counts(rows),
        balance=_balance(rows),
        words=quantiles([len(found) for found in tokens]),
        distinct={f"{n}-grams": len(_ngrams(tokens, n)) for n in (1, 2, 3)},
        nearest=quantiles(nearest),
        pairs=tuple(pairs),
        openings=tuple(Counter(" ".join(found[:2]) for found in tokens).most_common(5)),
        measurements=measurements,
    )


def template_rows(texts: Sequence[str]) -> list[bool]:
    """For each text: whether at least `MIN_SHARED` texts (itself included) are equal once all but the commonest words are taken out.

    Texts below `MIN_FRAME` words, and frames less than two thirds of which is left, say nothing: two short questions easily agree.
    """
    tokens = [words(text) for text in texts]
    common = {word for word, _ in Counter(word for found in tokens for word in found).most_common(FRAME_WORDS)}
    frames = [_frame(found, common) for found in tokens]
    counts = Counter(frame for frame in frames if frame)
    return [bool(frame) and counts[frame] >= MIN_SHARED for frame in frames]


def _frame(found: Sequence[str], common: set[str]) -> str:
    kept = [word if word in common else "_" for word in found]
    n_slots = kept.count("_")
    if len(found) < MIN_FRAME or 3 * n_slots > len(found):
        return ""
    joined = " ".join(kept)
    while "_ _" in joined:  # a slot may have been filled with one word or with several
        joined = joined.replace("_ _", "_")
    return joined


def quantiles(values: Sequence[float]) -> dict[str, float]:
    """Least, quartiles, 90th and 99th percentile and largest of the values; empty without values."""
    ordered = sorted(values)
    if not ordered:
        return {}
    shares = {"min": 0.0, "25%": 0.25, "50%": 0.5, "75%": 0.75, "90%": 0.9, "99%": 0.99, "max": 1.0}
    return {name: round(float(ordered[round(share * (len(ordered) - 1))]), 3) for name, share in shares.items()}


def _sampled(n: int, seed: int) -> list[int]:
    if n <= MAX_NEIGHBOURS:
        return list(range(n))
    return sorted(random.Random(derive(seed, "neighbours")).sample(range(n), MAX_NEIGHBOURS))


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _ngrams(tokens: Iterable[Sequence[str]], n: int) -> set[tuple[str, ...]]:
    return {tuple(found[i : i + n]) for found in tokens for i in range(len(found) - n + 1)}


def _distinct_measurements(tokens: Sequence[Sequence[str]], seed: int, about: Mapping[str, Any]) -> list[Measurement]:
    """distinct_N: different n-grams over all, on rows drawn until they hold `FIXED_WORDS` words (all rows of a smaller set)."""
    order = list(range(len(tokens)))
    random.Random(derive(seed, "distinct")).shuffle(order)
    drawn, held = [], 0
    for i in order:
        if held >= FIXED_WORDS:
            break
        drawn.append(tokens[i])
        held += len(tokens[i])
    found = []
    for n in (1, 2, 3):
        total = sum(max(0, len(one) - n + 1) for one in drawn)
        value = len(_ngrams(drawn, n)) / total if total else None
        note = f"different {n}-grams over all, on {held} words"
        found.append(scalar(f"distinct_{n}", value, total, unit="share", note=note, **about))
    return found


def _counts(rows: Sequence[Row]) -> dict[str, dict[str, int]]:
    found = {field: Counter(str(getattr(row, field) or "") for row in rows) for field in FIELDS}
    return {
        field: {value or "(none)": n for value, n in sorted(counted.items())}
        for field, counted in found.items()
        if any(counted.keys() - {""})
    }


def _balance(rows: Sequence[Row]) -> tuple[ClauseBalance, ...]:
    found: dict[str, Counter[str]] = {}
    for row in rows:
        found.setdefault(row.clause or row.category or "(none)", Counter())[row.label or "unlabelled"] += 1
    return tuple(
        ClauseBalance(clause=clause, harmful=n["harmful"], benign=n["benign"], unlabelled=n["unlabelled"])
        for clause, n in sorted(found.items())
    )
