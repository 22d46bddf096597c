"""Fine-tuning an encoder into a guard: one network, four losses, early stopping, calibration, a threshold.

Takes labelled examples in three parts (to fit, to stop on, to calibrate and set the threshold on) and a backbone; gives an `EncoderGuard`.
Losses of a step, over one forward pass of prompts and replies: harm yes/no (class-balanced by the plan, label-smoothed), the twin loss,
which asks every harmful prompt to outscore each harmless look-alike by a margin (pairwise logistic, as RankNet, Burges et al. 2005), and
which clause. Beside them the network may learn to tell orders to an assistant from prose (`Beside`), by a head that is dropped after:
the injection detector reads the same features (`document.py`). The embedding table may stay frozen: words never trained on then
keep their place beside those that were, and steps are a third cheaper. Steps run in `train.loop.fit`: a killed training continues with
the same call. Left out: choosing data (`train.py`).
"""

from __future__ import annotations

import copy
import random
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from pydantic import Field
from torch.nn import functional as F

from uphold.core.errors import ConfigError, DataError, StoreError
from uphold.core.files import read_json, write_json
from uphold.core.records import Record, digest
from uphold.core.seeds import derive, seed_everything
from uphold.guard.base import Stage
from uphold.guard.encoder import EncoderGuard
from uphold.guard.encoder_data import Beside, Plan, Row, framed, rows_of
from uphold.guard.encoder_model import Backbone, EncoderModel, padded
from uphold.guard.encoder_text import Reading, Texts
from uphold.guard.examples import Example, data_hash, exchange_of, group_of, is_harmful, is_prompt, source_of
from uphold.guard.metrics import auprc, auroc, ranking
from uphold.guard.scale import Scale, fit_scale
from uphold.guard.threshold import Threshold
from uphold.train.loop import Part, fit
from uphold.train.precision import Precision, short_attention

_MICRO_ROWS = 16  # rows of like length that go through the network together: little padding
_STOP_ROWS = 1200  # examples looked at for early stopping


class EncoderSettings(Record):
    """How to fine-tune. lr: peak rate of AdamW, cosine to zero. runs: trainings from one start in different orders, averaged.

    twin, clause, beside: weights of those losses; margin: logits a harmful prompt is to be ahead by. smoothing: share of label noise.
    max_tokens: of a training text. eval_every, patience: looks at the stopping part, and how many without a gain end the
    training. fpr_budget, level: see `choose_threshold`.
    """

    n_steps: int = Field(default=240, ge=1)
    runs: int = Field(default=1, ge=1, le=16)
    lr: float = Field(default=2e-4, gt=0)
    twin: float = Field(default=0.5, ge=0)
    margin: float = 1.0
    clause: float = Field(default=0.15, ge=0)
    beside: float = Field(default=0.3, ge=0)
    smoothing: float = Field(default=0.02, ge=0, lt=0.5)
    max_tokens: int = Field(default=144, ge=8)
    window: int = Field(default=254, ge=8)
    freeze_embeddings: bool = True
    weight_decay: float = 0.01
    precision: Precision = "auto"
    eval_every: int = Field(default=120, ge=1)
    patience: int = Field(default=3, ge=1)
    fpr_budget: float = Field(default=0.01, gt=0.0, lt=1.0)
    level: float = Field(default=0.95, gt=0.0, lt=1.0)


class Fitted(NamedTuple):
    """A fitted guard, its thresholds by stage, and what the fit was: losses, steps, the quality it stopped at."""

    guard: EncoderGuard
    thresholds: dict[Stage, Threshold]
    summary: dict[str, Any]


class _Enough(Exception):
    """Early stopping."""


def twin_loss(logit_N: torch.Tensor, harmful_N: torch.Tensor, alike_NN: torch.Tensor, margin: float) -> torch.Tensor:
    """Mean of log(1 + exp(margin - (harmful logit - benign logit))) over pairs that are alike; 0 without one.

    logit_N: float (N,). harmful_N: bool (N,). alike_NN: bool (N, N), whether rows i and j are look-alikes.
    """
    pair_NN = alike_NN & harmful_N[:, None] & ~harmful_N[None, :]
    if not bool(pair_NN.any()):
        return logit_N.sum() * 0.0
    ahead_NN = logit_N[:, None] - logit_N[None, :]
    return F.softplus(margin - ahead_NN[pair_NN]).mean()


def alike(rows: Sequence[Row]) -> torch.Tensor:
    """(N, N) bool: of one group, or of one clause, and both prompts."""
    group = _numbers([row.group for row in rows])
    clause = torch.tensor([row.clause for row in rows])
    prompt = torch.tensor([row.reply is None for row in rows])
    same = (group[:, None] == group[None, :]) | ((clause[:, None] == clause[None, :]) & (clause[:, None] >= 0))
    return same & prompt[:, None] & prompt[None, :]


