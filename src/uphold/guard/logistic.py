"""Logistic regression on sparse counts, and Platt's calibration of its logits. Both deterministic.

Takes count matrices of `features.count_matrix`; gives weights per bucket for `heads.Table`. The features of a row are scaled to
`idf * count / sqrt(sum(count * idf^2) + q0)`: smoothed inverse document frequencies, length-normalised, with q0 damping short texts.
Fitted with L-BFGS (Nocedal & Wright 2006, algorithm 7.4; seven times faster here than scipy's, which pays for bounds we do not have).
Left out: L1, and any solver that draws at random.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class Fit(NamedTuple):
    """w: one array (columns,) per block, weight per unit of count with idf included; bias."""

    w: list[Floats]
    bias: float


def squared_idf(counts: Any) -> Floats:
    """(log((1 + n) / (1 + df)) + 1)^2 per column of n rows; 0 for a column that never occurs, so unknown features change nothing."""
    n, n_columns = counts.shape
    df = np.bincount(counts.indices, minlength=n_columns)
    return np.where(df > 0, (np.log((1 + n) / (1 + df)) + 1) ** 2, 0.0)


def scaled(counts: Any, q: Floats, q0: float) -> Any:
    """Rows of `counts` (CSR) as they are fitted; see the module."""
    from scipy.sparse import diags

    norm = np.sqrt(counts @ q + q0)
    return (diags(1.0 / np.maximum(norm, 1e-12)) @ counts @ diags(np.sqrt(q))).tocsr()


def balanced(harmful: NDArray[np.bool_], kinds: list[str], shares: Floats) -> Floats:
    """Sample weights of mean 1: both classes weigh alike, and within a class a kind with n rows weighs like sqrt(n).

    kinds: what a row is one of many of (its file, its transform). shares: weight of the row within its text.
    """
    weights = np.zeros(len(harmful))
    keys = np.array(kinds, dtype=object)
    for label in (False, True):
        of_class = harmful == label
        for kind in sorted(set(keys[of_class])):
            rows = of_class & (keys == kind)
            weights[rows] = shares[rows] / np.sqrt(shares[rows].sum())
        if of_class.any():
            weights[of_class] /= weights[of_class].sum()
    return weights * len(harmful) / weights.sum()


def fit(
    blocks: Sequence[tuple[Any, Floats]],
    harmful: NDArray[np.bool_],
    weights: Floats,
    *,
    q0: float,
    c: float,
    max_iter: int,
) -> Fit:
    """Weighted logistic loss, sum over rows, times c, plus half the squared weights (bias free).

    blocks: (counts (n, columns) CSR, q (columns,)) each, e.g. prompts and replies; harmful (n,); weights (n,) >= 0; c > 0.
    """
    from scipy.sparse import hstack
    from scipy.special import expit
    from threadpoolctl import threadpool_limits

    used = [np.flatnonzero(np.bincount(counts.indices, minlength=counts.shape[1])) for counts, _ in blocks]
    x = hstack([scaled(counts, q, q0)[:, at] for (counts, q), at in zip(blocks, used, strict=True)], format="csr")
    x_t = x.T.tocsr()
    sign = np.where(harmful, 1.0, -1.0)

    def loss(point: Floats) -> tuple[float, Floats]:
        w, bias = point[:-1], point[-1]
        margin = sign * (x @ w + bias)
        value = c * float(weights @ np.logaddexp(0.0, -margin)) + 0.5 * float(w @ w)
        slope = -c * weights * sign * expit(-margin)
        return value, np.append(x_t @ slope + w, slope.sum())

    with threadpool_limits(
        1, user_api="blas"
    ):  # sums come out alike however many cores there are; threads gain nothing here
        found = minimise(loss, np.zeros(x.shape[1] + 1), max_iter)
    parts = np.split(found[:-1], np.cumsum([len(at) for at in used])[:-1])
    full = []
    for (_, q), at, part in zip(blocks, used, parts, strict=True):
        w = np.zeros(len(q))
        w[at] = part * np.sqrt(q[at])
        full.append(w)
    return Fit(full, float(found[-1]))


def platt(logits: Floats, harmful: NDArray[np.bool_]) -> tuple[float, float]:
    """(slope > 0, shift) so that sigmoid(slope * logit + shift) is the probability of harm where both classes are equally common.

    Platt 1999 with his smoothed targets. (1, 0) when a class is missing.
    """
    from scipy.special import expit

    n_true, n_false = int(harmful.sum()), int((~harmful).sum())
    if not n_true or not n_false:
        return 1.0, 0.0
    target = np.where(harmful, (n_true + 1) / (n_true + 2), 1 / (n_false + 2))
    weight = np.where(harmful, 0.5 / n_true, 0.5 / n_false)

    def loss(point: Floats) -> tuple[float, Floats]:
        slope = np.exp(point[0])  # stays positive: calibration must not change any ranking
        z = slope * logits + point[1]
        value = float(weight @ (np.logaddexp(0.0, z) - target * z))
        gap = weight * (expit(z) - target)
        return value, np.array([float(gap @ logits) * slope, float(gap.sum())])

    log_slope, shift = minimise(loss, np.zeros(2), 100)
    return float(np.exp(log_slope)), float(shift)


def minimise(
    loss: Callable[[Floats], tuple[float, Floats]], start: Floats, max_iter: int, tolerance: float = 1e-5
) -> Floats:
    """The minimum of a smooth convex function given with its gradient: L-BFGS with backtracking.

    Stops after max_iter steps, when no gradient entry exceeds `tolerance` of the largest at the start, or when no step helps.
    """
    memory: deque[tuple[Floats, Floats, float]] = deque(maxlen=10)
    point = start
    value, gradient = loss(point)
    goal = tolerance * np.abs(gradient).max(initial=0.0)
    for _ in range(max_iter):
        if np.abs(gradient).max(initial=0.0) <= goal:
            break
        direction = _descent(gradient, memory)
        slope = float(gradient @ direction)
        step = 1.0 if memory else 1.0 / max(1.0, float(np.abs(gradient).sum()))
        for _ in range(30):
            moved = point + step * direction
            new_value, new_gradient = loss(moved)
            if new_value <= value + 1e-4 * step * slope:
                break
            step /= 2
        else:
            break
        change, turn = moved - point, new_gradient - gradient
        curvature = float(change @ turn)
        if curvature > 1e-12 * float(turn @ turn):
            memory.append((change, turn, curvature))
        point, value, gradient = moved, new_value, new_gradient
    return point


def _descent(gradient: Floats, memory: deque[tuple[Floats, Floats, float]]) -> Floats:
    """Minus the inverse Hessian, as far as the remembered steps show it, times the gradient (two-loop recursion)."""
    direction = -gradient
    alphas = []
    for change, turn, curvature in reversed(memory):
        alpha = float(change @ direction) / curvature
        direction = direction - alpha * turn
        alphas.append(alpha)
    if memory:
        _, turn, curvature = memory[-1]
        direction = direction * (curvature / float(turn @ turn))
    for (change, turn, curvature), alpha in zip(memory, reversed(alphas), strict=True):
        direction = direction + change * (alpha - float(turn @ direction) / curvature)
    return direction
