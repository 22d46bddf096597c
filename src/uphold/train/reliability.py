"""Whether confidences hold: bins of a reliability diagram and the error of calibration read off them.

Takes confidences in [0, 1] and whether each was right; gives bins and the expected calibration error (Guo et al. 2017,
arXiv:1706.04599, eq. 3), with bins of about equal size (Nguyen and O'Connor 2015, arXiv:1508.05154). Used for rewards
(`health_checks.py`) and for answers (`tax/`). Left out: mending a calibration.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable

N_BINS = 10
Bin = tuple[float, float, int]
"""(mean confidence, share right, rows)."""


def bins_of(confidences: Iterable[float], right: Iterable[float]) -> list[Bin]:
    """At most N_BINS bins of about equal size, by confidence; none without rows.

    Equal confidences are never parted: which of them were right must not decide about their bin.
    """
    rows = sorted(zip(confidences, right, strict=True), key=_confidence)
    size = max(10, math.ceil(len(rows) / N_BINS))
    bins: list[list[tuple[float, float]]] = []
    for _, equal in itertools.groupby(rows, key=_confidence):
        if not bins or len(bins[-1]) >= size:
            bins.append([])
        bins[-1].extend(equal)
    if len(bins) > 1 and len(bins[-1]) < size / 2:  # a small rest joins its neighbour
        bins[-2].extend(bins.pop())
    return [(sum(c for c, _ in b) / len(b), sum(r for _, r in b) / len(b), len(b)) for b in bins]


def calibration_error(confidences: Iterable[float], right: Iterable[float]) -> float:
    """Mean over the bins, by their rows, of |mean confidence - share right|, in [0, 1]. ZeroDivisionError without rows."""
    bins = bins_of(confidences, right)
    return sum(n * abs(confidence - share) for confidence, share, n in bins) / sum(n for *_, n in bins)


def _confidence(row: tuple[float, float]) -> float:
    return row[0]
