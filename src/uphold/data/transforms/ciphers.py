"""Ciphers and spellings: the text in a code, with one short instruction that names the code (arXiv:2308.06463, arXiv:2307.02483).

All decode without a key. Every one is exact on the characters its `alphabet` names, and on any text where that is empty.
"""

from __future__ import annotations

import string

from uphold.data.transforms.base import coded

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
