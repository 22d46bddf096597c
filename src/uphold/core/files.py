"""Reading and writing files so that nothing is ever half-written.

Every write goes to a temporary name beside its target, is flushed to the disk and renamed over it: a reader sees the old file or the
new one. Readers give text or records, or an error that names the file and the line. Used by every room that touches the disk.
Left out: locking (see `store.py`), compression (see `data.files`).
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import re
import secrets
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from pydantic import BaseModel

from uphold.core.errors import DataError, StoreError

_SURROGATE = re.compile("[\ud800-\udfff]")

MEND = {
    errno.ENOSPC: "The disk is full. Free some space and run the same command again.",
    errno.EDQUOT: "The disk quota is used up. Free some space and run the same command again.",
    errno.EFBIG: "The file would be larger than the system allows. Raise the limit (ulimit -f) or choose another folder.",
    errno.EROFS: "The file system is read-only. Choose another folder.",
    errno.EACCES: "No permission there. Change the permissions or choose another folder.",
    errno.EPERM: "No permission there. Change the permissions or choose another folder.",
    errno.ENOTDIR: "A file stands where a folder is needed. Move it or choose another folder.",
    errno.EEXIST: "A file stands where a folder is needed. Move it or choose another folder.",
    errno.EISDIR: "A folder stands where a file is needed. Move it or choose another name.",
    errno.ENAMETOOLONG: "The name is too long. Choose a shorter one.",
}


def store_error(path: Path, doing: str, error: OSError) -> StoreError:
    """The StoreError for an OSError met while `doing` something ('write', 'read', ...) to `path`; says how to mend it."""
    why = error.strerror or str(error) or type(error).__name__
    return StoreError(
        f"{path}: cannot {doing}: {why}. {MEND.get(error.errno or 0, 'Mend that and run the same command again.')}"
    )


@contextlib.contextmanager
def open_atomic(path: str | Path) -> Iterator[IO[bytes]]:
    """A binary file that becomes `path` when the block ends well, and vanishes when it raises. Makes parent folders.

    Raises StoreError when the system refuses (full disk, read-only folder); other exceptions pass through untouched.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name[:100]}.{secrets.token_hex(6)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError):
            raise store_error(path, "write", error) from error
        raise


def sync_folder(folder: Path) -> None:
    """Make renames inside `folder` durable. A file system that cannot sync folders is left as it is."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_atomic(path: str | Path, content: str | bytes) -> None:
    """Write `content` (text as UTF-8) to `path`, whole or not at all. Raises StoreError when the system refuses."""
    with open_atomic(path) as file:
        file.write(content.encode("utf-8") if isinstance(content, str) else content)


def to_json(value: Any, *, indent: int | None = None) -> str:
    """JSON text of plain values and pydantic models. NaN and infinities are refused: no other reader would take them."""
    text = json.dumps(value, ensure_ascii=False, indent=indent, allow_nan=False, default=_plain)
    if _SURROGATE.search(text):  # half a character, as broken prompts hold: UTF-8 cannot carry it, an escape can
        text = json.dumps(value, ensure_ascii=True, indent=indent, allow_nan=False, default=_plain)
    return text


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` as indented JSON with a closing newline, atomically. Raises ValueError on NaN, TypeError on odd types."""
    write_atomic(path, to_json(value, indent=2) + "\n")


def write_jsonl(path: str | Path, records: Iterable[Any]) -> int:
    """Write one JSON object a line (models are dumped), atomically; returns how many."""
    n = 0
    with open_atomic(path) as file:
        for record in records:
            file.write(to_json(record).encode("utf-8") + b"\n")
            n += 1
    return n


def read_text(path: str | Path) -> str:
    """The UTF-8 text of `path`, without a byte-order mark. Raises DataError naming the file and the line of the first bad byte."""
    path = Path(path)
    with _readable(path):
        raw = path.read_bytes()
    return _decode(raw.removeprefix(b"\xef\xbb\xbf"), path, 1)


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turns the OSErrors of reading `path` into DataErrors that say how to mend them."""
    try:
        yield
    except FileNotFoundError:
        raise DataError(f"{path}: no such file. Check the path.") from None
    except IsADirectoryError:
        raise DataError(f"{path}: is a folder, not a file. Name a file in it.") from None
    except OSError as error:
        raise DataError(f"{path}: cannot read: {error.strerror or error}. Check its permissions.") from error


def _decode(raw: bytes, path: Path, first_line: int) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = first_line + raw.count(b"\n", 0, error.start)
        raise DataError(
            f"{path}:{line}: not UTF-8 text (byte 0x{raw[error.start]:02x}). "
            "Save the file as UTF-8, for example: iconv -f LATIN1 -t UTF-8"
        ) from None


def read_json(path: str | Path) -> Any:
    """The value in a JSON file. Raises DataError naming file and line."""
    return parse_json(read_text(path), str(path))


def parse_json(text: str, where: str, line: int | None = None) -> Any:
    """`json.loads` whose error is a DataError at `where:line` (the line inside `text` when `line` is None). Refuses NaN."""
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise DataError(
            f"{where}:{line or error.lineno}: not valid JSON: {error.msg} at column {error.colno}."
        ) from None
    except (ValueError, RecursionError) as error:
        why = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise DataError(f"{where}:{line or 1}: not valid JSON: {why}.") from None


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number")


def read_jsonl(path: str | Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(1-based line number, object) for every non-blank line. Raises DataError as `FILE:LINE: what is wrong`."""
    for number, line in read_lines(path):
        if not line.strip():
            continue
        value = parse_json(line, str(path), number)
        if not isinstance(value, dict):
            raise DataError(f"{path}:{number}: expected one JSON object per line, found {type(value).__name__}.")
        yield number, value


def read_lines(path: str | Path) -> Iterator[tuple[int, str]]:
    """(1-based line number, text) for every line of a UTF-8 file, one at a time. Raises DataError like `read_text`."""
    path = Path(path)
    with _readable(path), open(path, "rb") as file:
        for number, raw in enumerate(file, start=1):
            yield number, _decode(raw.removeprefix(b"\xef\xbb\xbf") if number == 1 else raw, path, number)


def finite(value: float | None) -> float | None:
    """`value`, or None when it is NaN or infinite: what JSON can carry and a reader can trust."""
    return None if value is None or not math.isfinite(value) else value
