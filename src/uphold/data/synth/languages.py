"""Which language a short text is in: enough to notice that a generator answered in another one than it was asked for.

Languages of the Latin script are told apart by their commonest small words, others by their script. Says nothing rather than guess:
a text without small words, or a language that is not listed, gets no verdict. Left out: dialects, mixed texts, identification as such.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping

from uphold.core.errors import ConfigError, did_you_mean

NAMES: Mapping[str, str] = {
    "en": "English",
    "es": "Spanish",
    "fr": "French",
    "de": "German",
    "pt": "Portuguese",
    "it": "Italian",
    "nl": "Dutch",
    "ru": "Russian",
    "el": "Greek",
    "ar": "Arabic",
    "hi": "Hindi",
    "ja": "Japanese",
    "ko": "Korean",
    "zh": "Chinese",
}
SMALL_WORDS: Mapping[str, frozenset[str]] = {
    "en": frozenset(
        "the and to of is that it for with what how do does my your you i this are can would which from have be not at".split()
    ),
    "es": frozenset(
        "el la los las y que de en un una es por para con cómo qué mi tu su se lo me puedo del al pero muy más está son".split()
    ),
    "fr": frozenset(
        "le la les et que de des un une est pour avec dans comment mon ma ton je tu vous du au ne pas ce cette qui sur sont".split()
    ),
    "de": frozenset(
        "der die das und ist ich zu nicht ein eine mit für wie was mein meine sie den dem es auf von kann im auch wenn bei".split()
    ),
    "pt": frozenset(
        "o a os as e que de em um uma é para com como meu minha eu você se do da no na não por mais são posso está ao".split()
    ),
    "it": frozenset(
        "il lo la gli le e che di in un una è per con come mio mia io tu si del della non sono posso questo nel al più".split()
    ),
    "nl": frozenset(
        "de het een en is dat van ik te niet met voor hoe wat mijn je zijn op aan kan die er maar ook als bij naar om".split()
    ),
}
_SCRIPTS: Mapping[str, tuple[str, ...]] = {
    "ru": ("CYRILLIC",),
    "el": ("GREEK",),
    "ar": ("ARABIC",),
    "hi": ("DEVANAGARI",),
    "ja": ("HIRAGANA", "KATAKANA", "CJK"),
    "ko": ("HANGUL",),
    "zh": ("CJK",),
}
_WORD = re.compile(r"[^\W\d_]+")
_LEAST = 2  # small words of one language before it is named


def known(code: str) -> str:
    """The English name of a language code. Raises ConfigError for a code that is not listed."""
    if code not in NAMES:
        raise ConfigError(f"language {code!r} is not known. {did_you_mean(code, NAMES)}")
    return NAMES[code]


def language_of(text: str) -> str | None:
    """The code of the language a text is in, or None when it cannot be told."""
    if script := _script_of(text):
        return next((code for code, scripts in _SCRIPTS.items() if script in scripts), None)
    found = [word.lower() for word in _WORD.findall(text)]
    counts = {code: sum(word in small for word in found) for code, small in SMALL_WORDS.items()}
    first, second = sorted(counts.values(), reverse=True)[:2]
    if first < _LEAST or first == second:
        return None
    return max(counts, key=lambda code: counts[code])


def is_in(text: str, code: str) -> bool:
    """Whether a text may be in a language: False only when it is clearly in another one."""
    if code in _SCRIPTS:
        return _script_of(text) in _SCRIPTS[code]
    found = language_of(text)
    if found is None or found == code:
        return True
    if found not in SMALL_WORDS or code not in SMALL_WORDS:
        return False
    # close relatives share small words: the language asked for must fall well behind
    own, other = (sum(word.lower() in SMALL_WORDS[one] for word in _WORD.findall(text)) for one in (code, found))
    return 2 * own >= other


def _script_of(text: str) -> str:
    """The script most letters are in when it is not the Latin one, as the first word of their Unicode names; '' for Latin."""
    counts: dict[str, int] = {}
    for letter in text:
        if letter > "\u024f" and letter.isalpha():
            name = unicodedata.name(letter, "").split(" ")[0]
            counts[name] = counts.get(name, 0) + 1
    foreign = sum(counts.values())
    n_latin = sum(letter.isalpha() for letter in text) - foreign
    if foreign <= n_latin:
        return ""
    if "HIRAGANA" in counts or "KATAKANA" in counts:  # Chinese characters among them are Japanese
        return "HIRAGANA"
    return max(counts, key=lambda name: counts[name])
