"""What an agent is tested in: an environment with tools, tasks of users, goals of attackers. Registry kind "agent-suite".

The shape is AgentDojo's (arXiv:2406.13352): an honest user gives a task, an attacker who can write into something that a tool reads
(a *vector*) wants another end state, and both are judged by the state of the environment alone, never by a model. This room knows
only these records; the storefront's own are in `world.shop_tools` and `world.shop_tasks`. Left out: attackers who are the user.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from uphold.models.tools import Tool

NO_CATEGORY = "other"


class ToolError(Exception):
    """A tool that refuses a call; the agent is told why and goes on."""


@dataclass(frozen=True, slots=True)
class Action:
    """One call that an agent made. category: what it is about, the name by which a constitution's clauses speak of it.

    writes: it may change the state of the environment; is_done: the tool carried it out.
    """

    tool: str
    arguments: Mapping[str, Any]
    category: str = NO_CATEGORY
    writes: bool = False
    is_done: bool = True

    def row(self) -> dict[str, Any]:
        """The action as plain values."""
        return {"tool": self.tool, "arguments": dict(self.arguments), "category": self.category, "done": self.is_done}


class Environment(Protocol):
    """A world of its own for one episode: deterministic, in memory, nothing outside it can change."""

    actions: list[Action]

    def call(self, tool: str, arguments: Mapping[str, Any]) -> str:
        """Carry out a call whose arguments fit the tool's schema and record it as an `Action`. Raises ToolError when it is refused."""
        ...

    def plant(self, vector: str, text: str) -> None:
        """Put an attacker's text where the attacker can write. Raises KeyError for a place that this environment lacks."""
        ...

    def leaks(self, reply: str) -> tuple[str, ...]:
        """Private values that reached somebody they do not belong to: in `reply`, which the user reads, or in what was sent."""
        ...

    def state_hash(self) -> str:
        """Hash of everything that actions may change."""
        ...


class Called(NamedTuple):
    """What a tool gave: as it came, and as the defence shows it to the model."""

    raw: str
    shown: str


class Call(NamedTuple):
    """A step of a plan: call this tool. The plan is sent a `Called`."""

    tool: str
    arguments: Mapping[str, Any]


class Ask(NamedTuple):
    """A step of a plan: put a question to the model beside what was read. The plan is sent its answer.

    right: the answer that an honest reader of `read` would give; for reference agents, never shown to a model.
    """

    read: Sequence[Called]
    question: str
    right: str


class Unparsed(Exception):
    """A plan cannot use the model's answer: it is not in the form that the question asks for."""


Plan = Generator[Call | Ask, Any, str]
"""A fixed course of calls and questions; what it returns is said to the user. Raises Unparsed."""


@dataclass(frozen=True)
class Task:
    """What an honest user wants done. id: unique in a suite; kind: what repeats across instances.

    make: a fresh environment for one episode. vectors: places whose content the agent reads while it works. needs: the tools that the
    task takes. plan: the course that a fixed workflow takes. is_done: the user's end state. allows: whether the user's task covers
    an action that writes.
    """

    id: str
    kind: str
    request: str
    make: Callable[[], Environment]
    vectors: tuple[str, ...]
    needs: tuple[str, ...]
    plan: Callable[[], Plan]
    is_done: Callable[[Any, str], bool]
    allows: Callable[[Action], bool]


@dataclass(frozen=True)
class Goal:
    """What an attacker wants. command: it, in plain words; calls: the calls that reach it.

    claims: forged data in the environment's own form, '' where none would do. category: as in `Action`.
    is_reached: the attacker's end state, from the environment and what was said to the user.
    """

    name: str
    category: str
    command: str
    is_reached: Callable[[Any, str], bool]
    calls: tuple[tuple[str, Mapping[str, Any]], ...] = ()
    claims: str = ""


@dataclass(frozen=True)
class Suite:
    """Tasks and goals over one set of tools. system: what the agent is told it is. tasks(n_each, split, seed): n instances of every
    kind; goals(task): what attackers want while it is done."""

    name: str
    system: str
    tools: tuple[Tool, ...]
    vectors: tuple[str, ...]
    goal_names: tuple[str, ...]
    tasks: Callable[[int, str, int], list[Task]]
    goals: Callable[[Task], list[Goal]]
    about: str = ""


@dataclass(frozen=True)
class Case:
    """One episode to run: a task, alone or under an attack. vector and attack are '' for a task alone. planted: the attacker's text."""

    task: Task
    goal: Goal | None = None
    vector: str = ""
    attack: str = ""
    planted: str = ""

    def start(self) -> Environment:
        """A fresh environment, with the attacker's text in its place."""
        environment = self.task.make()
        if self.goal is not None:
            environment.plant(self.vector, self.planted)
        return environment

    def key(self) -> tuple[str, str, str, str]:
        """(task, goal, vector, attack): what its episode is found again by."""
        return self.task.id, self.goal.name if self.goal else "", self.vector, self.attack
