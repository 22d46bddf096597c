"""Training a linear guard from labelled examples and a constitution.

Takes prompts (`Sample`) and labelled replies (`Exchange`, see `examples.py`) synthesised from the constitution or given by an operator;
gives a `LinearGuard` and a report. Each stage is fitted on one part of the data, calibrated and given its threshold on a second, and
measured on a third; parts go by content hash. A benign reply is also taught at its beginnings, since a stream is judged there; a
long benign prompt by its windows. Deterministic: equal examples and seed give equal bits.
The classes, and the training on synthetic data of both kinds, follow Constitutional Classifiers (Sharma et al. 2025, arXiv:2501.18837).
Left out: synthesis of examples, and guards other than linear ones.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from uphold.core.errors import DataError
from uphold.core.progress import progress
from uphold.core.records import Measurement, Record
from uphold.core.seeds import split_of
from uphold.guard import features, logistic
from uphold.guard.base import Stage, turns_text
from uphold.guard.evaluate import evaluate
from uphold.guard.examples import (
    CONSTITUTION,
    Example,
    cleaned,
    data_hash,
    exchange_of,
    family_of,
    from_constitution,
    is_harmful,
    is_prompt,
    prompt_key,
    source_of,
    split,
)
from uphold.guard.features import FeatureSpec
from uphold.guard.heads import Floats, Head, Table
from uphold.guard.linear import LinearGuard
from uphold.guard.metrics import auprc, ranking
from uphold.guard.stage import StageModel
from uphold.guard.threshold import Threshold, choose_threshold

if TYPE_CHECKING:
    from uphold.constitution import Constitution

MAX_CLAUSE_ROWS = 4000  # harmful texts that clause heads are fitted on: they only tell clauses apart


class GuardSettings(Record):
    """How to train. fpr_budget: share of benign traffic that may be refused, per stage, held with confidence `level`.

    window: words judged together. q0: damping of short texts. c: inverse strengths of regularisation to choose from, by AUPRC on a
    fifth of the fit part; clause_c: of the clause heads. exchange: judge replies with their prompts. fit, threshold and test: shares
    of the examples.
    """

    features: FeatureSpec = FeatureSpec()
    window: int = Field(64, ge=4, le=100_000)
    q0: float = Field(100.0, ge=0.0)
    c: tuple[float, ...] = Field((3.0, 10.0, 30.0), min_length=1)
    clause_c: float = Field(10.0, gt=0.0)
    max_iter: int = Field(150, ge=1)
    fpr_budget: float = Field(0.01, gt=0.0, lt=1.0)
    level: float = Field(0.95, gt=0.0, lt=1.0)
    exchange: bool = False
    fit: float = Field(0.6, gt=0.0)
    threshold: float = Field(0.2, gt=0.0)
    test: float = Field(0.2, ge=0.0)


class GuardReport(Record):
    """What a training did. counts: stage -> part -> label -> examples. thresholds: by stage, value as a score.

    measurements: on the test part, `input_guard.*` and `output_guard.*`.
    """

    identity: str
    counts: dict[str, dict[str, dict[str, int]]]
    n_duplicates: int
    n_contradictory: int
    thresholds: dict[Stage, Threshold]
    measurements: tuple[Measurement, ...]


def train_guard(
    examples: Sequence[Example],
    constitution: Constitution,
    *,
    seed: int = 0,
    settings: GuardSettings = GuardSettings(),
    threshold_examples: Sequence[Example] | None = None,
) -> tuple[LinearGuard, GuardReport]:
    """Train a guard for prompts, for replies, or both, by what the examples are.

    The constitution's own examples are fitted on, never tested on. threshold_examples: set the threshold on these, and fit on all of
    `examples`; without them `examples` are split by content hash. A prompt that is in both is left out of the thresholds. Raises
    DataError when a stage lacks a class in the fit or benign examples for its threshold.
    """
    data = prepare(examples, constitution, seed=seed, settings=settings, threshold_examples=threshold_examples)
    parts = data.parts
    about: dict[str, Any] = {
        "constitution": {"name": constitution.name, "version": constitution.version, "digest": constitution.digest},
        "seed": seed,
        "settings": settings.model_dump(mode="json"),
        "data": {part: data_hash(of) for part, of in parts.items()},
    }
    kinds = _stages(parts["fit"], settings)
    stages: dict[Stage, StageModel] = {}
    thresholds: dict[Stage, Threshold] = {}
    with progress("guard", len(kinds), unit="stages") as bar:
        for stage in kinds:
            fitted = _fit_stage(stage, _of(stage, parts["fit"]), settings)
            stages[stage], thresholds[stage] = _with_threshold(fitted, _of(stage, parts["threshold"]), settings)
            bar.advance()
    about["thresholds"] = {name: t.model_dump(mode="json") for name, t in thresholds.items()}
    guard = LinearGuard(stages, about)
    return guard, GuardReport(
        identity=guard.identity(),
        counts=_counts(parts),
        n_duplicates=data.n_duplicates,
        n_contradictory=data.n_contradictory,
        thresholds=thresholds,
        measurements=tuple(_measured(guard, parts["test"], constitution, seed)),
    )


class Prepared(NamedTuple):
    """What a training works with. parts: 'fit', 'threshold' and 'test'; no prompt is in two of them."""

    parts: dict[str, list[Example]]
    n_duplicates: int
    n_contradictory: int


def prepare(
    examples: Sequence[Example],
    constitution: Constitution,
    *,
    seed: int = 0,
    settings: GuardSettings = GuardSettings(),
    threshold_examples: Sequence[Example] | None = None,
) -> Prepared:
    """The examples and the constitution's own, cleaned and split: exactly what `train_guard` fits, thresholds and tests on."""
    clean = cleaned([*from_constitution(constitution), *examples])
    given = [e for e in clean.examples if source_of(e) != CONSTITUTION]
    own = [e for e in clean.examples if source_of(e) == CONSTITUTION]
    fitted = {prompt_key(e) for e in own}  # a given prompt that the constitution also lists may not be tested on
    if threshold_examples is None:
        shares = {"fit": settings.fit, "threshold": settings.threshold, "test": settings.test}
        parts = split([e for e in given if prompt_key(e) not in fitted], shares, salt=f"guard {seed}")
        same = [e for e in given if prompt_key(e) in fitted]
        return Prepared(parts | {"fit": own + same + parts["fit"]}, clean.n_duplicates, clean.n_contradictory)
    fitted |= {prompt_key(e) for e in given}
    held_out = [e for e in cleaned(threshold_examples).examples if prompt_key(e) not in fitted]
    parts = {"fit": own + given, "threshold": held_out, "test": []}
    return Prepared(parts, clean.n_duplicates, clean.n_contradictory)


