"""What can be wrong with a constitution, as one record: where it stands, what it is, how to mend it.

Made by `resolution.py` (what makes a file unusable) and `lint.py` (what makes it weak); printed by `uphold constitution check`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from uphold.core.records import Record

Code = Literal[
    "malformed-yaml",
    "duplicate-key",
    "empty-file",
    "not-utf8",
    "no-such-file",
    "unreadable-file",
    "not-a-mapping",
    "unknown-key",
    "missing-key",
    "invalid-value",
    "no-clauses",
    "duplicate-id",
    "conflicting-example",
    "unknown-clause",
    "cyclic-precedence",
    "no-such-base",
    "cyclic-extends",
    "locked-clause",
    "scope-too-high",
    "unreachable-override",
    "contradiction",
    "open-precedence",
    "disputed-example",
    "duplicate",
    "near-duplicate",
    "repeated-example",
    "vague-term",
    "no-harmless",
    "no-examples",
]


class Problem(Record):
    """One fault. error: the file cannot be used. warning: it can, but something in it will not do what was meant.

    line: 1-based, in `file`. clause: the id concerned, where there is one.
    """

    severity: Literal["error", "warning"]
    code: Code
    file: str
    line: int
    clause: str | None = None
    message: str
    mend: str

    def __str__(self) -> str:
        about = f"{self.clause}: " if self.clause else ""
        end = "" if self.mend.endswith((".", "?")) else "."
        return f"{self.file}:{self.line}: {about}{self.message}. {self.mend}{end}"


def in_order(problems: Iterable[Problem]) -> list[Problem]:
    """Sorted by file as first met, line, errors before warnings; without repeats."""
    unique = list(dict.fromkeys(problems))
    files = {file: i for i, file in enumerate(dict.fromkeys(p.file for p in unique))}
    return sorted(unique, key=lambda p: (files[p.file], p.line, p.severity, p.code))
