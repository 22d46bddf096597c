"""From prompts to drawn completions: which prompts a step asks, and who answers them.

Prompts come as samples; the position in them follows from the step number and the seed alone, so a run continued at step k asks what
it would have asked. `EngineSampler` draws with the model in training itself, whose weights reach the decoding engine in memory
after every update, and keeps the log-probs that each token was drawn with. `ServerSampler` asks an OpenAI-compatible server (vLLM,
`uphold models serve`), which keeps serving the weights the run started from: its completions are then draws from the reference, and
`train.rl` weighs them as such. Several processes share the prompts of a step (a server is asked by the first alone) and all get all
completions; what is drawn follows from prompt, step and place, not from who draws.
Left out: pushing weights into a server, several turns, tools.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np

from uphold.core.errors import ConfigError, DataError, ModelError
from uphold.core.journal import Journal
from uphold.core.records import Exchange, Sample
from uphold.core.seeds import derive
from uphold.models.base import Chat, Sampling
from uphold.models.decode import Row
from uphold.models.journalled import journalled
from uphold.models.local import LocalModel
from uphold.train import parallel

PROBED = 4  # prompts on which a server must answer as the model the run starts from


@dataclass(frozen=True, slots=True)
class Rollout:
    """One drawn completion. group: number of its prompt within the step. reply_ids: with the end token where one ended it.

    drawn_logprobs: of each reply token when it was drawn, nats; None where the sampler does not tell.
    """

    sample: Sample
    group: int
    prompt_ids: tuple[int, ...]
    reply_ids: tuple[int, ...]
    text: str
    finish_reason: str
    drawn_logprobs: tuple[float, ...] | None = None

    @property
    def is_cut_off(self) -> bool:
        return self.finish_reason == "length"

    @property
    def exchange(self) -> Exchange:
        return Exchange(messages=self.sample.messages, completion=self.text, clause=self.sample.clause)


@dataclass(frozen=True, slots=True)
class Prompt:
    sample: Sample
    ids: tuple[int, ...]


class Prompts:
    """The prompts of a run as tokens, and the order they are asked in: one seeded shuffle after the other.

    max_new_tokens: room each needs behind it. too_long: refuse, or drop and count, prompts that leave less room than that. Raises
    DataError without prompts, on a prompt twice, or when a prompt does not fit or the template refuses it.
    """

    def __init__(
        self,
        local: LocalModel,
        samples: Sequence[Sample],
        max_new_tokens: int,
        seed: int,
        too_long: Literal["refuse", "drop"] = "refuse",
    ) -> None:
        if not samples:
            raise DataError("no prompts to train on. Check the file or the source before it.")
        if len({s.messages for s in samples}) < len(samples):
            raise DataError(
                f"{len(samples) - len({s.messages for s in samples})} prompts are there twice. Drop the copies."
            )
        coded = [Prompt(s, tuple(local.encode(s.messages))) for s in samples]
        most = None if local.n_context is None else local.n_context - max_new_tokens
        kept = [p for p in coded if most is None or len(p.ids) <= most]
        self.n_dropped = len(coded) - len(kept)
        if self.n_dropped and (too_long == "refuse" or not kept):
            worst = max(coded, key=lambda p: len(p.ids))
            raise DataError(
                f"{self.n_dropped} of {len(coded)} prompts leave no room for {max_new_tokens} new tokens in the context of "
                f"{local.n_context} (longest: sample {worst.sample.id}, {len(worst.ids)} tokens). "
                "Shorten them, lower max_new_tokens, or set too_long to 'drop'."
            )
        self._kept, self._seed = kept, seed
        self._order: tuple[int, Any] = (-1, None)

    def __len__(self) -> int:
        return len(self._kept)

    def at(self, step: int, n: int) -> list[Prompt]:
        """The `n` prompts of a step; a prompt comes again when all have come."""
        return [self._kept[self._index(i)] for i in range(step * n, (step + 1) * n)]

    def _index(self, position: int) -> int:
        epoch, at = divmod(position, len(self._kept))
        if self._order[0] != epoch:
            self._order = (epoch, np.random.default_rng([self._seed, epoch]).permutation(len(self._kept)))
        return int(self._order[1][at])


class Sampler(Protocol):
    def draw(self, prompts: Sequence[Prompt], group_size: int, step: int) -> list[Rollout]:
        """`group_size` completions of each prompt, those of one prompt behind each other; all of them on every process."""
        ...


class EngineSampler:
    """Draws with the weights of the policy as they are now."""

    def __init__(self, local: LocalModel, temperature: float, max_new_tokens: int, seed: int) -> None:
        self._local, self._seed = local, seed
        self._sampling = Sampling(temperature=temperature, max_new_tokens=max_new_tokens)

    def draw(self, prompts: Sequence[Prompt], group_size: int, step: int) -> list[Rollout]:
        """See `Sampler`. Raises ModelError when the model's numbers are not finite."""
        mine = parallel.share(list(enumerate(prompts)))
        found = parallel.collect(lambda: self._draw(mine, group_size, step))
        return sorted((r for part in found for r in part), key=lambda r: r.group)

    def _draw(self, prompts: Sequence[tuple[int, Prompt]], group_size: int, step: int) -> list[Rollout]:
        """Completions of (place in the step, prompt) pairs; a draw's seed is that of its place among all of the step."""
        asked = [(group, p) for group, p in prompts for _ in range(group_size)]
        rows = []
        for n, (group, p) in enumerate(asked):
            i = group * group_size + n % group_size
            key = hashlib.sha256(str(p.ids).encode()).hexdigest()
            rows.append(Row(p.ids, key, derive(self._seed, "rollout", step, i), self._sampling.max_new_tokens))
        made = []
        for (group, p), reply in zip(asked, self._local.sample(rows, self._sampling), strict=True):
            if reply.finish == "error":
                raise ModelError(
                    f"step {step}: sampling from the policy gave numbers that are not finite (sample {p.sample.id}). "
                    "The weights have diverged: continue from the last checkpoint in another folder, with a lower lr."
                )
            ids = (*reply.tokens, *([] if reply.end is None else [reply.end]))
            text = self._local.text(reply.tokens)
            made.append(Rollout(p.sample, group, p.ids, ids, text, reply.finish, tuple(reply.logprobs)))
        return made


