"""The scoring of a block of words: weights of hashed features summed over sliding windows, in whole numbers.

Takes words; gives the worst window's logit. The logit of a window is `sum(w) / sqrt(sum(q) + q0)` over its features, with w (weight)
and q (squared inverse document frequency) from a table of 16-bit whole numbers. Whole-number sums do not depend on their order, so a
stream and a whole text agree to the last bit, on any machine, and a word that leaves the window is a subtraction instead of a
recount. The worst window decides, so harmless words before or after dilute nothing.
Left out: biases, calibration and thresholds (`stage.py`), and learning the weights (`train.py`).
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice, pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from uphold.guard import features
from uphold.guard.features import FeatureSpec, Ints

CACHED_WORDS = 1 << 16
BLOCK = 8192  # words worked on at a time, so that memory does not grow with the text

Floats = NDArray[np.float64]


class Table(NamedTuple):
    """Weights per bucket, int16. main (buckets, 2): w and q. clauses (buckets, K): one head per clause.

    scale (2 + K,): the value of one step of w, of q, and of each clause head.
    """

    main: NDArray[np.int16]
    clauses: NDArray[np.int16]
    scale: Floats


class Cache:
    """Sums of table rows over the features of each word met so far, by row number. Only grows; a full one is replaced whole."""

    def __init__(self, n_clauses: int) -> None:
        self.index: dict[str, int] = {}
        self.main = np.zeros((CACHED_WORDS, 2), dtype=np.int64)
        self.clauses = np.zeros((CACHED_WORDS, n_clauses), dtype=np.int64)
        self.hashes = np.zeros(CACHED_WORDS, dtype=np.uint64)


class WordRows:
    """The table's rows summed per word, each word computed once. Safe to share between threads."""

    def __init__(self, table: Table, spec: FeatureSpec) -> None:
        self.table, self.spec = table, spec
        self._cache = Cache(table.clauses.shape[1])
        self._lock = threading.Lock()

    def known(self, words: Sequence[str]) -> tuple[Cache, Ints]:
        """A cache that holds every one of `words` (at most CACHED_WORDS different ones), and the row number of each."""
        cache = self._cache
        if not all(map(cache.index.__contains__, words)):
            with self._lock:
                cache = self._add(words)
        return cache, np.fromiter(map(cache.index.__getitem__, words), dtype=np.int64, count=len(words))

    def one(self, word: str) -> tuple[int, int, int, Ints]:
        """(w, q, hash, clause steps (K,)) of a single word: what a stream asks for."""
        cache = self._cache
        row = cache.index.get(word)
        if row is None:
            with self._lock:
                cache = self._add((word,))
            row = cache.index[word]
        return int(cache.main[row, 0]), int(cache.main[row, 1]), int(cache.hashes[row]), cache.clauses[row]

    def _add(self, words: Sequence[str]) -> Cache:
        cache = self._cache
        new = list(dict.fromkeys(word for word in words if word not in cache.index))
        if not new:  # another thread was faster
            return cache
        if len(cache.index) + len(new) > CACHED_WORDS:
            cache = Cache(self.table.clauses.shape[1])
            new = list(dict.fromkeys(words))
        found = features.word_buckets(new, self.spec) if len(new) > 1 else features.one_word(new[0], self.spec)
        low = len(cache.index)
        rows = slice(low, low + len(new))
        begins = found.edges[:-1]
        cache.main[rows] = np.add.reduceat(self.table.main[found.buckets], begins, axis=0, dtype=np.int64)
        if self.table.clauses.shape[1]:
            cache.clauses[rows] = np.add.reduceat(self.table.clauses[found.buckets], begins, axis=0, dtype=np.int64)
        cache.hashes[rows] = found.hashes
        cache.index.update(zip(new, range(low, low + len(new)), strict=True))  # last: readers take no lock
        self._cache = cache
        return cache


class Segment(NamedTuple):
    """Consecutive words of a text and the windows to judge among them: low < high, word positions, shapes (n,).

    owner: number of the text. offset: words of the text before these.
    """

    owner: int
    words: list[str]
    low: Ints
    high: Ints
    offset: int


class Peak(NamedTuple):
    """The worst window of a segment. logit; clauses (K,) the clause heads' logits there; first: words of the text read when
    `flag_at` was first reached, None when it never was."""

    logit: float
    clauses: Floats
    first: int | None


def whole(owner: int, words: Iterable[str], window: int) -> Segment:
    """The last `window` words as the only window; no window when there are no words."""
    kept = list(deque(words, maxlen=window))
    n = len(kept)
    return Segment(owner, kept, np.zeros(min(n, 1), dtype=np.int64), np.full(min(n, 1), n), 0)


