"""What a generator answered, as items: numbered and bulleted lists, JSON, JSON lines, quoted lines, code fences.

Takes reply text; gives the items it states, cleaned of their marks, quotes and labels, or none. Strict where it counts: running prose
is no list, and the last item of a reply that was cut off is dropped, for nobody knows how it would have ended. Tolerant of what
models really write around a list. Never raises on any text. Left out: judging the items (`filters.py`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from uphold.core.records import Message

MAX_TEXT = 200_000  # characters of a reply that are read
_FENCE = re.compile(r"```[\w-]*[ \t]*\n(.*?)(?:\n[ \t]*```|\Z)", re.DOTALL)
_MARK = re.compile(r"^[ \t]*(?:[-*•–‣·]|\(?\d{1,3}[.):\]]|\*\*\d{1,3}[.):]\*\*)[ \t]+(?=\S)")
_LABEL = re.compile(
    r"^(?:\*\*)?(?:prompt|request|user|question|topic|item|example)(?: \d{1,3})?(?:\*\*)?:(?:\*\*)?\s+", re.IGNORECASE
)
_QUOTES = {'"': '"', "“": "”", "«": "»", "„": "“", "'": "'", "‘": "’", "`": "`"}
_FIELDS = ("prompt", "request", "text", "content", "topic", "question", "item")
_SPEAKER = re.compile(
    r"^[ \t]*(?:\*\*|#+ )?(?P<name>user|human|usuario|usuaria|utilisateur|utilisatrice|benutzer|nutzer|nutzerin|usuário|usuária|"
    r"assistant|ai|asistente|assistent|assistente)(?: \d{1,2})?(?:\*\*)?[ \t]*:(?:\*\*)?[ \t]*(?P<said>.*)$",
    re.IGNORECASE,
)
_ASSISTANTS = ("assistant", "ai", "asistente", "assistent", "assistente")


def parse_items(text: str, *, n: int, is_cut: bool = False) -> list[str]:
    """The items of a reply that was asked for a list of `n`; [] when it holds no list. is_cut: it hit its length limit.

    Unmarked lines count only when there are exactly `n` of them, or a single one.
    """
    text = text[:MAX_TEXT].strip()
    if fenced := _FENCE.search(text):
        text = fenced.group(1).strip()
    if text[:1] in ("[", "{", '"'):
        found = _json_items(text)
        if found is not None or text[0] != '"':
            return _cleaned(found or [])
    lines = [line for line in text.splitlines() if line.strip("`").strip() or not line]
    if any(_MARK.match(line) for line in lines):
        found = _marked(lines)
        return _cleaned(found[:-1] if is_cut else found)
    plain = [line.strip() for line in lines if line.strip()]
    if len(plain) > 1 and plain[0].endswith(":"):
        plain = plain[1:]
    if is_cut or len(plain) not in (1, n):
        return []
    return _cleaned(plain)


def _json_items(text: str) -> list[str] | None:
    """Items of a JSON array, object or lines; whole leading items of an array that was cut off. None when it is not JSON at all."""
    try:
        return _texts(json.loads(text))
    except (ValueError, RecursionError):
        pass
    found = _leading(text[1:]) if text.startswith("[") else _line_values(text)
    return found or None


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, list):
        return [text for item in value for text in _texts(item)[:1]]
    if isinstance(value, dict):
        for field in _FIELDS:
            if isinstance(value.get(field), str):
                return [value[field]]
        return next((_texts(inner) for inner in value.values() if isinstance(inner, list)), [])
    return []


def _leading(text: str) -> list[str]:
    """The items of an array before the place where it breaks off."""
    decoder, at = json.JSONDecoder(), 0
    found: list[str] = []
    while True:
        at += len(text[at:]) - len(text[at:].lstrip(" \t\r\n,"))
        try:
            value, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            return found
        found += _texts(value)[:1]


def _line_values(text: str) -> list[str]:
    found = []
    for line in text.splitlines():
        try:
            found += _texts(json.loads(line.strip().removesuffix(",")))[:1]
        except (ValueError, RecursionError):
            continue  # a line cut off, or talk between the lines
    return found


def _marked(lines: Sequence[str]) -> list[str]:
    """Marked lines, each with the unmarked lines that follow it up to a blank one; what stands before the first is a preamble."""
    found: list[str] = []
    is_open = False
    for line in lines:
        mark = _MARK.match(line)
        if mark:
            found.append(line[mark.end() :].strip())
        elif line.strip() and is_open:
            found[-1] = f"{found[-1]} {line.strip()}"
        is_open = bool(line.strip()) and bool(found)
    return found


def _cleaned(found: Sequence[str]) -> list[str]:
    return [item for item in map(clean, found) if item]


def clean(item: str) -> str:
    """An item without the marks, labels, emphasis and quotes around it, white space flowed."""
    item = " ".join(item.split())
    item = _LABEL.sub("", item)
    if item.startswith("**") and item.endswith("**") and len(item) > 4:
        item = item[2:-2].strip()
    bare = item.removesuffix(",")
    if len(bare) > 1 and _QUOTES.get(bare[0]) == bare[-1] and bare.count(bare[0]) <= 2:
        item = bare[1:-1].strip()
    return item


def parse_turns(text: str, *, is_cut: bool = False) -> tuple[Message, ...] | None:
    """A conversation that begins and ends with the user and changes speaker each turn, three turns or more; None when it is none.

    Written as JSON (a list of objects with role and content, or one under a key) or as lines 'User: ...' and 'Assistant: ...'. A last
    turn of the assistant is dropped, and so is the last turn of a reply that was cut off.
    """
    text = text[:MAX_TEXT].strip()
    if fenced := _FENCE.search(text):
        text = fenced.group(1).strip()
    turns = _json_turns(text) if text[:1] in ("[", "{") else None
    if turns is None:
        turns = _spoken(text.splitlines())
        if is_cut:
            turns = turns[:-1]
    if turns and turns[-1].role == "assistant":
        turns = turns[:-1]
    expected = ("user", "assistant")
    if len(turns) < 3 or any(turn.role != expected[i % 2] or not turn.content for i, turn in enumerate(turns)):
        return None
    return tuple(turns)


def _json_turns(text: str) -> list[Message] | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if isinstance(value, dict):
        value = next((inner for inner in value.values() if isinstance(inner, list)), None)
    if not isinstance(value, list):
        return None
    found = []
    for turn in value:
        role, content = (turn.get("role"), turn.get("content")) if isinstance(turn, dict) else (None, None)
        if role not in ("user", "assistant") or not isinstance(content, str):
            return None
        found.append(Message(role=role, content=" ".join(content.split())))
    return found


def _spoken(lines: Sequence[str]) -> list[Message]:
    found: list[Message] = []
    for line in lines:
        match = _SPEAKER.match(line)
        if match:
            role = "assistant" if match["name"].lower() in _ASSISTANTS else "user"
            found.append(Message(role=role, content=clean(match["said"])))
        elif line.strip() and found:
            joined = f"{found[-1].content} {line.strip()}".strip()
            found[-1] = Message(role=found[-1].role, content=joined)
    return found