def _numbers(names: Sequence[str]) -> torch.Tensor:
    index: dict[str, int] = {}
    return torch.tensor([index.setdefault(name, len(index)) for name in names])


def averaged(models: Sequence[EncoderModel]) -> EncoderModel:
    """One network whose weights are the mean of several that were trained from the same start (Wortsman et al. 2022, arXiv:2203.05482)."""
    mean = copy.deepcopy(models[0])
    states = [model.state_dict() for model in models]
    floats = {name for name, value in states[0].items() if value.is_floating_point()}
    mean.load_state_dict({name: sum(s[name] for s in states) / len(states) for name in floats}, strict=False)
    return mean


def step_loss(
    model: EncoderModel, texts: Texts, rows: Sequence[Row], settings: EncoderSettings, rng: random.Random
) -> Part:
    """All losses of one batch, in nats."""
    rows = sorted(rows, key=lambda row: len(row.prompt) + len(row.reply or ""))
    harm, clauses, n_tokens = [], [], 0
    for at in range(0, len(rows), _MICRO_ROWS):
        part = rows[at : at + _MICRO_ROWS]
        framed_rows = framed(part, texts, settings.max_tokens, rng)
        n_tokens += sum(len(ids) for ids, _ in framed_rows)
        with short_attention(model.encoder, max(len(ids) for ids, _ in framed_rows)):
            harm_B2, clause_BK = model(padded(framed_rows, texts.reading.special.pad))
        column_B = torch.tensor([int(row.reply is not None) for row in part])
        harm.append(harm_B2[torch.arange(len(part)), column_B])
        clauses.append(clause_BK)
    logit_N, clause_NK = torch.cat(harm), torch.cat(clauses)
    harmful_N = torch.tensor([row.harmful for row in rows])
    weight_N = torch.tensor([row.weight for row in rows])
    target_N = harmful_N.float() * (1 - 2 * settings.smoothing) + settings.smoothing
    bce_N = F.binary_cross_entropy_with_logits(logit_N, target_N, reduction="none")
    bce = (bce_N * weight_N).sum() / weight_N.sum()
    twins = twin_loss(logit_N, harmful_N, alike(rows), settings.margin)
    loss = bce + settings.twin * twins
    metrics = {"harm_nats": bce.item(), "twin_nats": twins.item()}
    named = [i for i, row in enumerate(rows) if row.clause >= 0]
    if named:
        which = F.cross_entropy(clause_NK[named], torch.tensor([rows[i].clause for i in named]))
        loss, metrics["clause_nats"] = loss + settings.clause * which, which.item()
    return Part(loss, n_tokens, metrics)


def beside_loss(
    model: EncoderModel, texts: Texts, batch: Sequence[tuple[str, bool]], head: torch.nn.Linear, max_tokens: int
) -> torch.Tensor:
    """Binary cross-entropy, in nats, of telling orders to an assistant (True) from prose, from the features alone."""
    rows = [texts.framed(ids[:max_tokens]) for ids in texts.ids([text for text, _ in batch])]
    with short_attention(model.encoder, max(len(ids) for ids, _ in rows)):
        read_BE = model.features(padded(rows, texts.reading.special.pad))
    is_order_B = torch.tensor([float(is_order) for _, is_order in batch])
    return F.binary_cross_entropy_with_logits(head(read_BE)[:, 0], is_order_B)