def _stages(fit: Sequence[Example], settings: GuardSettings) -> list[Stage]:
    stages: list[Stage] = []
    if any(is_prompt(e) for e in fit):
        stages.append("input")
    if not all(is_prompt(e) for e in fit):
        stages.append("exchange" if settings.exchange else "output")
    return stages


def _of(stage: Stage, examples: Sequence[Example]) -> list[Example]:
    return [e for e in examples if is_prompt(e) is (stage == "input")]


def _counts(parts: dict[str, list[Example]]) -> dict[str, dict[str, dict[str, int]]]:
    counts: dict[str, dict[str, dict[str, int]]] = {}
    for part, examples in parts.items():
        tally = Counter(("input" if is_prompt(e) else "output", is_harmful(e)) for e in examples)
        for (stage, harmful), n in sorted(tally.items()):
            counts.setdefault(stage, {}).setdefault(part, {})["harmful" if harmful else "benign"] = n
    return counts


def _measured(guard: LinearGuard, test: Sequence[Example], constitution: Constitution, seed: int) -> list[Measurement]:
    found = []
    for stage, prefix in (("input", "input_guard."), ("output", "output_guard.")):
        of_stage = [e for e in test if is_prompt(e) is (stage == "input")]
        if of_stage:
            subject = {"constitution": constitution.digest}
            found += evaluate(guard, of_stage, prefix=prefix, subject=subject, seed=seed)
    return found


