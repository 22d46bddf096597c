"""Model calls of a generation run: paid for once, within a budget, counted, and watched for a model that gives nothing usable.

Every call goes through the journal (`models.JournalledChat`). The budget counts all calls that the result rests on, those of earlier,
interrupted runs included, so that it means the same however often a run was interrupted. Usable is for the caller to say, ask by
ask; when too many of the recent ones gave nothing, the run is told to stop. Left out: retries (the model's door does them).
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence

from pydantic import Field

from uphold.core.journal import Journal
from uphold.core.records import Record
from uphold.models.base import Chat, Completion, Conversation, Sampling
from uphold.models.journalled import SLICE, journalled

WATCHED, LEAST = 60, 20  # recent asks that are watched, and how many it takes to judge


class Budget(Record):
    """Limits of a run, None for none. max_tokens counts prompts and replies; it may be passed by the calls of one batch (32)."""

    max_calls: int | None = Field(None, ge=0)
    max_tokens: int | None = Field(None, ge=0)


class Calls:
    """Asks models within a budget. `stopped`: why no more is asked, '' while all is well."""

    def __init__(self, journal: Journal, budget: Budget, max_failures: float) -> None:
        self._journal, self._budget, self._max_failures = journal, budget, max_failures
        self._recent: dict[str, deque[str]] = {}
        self.n_calls = self.n_tokens = 0
        self.stopped = ""
        self.failures: Counter[str] = Counter()

    def ask(self, chat: Chat, conversations: Sequence[Conversation], sampling: Sampling) -> list[Completion]:
        """Completions of the first conversations, in order: of all of them, unless the budget ends before."""
        chat = journalled(chat, self._journal)
        found: list[Completion] = []
        for low in range(0, len(conversations), SLICE):
            part = conversations[low : low + SLICE]
            if self._budget.max_calls is not None:
                part = part[: max(0, self._budget.max_calls - self.n_calls)]
            if self._is_spent() or not part:
                break
            replies = chat.generate(part, sampling)
            found += replies
            self.n_calls += len(replies)
            self.n_tokens += sum(reply.n_prompt_tokens + reply.n_completion_tokens for reply in replies)
        return found

    def _is_spent(self) -> bool:
        for spent, limit, name in (
            (self.n_calls, self._budget.max_calls, "calls"),
            (self.n_tokens, self._budget.max_tokens, "tokens"),
        ):
            if limit is not None and spent >= limit and not self.stopped:
                self.stopped = f"the budget of {limit} {name} is used up ({spent} {name})"
        return bool(self.stopped)

    def came(self, what: str, problem: str) -> None:
        """Note that an ask for `what` ('requests', 'replies') gave something usable (problem '') or, with the reason, nothing."""
        if problem:
            self.failures[f"{what}: {problem}"] += 1
        recent = self._recent.setdefault(what, deque(maxlen=WATCHED))
        recent.append(problem)
        bad = Counter(one for one in recent if one)
        share = bad.total() / len(recent)
        if len(recent) >= LEAST and share > self._max_failures and not self.stopped:
            reasons = ", ".join(f"{reason} {n}" for reason, n in bad.most_common())
            self.stopped = (
                f"{bad.total()} of the last {len(recent)} asks for {what} gave nothing usable ({reasons}), "
                f"more than the {self._max_failures:.0%} that --max-failures allows"
            )