class ServerSampler:
    """Draws from a server that serves the model the run starts from. Calls are kept in the journal, so none is made twice."""

    def __init__(
        self, chat: Chat, local: LocalModel, journal: Journal | None, temperature: float, max_new_tokens: int, seed: int
    ) -> None:
        """journal: None in a process that does not ask."""
        self._chat = chat if journal is None else journalled(chat, journal, label="")
        self._spec, self._local, self._seed = chat.spec, local, seed
        self._sampling = Sampling(temperature=temperature, max_new_tokens=max_new_tokens)

    def check(self, prompts: Sequence[Prompt]) -> None:
        """Raise ConfigError unless the server answers some prompts greedily as the local model does."""
        parallel.by_main(lambda: self._check(prompts))

    def _check(self, prompts: Sequence[Prompt]) -> None:
        greedy = self._sampling.model_copy(update={"temperature": 0.0})
        asked = [p.sample.messages for p in prompts[:PROBED]]
        theirs, ours = self._chat.generate(asked, greedy), self._local.generate(asked, greedy)
        differing = sum(a.text != b.text for a, b in zip(theirs, ours, strict=True))
        if differing:
            why = next((r.error for r in theirs if r.error is not None), "its greedy replies differ")
            raise ConfigError(
                f"{self._spec}: does not serve the model this run starts from ({differing} of {len(asked)} prompts: {why}). "
                "Serve that very model; its completions are weighed as draws from it."
            )

    def draw(self, prompts: Sequence[Prompt], group_size: int, step: int) -> list[Rollout]:
        """See `Sampler`. Raises ModelError for a reply that never came."""
        return parallel.by_main(lambda: self._draw(prompts, group_size, step))

    def _draw(self, prompts: Sequence[Prompt], group_size: int, step: int) -> list[Rollout]:
        asked = [(group, p) for group, p in enumerate(prompts) for _ in range(group_size)]
        sampling = self._sampling.model_copy(update={"seed": derive(self._seed, "rollout", step)})
        replies = self._chat.generate([p.sample.messages for _, p in asked], sampling)
        made = []
        for (group, p), reply in zip(asked, replies, strict=True):
            if reply.text is None:
                raise ModelError(f"{self._spec}: step {step}, sample {p.sample.id}: {reply.error}")
            ids = self._local.reply_tokens(reply.text, with_end=reply.finish_reason != "length")
            ids = ids[: self._sampling.max_new_tokens + 1] or self._local.reply_tokens("", with_end=True)
            made.append(Rollout(p.sample, group, p.ids, tuple(ids), reply.text, reply.finish_reason))
        return made