def fit_encoder(
    backbone: Backbone,
    parts: dict[str, Sequence[Example]],
    clauses: Sequence[str],
    *,
    seed: int = 0,
    settings: EncoderSettings = EncoderSettings(),
    about: dict[str, Any] | None = None,
    work: str | Path | None = None,
    start: EncoderGuard | None = None,
    beside: Beside = Beside(),
) -> Fitted:
    """Fine-tune `backbone` on parts['fit'], stop by parts['stop'], calibrate and set thresholds on parts['threshold'].

    start: a guard whose network, heads included, is trained on instead of a fresh one; `backbone` must be its own. work: folder for
    checkpoints; the same call continues what was killed there. beside: what else to learn from the same features.
    Raises DataError when prompts of a class are missing.
    """
    rows = rows_of(parts["fit"], clauses)
    _check(rows)
    texts = Texts(backbone.tokenizer, _reading(backbone, settings))
    seed_everything(derive(seed, "encoder heads"))
    fresh = EncoderModel(backbone.encoder, len(clauses), backbone.special.has_types)
    if start is not None:
        if start.clauses != tuple(clauses):
            raise ConfigError("the guard to go on from was trained for other clauses. Train a new one.")
        fresh.load_state_dict(start.model.state_dict())
    known = {"data": data_hash(parts["fit"]), "recipe": settings.model_dump(mode="json"), "backbone": backbone.name}
    known["start"] = start.identity() if start is not None else ""
    known["beside"] = digest([list(beside.orders), list(beside.prose), beside.per_class])
    folder = Path(work) if work is not None else None
    models, runs = [], []
    for run in range(settings.runs):
        model = copy.deepcopy(fresh) if settings.runs > 1 else fresh
        at = folder / f"run-{run}" if folder is not None else None
        order = derive(seed, "encoder run", run)
        runs.append(_one_run(model, texts, rows, beside, parts["stop"], settings, order, at, known))
        models.append(model)
    model = _best(models, texts, parts["stop"], settings)
    guard, thresholds = calibrated(model.eval(), texts, clauses, parts["threshold"], settings, dict(about or {}))
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)
    return Fitted(guard, thresholds, {"runs": runs})


