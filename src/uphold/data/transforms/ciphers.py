"""Ciphers and spellings: the text in a code, with one short instruction that names it (arXiv:2308.06463, arXiv:2307.02483).

Keys are drawn by the seed and stated in the instruction. Every one is exact on the characters its `alphabet` names, and on any
text where that is empty.
"""

from __future__ import annotations

import random
import string
from collections.abc import Callable
from functools import cache, lru_cache
from itertools import cycle

from uphold.data.transforms.base import INSTRUCTIONS, Transform, add, coded, instructions

LETTERS_AND_SPACE = string.ascii_letters + " .,?!:'-"

_UP, _LOW = string.ascii_uppercase, string.ascii_lowercase
_ROT13 = str.maketrans(_UP + _LOW, _UP[13:] + _UP[:13] + _LOW[13:] + _LOW[:13])
_LEET = str.maketrans("aeiost", "431057")
_UNLEET = str.maketrans("431057", "aeiost")


def rot13(text: str) -> str:
    """Each letter moved by 13 places; its own inverse."""
    return text.translate(_ROT13)


def reverse_words(text: str) -> str:
    """Words (between single spaces) in reverse order; its own inverse."""
    return " ".join(text.split(" ")[::-1])


def spell(text: str) -> str:
    """The letters of each word joined with dashes: 'how do' -> 'h-o-w d-o'."""
    return " ".join("-".join(word) for word in text.split(" "))


def unspell(text: str) -> str:
    """Undo `spell`; words that are not spelled out stay as they are."""
    return " ".join(w[::2] if len(w) % 2 and set(w[1::2]) == {"-"} else w for w in text.split(" "))


def leet(text: str) -> str:
    """a e i o s t written 4 3 1 0 5 7."""
    return text.translate(_LEET)


def unleet(text: str) -> str:
    """4 3 1 0 5 7 read as a e i o s t; numbers that were in the text are lost."""
    return text.translate(_UNLEET)


coded("rot13", "rot13", rot13, rot13, paper="arXiv:2307.02483", about="each letter moved by 13 places")
coded(
    "reversal",
    "reverse order",
    reverse_words,
    reverse_words,
    type="structure",
    paper="arXiv:2410.02832",
    about="the words in reverse order",
)
coded(
    "spell",
    "single letters",
    spell,
    unspell,
    type="obfuscation",
    paper="arXiv:2308.06463",
    about="the letters of each word joined with dashes",
)
coded(
    "leetspeak",
    "leet",
    leet,
    unleet,
    type="obfuscation",
    paper="arXiv:2307.02483",
    about="some letters written as digits",
    alphabet="".join(c for c in LETTERS_AND_SPACE if c not in "431057"),
)

_ATBASH = str.maketrans(_UP + _LOW, _UP[::-1] + _LOW[::-1])
_SHIFTS = ("1", "3", "5", "7", "11", "19")
_KEYS = ("lemon", "river", "stone", "cloud", "tiger", "music")
RAILS = 3


def atbash(text: str) -> str:
    """a for z, b for y, ...; its own inverse."""
    return text.translate(_ATBASH)


def flip(text: str) -> str:
    """Every character in reverse order; its own inverse."""
    return text[::-1]


_LETTERS = frozenset(_UP + _LOW)


def vigenere(text: str, key: str, sign: int = 1) -> str:
    """Each letter moved by the place of the next key letter in the alphabet (a = 0); sign -1 decodes. Other characters stay."""
    tables = cycle([_caesar_table(sign * _LOW.index(letter) % 26) for letter in key])
    return "".join(chr(next(tables)[ord(char)]) if char in _LETTERS else char for char in text)


@cache
def _caesar_table(by: int) -> dict[int, int]:
    return str.maketrans(_UP + _LOW, _UP[by:] + _UP[:by] + _LOW[by:] + _LOW[:by])


def caesar(text: str, by: int) -> str:
    """Each letter moved by `by` places (-25 to 25); the negative decodes."""
    return text.translate(_caesar_table(by % 26))


@lru_cache(maxsize=1024)
def _rail_order(n: int) -> tuple[int, ...]:
    """Which character of a text of n stands where when it is written in a zigzag over the rails and read rail by rail."""
    period = 2 * (RAILS - 1)
    return tuple(sorted(range(n), key=lambda i: (min(i % period, period - i % period), i)))


def rail_fence(text: str) -> str:
    """Written in a zigzag over three rails, read rail by rail."""
    return "".join(text[i] for i in _rail_order(len(text)))


def unrail_fence(text: str) -> str:
    """Undo `rail_fence`."""
    plain = [""] * len(text)
    for char, i in zip(text, _rail_order(len(text)), strict=True):
        plain[i] = char
    return "".join(plain)


def _keyed(
    name: str,
    code: str,
    keys: tuple[str, ...],
    encode: Callable[[str, str], str],
    decode: Callable[[str, str], str],
    about: str,
) -> None:
    """Register a cipher whose key is drawn from `keys` and stated in the instruction; without that statement nothing is undone."""
    frames = {key: instructions(f"{code} {key}", INSTRUCTIONS[:-1]) for key in keys}

    def forward(text: str, rng: random.Random) -> str:
        key = keys[int(rng.random() * len(keys))]
        return frames[key].wrap(encode(text, key), rng)

    def backward(text: str) -> str:
        for key, frame in frames.items():
            if (inner := frame.unwrap(text)) is not text:
                return decode(inner, key)
        return text

    add(Transform(name, "cipher", forward, backward, "arXiv:2308.06463", about))


coded("atbash", "atbash", atbash, atbash, paper="arXiv:2308.06463", about="a for z, b for y, and so on")
coded("flip", "mirror writing", flip, flip, paper="arXiv:2410.02832", about="every character in reverse order")
coded(
    "rail_fence",
    "three-rail fence code",
    rail_fence,
    unrail_fence,
    about="written in a zigzag over three rails, read rail by rail",
)
_keyed(
    "caesar",
    "caesar code with shift",
    _SHIFTS,
    lambda text, key: caesar(text, int(key)),
    lambda text, key: caesar(text, -int(key)),
    "each letter moved by a stated number of places",
)
_keyed(
    "vigenere",
    "vigenere code with the key",
    _KEYS,
    vigenere,
    lambda text, key: vigenere(text, key, -1),
    "each letter moved by the letters of a stated key",
)
