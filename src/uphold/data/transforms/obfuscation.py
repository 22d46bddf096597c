"""Obfuscation: the text stays readable to a person, or nearly so, while its characters are no longer the usual ones.

Invisible characters, look-alikes, spacing, case and noise; the last three are the augmentations of best-of-N jailbreaking
(arXiv:2412.03556). Tables cover ASCII: each inverse is exact on ASCII text, and on lower-case text where case is lost.
"""

from __future__ import annotations

import random
import re
import string
import unicodedata

from uphold.data.transforms.base import Transform, add, coded

BEST_OF_N = "arXiv:2412.03556"
ASCII = string.printable
LOWER = "".join(char for char in string.printable if not char.isupper())
_LOW, _UP = string.ascii_lowercase, string.ascii_uppercase

ZERO_WIDTH = "\u200b\u200c\u200d\u2060\ufeff"
_NO_ZERO_WIDTH = dict.fromkeys(map(ord, ZERO_WIDTH))

_LATIN, _LOOKALIKE = "aceijopsxyABCEHIJKMOPSTXY", "асеіјорѕхуАВСЕНІЈКМОРЅТХУ"
_TO_LOOKALIKE = str.maketrans(_LATIN, _LOOKALIKE)
_FROM_LOOKALIKE = str.maketrans(_LOOKALIKE, _LATIN)


def _shifted(source: str, first: int) -> dict[int, int]:
    return {ord(char): first + i for i, char in enumerate(source)}


def _back(table: dict[int, int]) -> dict[int, int]:
    return {target: char for char, target in table.items()}


_FULLWIDTH = _shifted("".join(map(chr, range(0x21, 0x7F))), 0xFF01) | {0x20: 0x3000}
_BOLD = _shifted(_UP, 0x1D400) | _shifted(_LOW, 0x1D41A)
_CIRCLED = _shifted(_UP, 0x24B6) | _shifted(_LOW, 0x24D0)
_REGIONAL = _shifted(_LOW, 0x1F1E6)
_TAGS = {code: 0xE0000 + code for code in range(0x20, 0x7F)}


def _table(name: str, table: dict[int, int], about: str, *, alphabet: str = ASCII) -> None:
    back = _back(table)
    add(
        Transform(
            name,
            "obfuscation",
            lambda text, rng: text.translate(table),
            lambda text: text.translate(back),
            "garak encoding probes",
            about,
            alphabet,
        )
    )


_table("fullwidth", _FULLWIDTH, "full-width forms of the characters")
_table("math_letters", _BOLD, "bold mathematical letters")
_table("bubble", _CIRCLED, "letters in circles")


def _zero_width(text: str, rng: random.Random) -> str:
    """One invisible character after every letter."""
    mark = ZERO_WIDTH[int(rng.random() * len(ZERO_WIDTH))]
    return mark.join(text) + mark if text else text


add(
    Transform(
        "zero_width",
        "obfuscation",
        _zero_width,
        lambda text: text.translate(_NO_ZERO_WIDTH),
        "arXiv:2106.09898",
        "an invisible character between the letters",
        ASCII + "äéßñ",
    )
)
add(
    Transform(
        "homoglyph",
        "obfuscation",
        lambda text, rng: text.translate(_TO_LOOKALIKE),
        lambda text: text.translate(_FROM_LOOKALIKE),
        "arXiv:2106.09898",
        "cyrillic letters that look like the latin ones",
        ASCII,
    )
)

_MARKS = "\u0300\u0301\u0302\u0303\u0308\u030a\u0316\u0317\u0323\u0330\u0332\u0334"
_NO_MARKS = dict.fromkeys(range(0x300, 0x370))


def _zalgo(text: str, rng: random.Random) -> str:
    """Two combining marks on every letter."""
    n, draw = len(_MARKS), rng.random
    return "".join(
        char + _MARKS[int(draw() * n)] + _MARKS[int(draw() * n)] if char.isalpha() else char for char in text
    )


add(
    Transform(
        "zalgo",
        "obfuscation",
        _zalgo,
        lambda text: unicodedata.normalize("NFD", text).translate(_NO_MARKS),
        "garak encoding probes",
        "accents piled on every letter",
        ASCII,
    )
)

