"""How far a guard's scores can be read as probabilities: a reliability curve and the expected calibration error.

A score is calibrated for equally many harmful and benign texts, so both classes weigh alike here, however many rows each has. Ten bins of
equal width; in each the mean score stands beside the share that is harmful (Naeini et al. 2015; Guo et al. 2017, arXiv:1706.04599, eq. 3).
Intervals redraw whole groups within each class. Left out: calibrating (training does), and other priors than a half.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from uphold.core.measure import scalar
from uphold.core.records import Measurement
from uphold.core.seeds import derive
from uphold.core.stats import Interval
from uphold.guard.metrics import N_BOOT, Floats, resampled

N_BINS = 10


def bin_name(number: int) -> str:
    """'0.3 to 0.4' of bin 3."""
    return f"{number / N_BINS:.1f} to {(number + 1) / N_BINS:.1f}"


def calibration(
    scores: Sequence[float | None],
    harmful: Sequence[bool],
    groups: Sequence[Hashable],
    *,
    prefix: str,
    seed: int = 0,
    **about: Any,
) -> list[Measurement]:
    """`ece`, then `mean_score` and `harmful_share` of each bin that holds a row (by: bin). Unscored where a class is missing."""
    kept = [i for i, score in enumerate(scores) if score is not None]
    score_N = np.array([scores[i] for i in kept], dtype=float)
    harmful_N = np.array([harmful[i] for i in kept], dtype=bool)
    bin_N = np.minimum((score_N * N_BINS).astype(int), N_BINS - 1)
    ones = np.ones((1, len(kept)))
    weights = resampled(harmful_N.tolist(), [groups[i] for i in kept], N_BOOT, derive(seed, prefix, "calibration"))
    whole, drawn = (_bins(w, score_N, harmful_N, bin_N) for w in (ones, weights))
    note = "both classes weigh alike"
    lies_high = f"{note}; the interval lies high, resampling adds error"
    ece = _ece(*whole)[0]
    found = [
        _number(
            f"{prefix}ece", ece, _ece(*drawn), len(kept), len(scores), lies_high, False, seed, about, dict(about["by"])
        )
    ]
    for b in range(N_BINS):
        n = int((bin_N == b).sum())
        if n and np.isfinite(ece):
            by = {**about["by"], "bin": bin_name(b)}
            for metric, values, draws in (
                ("mean_score", _ratio(whole[1], whole[0]), _ratio(drawn[1], drawn[0])),
                ("harmful_share", _ratio(whole[2], whole[0]), _ratio(drawn[2], drawn[0])),
            ):
                found.append(_number(f"{prefix}{metric}", values[0, b], draws[:, b], n, n, note, True, seed, about, by))
    return found


def _bins(weights: Floats, score_N: Floats, harmful_N: Any, bin_N: Any) -> tuple[Floats, Floats, Floats]:
    """Weight, summed score and weight of the harmful by bin, shape (B, bins); each class sums to a half. NaN without a class."""
    with np.errstate(invalid="ignore", divide="ignore"):
        balanced = 0.5 * weights * harmful_N / (weights @ harmful_N.astype(float))[:, None]
        balanced = balanced + 0.5 * weights * ~harmful_N / (weights @ (~harmful_N).astype(float))[:, None]
    where = np.eye(N_BINS)[bin_N] if len(bin_N) else np.zeros((0, N_BINS))
    return balanced @ where, (balanced * score_N) @ where, (balanced * harmful_N) @ where


def _ece(weight: Floats, scored: Floats, harmful: Floats) -> Floats:
    """Sum over bins of |mean score - harmful share| times the bin's weight."""
    return np.where(
        np.isfinite(weight.sum(axis=1)) & (weight.sum(axis=1) > 0), np.abs(scored - harmful).sum(axis=1), np.nan
    )


def _ratio(a: Floats, b: Floats) -> Floats:
    return np.divide(a, b, out=np.full(np.shape(a), np.nan), where=b > 0)


def _number(
    metric: str,
    value: float,
    draws: Floats,
    n: int,
    n_asked: int,
    note: str,
    higher_is_better: bool,
    seed: int,
    about: dict[str, Any],
    by: dict[str, str],
) -> Measurement:
    interval = None
    if np.isfinite(draws).any():
        low, high = np.nanquantile(draws, [0.025, 0.975])
        interval = Interval(min(float(low), float(value)), max(float(high), float(value)), "bootstrap-by-class", 0.95)
    said = dict(about) | {"by": by, "note": note}
    return scalar(
        metric, float(value), n, n_asked=n_asked, interval=interval, unit="share", seeds=(seed,),
        higher_is_better=higher_is_better, **said,
    )  # fmt: skip
