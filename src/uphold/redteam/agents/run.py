"""Runs episodes in lockstep: many agents act at once, so that a local model answers a whole batch at a time.

Takes cases and a `Chat`; gives an `Episode` each, in order. The budget is queries to the target, as everywhere in this room; an
episode costs at most `max_steps`, and none is begun that the budget might not let end. With a folder, every answer is journalled as
it comes and every batch of episodes is written to one append-only log: a killed run loses no answer, continues with the same command
and ends with the same records. A target that only fails stops the run; one that changes stops it too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from uphold.core.errors import ModelError, Unsupported
from uphold.core.journal import Journal
from uphold.core.seeds import derive
from uphold.models.base import Chat, Completion, Conversation, Sampling
from uphold.models.journalled import JournalledChat
from uphold.models.tools import TakesTools
from uphold.redteam.agents.agents import AGENTS
from uphold.redteam.agents.defences import Defence
from uphold.redteam.agents.episode import Ending, Episode, Session, finish
from uphold.redteam.agents.suite import Case, Suite
from uphold.redteam.log import Log

BATCH = 32  # episodes that act at once
MAX_STEPS = 12  # answers of the model in one episode
MAX_FAILURES = 8  # episodes in a row without an answer, after which the target counts as down


def way_of(chat: Chat, way: str = "auto") -> str:
    """'native', 'text' or 'planned' for a target: 'auto' takes native where its wire has tools, else text. ConfigError on another name."""
    from uphold.core.errors import unknown

    if way == "auto":
        return "native" if isinstance(chat, TakesTools) else "text"
    if way not in AGENTS:
        raise unknown("agent", way, [*AGENTS, "auto"], "--agent")
    if way == "native" and not isinstance(chat, TakesTools):
        raise Unsupported(f"{chat.spec}: takes no tools through its wire. Use --agent text, or --agent planned.")
    return way


def run_cases(
    chat: Chat,
    cases: Sequence[Case],
    suite: Suite,
    defence: Defence,
    *,
    way: str = "auto",
    budget: int | None = None,
    max_steps: int = MAX_STEPS,
    sampling: Sampling = Sampling(max_new_tokens=256),
    folder: str | Path | None = None,
    on_episodes: Callable[[Sequence[Episode]], object] | None = None,
) -> list[Episode]:
    """One episode per case, in order, until the cases or the budget end.

    Raises ModelError when the target is down, loses replies or has changed, Unsupported when it cannot act in this way.
    """
    runner = _Runner(chat, suite, defence, way_of(chat, way), max_steps, sampling)
    made: list[Episode] = []
    spent = 0
    log = Log(Path(folder) / "episodes.jsonl", Episode.from_row) if folder is not None else None
    calls = Journal(Path(folder) / "calls.jsonl") if folder is not None else None
    try:
        while len(made) < len(cases):
            left = len(cases) if budget is None else (budget - spent) // max_steps
            batch = cases[len(made) : len(made) + min(BATCH, left)]
            if not batch:
                break
            found = log.replay(batch) if log else None
            if found is None:
                found = runner.run(batch, calls, spent)
                if log and calls:
                    log.append(found)
                    log.sync()  # the answers are forgotten only once the episodes are safe
                    calls.clear()
            made += found
            spent += sum(episode.queries for episode in found)
            if on_episodes is not None:
                on_episodes(found)
    finally:
        for kept in (log, calls):
            if kept is not None:
                kept.close()
    return made


class _Actor:
    """One episode under way. pending: the conversation that waits for an answer, None once it has ended."""

    def __init__(self, case: Case, suite: Suite, defence: Defence, way: str) -> None:
        self.session = Session(case, suite.tools, defence)
        self.queries = 0
        self.pending: Conversation | None = None
        self.ending: Ending | None = None
        self._acting = AGENTS[way](self.session, suite.system)

    def go_on(self, reply: Completion | None, max_steps: int) -> None:
        """Act on an answer (None: begin) up to the next question, the end or the limit."""
        self.queries += reply is not None
        try:
            self.pending = self._acting.send(reply) if reply is not None else next(self._acting)
        except StopIteration as end:
            self.pending, self.ending = None, end.value
            return
        if self.queries >= max_steps:
            self._acting.close()
            self.pending, self.ending = None, Ending("steps", why=f"no end within {max_steps} answers")

    def episode(self) -> Episode:
        assert self.ending is not None
        return finish(self.session, self.ending, self.queries)


class _Runner:
    """A target acting in one way under one defence."""

    def __init__(
        self, chat: Chat, suite: Suite, defence: Defence, way: str, max_steps: int, sampling: Sampling
    ) -> None:
        self._chat, self._suite, self._defence = chat, suite, defence
        self._way, self._max_steps, self._sampling = way, max_steps, sampling
        self._identity = chat.identity()
        self._failures = 0

    def run(self, cases: Sequence[Case], calls: Journal | None, spent: int) -> list[Episode]:
        """The episodes of one batch; `spent` queries were made before it."""
        if self._chat.identity() != self._identity:
            raise ModelError(f"{self._chat.spec}: changed during the run. Start again in another folder.")
        actors = [_Actor(case, self._suite, self._defence, self._way) for case in cases]
        for actor in actors:
            actor.go_on(None, self._max_steps)
        while waiting := [actor for actor in actors if actor.pending is not None]:
            self._answer(waiting, calls, spent + sum(actor.queries for actor in actors))
        made = [actor.episode() for actor in actors]
        self._watch(made)
        return made

    def _answer(self, waiting: Sequence[_Actor], calls: Journal | None, spent: int) -> None:
        """Ask all that wait at once, those that are offered the same tools in one call."""
        sampling = self._sampling
        if sampling.temperature > 0:  # the same words asked later in the run are another draw
            sampling = sampling.model_copy(update={"seed": derive(sampling.seed, "agents", spent)})
        by_tools: dict[tuple[str, ...], list[_Actor]] = {}
        for actor in waiting:
            offered = tuple(tool.name for tool in actor.session.tools) if self._way == "native" else ()
            by_tools.setdefault(offered, []).append(actor)
        for actors in by_tools.values():
            chat = self._door(actors[0], calls)
            replies = chat.generate([actor.pending or () for actor in actors], sampling)
            if len(replies) != len(actors):
                raise ModelError(f"{self._chat.spec}: {len(replies)} replies to {len(actors)} conversations")
            for actor, reply in zip(actors, replies, strict=True):
                actor.go_on(reply, self._max_steps)

    def _door(self, actor: _Actor, calls: Journal | None) -> Chat:
        chat = self._chat
        if self._way == "native" and isinstance(chat, TakesTools):
            chat = chat.with_tools(actor.session.tools)
        return JournalledChat(chat, calls) if calls is not None else chat

    def _watch(self, made: Sequence[Episode]) -> None:
        """Stop before a run of failures is recorded as a result: an endpoint that is down says nothing of the agent behind it."""
        for episode in made:
            self._failures = self._failures + 1 if episode.how == "error" else 0
        if self._failures >= MAX_FAILURES:
            raise ModelError(
                f"{self._chat.spec}: {self._failures} episodes in a row without an answer, the last: {made[-1].why}. "
                "What was answered is kept: mend the target and run the same command again."
            )