def _reading(backbone: Backbone, settings: EncoderSettings) -> Reading:
    most = backbone.special.max_tokens
    return Reading(special=backbone.special, window=min(settings.window, most - 3), context=min(96, most // 4))


def _one_run(
    model: EncoderModel,
    texts: Texts,
    rows: Sequence[Row],
    beside: Beside,
    stop: Sequence[Example],
    settings: EncoderSettings,
    seed: int,
    folder: Path | None,
    known: dict[str, Any],
) -> dict[str, Any]:
    """Fine-tune `model` in place; its best weights stay in it."""
    _freeze(model, settings)
    plan = Plan(rows, seed)
    watch = _Watch(model, texts, stop, settings, folder)
    head = torch.nn.Linear(model.harm.in_features, 1)

    def losses(step: int) -> Iterable[Part]:
        yield step_loss(model, texts, plan.batch(step), settings, random.Random(derive(seed, "encoder mask", step)))
        other = beside.batch(step, seed)
        if other and settings.beside:
            nats = beside_loss(model, texts, other, head, settings.max_tokens)
            yield Part(settings.beside * nats, 0, {"beside_nats": nats.item()})

    both = torch.nn.ModuleDict({"model": model, "beside": head})
    summary = _run(both, losses, settings, seed, folder, known, watch.on_log)
    summary |= watch.restore_best()
    model.requires_grad_(True).eval()
    return summary


def _best(
    models: Sequence[EncoderModel], texts: Texts, stop: Sequence[Example], settings: EncoderSettings
) -> EncoderModel:
    """The mean of the runs, or a single run that ranks the stopping part better than the mean does."""
    if len(models) == 1:
        return models[0]
    tried = [averaged(models), *models]
    return max(tried, key=lambda model: _Watch(model, texts, stop, settings, None).quality()).eval()


def _run(
    model: torch.nn.Module,
    losses: Callable[[int], Iterable[Part]],
    settings: EncoderSettings,
    seed: int,
    folder: Path | None,
    known: dict[str, Any],
    on_log: Callable[[dict[str, float]], None],
) -> dict[str, Any]:
    try:
        result = fit(
            model,
            losses,
            settings.n_steps,
            lr=settings.lr,
            weight_decay=settings.weight_decay,
            precision=settings.precision,
            seed=seed,
            checkpoint_dir=folder / "checkpoints" if folder is not None else None,
            checkpoint_every=settings.eval_every,
            settings=known,
            label="guard encoder",
            log_path=folder / "log.jsonl" if folder is not None else None,
            on_log=on_log,
        )
    except _Enough as stop:
        return {"stopped_at": int(str(stop))}
    return result.report()


def _freeze(model: EncoderModel, settings: EncoderSettings) -> None:
    if settings.freeze_embeddings:
        model.encoder.get_input_embeddings().requires_grad_(False)
    if getattr(model.encoder, "pooler", None) is not None:
        model.encoder.pooler.requires_grad_(False)


def _check(rows: Sequence[Row]) -> None:
    for harmful, name in ((True, "harmful"), (False, "benign")):
        if not any(row.harmful is harmful and row.reply is None for row in rows):
            raise DataError(f"no {name} prompts to train the encoder guard on. Add some, or give the clauses examples.")


class _Watch:
    """Looks at the stopping part every so often; keeps the best weights, in memory and in the work folder."""

    def __init__(
        self,
        model: EncoderModel,
        texts: Texts,
        examples: Sequence[Example],
        settings: EncoderSettings,
        folder: Path | None,
    ) -> None:
        prompts = [e for e in examples if is_prompt(e)]
        self.examples = prompts[:: max(1, -(-len(prompts) // _STOP_ROWS))]
        self.model, self.texts, self.settings, self.folder = model, texts, settings, folder
        self.best: dict[str, torch.Tensor] | None = None
        self.seen: list[list[float]] = []
        if folder is not None and (folder / "best.json").exists():
            from safetensors.torch import load_file

            self.seen = read_json(folder / "best.json")["seen"]
            self.best = load_file(folder / "best.safetensors")

    def on_log(self, line: dict[str, float]) -> None:
        step = int(line["step"]) + 1
        if step % self.settings.eval_every and step != self.settings.n_steps:
            return
        self.seen = [each for each in self.seen if each[0] < step]
        before = max((quality for _, quality in self.seen), default=-1.0)
        quality = self.quality()
        self.seen.append([step, quality])
        if quality > before:
            self._keep()
        since = len(self.seen) - 1 - max(range(len(self.seen)), key=lambda i: self.seen[i][1])
        if since >= self.settings.patience:
            raise _Enough(str(step))

    def _keep(self) -> None:
        self.best = {name: p.detach().clone() for name, p in self.model.named_parameters() if p.requires_grad}
        if self.folder is not None:
            from safetensors.torch import save_file

            try:
                save_file(self.best, self.folder / "best.safetensors")
            except OSError as error:
                raise StoreError(f"{self.folder}: cannot keep the best weights: {error}") from error
            write_json(self.folder / "best.json", {"seen": self.seen})

    def quality(self) -> float:
        """Mean AUROC over the sources of the stopping part that have both classes; over all of it where none has."""
        self.model.eval()
        guard = EncoderGuard(self.model, self.texts, {"input": Scale()}, (), {})
        z = logits_of(guard, self.examples)
        self.model.train()
        harmful = [is_harmful(e) for e in self.examples]
        of: dict[str, list[int]] = {}
        for i, example in enumerate(self.examples):
            of.setdefault(source_of(example), []).append(i)
        both = [at for at in of.values() if len({harmful[i] for i in at}) == 2] or [list(range(len(z)))]
        return float(np.mean([auroc(ranking([z[i] for i in at], [harmful[i] for i in at])) for at in both]))

    def restore_best(self) -> dict[str, Any]:
        if self.best is not None:
            self.model.load_state_dict(self.best, strict=False)
        return {"stopping": [{"step": int(step), "auroc": quality} for step, quality in self.seen]}


def logits_of(guard: EncoderGuard, examples: Sequence[Example]) -> list[float]:
    """The logit of each example; one without text gets a logit below all others."""
    found = guard.logits([exchange_of(e) for e in examples])
    floor = min((z for z in found if z is not None), default=0.0) - 1.0
    return [floor if z is None else z for z in found]


def quality_of(guard: EncoderGuard, examples: Sequence[Example]) -> dict[str, float]:
    """AUPRC and AUROC of the guard's logits on labelled examples."""
    found = ranking(logits_of(guard, examples), [is_harmful(e) for e in examples])
    return {"auprc": float(auprc(found)), "auroc": float(auroc(found))}


def calibrated(
    model: EncoderModel,
    texts: Texts,
    clauses: Sequence[str],
    held_out: Sequence[Example],
    settings: EncoderSettings,
    about: dict[str, Any],
    *,
    is_int8: bool = False,
) -> tuple[EncoderGuard, dict[Stage, Threshold]]:
    """The guard with Platt's calibration and a threshold for prompts, and for replies where there are any, from held-out examples."""
    stages: dict[Stage, Scale] = {"input": Scale(), "exchange": Scale()}
    raw = EncoderGuard(model, texts, stages, clauses, {})
    thresholds: dict[Stage, Threshold] = {}
    for stage in list(stages):
        examples = [e for e in held_out if is_prompt(e) is (stage == "input")]
        harmful = [is_harmful(e) for e in examples]
        if stage == "exchange" and len(set(harmful)) < 2:
            del stages[stage]
            continue
        if all(harmful):
            raise DataError("no benign prompts left to set the guard's threshold on. Give more benign examples.")
        stages[stage], thresholds[stage] = fit_scale(
            logits_of(raw, examples),
            harmful,
            [group_of(e) for e in examples],
            budget=settings.fpr_budget,
            level=settings.level,
        )
    about["thresholds"] = {name: t.model_dump(mode="json") for name, t in thresholds.items()}
    return EncoderGuard(model, texts, stages, clauses, about, is_int8=is_int8), thresholds
