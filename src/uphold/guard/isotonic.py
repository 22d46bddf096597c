"""Isotonic calibration: the rising step function that fits outcomes best, smoothed so that it can be inverted.

Takes logits, outcomes and weights; gives knots (logit, probability) between which `Scale` interpolates. Pool adjacent violators (Ayer et
al. 1955; for classifiers Zadrozny and Elkan 2002). A step function would tie what the guard ranks apart, and a tie has no threshold: so
each step stands at its mean logit, lines join the steps, and a share of Platt's sigmoid keeps the whole strictly rising.
`choose` takes it over Platt's alone only where that predicts held-out outcomes better. Left out: Bayesian binning, beta calibration.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

from uphold.core.seeds import split_of
from uphold.guard import logistic

Floats = NDArray[np.float64]
Knots = tuple[tuple[float, float], ...]
PLATT_SHARE = 0.1
MIN_PER_CLASS = 200  # of either class: below this the steps follow noise
FOLDS = 5


def pool_adjacent_violators(values: Sequence[float], weights: Sequence[float]) -> list[tuple[int, float]]:
    """(size, level) of the blocks of the non-decreasing sequence nearest to `values` in weighted squares, in order."""
    blocks: list[tuple[int, float, float]] = []  # size, weight, level
    for value, weight in zip(values, weights, strict=True):
        size, mass, level = 1, weight, value
        while blocks and blocks[-1][2] >= level:
            before = blocks.pop()
            level = (before[2] * before[1] + level * mass) / (before[1] + mass)
            size, mass = size + before[0], before[1] + mass
        blocks.append((size, mass, level))
    return [(size, level) for size, _, level in blocks]


def fit(logits: Floats, harmful: NDArray[np.bool_]) -> Knots:
    """The knots for outcomes `harmful`, both classes weighing alike; () when a class is missing. Probabilities lie in [0, 1]."""
    n_true, n_false = int(harmful.sum()), int((~harmful).sum())
    if not n_true or not n_false:
        return ()
    order = np.argsort(logits, kind="stable")
    weight = np.where(harmful, 0.5 / n_true, 0.5 / n_false)[order]
    knots, at = list[tuple[float, float]](), 0
    for size, level in pool_adjacent_violators(harmful[order].astype(float).tolist(), weight.tolist()):
        inside = slice(at, at + size)
        knots.append((float(np.average(logits[order][inside], weights=weight[inside])), level))
        at += size
    return tuple(knots)


def probability(logits: Floats, knots: Knots, slope: float, shift: float) -> Floats:
    """Calibrated probabilities: lines between the knots, level beyond them, mixed with a share of Platt's sigmoid."""
    from scipy.special import expit

    platt: Floats = expit(slope * logits + shift)
    if not knots:
        return platt
    x, y = zip(*knots, strict=True)
    return PLATT_SHARE * platt + (1 - PLATT_SHARE) * np.interp(logits, x, y)


def choose(logits: Floats, harmful: NDArray[np.bool_], groups: Sequence[Hashable]) -> Knots:
    """The isotonic knots where, over folds of whole groups, they have the lower Brier score than Platt's sigmoid; else ()."""
    if min(int(harmful.sum()), int((~harmful).sum())) < MIN_PER_CLASS:
        return ()
    folds = np.array([int(split_of(str(g), {str(k): 1.0 for k in range(FOLDS)}, "calibration")) for g in groups])
    error = {"platt": 0.0, "isotonic": 0.0}
    for fold in range(FOLDS):
        out = folds == fold
        if len(set(harmful[out])) < 2 or len(set(harmful[~out])) < 2:
            continue
        slope, shift = logistic.platt(logits[~out], harmful[~out])
        weight = np.where(harmful[out], 0.5 / harmful[out].sum(), 0.5 / (~harmful[out]).sum())
        for name, knots in (("platt", ()), ("isotonic", fit(logits[~out], harmful[~out]))):
            error[name] += float(weight @ (probability(logits[out], knots, slope, shift) - harmful[out]) ** 2)
    return fit(logits, harmful) if error["isotonic"] < error["platt"] else ()
