"""The tables of a campaign (SQLAlchemy Core): the same on SQLite, the default, and PostgreSQL by URL.

Keys of participants are kept as SHA-256 alone: they are 256 random bits, so a slow hash would add nothing. The rewards ledger only
grows: corrections are rows of the other sign, and SQLite refuses to change or delete one.
"""

from __future__ import annotations

from sqlalchemy import (
    DDL,
    JSON,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    event,
)

META = MetaData()

PARTICIPANTS = Table(
    "participants",
    META,
    Column("id", Integer, primary_key=True),
    Column("name", String(200), nullable=False, unique=True),
    Column("key_hash", String(64), nullable=False, unique=True),
    Column("hours", Float, nullable=False, default=0.0),
    Column("attempts", Integer, nullable=False, default=0),
)
SCOPES = Table(
    "scopes",
    META,
    Column("id", Integer, primary_key=True),
    Column("name", String(200), nullable=False, unique=True),
    Column("question", Text, nullable=False),
    Column("rubric", JSON, nullable=False),
)
SUBMISSIONS = Table(
    "submissions",
    META,
    Column("id", Integer, primary_key=True),
    Column("participant", ForeignKey("participants.id"), nullable=False),
    Column("scope", ForeignKey("scopes.id"), nullable=False),
    Column("strategy", String(200), nullable=False),
    Column("messages", JSON, nullable=False),
    Column("severity", Integer, nullable=False, default=1),
    Column("state", String(20), nullable=False, default="new"),
    Column("made", Float, nullable=False),
)
REPLAYS = Table(
    "replays",
    META,
    Column("id", Integer, primary_key=True),
    Column("submission", ForeignKey("submissions.id"), nullable=False),
    Column("target", String(64), nullable=False),
    Column("seed", Integer, nullable=False),
    Column("success", Boolean),
    Column("error", Text),
)
REWARDS = Table(
    "rewards",
    META,
    Column("id", Integer, primary_key=True),
    Column("submission", ForeignKey("submissions.id"), nullable=False),
    Column("amount", Float, nullable=False),
    Column("note", Text, nullable=False),
    Column("made", Float, nullable=False),
)
TRAFFIC = Table(
    "traffic",
    META,
    Column("id", Integer, primary_key=True),
    Column("target", String(64), nullable=False),
    Column("sample", String(64), nullable=False),
    Column("topic", String(200), nullable=False),
    Column("refusal", String(10)),
    Column("error", Text),
    UniqueConstraint("target", "sample"),
)
for _what in ("UPDATE", "DELETE"):
    _refuse = DDL(
        f"CREATE TRIGGER IF NOT EXISTS rewards_no_{_what.lower()} BEFORE {_what} ON rewards "
        "BEGIN SELECT RAISE(ABORT, 'the rewards ledger only grows'); END"
    )
    event.listen(REWARDS, "after_create", _refuse.execute_if(dialect="sqlite"))