@dataclass
class _Rows:
    """Texts to fit on, one row per unit: key of its prompt, words of the prompt and of the reply, what it is, its share of its example."""

    owners: list[str]
    prompts: list[list[str]]
    replies: list[list[str]]
    harmful: NDArray[np.bool_]
    clauses: list[str | None]
    kinds: list[str]
    shares: Floats


def _rows(stage: Stage, examples: Sequence[Example], settings: GuardSettings) -> _Rows:
    rows = _Rows([], [], [], np.zeros(0, dtype=bool), [], [], np.zeros(0))
    labels, shares = [], []
    for example in examples:
        exchange = exchange_of(example)
        harmful = is_harmful(example)
        context, latest = turns_text(exchange.messages)
        prompt = features.words(latest)
        if stage == "input":
            units = [prompt] if harmful else _windows(prompt, settings.window)
        else:
            answer = features.words(exchange.completion)
            units = [answer] if harmful else _beginnings(answer, settings.window)
        units = [unit for unit in units if unit]
        asked = features.words(f"{context}\n{latest}")[-settings.window :]
        for unit in units:
            rows.owners.append(prompt_key(example))
            rows.prompts.append(unit if stage == "input" else asked)
            rows.replies.append(unit)
            rows.clauses.append(example.clause)
            rows.kinds.append(f"{source_of(example)}/{family_of(example)}")
            labels.append(harmful)
            shares.append(1 / len(units))
    rows.harmful, rows.shares = np.array(labels, dtype=bool), np.array(shares, dtype=float)
    return rows


