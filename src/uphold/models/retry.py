"""When to ask an endpoint again, and how long to wait first.

Pure functions of numbers and headers: exponential backoff with full jitter (each wait is drawn evenly between nothing
and a ceiling that doubles), and the `Retry-After` header in both of its forms (RFC 9110, section 10.2.3).
"""

from __future__ import annotations

import random
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

BASE_S = 0.5
CEILING_S = 30.0
_TRANSIENT = frozenset({408, 409, 425, 429})
_PERMANENT = frozenset({501, 505, 511})


def is_transient(status: int) -> bool:
    """Whether the same request may succeed later: time-outs, limits and the server's own failures."""
    return status in _TRANSIENT or (status >= 500 and status not in _PERMANENT)


def wait_s(attempt: int, retry_after_s: float | None, rng: random.Random) -> float:
    """Seconds to wait after failed attempt number `attempt` (from 0); never less than the server asked for."""
    jitter = rng.uniform(0.0, min(CEILING_S, BASE_S * 2.0 ** min(attempt, 30)))
    return jitter if retry_after_s is None else retry_after_s + jitter / 4  # spread those who were told the same time


def parse_retry_after(value: str | None, now: datetime | None = None) -> float | None:
    """Seconds that a Retry-After header asks to wait, >= 0; None when there is none or it cannot be read."""
    if value is None:
        return None
    value = value.strip()
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        when = parsedate_to_datetime(value)
    except (TypeError, ValueError, IndexError, OverflowError):
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return max(0.0, (when - (now or datetime.now(UTC))).total_seconds())
