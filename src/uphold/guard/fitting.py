"""Fitting one stage of a linear guard: texts to rows, rows to weights, weights to a `StageModel`.

Takes labelled examples of one kind; gives the stage without calibration and threshold, which `train.py` adds. A benign reply is also
taught at its beginnings, since a stream is judged there; a long benign prompt by its windows; a harmful text whole, for which part of it
does the harm is not known. Damping and regularisation are chosen on groups of examples held out of the fit, judged as the guard judges.
Left out: splitting and cleaning data (`train.py`, `examples.py`), the optimiser (`logistic.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from uphold.core.errors import DataError
from uphold.core.records import Exchange, Record
from uphold.core.seeds import split_of
from uphold.guard import features, logistic
from uphold.guard.base import Stage, turns_text
from uphold.guard.examples import Example, exchange_of, family_of, group_of, is_harmful, source_of
from uphold.guard.features import FeatureSpec
from uphold.guard.heads import Floats, Head, Table
from uphold.guard.links import Links
from uphold.guard.metrics import auprc, ranking
from uphold.guard.stage import StageModel

MAX_CLAUSE_ROWS = 4000  # harmful texts that clause heads are fitted on: they only tell clauses apart


class GuardSettings(Record):
    """How to train. fpr_budget: share of benign traffic that may be refused, per stage, held with confidence `level`.

    prompt_window, reply_window: words judged together; a prompt's is short, so that the request stands out of what is wrapped around
    it. q0: dampings of short texts, c: inverse strengths of regularisation, both to choose from by AUPRC on groups held out of the fit
    part; clause_c: of the clause heads. exchange: judge replies with their prompts. links: read the words
    of a reply with their links into the system message. fit, threshold and test: shares of the examples.
    """

    features: FeatureSpec = FeatureSpec()
    prompt_window: int = Field(16, ge=4, le=100_000)
    reply_window: int = Field(64, ge=4, le=100_000)
    q0: tuple[float, ...] = Field((1000.0, 100.0, 3000.0), min_length=1)
    c: tuple[float, ...] = Field((10.0, 3.0, 30.0), min_length=1)
    clause_c: float = Field(10.0, gt=0.0)
    max_iter: int = Field(150, ge=1)
    fpr_budget: float = Field(0.01, gt=0.0, lt=1.0)
    level: float = Field(0.95, gt=0.0, lt=1.0)
    exchange: bool = False
    links: bool = True
    fit: float = Field(0.6, gt=0.0)
    threshold: float = Field(0.2, gt=0.0)
    test: float = Field(0.2, ge=0.0)


@dataclass
class _Rows:
    """Texts to fit on, one row per unit: which example it is of, its words (of the prompt, of the reply), what it is, its share."""

    examples: Sequence[Example]
    owners: NDArray[np.int64]
    words: dict[str, list[list[str]]]
    harmful: NDArray[np.bool_]
    shares: Floats

    @property
    def clauses(self) -> list[str | None]:
        return [self.examples[i].clause for i in self.owners]

    @property
    def kinds(self) -> list[str]:
        return [f"{source_of(self.examples[i])}/{family_of(self.examples[i])}" for i in self.owners]


_BLOCKS: dict[Stage, tuple[str, ...]] = {"input": ("prompt",), "output": ("reply",), "exchange": ("prompt", "reply")}


def _rows(stage: Stage, examples: Sequence[Example], settings: GuardSettings) -> _Rows:
    words: dict[str, list[list[str]]] = {block: [] for block in _BLOCKS[stage]}
    owners, shares = [], []
    for i, example in enumerate(examples):
        exchange = exchange_of(example)
        context, latest = turns_text(exchange.messages)
        if stage == "input":
            units = _prompt_units(features.words(latest), is_harmful(example), settings.prompt_window)
        else:
            units = _reply_units(_reply_words(exchange, settings), is_harmful(example), settings.reply_window)
        units = [unit for unit in units if unit]
        for unit in units:
            words[_BLOCKS[stage][-1]].append(unit)
            if stage == "exchange":
                words["prompt"].append(features.words(f"{context}\n{latest}")[-settings.reply_window :])
            owners.append(i)
            shares.append(1 / len(units))
    harmful = np.array([is_harmful(examples[i]) for i in owners], dtype=bool)
    return _Rows(examples, np.array(owners, dtype=np.int64), words, harmful, np.array(shares, dtype=float))


def _prompt_units(words: list[str], harmful: bool, window: int) -> list[list[str]]:
    """A harmful prompt whole: which part of it does the harm is not known. A benign one in windows, as it will be judged."""
    if harmful or len(words) <= window:
        return [words]
    ends = [*range(window, len(words), max(1, window // 2)), len(words)]
    return [words[end - window : end] for end in ends]


def _reply_words(exchange: Exchange, settings: GuardSettings) -> list[str]:
    words = features.words(exchange.completion)
    return list(Links(exchange.messages).read(words)) if settings.links else words


def _reply_units(words: list[str], harmful: bool, window: int) -> list[list[str]]:
    """A harmful reply whole. A benign one also as a reader of the stream has seen it at each quarter: benign all along."""
    if harmful:
        return [words]
    if len(words) > window:
        return _prompt_units(words, harmful, window)
    return [words[:end] for end in dict.fromkeys(-(-len(words) * k // 4) for k in (4, 1, 2, 3)) if end]


class _Counts(NamedTuple):
    """Feature counts (rows, buckets) and squared idf (buckets,) of each block."""

    counts: list[Any]
    q: list[Floats]

    def of(self, rows: NDArray[Any]) -> list[tuple[Any, Floats]]:
        return [(counts[rows], q) for counts, q in zip(self.counts, self.q, strict=True)]


class Calibration(NamedTuple):
    """Logits of examples that were not fitted on, and whether they are harmful."""

    logits: Floats
    harmful: NDArray[np.bool_]


def fit_stage(
    stage: Stage, examples: Sequence[Example], settings: GuardSettings
) -> tuple[StageModel, Calibration | None]:
    """The stage without calibration and threshold, and what to calibrate it on where the threshold part lacks a class."""
    rows = _rows(stage, examples, settings)
    for harmful, name in ((True, "harmful"), (False, "benign")):
        if not (rows.harmful == harmful).any():
            what = "prompts" if stage == "input" else "replies"
            raise DataError(
                f"no {name} {what} to train the {stage} guard on. Add some, or give the constitution's clauses examples."
            )
    matrices = [features.count_matrix(rows.words[block], settings.features) for block in _BLOCKS[stage]]
    data = _Counts(matrices, [logistic.squared_idf(matrix) for matrix in matrices])
    (q0, c), calibration = _choose(stage, rows, data, settings)
    fit = _fit_harm(rows, data, np.arange(len(rows.owners)), q0, c, settings)
    clauses, heads = _fit_clauses(rows, data, q0, settings)
    return _assembled(stage, data, fit, clauses, heads, q0, settings), calibration


def _fit_harm(
    rows: _Rows, data: _Counts, at: NDArray[np.int64], q0: float, c: float, settings: GuardSettings
) -> logistic.Fit:
    """The head that tells harmful from benign, fitted on the rows `at`."""
    kinds = rows.kinds
    weights = logistic.balanced(rows.harmful[at], [kinds[i] for i in at], rows.shares[at])
    return logistic.fit(data.of(at), rows.harmful[at], weights, q0=q0, c=c, max_iter=settings.max_iter)


def _choose(
    stage: Stage, rows: _Rows, data: _Counts, settings: GuardSettings
) -> tuple[tuple[float, float], Calibration | None]:
    """(q0, c) that rank best, judged as the guard will judge, examples of groups that were not fitted on; and their logits."""
    shares = {"in": 0.8, "out": 0.2}
    is_out = np.array([split_of(group_of(example), shares, "choose") == "out" for example in rows.examples], dtype=bool)
    held_out = [example for example, out in zip(rows.examples, is_out, strict=True) if out]
    fitted = np.flatnonzero(~is_out[rows.owners])
    labels = np.array([is_harmful(example) for example in held_out], dtype=bool)
    if len(set(labels)) < 2 or len(set(rows.harmful[fitted])) < 2:
        return (settings.q0[0], settings.c[0]), None

    def trial(q0: float, c: float) -> Calibration:
        model = _assembled(stage, data, _fit_harm(rows, data, fitted, q0, c, settings), (), [], q0, settings)
        return Calibration(logits_of(model, held_out), labels)

    tried: dict[tuple[float, float], Calibration] = {}
    for q0 in settings.q0:
        tried[q0, settings.c[0]] = trial(q0, settings.c[0])
    q0 = max(tried, key=lambda each: _quality(tried[each]))[0]
    for c in settings.c[1:]:
        tried[q0, c] = trial(q0, c)
    best = max(tried, key=lambda each: _quality(tried[each]))
    return best, tried[best]


def _quality(trial: Calibration) -> float:
    return float(auprc(ranking(trial.logits.tolist(), trial.harmful.tolist())))


def _assembled(
    stage: Stage,
    data: _Counts,
    fit: logistic.Fit,
    clauses: tuple[str, ...],
    heads: Sequence[logistic.Fit],
    q0: float,
    settings: GuardSettings,
) -> StageModel:
    built = {}
    for i, block in enumerate(_BLOCKS[stage]):
        table = _table(fit.w[i], data.q[i], [head.w[i] for head in heads])
        window = settings.prompt_window if stage == "input" else settings.reply_window
        built[block] = Head(table, settings.features, window, q0, settings.links and block == "reply")
    bias = np.array([head.bias for head in heads], dtype=float)
    return StageModel(stage, built.get("prompt"), built.get("reply"), fit.bias, clauses, bias)


def logits_of(stage: StageModel, examples: Sequence[Example]) -> Floats:
    """The logit of each example. One without a word scores 0 whatever the weights: it gets a logit below all others."""
    found = [peak.logit if peak else None for peak in stage.peaks([exchange_of(e) for e in examples])]
    floor = min((z for z in found if z is not None), default=0.0) - 1.0
    return np.array([floor if z is None else z for z in found], dtype=float)


def _fit_clauses(
    rows: _Rows, data: _Counts, q0: float, settings: GuardSettings
) -> tuple[tuple[str, ...], list[logistic.Fit]]:
    """A head per clause that tells its harmful texts from those of the other clauses."""
    owners = rows.clauses
    named = np.array([i for i, clause in enumerate(owners) if clause and rows.harmful[i]], dtype=np.int64)
    named = named[:: max(1, -(-len(named) // MAX_CLAUSE_ROWS))]
    clauses = tuple(sorted({str(owners[i]) for i in named}))
    if len(clauses) < 2:
        nothing = logistic.Fit([np.zeros(len(q)) for q in data.q], 0.0)
        return clauses, [nothing] * len(clauses)
    of_clause = np.array([owners[i] for i in named], dtype=object)
    heads = []
    for clause in clauses:
        is_this = of_clause == clause
        weights = np.where(is_this, 0.5 / is_this.sum(), 0.5 / (~is_this).sum()) * len(named)
        heads.append(logistic.fit(data.of(named), is_this, weights, q0=q0, c=settings.clause_c, max_iter=40))
    return clauses, heads


def _table(w: Floats, q: Floats, clauses: Sequence[Floats]) -> Table:
    columns = [_steps(column) for column in (w, q, *clauses)]
    heads = [steps for steps, _ in columns[2:]]
    return Table(
        np.stack([columns[0][0], columns[1][0]], axis=1),
        np.stack(heads, axis=1) if heads else np.zeros((len(w), 0), dtype=np.int16),
        np.array([scale for _, scale in columns]),
    )


def _steps(values: Floats) -> tuple[NDArray[np.int16], float]:
    """Values as 16-bit whole numbers, and the value of one step."""
    top = float(np.abs(values).max(initial=0.0))
    scale = top / 32767 if top > 0 else 1.0
    return np.round(values / scale).astype(np.int16), scale
