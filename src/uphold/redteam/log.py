"""The log of attempts: an append-only file that is also what a killed run continues from. Episodes of agents are kept in the same way.

Attempts are written as they come, those of one call to the target together. Opened again, the log first hands out what stands in it,
in order, so that a run or a search repeats its steps without a question to the target, and then goes on where it was stopped. A line
torn by the kill is cut off; so is a call of which only some lines were written. In memory it holds nothing but a place in the file.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar

from uphold.core.errors import StoreError
from uphold.core.files import store_error, sync_folder
from uphold.redteam.attempt import Attempt

SYNC_EVERY_S = 0.5  # a killed process loses nothing that was written; a dead machine at most this much


class Wanted(Protocol):
    """Something to be made."""

    def key(self) -> Hashable:
        """What tells it from everything else that is made in its place in a run."""
        ...


class Made(Wanted, Protocol):
    """What came of it, under the same key."""

    def line(self) -> bytes:
        """The record as one line of a file, newline included."""
        ...


R = TypeVar("R", bound=Made)


class Log(Generic[R]):
    """The records of one run, at `path`. One process at a time may hold it: StoreError otherwise.

    from_row: the record of a line's values.
    """

    def __init__(self, path: str | Path, from_row: Callable[[Mapping[str, Any]], R]) -> None:
        self.path = Path(path)
        self._from_row = from_row
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(self.path, "a+b", buffering=0)
        except OSError as error:
            raise store_error(self.path, "open the log of attempts", error) from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._end = self._cut_torn()
            sync_folder(self.path.parent)
        except BlockingIOError:
            self._file.close()
            raise StoreError(
                f"{self.path}: already open for writing, by another run. Wait for it or stop it."
            ) from None
        except BaseException:
            self._file.close()
            raise
        self._reader = open(self.path, "rb")
        self._synced = time.monotonic()

    def _cut_torn(self) -> int:
        """Cut off what follows the last newline; the size kept, in bytes."""
        size = end = os.fstat(self._file.fileno()).st_size
        while end > 0:
            low = max(0, end - 65536)
            found = os.pread(self._file.fileno(), end - low, low).rfind(b"\n")
            if found >= 0:
                end = low + found + 1
                break
            end = low
        if end < size:
            os.ftruncate(self._file.fileno(), end)
        return end

    def replay(self, tries: Sequence[Wanted]) -> list[R] | None:
        """What an earlier run recorded for these tries, or None when it did not come so far.

        Raises StoreError when the record is of other tries: the log belongs to other settings, or was edited.
        """
        place = self._reader.tell()
        if place >= self._end:
            return None
        lines = [line for _, line in zip(range(len(tries)), self._reader, strict=False)]
        if len(lines) < len(tries):  # the kill came between two lines of one call
            os.ftruncate(self._file.fileno(), place)
            self._reader.seek(place)
            self._end = place
            return None
        found = [self._read(line) for line in lines]
        for wanted, attempt in zip(tries, found, strict=True):
            if wanted.key() != attempt.key():
                raise StoreError(
                    f"{self.path}: holds an attempt by {_by(attempt)!r} where this run makes one by {_by(wanted)!r}: "
                    "it belongs to a run with other settings or another version. Choose another folder."
                )
        return found

    def _read(self, line: bytes) -> R:
        try:
            return self._from_row(json.loads(line))
        except (ValueError, TypeError, KeyError) as error:
            raise StoreError(f"{self.path}: a damaged line. Choose another folder, or delete this file.") from error

    def append(self, attempts: Sequence[R]) -> None:
        """Write attempts after all others, or none of them: StoreError when the disk refuses."""
        raw = memoryview(b"".join(attempt.line() for attempt in attempts))
        left = raw
        try:
            while left:
                left = left[os.write(self._file.fileno(), left) :]
            if time.monotonic() - self._synced > SYNC_EVERY_S:
                self.sync()
        except OSError as error:
            os.ftruncate(self._file.fileno(), self._end)
            raise store_error(self.path, "write the attempts", error) from error
        self._end += len(raw)
        self._reader.seek(self._end)

    def sync(self) -> None:
        """Bring everything written to the disk itself."""
        os.fsync(self._file.fileno())
        self._synced = time.monotonic()

    def close(self) -> None:
        if not self._file.closed:
            self.sync()
            self._file.close()
            self._reader.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _by(thing: Wanted) -> object:
    attack = getattr(thing, "attack", "")
    return getattr(attack, "name", attack)


class AttemptLog(Log[Attempt]):
    """The attempts of one run, at `path`."""

    def __init__(self, path: str | Path) -> None:
        super().__init__(path, Attempt.from_row)


def read_attempts(path: str | Path) -> Iterator[Attempt]:
    """The attempts of a log or an `attempts.jsonl`, one at a time."""
    from uphold.core.files import read_jsonl

    return (Attempt.from_row(row) for _, row in read_jsonl(path))
