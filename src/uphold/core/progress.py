"""Progress of long work, on stderr: what is happening, how fast, how long it will take.

    with progress("label", 800, unit="prompts") as bar:
        bar.advance(32)

A moving bar on a terminal; elsewhere one plain line every few seconds, so a log stays readable. `quiet()` silences it all.
Results never go through here: they belong on stdout.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import Any, TextIO

_state: dict[str, Any] = {"quiet": False, "display": None}
PLAIN_EVERY_S = 5.0


def quiet(on: bool = True) -> None:
    """Silence (or restore) all progress in this process."""
    _state["quiet"] = on


def is_quiet() -> bool:
    return bool(_state["quiet"])


class Bar:
    """What is known of one piece of work: `done` of `total` units since `started`. `total` None means unknown."""

    def __init__(self, label: str, total: int | None, unit: str) -> None:
        self.label, self.total, self.unit = label, total, unit
        self.done = 0
        self.skipped = 0
        self.note = ""
        self.started = time.monotonic()

    def advance(self, n: int = 1, note: str = "") -> None:
        """Count `n` more units as done; `note` (e.g. 'loss 0.41') is shown beside the rate."""
        self.done += n
        self.note = note or self.note
        self._show()

    def skip(self, n: int) -> None:
        """Count `n` units as already done by an earlier run: they count towards the total but not towards the rate."""
        self.skipped += n
        self._show()

    @property
    def rate(self) -> float | None:
        """Units per second of this run, or None before the first."""
        seconds = time.monotonic() - self.started
        return self.done / seconds if self.done and seconds > 0 else None

    @property
    def left_s(self) -> float | None:
        """Seconds left at the present rate, or None when unknown."""
        rate = self.rate
        return None if rate is None or self.total is None else max(0, self.total - self.done - self.skipped) / rate

    def line(self) -> str:
        """One line of plain text: 'label 32/800 prompts, 12.1/s, 1:03 left, loss 0.41'."""
        of = "" if self.total is None else f"/{self.total}"
        parts = [f"{self.label} {self.done + self.skipped}{of} {self.unit}"]
        if self.rate is not None:
            parts.append(f"{self.rate:.1f}/s" if self.rate >= 1 else f"{1 / self.rate:.1f} s each")
        if self.left_s is not None:
            parts.append(f"{clock(self.left_s)} left")
        return ", ".join([*parts, self.note] if self.note else parts)

    def _show(self) -> None:
        """Bring the reader up to date; the silent bar has nobody to tell."""


class _Plain(Bar):
    """Writes a line every `PLAIN_EVERY_S` seconds."""

    def __init__(self, label: str, total: int | None, unit: str, stream: TextIO) -> None:
        super().__init__(label, total, unit)
        self._stream, self._last = stream, self.started

    def _show(self) -> None:
        now = time.monotonic()
        if now - self._last >= PLAIN_EVERY_S:
            self._last = now
            print(self.line(), file=self._stream, flush=True)


class _Rich(Bar):
    """Redraws one line in place; nested pieces of work share one display."""

    def __init__(self, label: str, total: int | None, unit: str, live: Any) -> None:
        super().__init__(label, total, unit)
        self._live, self._task = live, live.add_task(label, total=total, tail=unit)

    def _show(self) -> None:
        tail = self.line().partition(", ")[2]
        self._live.update(self._task, completed=self.done + self.skipped, tail=tail)


def clock(seconds: float) -> str:
    """Seconds as m:ss, or h:mm:ss from one hour on."""
    whole = int(seconds + 0.5)
    hours, minutes = whole // 3600, whole // 60 % 60
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"


@contextlib.contextmanager
def progress(label: str, total: int | None = None, unit: str = "items") -> Iterator[Bar]:
    """Show the progress of the block's work on stderr, and how long it took in the end. May be nested."""
    if is_quiet():
        yield Bar(label, total, unit)
        return
    stream = sys.stderr
    with _display(stream) if stream.isatty() else contextlib.nullcontext() as live:
        bar = _Rich(label, total, unit, live) if live else _Plain(label, total, unit, stream)
        yield bar
    if not live:
        spent = clock(time.monotonic() - bar.started)
        print(f"{label} {bar.done + bar.skipped} {unit} in {spent}", file=stream, flush=True)


@contextlib.contextmanager
def _display(stream: TextIO) -> Iterator[Any]:
    """The one live display of this process: made by the outermost piece of work, shared by those inside it."""
    if _state["display"] is not None:
        yield _state["display"]
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn

    text = TextColumn("{task.description}"), TextColumn("{task.fields[tail]}")
    columns = (SpinnerColumn(), text[0], BarColumn(), MofNCompleteColumn(), text[1])
    try:
        with Progress(*columns, console=Console(file=stream)) as _state["display"]:
            yield _state["display"]
    finally:
        _state["display"] = None
