"""The two doors to a model.

`Chat` is anything that answers messages: an endpoint, a local checkpoint, the built-in clerk, a fake. `Weights` is a
`Chat` whose parameters are here, so log-probabilities and activations can be read and training can start from it.
Recipes ask for the smallest door that does. Open one with `uphold.models.load("builtin:clerk")`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from pydantic import Field

from uphold.core.records import Message, Record
from uphold.core.seeds import derive

Conversation = Sequence[Message]


class Sampling(Record):
    """How to draw a reply. temperature 0 is greedy. `seed` fixes the draw where the backend can (local models: always)."""

    temperature: float = Field(default=0.0, ge=0.0, le=5.0)
    top_p: float = Field(default=1.0, gt=0.0, le=1.0)
    max_new_tokens: int = Field(default=96, ge=1, le=131072)
    seed: int = 0
    stop: tuple[str, ...] = ()


class Completion(Record):
    """One reply, or the reason there is none. `text` is None exactly when `error` says why; such a sample is unscored, not safe."""

    text: str | None
    finish_reason: str = "stop"  # stop | length | error | blocked
    n_prompt_tokens: int = 0
    n_completion_tokens: int = 0
    error: str | None = None
    meta: dict[str, Any] = Field(default_factory=dict)


@runtime_checkable
class Chat(Protocol):
    spec: str
    """how to open it again, e.g. `builtin:clerk` or `openai:http://127.0.0.1:8000/v1#name`; never holds a key"""

    def identity(self) -> str:
        """Hash that changes when the answers may: of the weights for a local model, of endpoint and name for a remote one."""
        ...

    def check(self) -> None:
        """Raise ModelError, with how to mend it, when the model cannot answer at all. Cheap."""
        ...

    def generate(self, conversations: Sequence[Conversation], sampling: Sampling = Sampling()) -> list[Completion]:
        """One completion per conversation, in order. A conversation that fails gives a Completion with `error`; never raises for it."""
        ...

    def stream(self, conversation: Conversation, sampling: Sampling = Sampling()) -> Iterator[str]:
        """The reply as pieces of text; their concatenation is what `generate` would return."""
        ...


class _ByMethods(type(Protocol)):  # type: ignore[misc]
    """isinstance by the methods of a class alone: asking an instance for `model` would load it just to see that it is there."""

    def __instancecheck__(cls, instance: Any) -> bool:
        return all(callable(getattr(type(instance), name, None)) for name in _WEIGHTS_METHODS)


_WEIGHTS_METHODS = ("identity", "check", "generate", "stream", "logprobs", "choose", "activations")


@runtime_checkable
class Weights(Chat, Protocol, metaclass=_ByMethods):
    model: Any  # transformers.PreTrainedModel
    tokenizer: Any  # transformers.PreTrainedTokenizerBase, with a chat template

    def logprobs(self, conversations: Sequence[Conversation], completions: Sequence[str]) -> list[list[float]]:
        """Natural-log probability of every completion token given what precedes it; one list per pair."""
        ...

    def choose(self, conversations: Sequence[Conversation], options: Sequence[str]) -> list[list[float]]:
        """Normalised probability of each option as the whole next reply (sums to 1 per conversation).

        Options that are all one token long compare that token alone.
        """
        ...

    def activations(self, conversations: Sequence[Conversation], layers: Sequence[int]) -> list[Any]:
        """Residual stream after each named layer: one float tensor (len(layers), T, d_model) per conversation."""
        ...


@runtime_checkable
class InParts(Protocol):
    """A Chat that can hand over its answers in parts, as they come, so that what was paid for can be kept at once."""

    def generate_parts(
        self,
        conversations: Sequence[Conversation],
        sampling: Sampling = Sampling(),
        known: Mapping[int, Completion] | None = None,
    ) -> Iterator[dict[int, Completion]]:
        """The completions of `generate` by conversation number, in parts that together hold every number not in `known` once.

        known: completions kept from an earlier, interrupted call with the same arguments. What a part holds depends on
        conversations and sampling alone, never on `known`, wherever the bits of a reply could depend on it; so a part may repeat
        numbers that are known.
        """
        ...


def again(sampling: Sampling, turn: int) -> Sampling:
    """The sampling for the same conversation asked the `turn`-th time (0: first) in one call: another seed, so another draw."""
    return sampling if turn == 0 else sampling.model_copy(update={"seed": derive(sampling.seed, "again", turn)})
