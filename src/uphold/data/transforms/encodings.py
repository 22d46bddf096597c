"""Encodings: the bytes or characters of the text in another notation, with one instruction that names it.

The encoder list follows what public scanners try (garak's `encoding` probes, PyRIT's converters; arXiv:2307.02483 for base64). All are
exact on any text except Morse, NATO and Braille, which know letters, digits and a little punctuation.
"""

from __future__ import annotations

import base64
import binascii
import re
import string
from collections.abc import Callable
from urllib.parse import unquote_to_bytes

from uphold.data.transforms.base import coded

JAILBROKEN = "arXiv:2307.02483"


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _from_bytes(decode: Callable[[str], bytes]) -> Callable[[str], str]:
    """A decoder that gives its input back where the bytes are not that notation or not text."""

    def backward(text: str) -> str:
        try:
            return decode(text).decode("utf-8", "surrogatepass")
        except (ValueError, binascii.Error):
            return text

    return backward


def _to_binary(text: str) -> str:
    return " ".join(f"{byte:08b}" for byte in _bytes(text))


def _binary(text: str) -> bytes:
    groups = text.split()
    if any(len(group) != 8 for group in groups):
        raise ValueError("not groups of eight bits")
    return bytes(int(group, 2) for group in groups)


def _to_codes(text: str) -> str:
    return " ".join(str(ord(char)) for char in text)


def _codes(text: str) -> str:
    numbers = text.split(" ") if text else []
    if not all(number.isascii() and number.isdecimal() and len(number) <= 7 for number in numbers):
        return text
    points = [int(number) for number in numbers]
    return "".join(map(chr, points)) if all(point < 0x110000 for point in points) else text


def _to_escapes(text: str) -> str:
    return "".join(f"\\u{ord(char):04x}" if ord(char) < 0x10000 else f"\\U{ord(char):08x}" for char in text)


_ESCAPE = re.compile(r"\\u([0-9a-fA-F]{4})|\\U(00(?:0\d|10)[0-9a-fA-F]{4}|000[0-9a-fA-F]{5})")


def _escapes(text: str) -> str:
    return _ESCAPE.sub(lambda m: chr(int(m[1] or m[2], 16)), text)


_ENTITY = re.compile(r"&#(\d{1,7});")


def _entities(text: str) -> str:
    return _ENTITY.sub(lambda m: chr(int(m[1])) if int(m[1]) < 0x110000 else m[0], text)


_MORSE_TABLE = """a .- b -... c -.-. d -.. e . f ..-. g --. h .... i .. j .--- k -.- l .-.. m -- n -. o --- p .--. q --.- r .-. s ... t -
u ..- v ...- w .-- x -..- y -.-- z --.. 0 ----- 1 .---- 2 ..--- 3 ...-- 4 ....- 5 ..... 6 -.... 7 --... 8 ---.. 9 ----.
? ..--.. ! -.-.-- , --..-- : ---... ' .----. ( -.--. ) -.--.- = -...- + .-.-. @ .--.-."""
_NATO_TABLE = """a alfa b bravo c charlie d delta e echo f foxtrot g golf h hotel i india j juliett k kilo l lima m mike n november o oscar
p papa q quebec r romeo s sierra t tango u uniform v victor w whiskey x x-ray y yankee z zulu"""


def _table(source: str) -> dict[str, str]:
    cells = source.split()
    return dict(zip(cells[::2], cells[1::2], strict=True))


def _by_word(table: dict[str, str], between: str) -> tuple[Callable[[str], str], Callable[[str], str]]:
    """Encoder and decoder that write one code per character, a space apart, and `between` for a space of the text.

    A character without a code stands for itself, so the text stays readable; codes win when decoding.
    """
    back = {code: char for char, code in table.items()}
    gap = f" {between} "

    def encode(text: str) -> str:
        return gap.join(" ".join(table.get(char, char) for char in word) for word in text.lower().split(" "))

    def decode(text: str) -> str:
        return " ".join("".join(back.get(code, code) for code in word.split(" ")) for word in text.split(gap))

    return encode, decode


_MORSE, _NATO = _table(_MORSE_TABLE), _table(_NATO_TABLE)
_to_morse, _morse_words = _by_word(_MORSE, "/")
_to_nato, _nato_words = _by_word(_NATO, "space")
_NATO_CODES = frozenset((*_NATO.values(), "space"))


def _morse(text: str) -> str:
    return _morse_words(text) if not text.strip(".-/ ") else text


def _nato(text: str) -> str:
    return _nato_words(text) if all(len(w) < 2 or w in _NATO_CODES for w in text.split(" ")) else text


_BRAILLE_LETTERS = "⠁⠃⠉⠙⠑⠋⠛⠓⠊⠚⠅⠇⠍⠝⠕⠏⠟⠗⠎⠞⠥⠧⠺⠭⠽⠵"
_TO_BRAILLE = str.maketrans(string.ascii_lowercase, _BRAILLE_LETTERS)
_BRAILLE = str.maketrans(_BRAILLE_LETTERS, string.ascii_lowercase)

_LETTERS = string.ascii_lowercase + " "


def _add(name: str, code: str, encode: Callable[[str], str], decode: Callable[[str], str], **more: str) -> None:
    coded(name, code, encode, decode, type="encoding", **{"paper": "garak encoding probes", **more})


def _b64(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


_add(
    "base64",
    "base64",
    lambda text: base64.b64encode(_bytes(text)).decode(),
    _from_bytes(_b64),
    paper=JAILBROKEN,
    about="base64 of the text",
)
_add(
    "base32",
    "base32",
    lambda text: base64.b32encode(_bytes(text)).decode(),
    _from_bytes(base64.b32decode),
    about="base32 of the text",
)
_add("hex", "hex", lambda text: _bytes(text).hex(), _from_bytes(bytes.fromhex), about="two hex digits for each byte")
_add(
    "url",
    "url code",
    lambda text: "".join(f"%{byte:02x}" for byte in _bytes(text)),
    _from_bytes(unquote_to_bytes),
    about="each byte as a percent sign and two hex digits",
)
_add("binary", "binary", _to_binary, _from_bytes(_binary), about="eight bits for each byte")
_add("ascii_codes", "ascii codes", _to_codes, _codes, about="the number of each character")
_add("unicode_escape", "unicode escape", _to_escapes, _escapes, about="each character as a backslash escape")
_add(
    "html_entities",
    "html code",
    lambda text: "".join(f"&#{ord(char)};" for char in text),
    _entities,
    about="each character as an html entity",
)
_add(
    "morse",
    "morse code",
    _to_morse,
    _morse,
    about="morse code, words parted by a slash",
    alphabet="".join(_MORSE) + " ",
)
_add("nato", "nato letters", _to_nato, _nato, about="each letter by its radio name", alphabet=_LETTERS + ".,?!")
_add(
    "braille",
    "braille",
    lambda text: text.lower().translate(_TO_BRAILLE),
    lambda text: text.translate(_BRAILLE),
    about="letters as braille cells",
    alphabet=_LETTERS + string.digits + ".,?!",
)
