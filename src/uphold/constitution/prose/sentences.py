"""Sentences of a block, and their words without markup.

`sentences` gives the character ranges of the sentences in a block's text: it does not cut at abbreviations, decimals, or inside
brackets and quotations. `clean` turns the Markdown of one sentence into plain words. Both are linear in the text. Used by `compile`.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping

_ENDER = re.compile(r"[.!?…]+[*_]*(?P<close>[\"'”’»)\]*_]*)(?:\[\^[^\]\s]{1,80}\])*[*_]*(?=\s|$)")
_ABBREVIATIONS = frozenset(
    """e.g i.e etc vs mr mrs ms dr prof st no nos art arts sec secs fig figs inc ltd co corp cf al approx incl resp dept est vol pp p ch
    para paras u.s u.k u.n a.m p.m jan feb mar apr jun jul aug sep sept oct nov dec viz ca""".split()
)
_WORD_BEFORE = re.compile(r"[\w.]+$")
_STARTS = re.compile(r"[A-Z0-9À-Þ\"'“‘«(\[*_`~#\-–—¿¡]")
_MAX_QUOTE = 600  # a quotation mark with no partner within this is a slip (or an inch), not a quotation


def protected(text: str) -> list[tuple[int, int]]:
    """Ranges inside brackets and quotation marks that have a partner; brackets around whole sentences do not count."""
    spans: list[tuple[int, int]] = []
    stack: list[tuple[str, int]] = []
    pairs = {")": "(", "]": "[", "”": "“", "»": "«"}
    for i, char in enumerate(text):
        if char in "([“«":
            stack.append((char, i))
        elif char in pairs:
            _pop(stack, pairs[char], i, spans)
        elif char == '"':
            before = text[i - 1] if i else " "
            after = text[i + 1] if i + 1 < len(text) else " "
            opens = before.isspace() or (before in "([—-*_/" and not after.isspace())
            if opens or (not _pop(stack, char, i, spans) and not after.isspace()):
                stack.append((char, i))
    return [(start, end) for start, end in spans if not _is_whole_sentence(text, start, end)]


def _pop(stack: list[tuple[str, int]], opener: str, at: int, spans: list[tuple[int, int]]) -> bool:
    for depth in range(len(stack) - 1, max(-1, len(stack) - 9), -1):
        mark, start = stack[depth]
        if mark == opener and (opener not in '"“«' or at - start <= _MAX_QUOTE):
            del stack[depth:]
            spans.append((start, at))
            return True
    return False


def _is_whole_sentence(text: str, start: int, end: int) -> bool:
    """A bracket that opens where a sentence may start and closes right after one has ended: '(So do this.)'."""
    if text[start] != "(" or text[end - 1] not in ".!?":
        return False
    before = text[:start].rstrip()
    return not before or before[-1] in '.!?”"])*_'


def sentences(text: str) -> list[tuple[int, int]]:
    """[start, end) of every sentence in `text`, in order, without the blanks around it. Their union is all that is not blank."""
    covered = bytearray(len(text) + 1)
    for start, end in protected(text):
        covered[start + 1 : end + 1] = b"\x01" * (end - start)
    found: list[tuple[int, int]] = []
    begin = 0
    for match in _ENDER.finditer(text):
        stop = match.end()
        if covered[stop - 1] and stop <= len(text) and not _closes(text, match, covered):
            continue
        rest = text[stop:].lstrip()[:2] if stop < len(text) else ""
        if rest and not _STARTS.match(rest):
            continue
        if rest and _is_abbreviation(text, match):
            continue
        _append(found, text, begin, stop)
        begin = stop
    _append(found, text, begin, len(text))
    return found


def _closes(text: str, match: re.Match[str], covered: bytearray) -> bool:
    """The ender's own closing quote or bracket ends the protected range: what follows is outside again."""
    after = match.end()
    return bool(match["close"]) and (after >= len(text) or not covered[after])


