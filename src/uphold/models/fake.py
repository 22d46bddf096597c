"""Stand-ins for a model, for tests and for trying a pipeline out: `fake:echo`, `fake:refuse`, `fake:text=...`,
`fake:FILE.json`.

`FakeChat` answers from a function or a table, counts what it was asked, and can be slow or fail on purpose. It has no
weights and needs nothing but the standard library.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path

from uphold.core.errors import ConfigError, ModelError
from uphold.core.files import read_json
from uphold.core.records import digest
from uphold.core.registry import register
from uphold.models.base import Completion, Conversation, Sampling

REFUSAL = "I can't help with that."
Answer = Callable[[Conversation], str]


def last_user(conversation: Conversation) -> str:
    """Text of the last user message, '' when there is none."""
    return next((m.content for m in reversed(conversation) if m.role == "user"), "")


class FakeChat:
    """A `Chat` that answers what it is told to.

    answer: a function of the conversation, a table from the last user message to the reply (with "*" for any other), or one
    reply for all. name: stands for a function in `identity`. latency_s: waited once per call. fail: numbers of the conversations,
    counted from 0 over the fake's life, whose completion is an error; or a function of the conversation. down: `check` raises and every
    completion is an error. Counts: `calls` of generate and stream, `asked` every conversation in order.
    """

    def __init__(
        self,
        answer: Answer | Mapping[str, str] | str,
        *,
        name: str = "fake",
        latency_s: float = 0.0,
        fail: Collection[int] | Callable[[Conversation], bool] = (),
        down: bool = False,
    ) -> None:
        self.spec = f"fake:{name}"
        self._answer = answer
        self._latency_s, self._fail, self._down = latency_s, fail, down
        self.calls = 0
        self.asked: list[Conversation] = []

    def __repr__(self) -> str:
        return f"FakeChat({self.spec!r})"

    def identity(self) -> str:
        """Hash of the table or reply; of the name where the answer is a function."""
        return digest([self.spec, None if callable(self._answer) else self._answer])

    def check(self) -> None:
        if self._down:
            raise ModelError(f"{self.spec}: told to be down. Use another model.")

    def generate(self, conversations: Sequence[Conversation], sampling: Sampling = Sampling()) -> list[Completion]:
        self.calls += 1
        if self._latency_s:
            time.sleep(self._latency_s)
        return [self._complete(conversation, sampling) for conversation in conversations]

    def stream(self, conversation: Conversation, sampling: Sampling = Sampling()) -> Iterator[str]:
        """The reply word by word. Raises ModelError where `generate` would have given an error."""
        completion = self.generate([conversation], sampling)[0]
        if completion.text is None:
            raise ModelError(f"{self.spec}: {completion.error}")
        words = completion.text.split(" ")
        yield from (word if i == 0 else f" {word}" for i, word in enumerate(words) if word or i)

    def _complete(self, conversation: Conversation, sampling: Sampling) -> Completion:
        number = len(self.asked)
        self.asked.append(tuple(conversation))
        failed = self._fail(conversation) if callable(self._fail) else number in self._fail
        if self._down or failed:
            return Completion(text=None, finish_reason="error", error="told to fail")
        words = self._reply(conversation).split(" ")  # a word counts as a token
        kept = words[: sampling.max_new_tokens]
        return Completion(
            text=" ".join(kept),
            finish_reason="stop" if len(kept) == len(words) else "length",
            n_prompt_tokens=sum(len(m.content.split()) for m in conversation),
            n_completion_tokens=len(kept),
        )

    def _reply(self, conversation: Conversation) -> str:
        if callable(self._answer):
            return self._answer(conversation)
        if isinstance(self._answer, str):
            return self._answer
        prompt = last_user(conversation)
        return self._answer.get(prompt, self._answer.get("*", ""))


@register("backend", "fake")
def open_fake(rest: str, *, latency_s: float = 0.0) -> FakeChat:
    """fake:echo, fake:refuse, fake:fail, fake:text=REPLY or fake:FILE.json (last user message to reply): for tests"""
    if rest == "echo":
        return FakeChat(last_user, name=rest, latency_s=latency_s)
    if rest == "refuse":
        return FakeChat(REFUSAL, name=rest, latency_s=latency_s)
    if rest == "fail":
        return FakeChat("", name=rest, latency_s=latency_s, down=True)
    if rest.startswith("text="):
        return FakeChat(rest.removeprefix("text="), name=rest, latency_s=latency_s)
    if rest.endswith(".json"):
        table = read_json(Path(rest))
        if not isinstance(table, dict) or not all(isinstance(v, str) for v in table.values()):
            raise ConfigError(f"{rest}: a fake's table must be one JSON object from prompt to reply, both text")
        return FakeChat(table, name=rest, latency_s=latency_s)
    raise ConfigError(
        f"model 'fake:{rest}': unknown fake. Write fake:echo, fake:refuse, fake:fail, fake:text=REPLY or fake:FILE.json"
    )
