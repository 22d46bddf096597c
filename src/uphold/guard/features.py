"""Hashed word and character n-grams, whole texts at once or one word at a time.

Takes raw text; gives bucket numbers that `linear.py` looks weights up with and `train.py` counts. A text is cut into words, and every
word yields the same buckets wherever it stands: its character n-grams (with edge marks), the word itself, and the pair it forms with
the word before it. So a stream needs constant work per word, a word met twice is hashed once, and the result depends neither on
where the text was cut into pieces nor on the process or machine (own 64-bit mixing, no `hash()`). The hashing trick is Weinberger
et al. 2009 (arXiv:0902.2206), character n-grams as in fastText (Bojanowski et al. 2017, arXiv:1607.04606).
Left out: signed hashing (buckets are plenty), and n-grams that cross a word edge (the pairs stand for them).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import islice
from operator import mul
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from uphold.core.records import Record

MAX_WORD = (
    64  # characters; a longer run is cut, so one endless token is many words and a stream buffers no more than this
)
START = 0x5570686F6C643031  # stands for "no word before" in the pair of a text's first word

# Words are runs of anything but white space, control characters and punctuation. Invisible characters (zero-width, marks of direction,
# variation selectors, tags) separate nothing and begin nothing: inside a word they are dropped, so they cannot split or pad it.
_SEPARATORS = (
    r"\s\x00-\x2f:-@\[-`{-\x9f\u00a1-\u00a9\u00ab\u00ac\u00ae-\u00b1\u00b4\u00b6-\u00b8\u00bb\u00bf\u00d7\u00f7"
    r"\u2010-\u2029\u2030-\u205e\u2190-\u245f\u2500-\u2bff\u3001-\u3003\u3008-\u3020\uff01-\uff0f\uff1a-\uff20"
)
INVISIBLE = (
    r"\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0"
    r"\ufff0-\ufffb\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
_WORD = re.compile(rf"[^{_SEPARATORS}{INVISIBLE}][^{_SEPARATORS}]{{0,{MAX_WORD - 1}}}")
_INVISIBLE = re.compile(f"[{INVISIBLE}]+")
_ASCII_SEPARATORS = {code: " " for code in range(128) if not chr(code).isalnum()}

_MASK = (1 << 64) - 1
_STEP = 0x9E3779B97F4A7C15
_MIX_1, _MIX_2 = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB  # splitmix64's finaliser
_PAIR_1, _PAIR_2 = 0xD6E8FEB86659FD93, 0xA0761D6478BD642F

UInts = NDArray[np.uint64]
Ints = NDArray[np.int64]


class FeatureSpec(Record):
    """Which buckets a word yields. 2**bits buckets; characters n-grams of char_min to char_max characters, edges included."""

    bits: int = Field(18, ge=8, le=24)
    char_min: int = Field(2, ge=1, le=8)
    char_max: int = Field(5, ge=1, le=8)
    pairs: bool = True

    @model_validator(mode="after")
    def _ordered(self) -> FeatureSpec:
        if self.char_min > self.char_max:
            raise ValueError(f"char_min {self.char_min} exceeds char_max {self.char_max}")
        return self


class WordBuckets(NamedTuple):
    """Buckets of m words: word i owns buckets[edges[i]:edges[i + 1]]; hashes (m,) identify the words and make pairs."""

    buckets: Ints
    edges: Ints
    hashes: UInts


def words(text: str) -> list[str]:
    """The raw words of `text`, in order; each at most MAX_WORD characters. Nothing is changed inside a word."""
    if text.isascii():  # three times faster, and the same
        found = text.translate(_ASCII_SEPARATORS).split()
        if not found or max(map(len, found)) <= MAX_WORD:
            return found
    return _WORD.findall(text)


def word_end(text: str, nth: int) -> int:
    """Where the nth word (from 1) of `text` ends, in characters."""
    return next(islice(_WORD.finditer(text), nth - 1, None)).end()


def split_complete(buffer: str) -> tuple[list[tuple[str, int]], str]:
    """The words of `buffer` that no further text can change, each with its end in characters, and the unfinished rest.

    The rest is shorter than MAX_WORD: a run that long is cut there, as `words` cuts it.
    """
    done: list[tuple[str, int]] = []
    for match in _WORD.finditer(buffer):
        start, end = match.span()
        if end == len(buffer) and end - start < MAX_WORD:
            return done, buffer[start:]
        done.append((match.group(), end))
    return done, ""


def iter_words(text: str) -> Iterator[str]:
    """`words`, one at a time: a long text without a list of its words."""
    if len(text) < 1 << 16:
        return iter(words(text))
    return (match.group() for match in _WORD.finditer(text))


def normalise(word: str) -> str:
    """A word as it is hashed: invisible characters dropped, compatibility forms folded (NFKC), case folded; never ''."""
    if word.isascii():
        return word.lower()
    return unicodedata.normalize("NFKC", _INVISIBLE.sub("", word)).casefold() or word


def _mixed(x: UInts) -> UInts:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(_MIX_1)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(_MIX_2)
    return x ^ (x >> np.uint64(31))


_POSITION = _mixed(np.arange(1, 4 * MAX_WORD, dtype=np.uint64) * np.uint64(_STEP)) | np.uint64(1)
_POSITION_LIST: list[int] = _POSITION.tolist()


def word_buckets(raw_words: Sequence[str], spec: FeatureSpec) -> WordBuckets:
    """Buckets of each word by itself, many words at once."""
    normal = [normalise(word)[: 4 * MAX_WORD - 4] for word in raw_words]  # NFKC can make one character eighteen
    text = "".join(f"\x02{word}\x03" for word in normal)
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32).astype(np.uint64)
    codes = _mixed((codes + np.uint64(1)) * np.uint64(_STEP))
    lengths = np.fromiter((len(word) + 2 for word in normal), dtype=np.int64, count=len(normal))
    ends = np.cumsum(lengths)
    owner = np.repeat(np.arange(len(normal)), lengths)
    position = np.arange(len(codes)) - (ends - lengths)[owner]
    left = lengths[owner] - position  # characters from here to the end of the word
    summed = np.add.reduceat(codes * _POSITION[position], ends - lengths) if normal else np.zeros(0, dtype=np.uint64)
    hashes = _mixed(summed)

    shift = np.uint64(64 - spec.bits)
    found, owners = [_mixed(hashes) >> shift], [np.arange(len(normal))]
    rolling = codes
    for n in range(1, spec.char_max + 1):
        if n > 1:
            rolling = rolling[:-1] * np.uint64(_STEP) + codes[n - 1 :]
        if n >= spec.char_min:
            inside = left[: len(rolling)] >= n
            found.append(_mixed(rolling[inside] + np.uint64(n)) >> shift)
            owners.append(owner[: len(rolling)][inside])
    all_owners = np.concatenate(owners)
    order = np.argsort(all_owners, kind="stable")
    edges = np.zeros(len(normal) + 1, dtype=np.int64)
    np.cumsum(np.bincount(all_owners, minlength=len(normal)), out=edges[1:])
    return WordBuckets(np.concatenate(found)[order].astype(np.int64), edges, hashes)


def one_word(word: str, spec: FeatureSpec) -> WordBuckets:
    """`word_buckets` of a single word in plain integers (its buckets in another order): what a stream asks for, five times faster."""
    codes = [_code(char) for char in f"\x02{normalise(word)[: 4 * MAX_WORD - 4]}\x03"]
    hashed = _mix(sum(map(mul, codes, _POSITION_LIST)) & _MASK)
    shift = 64 - spec.bits
    found = [_mix(hashed) >> shift]
    rolling = codes
    for n in range(1, spec.char_max + 1):
        if n > 1:
            rolling = [(r * _STEP + c) & _MASK for r, c in zip(rolling, codes[n - 1 :], strict=False)]
        if n >= spec.char_min:
            found += [_mix((r + n) & _MASK) >> shift for r in rolling]
    return WordBuckets(np.array(found, dtype=np.int64), np.array([0, len(found)]), np.array([hashed], dtype=np.uint64))


@lru_cache(maxsize=4096)
def _code(char: str) -> int:
    return _mix((ord(char) + 1) * _STEP & _MASK)


def _mix(x: int) -> int:
    x = ((x ^ (x >> 30)) * _MIX_1) & _MASK
    x = ((x ^ (x >> 27)) * _MIX_2) & _MASK
    return x ^ (x >> 31)


def pair_buckets(before: UInts, after: UInts, spec: FeatureSpec) -> Ints:
    """Bucket of each (word before, word) pair of word hashes, shapes (m,) and (m,)."""
    mixed = _mixed(before * np.uint64(_PAIR_1) + after * np.uint64(_PAIR_2))
    return (mixed >> np.uint64(64 - spec.bits)).astype(np.int64)


def pair_bucket(before: int, after: int, spec: FeatureSpec) -> int:
    """`pair_buckets` of one pair in plain integers: what a stream uses, three times faster than arrays of length one."""
    return _mix((before * _PAIR_1 + after * _PAIR_2) & _MASK) >> (64 - spec.bits)


def spread(edges: Ints, chosen: Ints) -> tuple[Ints, Ints]:
    """Positions of all members of the chosen groups, one after another, and how many each group has.

    Group i is edges[i]:edges[i + 1]. This is `concatenate([arange(edges[i], edges[i + 1]) for i in chosen])` without the loop.
    """
    sizes = edges[chosen + 1] - edges[chosen]
    begins = np.cumsum(sizes) - sizes
    return np.repeat(edges[chosen] - begins, sizes) + np.arange(int(sizes.sum())), sizes


def count_matrix(texts: Sequence[Sequence[str]], spec: FeatureSpec) -> Any:
    """Feature counts of texts given as lists of raw words: scipy CSR, float32, shape (len(texts), 2**bits)."""
    from scipy.sparse import csr_matrix

    index: dict[str, int] = {}
    flat = np.fromiter((index.setdefault(word, len(index)) for text in texts for word in text), dtype=np.int64)
    sizes = np.fromiter(map(len, texts), dtype=np.int64, count=len(texts))
    rows = np.repeat(np.arange(len(texts)), sizes)
    table = word_buckets(list(index), spec)
    members, counts = spread(table.edges, flat)
    columns, owners = [table.buckets[members]], [np.repeat(rows, counts)]
    if spec.pairs:
        columns.append(pair_buckets(before(table.hashes[flat], sizes), table.hashes[flat], spec))
        owners.append(rows)
    column, owner = np.concatenate(columns), np.concatenate(owners)
    shape = (len(texts), 1 << spec.bits)
    matrix = csr_matrix((np.ones(len(column), dtype=np.float32), (owner, column)), shape=shape)
    matrix.sum_duplicates()
    return matrix


def before(hashes: UInts, sizes: Ints) -> UInts:
    """The hash of the word before each word; texts of the given sizes follow one another, START stands before each first word."""
    shifted = np.concatenate([[np.uint64(START)], hashes[:-1]])[: len(hashes)]
    shifted[(np.cumsum(sizes) - sizes)[sizes > 0]] = np.uint64(START)
    return shifted
