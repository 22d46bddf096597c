"""Choosing among replies to one question: best of n by a score, majority vote, and which replies are worth a label.

`best_of` and `majority` take the first n of more replies in their given order, so one set of draws serves every n, paired. Active
selection labels the wrong answers that the present model finds most convincing (arXiv:2305.20050, section 4.2). Left out: weighing
votes by score.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from uphold.core.errors import ConfigError, DataError
from uphold.core.stats import Interval


def best_of(scores: Sequence[float | None], n: int) -> int | None:
    """Which of the first n replies has the highest score, the first of equals; None when none of them has one."""
    _enough(len(scores), n)
    scored = [(s, -i) for i, s in enumerate(scores[:n]) if s is not None]
    return -max(scored)[1] if scored else None


def majority(answers: Sequence[str | None], n: int) -> int | None:
    """The first reply with the most frequent answer among the first n, the earlier answer of equals; None when none answers."""
    _enough(len(answers), n)
    votes = Counter(a for a in answers[:n] if a is not None)
    return answers.index(votes.most_common(1)[0][0]) if votes else None


def convincing(
    scores: Sequence[float | None], right: Sequence[bool], n: int, *, share: float = 0.8, seed: int = 0
) -> list[int]:
    """Which n replies to label: `share` of them wrong ones with the highest scores, the rest drawn from what is left.

    The rest keeps right replies and easy errors in the training set. Unscored replies are only drawn, never ranked.
    """
    if not 0 <= share <= 1:
        raise ConfigError(f"the share of convincing wrong answers lies in [0, 1], not {share}.")
    _enough(len(scores), n)
    wrong = [(-s, i) for i, (s, r) in enumerate(zip(scores, right, strict=True)) if not r and s is not None]
    taken = [i for _, i in sorted(wrong)[: round(share * n)]]
    left = sorted(set(range(len(scores))) - set(taken))
    return taken + random.Random(seed).sample(left, n - len(taken))


def label_efficiency(active: Sequence[tuple[int, float]], uniform: Sequence[tuple[int, float]]) -> float | None:
    """How many times fewer labels active selection takes: the ratio of labels at equal accuracy, by straight lines in log labels.

    Both: (labels, accuracy) points. The accuracies grow by a slope per doubling; 2 ** (gap / uniform slope) is the ratio at the middle of
    the points (the published 2.6 is the ratio of the lines). None where uniform selection does not improve with labels.
    """
    import numpy as np

    if min(len({n for n, _ in curve}) for curve in (active, uniform)) < 2:
        raise DataError("label efficiency needs each curve at two numbers of labels or more.")
    (slope_a, at_a), (slope_u, at_u) = (
        np.polyfit(np.log2([n for n, _ in curve]), [a for _, a in curve], 1) for curve in (active, uniform)
    )
    if slope_u <= 1e-9:  # flat up to rounding
        return None
    middle = float(np.mean(np.log2([n for n, _ in (*active, *uniform)])))
    gap = (slope_a * middle + at_a) - (slope_u * middle + at_u)
    with np.errstate(over="ignore"):  # nearly flat: a ratio beyond all numbers is infinite
        return float(np.exp2(gap / slope_u))


Hits = Mapping[int, Sequence[Sequence[bool]]]
"""labels -> by seed, whether each question came out right; the same questions throughout."""


def efficiency_interval(
    active: Hits, uniform: Hits, *, n_boot: int = 2000, seed: int = 0, level: float = 0.95
) -> tuple[float | None, Interval, float]:
    """(label efficiency, its percentile interval, share of resamples in which it was defined).

    Seeds and questions are drawn with replacement, the same ones for both curves and all numbers of labels. Resamples in which uniform
    selection does not improve count as infinitely efficient or not at all, by which curve is higher, so that the interval is not too short.
    """
    import numpy as np

    sizes = {
        name: {n: np.asarray(of, float) for n, of in curve.items()} for name, curve in (("a", active), ("u", uniform))
    }
    shapes = {of.shape for curve in sizes.values() for of in curve.values()}
    if len(shapes) != 1:
        raise DataError(f"label efficiency needs the same seeds and questions throughout, not {sorted(shapes)}.")
    (n_seeds, n_questions) = next(iter(shapes))

    def ratio(seed_S: Any, question_Q: Any) -> tuple[float | None, float]:
        curves = [
            [(n, float(of[np.ix_(seed_S, question_Q)].mean())) for n, of in sizes[name].items()] for name in ("a", "u")
        ]
        lead = sum(a for _, a in curves[0]) / len(curves[0]) - sum(a for _, a in curves[1]) / len(curves[1])
        return label_efficiency(*curves), lead

    found, _ = ratio(range(n_seeds), range(n_questions))
    rng = np.random.default_rng(seed)
    draws = [
        ratio(rng.integers(n_seeds, size=n_seeds), rng.integers(n_questions, size=n_questions)) for _ in range(n_boot)
    ]
    values = [(float("inf") if lead > 0 else 0.0) if r is None else r for r, lead in draws]
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2], method="nearest")
    defined = sum(r is not None for r, _ in draws) / n_boot
    return found, Interval(float(low), float(high), "bootstrap-percentile over seeds and questions", level), defined


def _enough(have: int, n: int) -> None:
    if not 1 <= n <= have:
        raise ConfigError(f"{n} of {have} replies cannot be taken.")