def _windows(words: list[str], window: int) -> list[list[str]]:
    """A text in windows as the guard will judge it; the whole when it is short."""
    if len(words) <= window:
        return [words]
    return [words[max(0, end - window) : end] for end in [*range(window, len(words), max(1, window // 2)), len(words)]]


def _beginnings(words: list[str], window: int) -> list[list[str]]:
    """A text whole, and what a reader of the stream has seen at each quarter."""
    ends = dict.fromkeys(-(-len(words) * k // 4) for k in (4, 1, 2, 3))
    return (
        [words[max(0, end - window) : end] for end in ends if end] if len(words) <= window else _windows(words, window)
    )


def _fit_stage(stage: Stage, examples: Sequence[Example], settings: GuardSettings) -> StageModel:
    rows = _rows(stage, examples, settings)
    for harmful, name in ((True, "harmful"), (False, "benign")):
        if not (rows.harmful == harmful).any():
            what = "prompts" if stage == "input" else "replies"
            raise DataError(
                f"no {name} {what} to train the {stage} guard on. Add some, or give the constitution's clauses examples."
            )
    texts = {"prompt": rows.prompts, "reply": rows.replies}
    blocks = {"input": ("prompt",), "output": ("reply",), "exchange": ("prompt", "reply")}[stage]
    counts = [features.count_matrix(texts[block], settings.features) for block in blocks]
    data = [(matrix, logistic.squared_idf(matrix)) for matrix in counts]
    fit = _fit_harm(rows, data, settings)
    clauses, heads = _fit_clauses(rows, data, settings)
    tables = [
        _table(w, q, [head.w[i] for head in heads]) for i, (w, (_, q)) in enumerate(zip(fit.w, data, strict=True))
    ]
    built = {
        block: Head(table, settings.features, settings.window, settings.q0)
        for block, table in zip(blocks, tables, strict=True)
    }
    bias = np.array([head.bias for head in heads], dtype=float)
    return StageModel(stage, built.get("prompt"), built.get("reply"), fit.bias, clauses, bias)


def _fit_harm(rows: _Rows, data: Sequence[tuple[Any, Floats]], settings: GuardSettings) -> logistic.Fit:
    """The head that tells harmful from benign, with the regularisation that did best on texts it was not fitted on."""
    every = np.arange(len(rows.harmful))

    def fit(at: NDArray[np.int64], c: float) -> logistic.Fit:
        weights = logistic.balanced(rows.harmful[at], [rows.kinds[i] for i in at], rows.shares[at])
        part = [(counts[at], q) for counts, q in data]
        return logistic.fit(part, rows.harmful[at], weights, q0=settings.q0, c=c, max_iter=settings.max_iter)

    def quality(c: float) -> float:
        trial = fit(every[~held_out], c)
        logits = trial.bias + sum(
            (counts[held_out] @ w) / np.sqrt(counts[held_out] @ q + settings.q0)
            for (counts, q), w in zip(data, trial.w, strict=True)
        )
        return float(auprc(ranking(logits, rows.harmful[held_out])))

    held_out = np.array([split_of(owner, {"in": 0.8, "out": 0.2}, "c") == "out" for owner in rows.owners])
    if len(settings.c) == 1 or len(set(rows.harmful[held_out])) < 2 or len(set(rows.harmful[~held_out])) < 2:
        return fit(every, settings.c[0])
    return fit(every, max(settings.c, key=quality))


def _fit_clauses(
    rows: _Rows, data: Sequence[tuple[Any, Floats]], settings: GuardSettings
) -> tuple[tuple[str, ...], list[logistic.Fit]]:
    """A head per clause that tells its harmful texts from those of the other clauses."""
    named = np.array([i for i, clause in enumerate(rows.clauses) if clause and rows.harmful[i]], dtype=np.int64)
    named = named[:: max(1, -(-len(named) // MAX_CLAUSE_ROWS))]
    clauses = tuple(sorted({str(rows.clauses[i]) for i in named}))
    if len(clauses) < 2:
        nothing = logistic.Fit([np.zeros(len(q)) for _, q in data], 0.0)
        return clauses, [nothing] * len(clauses)
    part = [(counts[named], q) for counts, q in data]
    of_clause = np.array([rows.clauses[i] for i in named], dtype=object)
    heads = []
    for clause in clauses:
        is_this = of_clause == clause
        weights = np.where(is_this, 0.5 / is_this.sum(), 0.5 / (~is_this).sum()) * len(named)
        heads.append(logistic.fit(part, is_this, weights, q0=settings.q0, c=settings.clause_c, max_iter=40))
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


def _with_threshold(
    stage: StageModel, examples: Sequence[Example], settings: GuardSettings
) -> tuple[StageModel, Threshold]:
    """The stage calibrated on `examples`, flagging within the benign refusal budget there."""
    found = [peak.logit if peak else None for peak in stage.peaks([exchange_of(e) for e in examples])]
    # a text without a word scores 0 whatever the weights: it is benign traffic that is never refused
    harmful = np.array([is_harmful(e) for e in examples], dtype=bool)
    floor = min((z for z in found if z is not None), default=0.0) - 1.0
    logits = np.array([floor if z is None else z for z in found], dtype=float)
    if not (~harmful).any():
        raise DataError(
            f"no benign examples left to set the {stage.stage} guard's threshold on: {len(examples)} examples, all harmful. "
            "Give more benign examples."
        )
    slope, shift = logistic.platt(logits, harmful)
    chosen = choose_threshold(logits[~harmful].tolist(), settings.fpr_budget, settings.level)
    calibrated = replace(stage, slope=slope, shift=shift, flag_at=chosen.value)
    return calibrated, chosen.model_copy(update={"value": calibrated.threshold})
