"""Near-duplicates: texts that share at least a given part of their word triples with an earlier one.

Takes texts (prompts of a file, candidates of a generator); says for each which earlier, kept text it repeats. MinHash signatures
(Broder 1997) of 128 permutations are cut into bands (Leskovec et al., Mining of Massive Datasets, section 3.4) so that a pair at the
threshold shares a band with probability > 0.999; whatever shares one is compared exactly, so nothing is dropped on an estimate. Hashing
is by content: the same in every process. Vectorised over texts and shingles; one index serves whole files and texts as they come.
Rules of a constitution, few and short, are compared in `constitution.language.similar_pairs`, which is the reference in the tests.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

THRESHOLD = 0.8
PERMUTATIONS = 128
SHINGLE = 3  # words
_RECALL = 0.999  # chance that a pair exactly at the threshold shares a band
_CHUNK = 4096  # texts hashed at a time
_BLOCK = 1 << 15  # shingles permuted at a time: they stay in the processor's cache
_CROWDED = 64  # texts in one band bucket beyond which it says more about the template than about the text
_WORD = re.compile(r"\w+")
_STEP = np.uint64(0x9E3779B97F4A7C15)
_MIX_1, _MIX_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)  # splitmix64's finaliser
_POSITION = np.array([0xD6E8FEB86659FD93, 0xA0761D6478BD642F, 0xE7037ED1A0B428DB], dtype=np.uint64)

UInts = NDArray[np.uint64]


class Match(NamedTuple):
    """An earlier text that is alike: its number, and the Jaccard similarity of the two sets of shingles."""

    number: int
    jaccard: float


class Prepared(NamedTuple):
    """A text hashed: its shingles, and one key per band."""

    shingles: UInts
    keys: list[int]


def words(text: str) -> list[str]:
    """The words of a text in lower case: what shingles are made of."""
    return _WORD.findall(text.casefold())


def shingles(text: str) -> frozenset[str]:
    """The word triples of a text as plain text; of one or two words, those words together; of none, the text itself."""
    found = words(text)
    if len(found) < SHINGLE:
        return frozenset([" ".join(found) or text])
    return frozenset(" ".join(found[i : i + SHINGLE]) for i in range(len(found) - SHINGLE + 1))


def _mixed(x: UInts) -> UInts:
    x = (x ^ (x >> np.uint64(30))) * _MIX_1
    x = (x ^ (x >> np.uint64(27))) * _MIX_2
    return x ^ (x >> np.uint64(31))


@cache
def _word_hash(word: str) -> int:
    return int.from_bytes(hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")


def shingle_hashes(texts: Sequence[str]) -> list[UInts]:
    """The shingles of each text as 64-bit hashes, in order; repeated ones stay. Never empty."""
    index: dict[str, int] = {}
    flat: list[int] = []
    sizes = np.empty(len(texts), dtype=np.int64)
    for i, text in enumerate(texts):
        found = words(text) or [text]
        sizes[i] = max(len(found), SHINGLE)
        flat.extend([index.setdefault(word, len(index)) for word in found])
        flat.extend([-1] * (SHINGLE - len(found)))
    table = np.fromiter((_word_hash(word) for word in index), dtype=np.uint64, count=len(index))
    hashes = np.append(table, np.uint64(0))[
        np.array(flat, dtype=np.int64)
    ]  # -1, the padding of short texts, is the last
    n = max(len(hashes) - SHINGLE + 1, 0)
    made = hashes[:n] * _POSITION[0]
    for i in range(1, SHINGLE):
        made = made + _mixed(hashes[i : n + i] + _STEP) * _POSITION[i]
    made = _mixed(made)
    ends = np.cumsum(sizes)
    return [made[end - size : end - SHINGLE + 1] for size, end in zip(sizes.tolist(), ends.tolist(), strict=True)]


def jaccard(a: UInts, b: UInts) -> float:
    """Jaccard similarity of the sets of two arrays of hashes, in [0, 1]."""
    one, other = set(a.tolist()), set(b.tolist())
    shared = len(one & other)
    return shared / (len(one) + len(other) - shared)


def band_shape(threshold: float, permutations: int = PERMUTATIONS) -> tuple[int, int]:
    """(bands, rows per band): the most rows with which a pair at the threshold still shares a band with probability > 0.999."""
    for rows in range(permutations, 1, -1):
        bands = permutations // rows
        if 1 - (1 - threshold**rows) ** bands > _RECALL:
            return bands, rows
    return permutations, 1


def signatures(sets: Sequence[UInts], seed: int = 0) -> NDArray[np.uint32]:
    """MinHash signatures, shape (len(sets), PERMUTATIONS): the smallest value of each permutation over a set."""
    rng = np.random.default_rng(seed)
    multipliers = rng.integers(1, 1 << 63, PERMUTATIONS, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    offsets = rng.integers(0, 1 << 63, PERMUTATIONS, dtype=np.uint64)
    found = np.empty((len(sets), PERMUTATIONS), dtype=np.uint32)
    for low, high in _blocks([len(one) for one in sets]):
        flat = np.concatenate(sets[low:high])
        starts = np.cumsum([0, *(len(one) for one in sets[low : high - 1])])
        for k in range(PERMUTATIONS):
            moved = ((flat * multipliers[k] + offsets[k]) >> np.uint64(32)).astype(np.uint32)
            found[low:high, k] = np.minimum.reduceat(moved, starts)
    return found


def _blocks(sizes: Sequence[int]) -> Iterator[tuple[int, int]]:
    """(low, high) of runs of sets with about `_BLOCK` members together."""
    low, held = 0, 0
    for i, size in enumerate(sizes):
        held += size
        if held >= _BLOCK:
            yield low, i + 1
            low, held = i + 1, 0
    if low < len(sizes):
        yield low, len(sizes)


def _band_keys(found: NDArray[np.uint32], bands: int, rows: int) -> list[list[int]]:
    """One 64-bit key per text and band; bands do not share keys."""
    keys = np.zeros((len(found), bands), dtype=np.uint64)
    cut = found[:, : bands * rows].reshape(len(found), bands, rows).astype(np.uint64)
    for r in range(rows):
        keys = _mixed(keys * _STEP + cut[:, :, r] + np.uint64(1))
    listed: list[list[int]] = _mixed(keys + np.arange(1, bands + 1, dtype=np.uint64) * _STEP).tolist()
    return listed


class NearDuplicates:
    """An index of kept texts. threshold: Jaccard similarity in (0, 1] from which two texts count as the same.

    Texts are numbered from 0 in the order in which they are kept. Memory: about 2 kB a text of 20 words.
    """

    def __init__(self, threshold: float = THRESHOLD) -> None:
        if not 0 < threshold <= 1:
            raise ValueError(f"threshold {threshold} is not in (0, 1]")
        self.threshold = threshold
        self._bands, self._rows = band_shape(threshold)
        self._sets: list[UInts] = []
        self._equal: dict[int, int] = {}  # hash of all bands -> the first kept text that has them
        self._buckets: dict[int, Any] = {}  # band key -> a number, or a list of them: most hold one

    def __len__(self) -> int:
        return len(self._sets)

    def add(self, texts: Sequence[str]) -> list[Match | None]:
        """For each text in order: None when it was kept, else the nearest kept text that it repeats (and it is not kept)."""
        return [self.offer(prepared) for prepared in self.prepare(texts)]

    def prepare(self, texts: Sequence[str]) -> Iterator[Prepared]:
        """The texts hashed, for `offer` and `keep`: many at once cost little more than one."""
        for low in range(0, len(texts), _CHUNK):
            found = shingle_hashes(texts[low : low + _CHUNK])
            keys = _band_keys(signatures(found), self._bands, self._rows)
            yield from map(Prepared, found, keys)

    def offer(self, prepared: Prepared, beside: Iterable[int] = ()) -> Match | None:
        """Keep the text and return None; or the kept text that it repeats. It may be like those numbered in `beside`."""
        found = self._nearest(prepared.shingles, prepared.keys, tuple(beside))
        if found is None:
            self.keep(prepared)
        return found

    def _nearest(self, one: UInts, keys: list[int], beside: tuple[int, ...]) -> Match | None:
        equal = self._equal.get(hash(tuple(keys)))  # found here however crowded its buckets are
        if equal is not None and equal not in beside and jaccard(one, self._sets[equal]) == 1:
            return Match(equal, 1.0)
        near: set[int] = set()
        for key in keys:
            held = self._buckets.get(key)
            if held is not None:
                near.update(held if type(held) is list else (held,))
        best: Match | None = None
        for number in sorted(near.difference(beside)):
            alike = jaccard(one, self._sets[number])
            if alike >= self.threshold and (best is None or alike > best.jaccard):
                best = Match(number, alike)
        return best

    def keep(self, prepared: Prepared) -> int:
        """Keep the text whatever it is like; its number."""
        one, keys = prepared
        number = len(self._sets)
        self._sets.append(one)
        self._equal.setdefault(hash(tuple(keys)), number)
        for key in keys:
            held = self._buckets.setdefault(key, number)
            if type(held) is list:
                if len(held) < _CROWDED:
                    held.append(number)
            elif held != number:
                self._buckets[key] = [held, number]
        return number


def without_near_duplicates(
    rows: Iterable[tuple[int, dict[str, Any], str]], threshold: float, repeats: list[dict[str, object]]
) -> Iterator[dict[str, Any]]:
    """The rows whose text repeats no earlier one, one at a time, of (line, row, text).

    repeats: gets one object per row left out: its `line`, the line it is `like`, and their `jaccard`.
    """
    index = NearDuplicates(threshold)
    kept: list[int] = []
    rows = iter(rows)
    while batch := list(islice(rows, _CHUNK)):
        for (line, row, _), match in zip(batch, index.add([text for _, _, text in batch]), strict=True):
            if match is None:
                kept.append(line)
                yield row
            else:
                repeats.append({"line": line, "like": kept[match.number], "jaccard": round(match.jaccard, 3)})


def nearest_similarity(texts: Sequence[str], of: Sequence[int] | None = None) -> NDArray[np.float64]:
    """For each text (or those numbered in `of`): the highest Jaccard similarity to any other text, exact, in [0, 1]. Shape (n,)."""
    from scipy.sparse import csr_matrix

    chosen = np.arange(len(texts)) if of is None else np.asarray(of, dtype=np.int64)
    if len(texts) < 2:
        return np.zeros(len(chosen))
    sets = [np.unique(one) for one in shingle_hashes(texts)]
    sizes = np.array([len(one) for one in sets])
    columns = np.unique(np.concatenate(sets), return_inverse=True)[1]
    edges = np.concatenate([[0], np.cumsum(sizes)])
    matrix = csr_matrix((np.ones(len(columns), dtype=np.float32), columns, edges))
    held_by = matrix.T.tocsr()
    found = np.zeros(len(chosen))
    for low in range(0, len(chosen), 256):
        rows = chosen[low : low + 256]
        shared = (matrix[rows] @ held_by).tocoo()
        is_other = rows[shared.row] != shared.col
        row, col, n = shared.row[is_other], shared.col[is_other], shared.data[is_other]
        np.maximum.at(found, low + row, n / (sizes[rows[row]] + sizes[col] - n))
    return found


def expected_recall(jaccard_of_pair: float, threshold: float = THRESHOLD) -> float:
    """The chance that a pair of this similarity shares a band, and is therefore compared."""
    bands, rows = band_shape(threshold)
    return 1 - (1 - jaccard_of_pair**rows) ** bands
