"""Principal components of a vote matrix most of which is missing.

Takes votes as (row, column, value) triples; gives each participant coordinates in opinion space and each statement loadings, fitted to the
votes that were cast and to nothing else: no missing vote is filled in. Alternating ridge regression on x_ij ~ m_j + u_i . v_j, which is
probabilistic PCA with missing values (Ilin & Raiko 2010, JMLR 11:1957) at its posterior mode. Used by `groups` and for the opinion map.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

RIDGE = 4.0  # noise over prior variance: pulls people who voted little towards the middle
MEAN_PRIOR = 2.0  # votes of 'pass' added to every statement's mean
MAX_DIMENSIONS = 4


class Factors(NamedTuple):
    """coordinates_PD: participants; loadings_SD: statements, orthonormal columns; strengths_D: singular values, falling; mean_S."""

    coordinates_PD: Floats
    loadings_SD: Floats
    strengths_D: Floats
    mean_S: Floats


def fit(
    row_V: Ints, column_V: Ints, value_V: Floats, shape: tuple[int, int], dimensions: int, *, seed: int, steps: int = 20
) -> Factors:
    """`dimensions` components of the votes; shape: (participants, statements). The sign of a component is fixed by its largest loading."""
    n_people, n_statements = shape
    rng = np.random.default_rng(seed)
    count_S = np.bincount(column_V, minlength=n_statements)
    mean_S = np.bincount(column_V, weights=value_V, minlength=n_statements) / (count_S + MEAN_PRIOR)
    residual_V = value_V - mean_S[column_V]
    loadings_SD = rng.normal(scale=0.5, size=(n_statements, dimensions))
    coordinates_PD = np.zeros((n_people, dimensions))
    for _ in range(steps):
        coordinates_PD = _regress(row_V, column_V, residual_V, loadings_SD, n_people)
        loadings_SD = _regress(column_V, row_V, residual_V, coordinates_PD, n_statements)
        scale_D = np.sqrt(
            (np.linalg.norm(loadings_SD, axis=0) + 1e-12)
            / (np.linalg.norm(coordinates_PD, axis=0) + 1e-12)
            * np.sqrt(n_people / n_statements)
        )
        coordinates_PD, loadings_SD = coordinates_PD * scale_D, loadings_SD / scale_D  # equal ridge on both sides
    return _canonical(coordinates_PD, loadings_SD, mean_S)


def _regress(row_V: Ints, column_V: Ints, value_V: Floats, other_ND: Floats, size: int) -> Floats:
    """Ridge regression of every row's values on the other side's factors: (size, D)."""
    dimensions = other_ND.shape[1]
    other_VD = other_ND[column_V]
    gram = np.zeros((size, dimensions, dimensions))
    target = np.empty((size, dimensions))
    for a in range(dimensions):
        target[:, a] = np.bincount(row_V, weights=other_VD[:, a] * value_V, minlength=size)
        for b in range(a, dimensions):
            gram[:, a, b] = gram[:, b, a] = np.bincount(row_V, weights=other_VD[:, a] * other_VD[:, b], minlength=size)
    gram += RIDGE * np.eye(dimensions)
    return np.asarray(np.linalg.solve(gram, target[..., None])[..., 0])


def _canonical(coordinates_PD: Floats, loadings_SD: Floats, mean_S: Floats) -> Factors:
    """Turn the factors so that loadings are orthonormal and components fall in strength."""
    q_u, r_u = np.linalg.qr(coordinates_PD)
    q_v, r_v = np.linalg.qr(loadings_SD)
    left, strengths_D, right = np.linalg.svd(r_u @ r_v.T)
    coordinates_PD, loadings_SD = q_u @ left * strengths_D, q_v @ right.T
    largest_D = np.abs(loadings_SD).argmax(axis=0)
    sign_D = np.where(loadings_SD[largest_D, np.arange(loadings_SD.shape[1])] < 0, -1.0, 1.0)
    return Factors(coordinates_PD * sign_D, loadings_SD * sign_D, strengths_D, mean_S)


def shuffled(column_V: Ints, value_V: Floats, *, seed: int) -> Floats:
    """The votes dealt out anew among those who voted on the same statement: what they would be if nobody thought alike."""
    rng = np.random.default_rng(seed)
    by_statement = np.lexsort((rng.random(len(value_V)), column_V))
    in_order = np.argsort(column_V, kind="stable")
    dealt_V = np.empty_like(value_V)
    dealt_V[in_order] = value_V[by_statement]
    return dealt_V