def _is_abbreviation(text: str, match: re.Match[str]) -> bool:
    if text[match.start()] != "." or match["close"]:
        return False
    word = _WORD_BEFORE.search(text, max(0, match.start() - 12), match.start())
    if not word:
        return False
    name = word[0].strip(".").lower()
    if name == "etc":  # with a capital after it, it ends the sentence more often than not
        return False
    return name in _ABBREVIATIONS or (len(word[0]) == 1 and word[0].isupper() and word[0] != "I")


def _append(found: list[tuple[int, int]], text: str, begin: int, end: int) -> None:
    while begin < end and text[begin].isspace():
        begin += 1
    while end > begin and text[end - 1].isspace():
        end -= 1
    if end > begin:
        found.append((begin, end))


_CODE = re.compile(r"(`+)(.+?)\1", re.DOTALL)
_FOOTNOTE = re.compile(r"\s?\[\^[^\]\s]{1,80}\]")
_IMAGE = re.compile(r"!\[([^\[\]]*)\]\([^()\s]*\)")
_LINK = re.compile(
    r"\[((?:[^\[\]]|\[[^\[\]]*\])*)\]\(\s*<?([^()\s<>]*(?:\([^()]*\)[^()\s<>]*)*)>?(?:\s+[\"'][^\"']*[\"'])?\s*\)"
)
_REFERENCE = re.compile(r"\[([^\[\]^][^\[\]]*)\]\[[^\[\]]*\]")
_AUTOLINK = re.compile(r"<(https?://[^<>\s]+|[\w.+-]+@[\w.-]+)>")
_TAG = re.compile(r"</?[a-zA-Z][\w-]*(?:\s[^<>]{0,300})?/?>|<!--.{0,2000}?-->", re.DOTALL)
_EMPHASIS = re.compile(r"(?<![\s\\])\*+|\*+(?!\s)|~~|(?<!\w)_+(?=\S)|(?<=\S)_+(?!\w)")
_ESCAPE = re.compile(r"\\([!-/:-@\[-`{-~])")
_SEE = re.compile(r"\s*\((?:[Ss]ee|cf\.|for (?:more|details),? see)\b[^()]{0,400}\)")
_SPACE_BEFORE = re.compile(r"\s+([,.;:!?)\]])")
_DOUBLE_THE = re.compile(r"\b([Tt]he) “[Tt]he ")
_DASHES = re.compile(r"\s+-{2,3}\s+|(?<=\w)-{3}(?=\w)")


def clean(markdown: str, titles: Mapping[str, str] | None = None) -> str:
    """Plain words of one sentence: links become their text, emphasis, footnote marks, tags and "(see ...)" go, dashes become one kind.

    titles: heading titles by anchor, put in place of links that have no words of their own (`[?](#anchor)`).
    """
    kept: list[str] = []

    def stash(match: re.Match[str]) -> str:
        kept.append(match[2].strip())
        return f"\x00{len(kept) - 1}\x00"

    def link(match: re.Match[str]) -> str:
        words, target = match[1].strip(), match[2]
        if words in ("", "?", "#") and target.startswith("#"):
            title = (titles or {}).get(target[1:])
            return f"“{title}”" if title else words
        return words

    text = _CODE.sub(stash, markdown.replace("\x00", ""))
    text = _FOOTNOTE.sub("", text)
    text = _IMAGE.sub(r"\1", text)
    text = _REFERENCE.sub(r"\1", _LINK.sub(link, text))
    text = _TAG.sub("", _AUTOLINK.sub(r"\1", text))
    text = _ESCAPE.sub(r"\1", _EMPHASIS.sub("", text))
    text = _SEE.sub("", html.unescape(text))
    text = _DASHES.sub(" — ", text)
    text = _DOUBLE_THE.sub(r"\1 “", _SPACE_BEFORE.sub(r"\1", " ".join(text.split())))
    return re.sub(r"\x00(\d+)\x00", lambda match: kept[int(match[1])] if int(match[1]) < len(kept) else "", text)
