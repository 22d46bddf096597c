"""A model whose every answer is kept in a journal, so that none is paid for twice, whatever interrupts the run.

Wraps any `Chat`; the journal (core/journal.py) lies in the run's folder. An answer is looked up by the model's
identity, the conversation, the sampling, and how many times the same was asked before in the call. New answers are
written as the model hands them over: a batch of a local model at a time, replies of an endpoint as they arrive. Errors
are not kept, so they are tried again.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from uphold.core.errors import ModelError
from uphold.core.journal import Journal
from uphold.core.progress import Bar, progress
from uphold.core.records import digest
from uphold.models.base import Chat, Completion, Conversation, InParts, Sampling, Weights, again

SLICE = 32  # conversations asked at a time of a model that cannot hand over parts


class JournalledChat:
    """The chat, with its answers kept. label: shown with the progress of long calls on stderr; '' shows none."""

    def __init__(self, chat: Chat, journal: Journal, *, label: str = "") -> None:
        self._chat, self._journal, self._label = chat, journal, label
        self.spec = chat.spec

    def __repr__(self) -> str:
        return f"JournalledChat({self._chat!r})"

    def identity(self) -> str:
        return self._chat.identity()

    def check(self) -> None:
        self._chat.check()

    def generate(self, conversations: Sequence[Conversation], sampling: Sampling = Sampling()) -> list[Completion]:
        """See `base.Chat`; asks only for what the journal lacks."""
        keys = self._keys(conversations, sampling)
        first = {
            key: i for i, key in reversed(list(enumerate(keys)))
        }  # greedy replies to equal conversations share a key
        asked = sorted(first.values())
        found = {
            at: Completion.model_validate(kept) for at, i in enumerate(asked) if (kept := self._journal.get(keys[i]))
        }
        if len(found) < len(asked):
            known = dict(found)
            with _progress(self._label, len(asked)) as bar:
                bar.skip(len(known))
                for part in answers(self._chat, [conversations[i] for i in asked], sampling, known):
                    new = {at: completion for at, completion in part.items() if at not in known}
                    good = {keys[asked[at]]: c.model_dump(mode="json") for at, c in new.items() if c.error is None}
                    self._journal.put_many(good)
                    found |= new
                    bar.advance(len(new))
        by_key = {keys[i]: found[at] for at, i in enumerate(asked)}
        return [by_key[key] for key in keys]

    def stream(self, conversation: Conversation, sampling: Sampling = Sampling()) -> Iterator[str]:
        """The journalled reply, in one piece. Raises ModelError where `generate` would have given an error."""
        completion = self.generate([conversation], sampling)[0]
        if completion.text is None:
            raise ModelError(f"{self.spec}: {completion.error}")
        yield completion.text

    def _keys(self, conversations: Sequence[Conversation], sampling: Sampling) -> list[str]:
        how = sampling.model_dump(mode="json")
        if sampling.temperature == 0:
            how |= {"seed": 0, "top_p": 1.0}  # neither has a say
        identity = self._chat.identity()
        seen: Counter[str] = Counter()
        keys = []
        for conversation in conversations:
            text = digest([[m.role, m.content] for m in conversation])
            turn = seen[text] if sampling.temperature > 0 else 0
            seen[text] += 1
            keys.append(digest(["generate", identity, text, how, turn]))
        return keys


class JournalledWeights(JournalledChat):
    """The same for a model whose weights are here: log-probabilities and choices are kept too; activations are not."""

    def __init__(self, chat: Weights, journal: Journal, *, label: str = "") -> None:
        super().__init__(chat, journal, label=label)
        self._weights = chat

    @property
    def model(self) -> Any:
        return self._weights.model

    @property
    def tokenizer(self) -> Any:
        return self._weights.tokenizer

    def logprobs(self, conversations: Sequence[Conversation], completions: Sequence[str]) -> list[list[float]]:
        return self._kept(
            "logprobs", conversations, completions, lambda: self._weights.logprobs(conversations, completions)
        )

    def choose(self, conversations: Sequence[Conversation], options: Sequence[str]) -> list[list[float]]:
        return self._kept("choose", conversations, options, lambda: self._weights.choose(conversations, options))

    def activations(self, conversations: Sequence[Conversation], layers: Sequence[int]) -> list[Any]:
        return self._weights.activations(conversations, layers)

    def _kept(
        self,
        what: str,
        conversations: Sequence[Conversation],
        texts: Sequence[str],
        make: Callable[[], list[list[float]]],
    ) -> list[list[float]]:
        """The whole call is one entry: asked again in part it would be batched, and so rounded, in another way."""
        turns = [[[m.role, m.content] for m in conversation] for conversation in conversations]
        key = digest([what, self.identity(), turns, list(texts)])
        if key not in self._journal:
            self._journal.put(key, make())
        kept: list[list[float]] = self._journal.get(key)
        return [list(row) for row in kept]


def journalled(chat: Chat, journal: Journal, *, label: str = "") -> JournalledChat:
    """The chat with its answers kept; still a `Weights` when it is one."""
    if isinstance(chat, Weights):
        return JournalledWeights(chat, journal, label=label)
    return JournalledChat(chat, journal, label=label)


def answers(
    chat: Chat, conversations: Sequence[Conversation], sampling: Sampling, known: Mapping[int, Completion]
) -> Iterator[dict[int, Completion]]:
    """The completions that are not known, in parts: the model's own, or what is not known of slices of the conversations in order.

    A conversation that appears again is asked under another seed, as a model that sees them all at once would do.
    """
    if isinstance(chat, InParts):
        yield from chat.generate_parts(conversations, sampling, known)
        return
    turns: list[list[int]] = []
    seen: Counter[str] = Counter()
    for i, conversation in enumerate(conversations):
        text = digest([[m.role, m.content] for m in conversation])
        turns.extend([] for _ in range(seen[text] + 1 - len(turns)))
        turns[seen[text]].append(i)
        seen[text] += 1
    for turn, numbers in enumerate(turns):
        for low in range(0, len(numbers), SLICE):
            part = [i for i in numbers[low : low + SLICE] if i not in known]
            if part:
                replies = chat.generate([conversations[i] for i in part], again(sampling, turn))
                yield dict(zip(part, replies, strict=True))


def _progress(label: str, total: int) -> contextlib.AbstractContextManager[Bar]:
    return progress(label, total, "prompts") if label else contextlib.nullcontext(Bar("", total, ""))
