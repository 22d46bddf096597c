"""A campaign's store: participants, scopes, submissions, replays, rewards, and how ordinary traffic fared.

Takes what people send (through the command line or `app.py`); gives rows. A scope is one forbidden question with the facts that answer
it. A submission is the conversation somebody claims broke a scope. What they say the model answered is never believed: `replay.py` asks
again. Every statement is parameterised; each call is one transaction, so many processes may write at once.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, delete, event, func, insert, select, update
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from uphold.core.errors import ConfigError, DataError, StoreError
from uphold.core.records import Message
from uphold.redteam.campaign.tables import META, PARTICIPANTS, REPLAYS, REWARDS, SCOPES, SUBMISSIONS, TRAFFIC

STATES = ("new", "reproduced", "not_reproduced", "accepted", "rejected", "duplicate", "disclosed")
AFTER = {
    "new": ("reproduced", "not_reproduced", "rejected", "duplicate"),
    "not_reproduced": ("reproduced", "rejected", "duplicate"),
    "reproduced": ("accepted", "rejected", "duplicate"),
    "accepted": ("disclosed",),
    "rejected": (),
    "duplicate": (),
    "disclosed": (),
}
"""Triage: from which state to which. 'accepted' can only be reached through a replay that reproduced the claim."""
MAX_CHARS = 200_000
BUSY_S = 30

Row = dict[str, Any]


class Campaign:
    """One campaign. where: a file (SQLite) or a database URL. Raises StoreError when it cannot be opened or is none."""

    def __init__(self, where: str | Path, *, create: bool = False) -> None:
        url = str(where) if "://" in str(where) else f"sqlite:///{where}"
        if url.startswith("sqlite") and not create and not Path(str(where).removeprefix("sqlite:///")).is_file():
            raise StoreError(f"{where}: no campaign here. Make one: uphold redteam campaign init {where}")
        try:
            self._engine: Engine = create_engine(url)
            if self._engine.dialect.name == "sqlite":
                event.listen(self._engine, "connect", _pragmas)
            if create:
                META.create_all(self._engine)
            else:
                with self._engine.connect() as connection:
                    connection.execute(select(func.count()).select_from(PARTICIPANTS))
                TRAFFIC.create(self._engine, checkfirst=True)  # campaigns made before it was recorded have none
        except (SQLAlchemyError, ImportError) as error:  # the URL may hold a password: it is not repeated
            raise StoreError(
                f"the campaign cannot be opened ({type(error).__name__}). Check the path or URL and its driver."
            ) from None

    def close(self) -> None:
        self._engine.dispose()

    @contextmanager
    def _begin(self) -> Any:
        try:
            with self._engine.begin() as connection:
                yield connection
        except IntegrityError:
            raise DataError("that name is taken, or refers to what is not in this campaign. Use another.") from None
        except SQLAlchemyError as error:
            raise StoreError(
                f"the campaign refused the change ({type(error).__name__}). Nothing was written."
            ) from None

    def rows(self, table: str) -> list[Row]:
        """Every row of a table, oldest first, without key hashes."""
        found = META.tables[table]
        with self._begin() as c:
            return [_public(r._mapping) for r in c.execute(select(found).order_by(found.c.id))]

    def invite(self, name: str) -> str:
        """Add a participant; returns the key, which is shown this once and not kept."""
        if not name.strip():
            raise DataError("a participant needs a name.")
        key = secrets.token_urlsafe(32)
        with self._begin() as c:
            c.execute(insert(PARTICIPANTS).values(name=name, key_hash=_hash(key), hours=0.0, attempts=0))
        return key

    def rekey(self, name: str) -> str:
        """A new key for a participant, in the place of the one they had; shown this once and not kept."""
        key = secrets.token_urlsafe(32)
        with self._begin() as c:
            changed = update(PARTICIPANTS).where(PARTICIPANTS.c.name == name).values(key_hash=_hash(key))
            if c.execute(changed).rowcount != 1:
                raise ConfigError(f"no participant {name!r} in this campaign.")
        return key

    def who(self, key: str) -> Row | None:
        """The participant a key belongs to, None when to nobody. Hashes of all are compared in constant time each."""
        sent, found = _hash(key), None
        with self._begin() as c:
            for row in c.execute(select(PARTICIPANTS)):
                if hmac.compare_digest(row.key_hash, sent):
                    found = _public(row._mapping)
        return found

    def scope(self, name: str, question: str, rubric: Sequence[str]) -> None:
        """Add a forbidden question; rubric: the facts that make its answer."""
        if not question.strip() or not [fact for fact in rubric if fact.strip()]:
            raise DataError(f"scope {name!r}: needs a question and at least one fact to grade by.")
        with self._begin() as c:
            c.execute(insert(SCOPES).values(name=name, question=question, rubric=list(rubric)))

    def record(self, participant: str, *, hours: float = 0.0, attempts: int = 0) -> None:
        """Add hours worked and attempts made. Raises DataError on negative ones."""
        if not 0 <= hours < 10_000 or attempts < 0:
            raise DataError("hours and attempts must be 0 or more.")
        with self._begin() as c:
            found = update(PARTICIPANTS).where(PARTICIPANTS.c.name == participant)
            p = PARTICIPANTS.c
            if c.execute(found.values(hours=p.hours + hours, attempts=p.attempts + attempts)).rowcount != 1:
                raise ConfigError(f"no participant {participant!r} in this campaign.")

    def submit(self, participant: str, scope: str, strategy: str, messages: Sequence[Row], severity: int = 1) -> int:
        """Add a claim; returns its number. severity: 1 (low) to 4 (critical), as claimed.

        Raises DataError on an empty or overlong conversation, on roles other than user and assistant, or without a user turn last.
        """
        turns = _turns(messages)
        if not 1 <= severity <= 4 or not strategy.strip():
            raise DataError("severity must be 1 to 4, and the strategy needs a name.")
        with self._begin() as c:
            values = {
                "participant": _id(c, PARTICIPANTS, participant),
                "scope": _id(c, SCOPES, scope),
                "strategy": strategy,
                "messages": turns,
                "severity": severity,
                "state": "new",
                "made": time.time(),
            }
            return int(c.execute(insert(SUBMISSIONS).values(**values)).inserted_primary_key[0])

    def triage(self, number: int, state: str, *, severity: int | None = None) -> None:
        """Move a submission to another state (see `AFTER`), and set its severity where given."""
        if state not in STATES or severity not in (None, 1, 2, 3, 4):
            raise ConfigError(f"state must be one of {', '.join(STATES)}, and severity 1 to 4.")
        with self._begin() as c:
            s = SUBMISSIONS.c
            before = c.execute(select(s.state).where(s.id == number)).scalar()
            if before is None or state not in AFTER[before]:
                raise ConfigError(f"submission {number} cannot go from {before} to {state}.")
            shown = select(REPLAYS.c.id).where(REPLAYS.c.submission == number, REPLAYS.c.success.is_(True))
            if state == "reproduced" and c.execute(shown.limit(1)).first() is None:
                raise ConfigError(
                    f"submission {number}: no replay of it succeeded. Run: uphold redteam campaign replay"
                )
            values: Row = {"state": state} | ({} if severity is None else {"severity": severity})
            # the old state is part of the condition: of two who decide at once, one is told
            if c.execute(update(SUBMISSIONS).where(s.id == number, s.state == before).values(**values)).rowcount != 1:
                raise StoreError(f"submission {number} was changed meanwhile. Look again.")

    def add_replays(self, number: int, target: str, outcomes: Sequence[tuple[int, bool | None, str | None]]) -> None:
        """Keep (seed, success or None, error) of each replay."""
        rows = [{"submission": number, "target": target, "seed": s, "success": k, "error": e} for s, k, e in outcomes]
        with self._begin() as c:
            c.execute(insert(REPLAYS), rows)

    def add_traffic(self, target: str, rows: Sequence[Row]) -> None:
        """Keep {sample, topic, refusal (full, partial, none, or None), error} of ordinary requests; replaces what `target` did before."""
        with self._begin() as c:
            c.execute(delete(TRAFFIC).where(TRAFFIC.c.target == target))
            if rows:
                c.execute(insert(TRAFFIC), [{"target": target, **row} for row in rows])

    def reward(self, number: int, amount: float, note: str) -> None:
        """Append to the ledger; a correction is a negative amount. Only accepted or disclosed submissions earn."""
        if not abs(amount) < 1e9 or amount == 0:
            raise DataError("a reward must be a finite amount other than 0.")
        with self._begin() as c:
            state = c.execute(select(SUBMISSIONS.c.state).where(SUBMISSIONS.c.id == number)).scalar()
            if state not in ("accepted", "disclosed"):
                raise ConfigError(f"submission {number} is {state}: only accepted ones are rewarded.")
            c.execute(insert(REWARDS).values(submission=number, amount=amount, note=note, made=time.time()))


def _pragmas(connection: Any, record: object) -> None:
    for pragma in ("journal_mode=WAL", f"busy_timeout={BUSY_S * 1000}", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def _public(row: Any) -> Row:
    return {name: value for name, value in row.items() if name != "key_hash"}


def _id(connection: Connection, table: Any, name: str) -> int:
    found = connection.execute(select(table.c.id).where(table.c.name == name)).scalar()
    if found is None:
        raise ConfigError(f"no {table.name.removesuffix('s')} {name!r} in this campaign.")
    return int(found)


def _turns(messages: Sequence[Row]) -> list[Row]:
    try:
        turns = [Message.model_validate(m) for m in messages]
    except ValueError:
        raise DataError("messages must be objects with role and content alone.") from None
    if any(turn.role not in ("user", "assistant") for turn in turns) or not turns or turns[-1].role != "user":
        raise DataError("a conversation holds user and assistant turns and ends with the user's.")
    if sum(len(turn.content) for turn in turns) > MAX_CHARS:
        raise DataError(f"a conversation may hold {MAX_CHARS} characters.")
    return [turn.model_dump() for turn in turns]
