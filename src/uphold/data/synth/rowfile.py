"""The file that rows are streamed to: appended batch by batch, each batch on the disk before the next is asked for.

A batch is one write and one sync. A line torn by a kill is cut off when the file is opened again; every earlier line stands. What the
file holds is the truth about what is done: ids tell which rows are there, asks how many each has. Left out: locking (the journal of calls
beside it is locked).
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from uphold.core.errors import StoreError
from uphold.core.files import parse_json, store_error, to_json


class RowFile:
    """Rows at `path`. ids: number of each row by its id. by_ask: rows of each ask. texts: what near-duplicates are told by, in order.

    groups: numbers of the rows of each group, so that a row may be like its twins.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.ids: dict[str, int] = {}
        self.by_ask: Counter[int] = Counter()
        self.texts: list[str] = []
        self.groups: dict[str, list[int]] = {}
        try:
            self._file = open(path, "a+b", buffering=0)
        except OSError as error:
            raise store_error(path, "open the rows", error) from error
        try:
            self._load()
        except BaseException as error:
            self._file.close()
            if isinstance(error, OSError):
                raise store_error(path, "read the rows", error) from error
            raise

    def __len__(self) -> int:
        return len(self.ids)

    def _load(self) -> None:
        self._file.seek(0)
        raw = self._file.read()
        end = raw.rfind(b"\n") + 1  # what follows the last newline was never finished
        if end < len(raw):
            os.ftruncate(self._file.fileno(), end)
        for number, line in enumerate(raw[:end].splitlines(), start=1):
            try:
                row = parse_json(line.decode("utf-8"), str(self.path), number)
                self._note(row)
            except (ValueError, KeyError, TypeError) as error:
                raise StoreError(
                    f"{self.path}:{number}: damaged row. Delete that line and run the same command again."
                ) from error
        self._end = end

    def _note(self, row: Mapping[str, Any]) -> None:
        ask, text, group = row["provenance"]["ask"], asked_of(row), row["group"]
        self.groups.setdefault(group, []).append(len(self.ids))
        self.ids[row["id"]] = len(self.ids)
        self.by_ask[ask] += 1
        self.texts.append(text)

    def append(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write the rows and wait until they are on the disk; all of them, or none. Raises StoreError when the disk refuses."""
        if not rows:
            return
        raw = b"".join(to_json(row).encode("utf-8") + b"\n" for row in rows)
        try:
            view = memoryview(raw)
            while view:
                view = view[os.write(self._file.fileno(), view) :]
            os.fsync(self._file.fileno())
        except OSError as error:
            os.ftruncate(self._file.fileno(), self._end)
            raise store_error(self.path, "write the rows", error) from error
        self._end += len(raw)
        for row in rows:
            self._note(row)

    def close(self) -> None:
        self._file.close()


def asked_of(row: Mapping[str, Any]) -> str:
    """All user turns of a row, one a line."""
    turns = row.get("turns") or [{"role": "user", "content": row["prompt"]}]
    return "\n".join(turn["content"] for turn in turns if turn["role"] == "user")