def stepping(owner: int, words: Iterable[str], window: int) -> Iterator[Segment]:
    """Windows that end every half window and at the end of the text: for a text that is known whole."""
    step = max(1, window // 2)
    for segment, carried, is_last in _blocks(owner, words, window):
        start, total = segment.offset, segment.offset + len(segment.words)
        done = start + carried
        first = window + max(0, -(-(done + 1 - window) // step)) * step
        high = np.arange(first, total + 1, step, dtype=np.int64)
        if is_last and total and (not len(high) or high[-1] != total):
            high = np.append(high, total)
        yield segment._replace(low=np.maximum(high - window, 0) - start, high=high - start)


def running(owner: int, words: Iterable[str], window: int) -> Iterator[Segment]:
    """Windows that end at every word, as a reader of a stream sees them."""
    for segment, carried, _ in _blocks(owner, words, window):
        high = np.arange(carried + 1, len(segment.words) + 1, dtype=np.int64)
        low = np.maximum(high + segment.offset - window, 0) - segment.offset
        yield segment._replace(low=low, high=high)


def _blocks(owner: int, words: Iterable[str], window: int) -> Iterator[tuple[Segment, int, bool]]:
    """A text in blocks of words, each headed by (up to) the `window` words before it; how many those are; whether it is the last.

    The pair of a block's first word is wrong after the first block, but only windows that start later are judged.
    """
    source, tail, done, none = iter(words), list[str](), 0, np.zeros(0, dtype=np.int64)
    block = list(islice(source, max(BLOCK, window)))
    while True:
        ahead = list(islice(source, max(BLOCK, window)))
        held = [*tail, *block]
        yield Segment(owner, held, none, none, done - len(tail)), len(tail), not ahead
        if not ahead:
            return
        done += len(block)
        tail, block = held[-window:], ahead


class Head:
    """One table at work on blocks of words: prompts or replies. window: words; q0 >= 0 keeps short windows from shouting.

    links: whether the words are read with their links into the system message (`links.py`); links fill windows too.
    """

    def __init__(self, table: Table, spec: FeatureSpec, window: int, q0: float, links: bool = False) -> None:
        self.links = links
        self.rows = WordRows(table, spec)
        self.table, self.spec, self.window, self.q0 = table, spec, window, q0
        self.w_scale, self.q_scale = float(table.scale[0]), float(table.scale[1])
        self.clause_scale = table.scale[2:]

    def logit(self, w: int, q: int) -> float:
        """Logit of a window whose features sum to w and q steps."""
        return self.w_scale * w / math.sqrt(self.q_scale * q + self.q0)

    def clause_logits(self, steps: Ints, q: int) -> Floats:
        """Logits of the clause heads for a window that sums to `steps` (K,) and q."""
        return self.clause_scale * steps / math.sqrt(self.q_scale * q + self.q0)

    def peaks(self, segments: Sequence[Segment], base: Sequence[float], flag_at: float) -> list[Peak | None]:
        """The worst window of each segment, None where it has no window. base: added to the logits of each segment."""
        words = list(chain.from_iterable(segment.words for segment in segments))
        sizes = np.array([len(segment.words) for segment in segments], dtype=np.int64)
        n_windows = np.array([len(segment.high) for segment in segments], dtype=np.int64)
        if not n_windows.sum():
            return [None] * len(segments)
        cache, row_N = self.rows.known(words)
        main = cache.main[row_N]
        pair_N = np.zeros(0, dtype=np.int64)
        if self.spec.pairs:
            hashes = cache.hashes[row_N]
            pair_N = features.pair_buckets(features.before(hashes, sizes), hashes, self.spec)
            main += self.table.main[pair_N]
        sums = np.zeros((len(words) + 1, 2), dtype=np.int64)
        np.cumsum(main, axis=0, out=sums[1:])
        starts = np.repeat(np.cumsum(sizes) - sizes, n_windows)
        low = np.concatenate([segment.low for segment in segments]) + starts
        high = np.concatenate([segment.high for segment in segments]) + starts
        span = sums[high] - sums[low]
        logit = self.w_scale * span[:, 0] / np.sqrt(self.q_scale * span[:, 1] + self.q0) + np.repeat(base, n_windows)
        edges = np.concatenate([[0], np.cumsum(n_windows)])
        best = [int(a + np.argmax(logit[a:b])) if b > a else -1 for a, b in pairwise(edges.tolist())]
        at = np.array([i for i in best if i >= 0], dtype=np.int64)
        clauses = iter(self._clauses(cache, row_N, pair_N, low[at], high[at], span[at, 1]))
        found: list[Peak | None] = []
        for i, (segment, top) in enumerate(zip(segments, best, strict=True)):
            if top < 0:
                found.append(None)
                continue
            peak = float(logit[top])
            first = None
            if peak >= flag_at:
                over = int(np.argmax(logit[edges[i] : edges[i + 1]] >= flag_at))
                first = segment.offset + int(segment.high[over])
            found.append(Peak(peak, next(clauses), first))
        return found

    def _clauses(self, cache: Cache, row_N: Ints, pair_N: Ints, low: Ints, high: Ints, q: Ints) -> Floats:
        """Clause logits (n, K) of n windows."""
        if not self.table.clauses.shape[1]:
            return np.zeros((len(low), 0))
        sizes = high - low
        begins = np.cumsum(sizes) - sizes
        position = np.repeat(low - begins, sizes) + np.arange(int(sizes.sum()))
        steps = cache.clauses[row_N[position]]
        if self.spec.pairs:
            steps = steps + self.table.clauses[pair_N[position]]
        summed = np.add.reduceat(steps, begins, axis=0)
        return self.clause_scale * summed / np.sqrt(self.q_scale * q + self.q0)[:, None]
