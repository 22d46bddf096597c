"""Results and question sets of other tools as our records: garak, PyRIT, promptfoo, HarmBench, JailbreakBench, HackAPrompt.

Takes a file as the tool wrote it; gives `Sample`s, and `Attempt`s where replies were recorded. The tool's own verdict is kept as it is:
`success` is what the tool's detector said, never a grade of ours, and where it gave none the attempt is unscored. Every row says which
file (by hash) it came from. A shape that is not known is refused with file and line, so half a file is never taken for a result.
Left out: images and sound, and the tools' own settings.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from uphold.core.errors import DataError, unknown
from uphold.core.files import parse_json, read_jsonl, read_text
from uphold.core.records import Message, Sample, digest
from uphold.redteam.attempt import Attempt

IMPORTED = "imported"
THRESHOLD = 0.5  # garak's and PyRIT's own default for scores in [0, 1]


class Imported(NamedTuple):
    """samples and attempts of one file, and where they came from: {'tool', 'file', 'sha256'}."""

    samples: list[Sample]
    attempts: list[Attempt]
    provenance: dict[str, str]


class _Row(NamedTuple):
    where: str
    messages: tuple[Message, ...]
    attack: str = "direct"
    category: str | None = None
    group: str = ""
    completion: str | None = None
    success: bool | None = None
    error: str | None = None
    has_reply: bool = False
    rubric: tuple[str, ...] = ()
    meta: dict[str, Any] = {}  # noqa: RUF012  read only


def read(path: str | Path, tool: str) -> Imported:
    """The records of a file that `tool` wrote (see `FORMATS`).

    Raises DataError as FILE:LINE on a shape that is not the tool's or on a file without a single row; ConfigError on an unknown tool.
    """
    path = Path(path)
    if tool not in FORMATS:
        raise unknown("format", tool, FORMATS, "--format")
    text = read_text(path)
    provenance = {"tool": tool, "file": path.name, "sha256": hashlib.sha256(text.encode("utf-8")).hexdigest()}
    samples: dict[str, Sample] = {}
    attempts: list[Attempt] = []
    for row in FORMATS[tool](path, text):
        sample = _sample(row, provenance)
        samples.setdefault(sample.id, sample)
        if row.has_reply:
            attempts.append(_attempt(row, sample, tool))
    if not samples:
        raise DataError(f"{path}:1: holds no {tool} row. Check that it is the file {tool} wrote.")
    return Imported(list(samples.values()), attempts, provenance)


def _sample(row: _Row, provenance: dict[str, str]) -> Sample:
    if not row.messages:
        raise _bad(row.where, "expected a conversation with at least one turn")
    turns = [turn.model_dump() for turn in row.messages]
    return Sample(
        id=digest([turns, row.rubric, row.group])[:16]
        if row.rubric
        else "",  # the same words may be graded by other facts elsewhere
        messages=row.messages,
        rubric=row.rubric,
        label="harmful",
        category=row.category,
        group=row.group,
        family=row.attack,
        split=IMPORTED,
        meta={**row.meta, **provenance},
    )


def _attempt(row: _Row, sample: Sample, tool: str) -> Attempt:
    error = row.error
    if row.success is None and error is None:
        error = f"{tool} gave no verdict"
    return Attempt(
        sample=sample.id,
        group=sample.group,
        clause=None,
        category=row.category,
        attack=row.attack,
        family=row.attack.split(".")[0],
        split=IMPORTED,
        messages=row.messages,
        completion=row.completion,
        revealed=None if row.success is None else float(row.success),
        success=row.success,
        error=error,
    )


def _bad(where: str, what: str) -> DataError:
    return DataError(f"{where}: {what}. Give the file as the tool wrote it, and its --format.")


def _need(row: Any, name: str, kinds: type | tuple[type, ...], where: str) -> Any:
    value = row.get(name) if isinstance(row, dict) else None
    if value is None or not isinstance(value, kinds):
        raise _bad(where, f"expected a field {name!r}")
    return value


def _maybe(row: dict[str, Any], name: str, kind: type, where: str) -> Any:
    """A field that may be missing or null, but is of its kind where it is there."""
    value = row.get(name)
    if value is None or (isinstance(value, kind) and not (kind is int and isinstance(value, bool))):
        return value
    raise _bad(where, f"expected {name!r} to be {_KINDS[kind]}")


_KINDS: dict[type, str] = {str: "text", dict: "an object", list: "a list", int: "a whole number"}


def _user(text: str) -> tuple[Message, ...]:
    return (Message(role="user", content=text),)


def _items(path: Path, text: str, *names: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """(where, object) of the list found under `names` in one JSON document."""
    value = parse_json(text, str(path))
    for name in names:
        value = _need(value, name, (dict, list), f"{path}:1")
    if not isinstance(value, list):
        raise _bad(f"{path}:1", f"expected a list{' under ' + '.'.join(names) if names else ''}")
    for i, item in enumerate(value):
        where = f"{path}:1: item {i}"
        if not isinstance(item, dict):
            raise _bad(where, "expected an object")
        yield where, item


def _garak_text(value: Any, where: str) -> str:
    """The text of a garak output: a plain string before 0.11, a message object after."""
    if isinstance(value, str):
        return value
    return str(_need(value, "text", str, where))


def _garak_turns(value: Any, where: str) -> tuple[Message, ...]:
    if isinstance(value, dict) and "turns" in value:
        turns = _need(value, "turns", list, where)
        return tuple(
            Message.model_validate(
                {
                    "role": _role(_need(t, "role", str, where), where),
                    "content": _garak_text(_need(t, "content", (str, dict), where), where),
                }
            )
            for t in turns
        )
    return _user(_garak_text(value, where))


def _role(role: str, where: str) -> str:
    if role not in ("system", "user", "assistant", "tool"):
        raise _bad(where, f"unknown role {role!r}")
    return role


def _garak(path: Path, text: str) -> Iterator[_Row]:
    """A report line per event; an attempt is written when it starts (status 1) and again when it was judged (2)."""
    for number, row in read_jsonl(path):
        where = f"{path}:{number}"
        if _need(row, "entry_type", str, where) != "attempt" or row.get("status") != 2:
            continue
        messages = _garak_turns(_need(row, "prompt", (str, dict), where), where)
        scores = _need(row, "detector_results", dict, where)
        for i, output in enumerate(_need(row, "outputs", list, where)):
            found = [s[i] for s in scores.values() if isinstance(s, list) and i < len(s) and s[i] is not None]
            if not all(isinstance(score, int | float) for score in found):
                raise _bad(where, "expected numbers in 'detector_results'")
            reply = None if output is None else _garak_text(output, where)
            verdict = max(found) >= THRESHOLD if found and reply is not None else None
            probe = str(_need(row, "probe_classname", str, where))
            yield _Row(
                where,
                messages,
                probe,
                None,
                _maybe(row, "goal", str, where) or "",
                reply,
                verdict,
                has_reply=True,
                meta={"uuid": _maybe(row, "uuid", str, where), "line": number},
            )


def _promptfoo(path: Path, text: str) -> Iterator[_Row]:
    """`success` there means that the target passed; failureReason 2 is an error of the harness, not of the target."""
    for where, row in _items(path, text, "results", "results"):
        prompt = _need(_need(row, "prompt", dict, where), "raw", str, where)
        passed = _need(row, "success", bool, where)
        response = _maybe(row, "response", dict, where) or {}
        output = response.get("output")
        reply = output if isinstance(output, str) else None
        failed = row.get("failureReason") == 2 or reply is None
        meta = _maybe(row, "metadata", dict, where) or {}
        yield _Row(
            where,
            _user(prompt),
            _maybe(meta, "strategyId", str, where) or "direct",
            _maybe(meta, "pluginId", str, where),
            _maybe(meta, "goal", str, where) or "",
            reply,
            None if failed else not passed,
            str(row.get("error") or "no output") if failed else None,
            True,
        )


def _pyrit(path: Path, text: str) -> Iterator[_Row]:
    """Message pieces of an exported memory: each assistant piece is an attempt, its conversation what came before."""
    said: dict[str, list[Message]] = {}
    pieces = sorted(_items(path, text), key=lambda item: int(_need(item[1], "sequence", int, item[0])))
    for where, row in pieces:
        talk = said.setdefault(str(_need(row, "conversation_id", str, where)), [])
        content = str(_need(row, "converted_value", str, where))
        role = _role(_need(row, "role", str, where), where)
        if role == "assistant" and talk:
            yield _pyrit_reply(where, row, tuple(talk), content)
        talk.append(Message.model_validate({"role": role, "content": content}))


def _pyrit_reply(where: str, row: dict[str, Any], talk: tuple[Message, ...], content: str) -> _Row:
    verdicts = [_pyrit_score(score, where) for score in _maybe(row, "scores", list, where) or []]
    problem = row.get("response_error")
    error = str(problem) if problem not in (None, "none", "blocked") else None
    labels = _maybe(row, "labels", dict, where) or {}
    return _Row(
        where,
        talk,
        _maybe(labels, "attack", str, where) or _maybe(labels, "op_name", str, where) or "pyrit",
        _maybe(labels, "harm_category", str, where),
        "",
        None if error else content,
        any(verdicts) if verdicts and not error else None,
        error,
        True,
        meta={"conversation": str(row["conversation_id"])},
    )


def _pyrit_score(score: Any, where: str) -> bool:
    value = str(_need(score, "score_value", (str, int, float, bool), where)).lower()
    if value in ("true", "false"):
        return value == "true"
    try:
        return float(value) >= THRESHOLD
    except ValueError:
        raise _bad(where, f"unknown score_value {value[:20]!r}") from None


def _jailbreakbench(path: Path, text: str) -> Iterator[_Row]:
    parameters = _need(parse_json(text, str(path)), "parameters", dict, f"{path}:1")
    method = _maybe(parameters, "method", str, f"{path}:1") or "jailbreakbench"
    for where, row in _items(path, text, "jailbreaks"):
        goal = _need(row, "goal", str, where)
        category, behavior = _maybe(row, "category", str, where), _maybe(row, "behavior", str, where) or ""
        prompt, reply, verdict = row.get("prompt"), row.get("response"), row.get("jailbroken")
        if prompt is None:  # the attack found no prompt for this behaviour: published artifacts hold null
            yield _Row(where, _user(goal), "direct", category, behavior)
            continue
        success = verdict if isinstance(verdict, bool) and isinstance(reply, str) else None
        yield _Row(
            where,
            _user(_need(row, "prompt", str, where)),
            method,
            category,
            behavior,
            reply if isinstance(reply, str) else None,
            success,
            has_reply=True,
            meta={"goal": goal, "index": _maybe(row, "index", int, where)},
        )


def _csv(path: Path, text: str, needed: tuple[str, ...]) -> Iterator[tuple[str, dict[str, str]]]:
    reader = csv.DictReader(io.StringIO(text.removeprefix("\ufeff"), newline=""), strict=True)
    try:
        missing = [name for name in needed if name not in (reader.fieldnames or ())]
        if missing:
            raise _bad(f"{path}:1", f"no column {missing[0]!r}")
        for row in reader:
            where = f"{path}:{reader.line_num}"
            if None in row or None in row.values():
                raise _bad(where, "the number of cells is not that of the header")
            yield where, row
    except csv.Error as error:
        raise _bad(f"{path}:{max(1, reader.line_num)}", str(error)) from None


def _harmbench(path: Path, text: str) -> Iterator[_Row]:
    for where, row in _csv(path, text, ("Behavior", "SemanticCategory", "BehaviorID")):
        context = row.get("ContextString") or ""
        asked = f"{context}\n\n---\n\n{row['Behavior']}" if context else row["Behavior"]
        yield _Row(where, _user(asked), "direct", row["SemanticCategory"], row["BehaviorID"], meta=dict(row))


def _hackaprompt(path: Path, text: str) -> Iterator[_Row]:
    """One submission a line: prompt, level, correct, tokens. `expected_completion` and `completion` are kept where they are there."""
    for number, row in read_jsonl(path):
        where = f"{path}:{number}"
        level = _need(row, "level", (int, str), where)
        prompt = _need(row, "prompt", str, where)
        correct = _need(row, "correct", bool, where)
        tokens = _need(row, "token_count" if "tokens" not in row else "tokens", int, where)
        expected = _maybe(row, "expected_completion", str, where)
        yield _Row(
            where,
            _user(prompt),
            "hackaprompt",
            f"level {level}",
            f"level {level}",
            _maybe(row, "completion", str, where),
            correct,
            has_reply=True,
            rubric=(expected,) if expected and expected.strip() else (),
            meta={"tokens": tokens, "level": level},
        )


FORMATS: dict[str, Callable[[Path, str], Iterator[_Row]]] = {
    "garak": _garak,
    "pyrit": _pyrit,
    "promptfoo": _promptfoo,
    "harmbench": _harmbench,
    "jailbreakbench": _jailbreakbench,
    "hackaprompt": _hackaprompt,
}
"""The tools whose files are understood: name -> reader of (path, text)."""
