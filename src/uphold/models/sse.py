"""Server-sent events, as far as model endpoints use them: bytes in any pieces to the `data` of each event.

Follows the WHATWG rules for lines (LF, CRLF or CR), comments and joined data lines. Splits on those alone: a U+2028
inside a JSON string is text, though `str.splitlines` would cut there. Left out: `id`, `retry` and event names, which no
endpoint needs here.
"""

from __future__ import annotations

LIMIT_BYTES = 8 * 2**20


class EventDecoder:
    """Feed it bytes; it gives the data of every event that is complete. An event cut off at the end is never given."""

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[str] = []
        self._after_cr = False

    def feed(self, chunk: bytes) -> list[str]:
        """Data of the events that `chunk` completes. ValueError when one line is longer than LIMIT_BYTES or is not UTF-8."""
        if self._after_cr and chunk:
            chunk = chunk.removeprefix(b"\n")  # the second half of a CRLF that came in two pieces
            self._after_cr = False
        self._after_cr = chunk.endswith(b"\r")
        text = (self._rest + chunk).replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        *lines, self._rest = text.split(b"\n")
        if len(self._rest) > LIMIT_BYTES:
            raise ValueError("a line of the stream is too long")
        return [data for line in lines if (data := self._line(line)) is not None]

    def _line(self, line: bytes) -> str | None:
        """The event's data when this line ends one that has any."""
        if line:
            name, _, value = line.decode("utf-8").partition(":")
            if name == "data":
                self._data.append(value.removeprefix(" "))
            return None
        data, self._data = self._data, []
        return "\n".join(data) if data else None
