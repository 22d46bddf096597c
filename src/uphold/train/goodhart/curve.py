"""Proxy and gold reward against KL: of best-of-n sampling, and of a run of reinforcement learning.

Best-of-n draws N completions a prompt once and works out, for every n up to N, what the best of n by the proxy would earn: the
unbiased estimator over all subsets, so no draw is wasted (as in Gao et al., arXiv:2210.10760, and Nakano et al. 2021). KL is exact:
log n - (n - 1) / n. A run of `rl` with a gold score is read off its `log.jsonl`; `train_to_peak` keeps the weights at the
best gold score. Left out: KL of best-of-n where rewards tie, which is then below the formula.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from uphold.core.errors import ConfigError, DataError
from uphold.core.files import read_json, read_jsonl, write_json
from uphold.core.records import Exchange, Sample
from uphold.core.seeds import derive
from uphold.models.base import Sampling
from uphold.train import parallel
from uphold.train.goodhart.fits import Point, best_of_n_kl, mean_point
from uphold.train.policy import Trained, save_trained
from uphold.train.rewards import Reward, Scores, scored
from uphold.train.rl import RLConfig, rl

NS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
SMOOTH = 5  # steps averaged before two steps' gold scores are compared


def best_of(values: Sequence[float], by: Sequence[float], n: int) -> float:
    """Mean value of the best of n by `by`, over all subsets of n of the N draws: unbiased for best-of-n of fresh draws.

    Draws that tie in `by` share their places. Raises DataError unless 1 <= n <= N and both lists are of one length.
    """
    total = len(values)
    if len(by) != total or not 1 <= n <= total:
        raise DataError(f"best of {n} of {len(by)} scored draws with {total} values: draw at least n.")
    order = np.argsort(by, kind="stable")
    by_N, value_N = np.asarray(by, float)[order], np.asarray(values, float)[order]
    # the draw of rank i (from 1) is the best of C(i - 1, n - 1) of the C(N, n) subsets
    log_all = _log_choose(total, n)
    weight_N = np.array([math.exp(_log_choose(i, n - 1) - log_all) if i >= n - 1 else 0.0 for i in range(total)])
    _, group_N = np.unique(by_N, return_inverse=True)
    counts_G = np.bincount(group_N)
    shared_N = (np.bincount(group_N, weight_N) / counts_G)[group_N]
    return float((shared_N * value_N).sum())


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def draw(weights: Any, samples: Sequence[Sample], n: int, sampling: Sampling) -> list[list[str]]:
    """`n` completions of each prompt. Raises DataError when the model has no reply to one of them."""
    asked = [s.messages for s in samples]
    columns = []
    for i in range(n):
        own = sampling.model_copy(update={"seed": derive(sampling.seed or 0, "best-of-n", i)})
        columns.append([_text(r.text, s) for r, s in zip(weights.generate(asked, own), samples, strict=True)])
    return [list(row) for row in zip(*columns, strict=True)]


def _text(text: str | None, sample: Sample) -> str:
    if text is None:
        raise DataError(f"sample {sample.id}: the model gave no reply, so there is no best of n.")
    return text


def bon_points(
    samples: Sequence[Sample], completions: Sequence[Sequence[str]], proxy: Reward, gold: Reward, *, n_groups: int = 8
) -> list[Point]:
    """The curve of best-of-n. Prompts are dealt into `n_groups` groups, the seeds of the points: the bootstrap's units.

    Each completion is scored once by either reward; a prompt of which any completion is unscored is left out. Raises DataError when
    none is left.
    """
    rows = []
    for sample, texts in zip(samples, completions, strict=True):
        exchanges = [Exchange(messages=sample.messages, completion=t, clause=sample.clause) for t in texts]
        by, true = _known(scored(proxy, exchanges)[1]), _known(scored(gold, exchanges)[1])
        if by is not None and true is not None:
            rows.append((by, true))
    if not rows:
        raise DataError("not one prompt has all of its completions scored by both rewards: there is no curve.")
    n_groups = min(n_groups, len(rows))
    ns = [n for n in NS if n <= len(rows[0][0])]
    points = []
    for group in range(n_groups):
        own = rows[group::n_groups]
        for n in ns:
            proxy_mean = float(np.mean([best_of(by, by, n) for by, _ in own]))
            gold_mean = float(np.mean([best_of(true, by, n) for by, true in own]))
            points.append(Point(best_of_n_kl(n), proxy_mean, gold_mean, group))
    return points


def _known(scores: Scores) -> list[float] | None:
    found = [s for s in scores if s is not None]
    return found if len(found) == len(scores) else None


def rl_points(*runs: str | Path) -> list[Point]:
    """The curve of one or more runs of `rl` (one seed each), step by step. Steps without a scored gold or proxy are skipped.

    KL is the run's `kl` (k3, nats per completion) before the step's update. Raises DataError when a run logged no gold score.
    """
    points = []
    for seed, run in enumerate(runs):
        own = [
            Point(max(0.0, float(line["kl"])), float(line["reward"]), float(line["gold"]), seed)
            for _, line in read_jsonl(Path(run) / "log.jsonl")
            if line.get("gold") is not None and line.get("reward") is not None and math.isfinite(line["kl"])
        ]
        if not own:
            raise DataError(
                f"{run}: no step has a gold score. Train with one: uphold train grpo ... --gold truth:refunds"
            )
        points += own
    return points


def smoothed(points: Sequence[Point], width: int = SMOOTH) -> list[Point]:
    """Each seed's points averaged over `width` neighbours in time, the first kept as it is: what is drawn and fitted of RL."""
    found = []
    for seed in sorted({p.seed for p in points}):
        own = [p for p in points if p.seed == seed]
        found.append(own[0])
        for i in range(1, len(own)):
            near = own[max(1, i - width // 2) : i + width // 2 + 1]
            found.append(mean_point(near, seed))
    return found


class GoldPeak:
    """Keeps the weights of a model in training at the peak of its gold score, in `folder/model`; an `on_log` of `rl`.

    The score compared is a mean over the last `SMOOTH` steps; `best` and `step` say where it was highest. patience: steps
    without a new peak after which the run is stopped (None: it goes on, for the curve).
    """

    def __init__(self, model: Any, tokenizer: Any, folder: str | Path, patience: int | None = None) -> None:
        self.folder, self.step, self.best = Path(folder), -1, -math.inf
        if (self.folder / "peak.json").exists():  # a run continued, or done before
            kept = read_json(self.folder / "peak.json")
            self.step, self.best = int(kept["step"]), float(kept["gold"])
        self._model, self._tokenizer, self._patience = model, tokenizer, patience
        self._recent: list[float] = []

    def __call__(self, line: dict[str, float]) -> str | None:
        """See a step; the reason to stop, when there is one."""
        if (gold := line.get("gold")) is None:
            return None
        self._recent = [*self._recent, gold][-SMOOTH:]
        now = sum(self._recent) / len(self._recent)
        if len(self._recent) == SMOOTH and now > self.best:
            self.best, self.step = now, int(line["step"])
            save_trained(self._model, self._tokenizer, self.folder)
            write_json(self.folder / "peak.json", {"step": self.step, "gold": self.best})
        if self._patience is not None and self.step >= 0 and line["step"] - self.step >= self._patience:
            return f"the gold score has not risen since step {self.step} ({self.best:.3f}); its weights are in {self.folder}"
        return None


def train_to_peak(
    start: Any,
    prompts: Sequence[Sample],
    proxy: Reward,
    gold: Reward,
    out: str | Path,
    config: RLConfig,
    patience: int | None = None,
) -> tuple[Trained, GoldPeak]:
    """`rl` on a copy of `start` (a `Weights`) with the weights at the gold peak kept in `OUT/peak/model`, beside the last in `OUT/model`.

    Raises ConfigError with LoRA, whose
    adapter cannot be merged while it is trained.
    """
    parallel.require_alone("a study of over-optimisation")
    if config.lora is not None:
        raise ConfigError("the gold peak is kept of runs on all weights: leave lora out.")
    model = copy.deepcopy(start.model)
    peak = GoldPeak(model, start.tokenizer, Path(out) / "peak", patience)
    done = rl(model, start.tokenizer, prompts, proxy, out, config, gold=gold, in_place=True, on_log=peak)
    return done, peak
