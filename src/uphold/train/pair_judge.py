"""Any model as a judge of pairs: it sees both replies and names the one that keeps the clauses better.

Takes a `Chat` and clauses; is a `health.PairJudge`, so that a judge gets the same health card as a reward model before its labels are
trusted. Each question is put under every clause and the answers are averaged. What the order of the replies does is the health card's
business: it asks in both orders, averages, and counts how often they disagree (Zheng et al. 2023, arXiv:2306.05685). Left out: a
judge that reasons first (`labels.Asking.chain_of_thought`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from uphold.constitution import Clause, requests
from uphold.core.errors import ConfigError
from uphold.core.records import Message, digest
from uphold.models.base import Chat
from uphold.train.labels import mean_of, p_of_a


class ChatJudge:
    """clauses: what replies are compared under; at least one."""

    health: Path | None = None  # a judge has no folder of its own

    def __init__(self, chat: Chat, clauses: Sequence[Clause]) -> None:
        if not clauses:
            raise ConfigError("a judge needs at least one clause to compare replies under.")
        self.name = f"judge:{chat.spec}"
        self._chat, self._clauses = chat, tuple(clauses)

    def identity(self) -> str:
        """Hash of the model and the clauses."""
        return digest(["judge", self._chat.identity(), [clause.digest for clause in self._clauses]])

    def prefer(self, pairs: Sequence[tuple[tuple[Message, ...], str, str]]) -> list[float | None]:
        """See `health.PairJudge`: in the order given. None where no clause got an answer."""
        asked = [requests.compare(clause, *pair) for pair in pairs for clause in self._clauses]
        answers, n = p_of_a(self._chat, asked), len(self._clauses)
        return [mean_of(answers[i * n : (i + 1) * n]) for i in range(len(pairs))]
