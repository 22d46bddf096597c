"""The engine: puts tries to the target, grades the replies, records the attempts and counts, at constant memory.

Every run and every search asks through an `Engine`, so all of them share one budget unit (queries to the target), one log, one
grader and one tally. An attack that throws, a target that fails: that attempt is an error, unscored; the run goes on. A target that
fails again and again is down, one whose identity changes is another target: the run stops, and the same command continues it.
Left out: retries and time limits (the model's door has them).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

from uphold.core.errors import ModelError
from uphold.core.journal import Journal
from uphold.core.records import Sample
from uphold.core.seeds import derive
from uphold.models.base import Chat, Completion, Conversation, InParts, Sampling
from uphold.models.journalled import JournalledChat
from uphold.redteam.attacks import TRAINED, split_of_family
from uphold.redteam.attempt import Attempt, Try
from uphold.redteam.grading import Grader, check_grader, grade, revealed
from uphold.redteam.log import AttemptLog
from uphold.redteam.tally import Tally

SLICE = 32  # tries between two writes to the log, for a target that cannot hand over its replies in parts
MAX_FAILURES = 64  # errors in a row after which the target counts as down


class Engine:
    """A target under attack: `ask` it within a budget.

    budget: at most so many queries, None for no limit. trained: families reported as split 'trained'. folder: where the log lies
    (`attempts.jsonl`); a folder that holds one continues it. Without a folder nothing is kept but the tally. on_attempts: told
    of attempts as they are made. Raises UpholdError when
    the grader fails its canaries on the rubrics of `samples`, before any query.
    """

    def __init__(
        self,
        chat: Chat,
        samples: Iterable[Sample] = (),
        *,
        seed: int = 0,
        sampling: Sampling = Sampling(),
        budget: int | None = None,
        grader: Grader = revealed,
        trained: Iterable[str] = TRAINED,
        folder: str | Path | None = None,
        on_attempts: Callable[[Sequence[Attempt]], object] | None = None,
    ) -> None:
        check_grader(getattr(grader, "__name__", "grader"), grader, (sample.rubric for sample in samples))
        self.chat, self.seed, self.sampling, self.budget = chat, seed, sampling, budget
        self.queries = 0
        self.replayed = 0
        self.tally = Tally()
        self._grader, self._trained = grader, frozenset(trained)
        self._identity = chat.identity()
        self._failures = 0
        self._served: str | None = None
        self._on_attempts = on_attempts
        self._log = AttemptLog(Path(folder) / "attempts.jsonl") if folder is not None else None
        self._calls: Journal | None = None
        if folder is not None and isinstance(chat, InParts):
            self._calls = Journal(Path(folder) / "calls.jsonl")

    @property
    def left(self) -> int:
        """Queries left in the budget; a very large number without one."""
        return 2**62 if self.budget is None else max(0, self.budget - self.queries)

    def ask(self, tries: Sequence[Try]) -> list[Attempt]:
        """The attempts that came of the tries, in order; only the first `left` of them are made.

        Raises ModelError when the target loses replies, is down, or has changed.
        """
        tries = list(tries[: self.left])
        step = SLICE if self._log is not None and self._calls is None else max(1, len(tries))
        made: list[Attempt] = []
        for low in range(0, len(tries), step):
            made += self._ask(tries[low : low + step])
        return made

    def _ask(self, tries: Sequence[Try]) -> list[Attempt]:
        known = self._log.replay(tries) if self._log else None
        made = known if known is not None else self._make(tries)
        if known is not None:
            self.replayed += len(known)
        elif self._log is not None:
            self._log.append(made)
            if self._calls:
                self._log.sync()  # the replies are forgotten only once the attempts are safe
                self._calls.clear()
        for attempt in made:
            self.queries += 1
            self.tally.add(attempt, self.queries)
        if self._on_attempts is not None:
            self._on_attempts(made)
        return made

    def _make(self, tries: Sequence[Try]) -> list[Attempt]:
        asked = [self._attempt(each) for each in tries]
        sent = [i for i, attempt in enumerate(asked) if attempt.error is None]
        for door in dict.fromkeys(tries[i].attack.door for i in sent):  # nearly always the target's own alone
            through = [i for i in sent if tries[i].attack.door is door]
            replies = self._replies([asked[i].messages for i in through], door)
            if len(replies) != len(through):
                raise ModelError(f"{self.chat.spec}: {len(replies)} replies to {len(through)} conversations")
            self._watch(replies)
            for i, reply in zip(through, replies, strict=True):
                judge(asked[i], reply, tries[i].sample, self._grader)
        return asked

    def _attempt(self, each: Try) -> Attempt:
        sample, by, draw = each
        attempt = Attempt(
            sample.id,
            sample.group,
            sample.clause,
            sample.category,
            by.name,
            by.family,
            split_of_family(by.family, self._trained),
            sample.messages,
            draw=draw,
        )
        try:
            attempt.messages = each.turns(self.seed)
        except Exception as error:  # noqa: BLE001 - attacks come from plugins too: one that throws costs its attempt, not the run
            attempt.error = f"attack raised {type(error).__name__}: {error}"
        return attempt

    def _replies(self, conversations: Sequence[Conversation], door: Chat | None) -> list[Completion]:
        if self.chat.identity() != self._identity:
            raise ModelError(
                f"{self.chat.spec}: changed during the run, so its attempts do not belong together. Start again in another folder."
            )
        sampling = self.sampling
        if sampling.temperature > 0:  # the same words asked later in the run are another draw
            sampling = sampling.model_copy(update={"seed": derive(sampling.seed, "queries", self.queries)})
        if door is not None:  # another way into the same weights: here, so nothing is paid and nothing kept
            return door.generate(conversations, sampling)
        chat = JournalledChat(self.chat, self._calls) if self._calls is not None else self.chat
        return chat.generate(conversations, sampling)

    def _watch(self, replies: Sequence[Completion]) -> None:
        """Stop before a run of errors is recorded as a result: an endpoint that is down says nothing of the model behind it.

        Nor do the answers of two models belong together, where an endpoint names the one that answered.
        """
        for reply in replies:
            self._failures = self._failures + 1 if reply.error is not None else 0
            served = reply.meta.get("served", self._served)
            if self._served not in (None, served):
                raise ModelError(
                    f"{self.chat.spec}: changed during the run, from {self._served!r} to {served!r}, so its attempts do not belong "
                    "together. Start again in another folder."
                )
            self._served = served
        if self._failures >= MAX_FAILURES:
            raise ModelError(
                f"{self.chat.spec}: {self._failures} errors in a row, the last: {replies[-1].error}. "
                "What was answered is kept: mend the target and run the same command again."
            )

    def close(self) -> None:
        for kept in (self._log, self._calls):
            if kept is not None:
                kept.close()

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def judge(attempt: Attempt, reply: Completion, sample: Sample, grader: Grader) -> None:
    """Fill in what came of an attempt. A reply that never came or cannot be graded leaves it unscored, with the reason."""
    attempt.completion = reply.text
    attempt.error = reply.error
    if reply.finish_reason == "blocked":
        attempt.blocked = blocked_stage(reply)
    if reply.error is not None or (reply.text is None and attempt.blocked is None):
        attempt.error = reply.error or "no reply"
        return
    asked = " ".join(turn.content for turn in sample.messages if turn.role == "user")
    try:
        share = grader(sample.rubric, reply.text or "", asked)
    except Exception as error:  # noqa: BLE001 - a grader that fails leaves the attempt unscored; never a zero
        attempt.error = f"grader raised {type(error).__name__}: {error}"
        return
    attempt.revealed, attempt.success, _ = grade(share)
    if share is None:
        attempt.error = "the grader could not tell" if sample.rubric else "the sample has no rubric"


def blocked_stage(reply: Completion) -> str:
    """'input' or 'output' by what the guard left in `meta`; 'guard' where it left nothing (an endpoint's own filter)."""
    verdict = reply.meta.get("verdict")
    in_verdict = verdict.get("stage") if isinstance(verdict, Mapping) else getattr(verdict, "stage", None)
    for stage in (reply.meta.get("stage"), in_verdict):
        if isinstance(stage, str) and stage:
            return stage
    return "guard"


def iterate(engine: Engine, tries: Iterator[Try], batch: int) -> Iterator[Attempt]:
    """Ask tries as they come, `batch` at a time, until they or the budget end."""
    while engine.left and (todo := list(islice(tries, min(batch, engine.left)))):
        yield from engine.ask(todo)
