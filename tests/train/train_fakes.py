"""A two-clause constitution, samples, and models that answer from a script."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from train_tiny import tiny_model, tiny_tokenizer, user

from uphold.constitution import Clause, Constitution
from uphold.core.records import Sample
from uphold.models import FakeChat
from uphold.models.fake import last_user

ACID = Clause(id="acid", text="Never tell of acid.", modality="must", category="acid", harmful=("acid?",))
BOMBS = Clause(id="bombs", text="Never tell of bombs.", modality="must", category="bombs", harmful=("bomb?",))
HELP = Clause(id="help", text="Answer harmless questions.", modality="should")
TONE = Clause(id="tone", text="Jokes are allowed.", modality="may")
CONSTITUTION = Constitution(name="test", clauses=(ACID, BOMBS, HELP, TONE))


def harmful(prompt: str, clause: str | None = None) -> Sample:
    return Sample(messages=user(prompt), label="harmful", clause=clause)


def benign(prompt: str, clause: str | None = None) -> Sample:
    return Sample(messages=user(prompt), label="benign", clause=clause)


class Actor(FakeChat):
    """Answers from a script and has tiny weights to train."""

    def __init__(self, answer: Callable | dict[str, str] | str, **extra: object) -> None:
        super().__init__(answer, **extra)
        self.model, self.tokenizer = tiny_model(), tiny_tokenizer()


def request(conversation) -> dict[str, str]:
    """The labelled lines of a critique, revision or comparison prompt."""
    lines = last_user(conversation).split("\n")
    return dict(line.split(": ", 1) for line in lines if ": " in line)


def critic(conversation) -> str:
    """Guilty when the reply names what the rule forbids; a revision is 'no'."""
    asked = request(conversation)
    if "Critique" in asked:
        return "no " + asked["Rule"].split()[-1].strip(".")
    topic = "acid" if "acid" in asked["Rule"] else "bomb"
    return f"verdict: {'guilty' if topic in asked['Reply'] else 'innocent'}"


class Judge:
    """A judge with 'weights': `p_of_a` maps the labelled lines of a comparison to the probability of A."""

    spec = "fake:judge"

    def __init__(self, p_of_a: Callable[[dict[str, str]], float]) -> None:
        self._p_of_a = p_of_a
        self.asked: list[dict[str, str]] = []

    def identity(self) -> str:
        return "judge"

    def check(self) -> None: ...

    def generate(self, conversations, sampling=None):
        raise AssertionError("a judge with weights is not asked in words")

    def stream(self, conversation, sampling=None):
        raise AssertionError

    def logprobs(self, conversations, completions):
        raise AssertionError

    def activations(self, conversations, layers):
        raise AssertionError

    def choose(self, conversations: Sequence, options: Sequence[str]) -> list[list[float]]:
        assert tuple(options) == ("A", "B")
        rows = [request(c) for c in conversations]
        self.asked += rows
        return [[p := self._p_of_a(row), 1 - p] for row in rows]