_GAP = "   "


def spaced(text: str) -> str:
    """A space after each letter and three between words: 'how do' -> 'h o w   d o'."""
    return _GAP.join(" ".join(word) for word in text.split(" "))


def unspaced(text: str) -> str:
    """Undo `spaced`; a text that is not spaced out comes back unchanged."""
    words = text.split(_GAP)
    if any(word and (len(word) % 2 == 0 or set(word[1::2]) - {" "}) for word in words):
        return text
    return " ".join(word[::2] for word in words)


add(
    Transform(
        "spacing",
        "obfuscation",
        lambda text, rng: spaced(text),
        unspaced,
        "arXiv:2412.03556",
        "a space after every letter",
    )
)
_FROM_REGIONAL = _back(_REGIONAL)
coded(
    "emoji_letters",
    "letter emoji",
    lambda text: spaced(text.lower().translate(_REGIONAL)),
    lambda text: unspaced(text).translate(_FROM_REGIONAL),
    type="obfuscation",
    about="letters as emoji, spaced out",
    alphabet=LOWER,
)
_FROM_TAGS = _back(_TAGS)
coded(
    "unicode_tags",
    "hidden characters",
    lambda text: text.translate(_TAGS),
    lambda text: text.translate(_FROM_TAGS),
    type="obfuscation",
    paper="arXiv:2510.05025",
    about="invisible tag characters, one for each ascii character",
    alphabet=ASCII,
)


def _random_case(text: str, rng: random.Random) -> str:
    draw = rng.random
    return "".join(char.upper() if draw() < 0.6 else char for char in text)


add(
    Transform(
        "random_case",
        "obfuscation",
        _random_case,
        str.lower,
        BEST_OF_N,
        "capitals at random",
        LOWER,
    )
)

_WORD = re.compile(r"[A-Za-z]{4,}")


def _scramble(text: str, rng: random.Random) -> str:
    """The inner letters of six words in ten, shuffled; first and last stay."""

    def shuffle(found: re.Match[str]) -> str:
        word = found[0]
        if rng.random() >= 0.6:
            return word
        inner = list(word[1:-1])
        rng.shuffle(inner)
        return word[0] + "".join(inner) + word[-1]

    return _WORD.sub(shuffle, text)


_NEIGHBOURS = dict(zip("qwertyuiopasdfghjklzxcvbnm", "wertyuioiosdfghjkjkxcvbnmn", strict=True))


def _typos(text: str, rng: random.Random) -> str:
    """One slip of the finger in every other word of four letters or more: swapped, doubled, dropped, or the key beside."""

    def slip(found: re.Match[str]) -> str:
        word = found[0]
        if rng.random() >= 0.5:
            return word
        i = 1 + int(rng.random() * (len(word) - 2))
        kind = int(rng.random() * 4)
        if kind == 0:
            return word[:i] + word[i + 1] + word[i] + word[i + 2 :]
        if kind == 1:
            return word[:i] + word[i] + word[i:]
        if kind == 2:
            return word[:i] + word[i + 1 :]
        return word[:i] + _NEIGHBOURS.get(word[i], word[i]) + word[i + 1 :]

    return _WORD.sub(slip, text)


def _noise(text: str, rng: random.Random) -> str:
    """Six letters in a hundred moved to the next or the previous character code."""
    draw = rng.random
    return "".join(
        chr(ord(char) + (1 if draw() < 0.5 else -1)) if "!" < char < "~" and draw() < 0.06 else char for char in text
    )


_INNER_VOWEL = re.compile(r"(?<=\w)[aeiouAEIOU](?=\w)")

add(Transform("scramble", "obfuscation", _scramble, paper=BEST_OF_N, about="inner letters of words shuffled"))
add(Transform("typos", "obfuscation", _typos, paper="arXiv:2106.09898", about="slips of the finger"))
add(Transform("noise", "obfuscation", _noise, paper=BEST_OF_N, about="a few characters moved by one code"))
add(
    Transform(
        "disemvowel",
        "obfuscation",
        lambda text, rng: _INNER_VOWEL.sub("", text),
        paper="PyRIT converters",
        about="no vowels inside words",
    )
)
