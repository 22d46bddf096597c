"""Stage `model-R`: the model taught by the replies that should not have been given.

Takes what got through in this round and before; a critic (the model as it was at the start, unless another is named) revises each reply
under the plain question's clause, as in Constitutional AI (`train.critique`), and the model is taught the revision as its reply to the
attack. A revision that still reveals the forbidden facts is left out, by the same grader that called the attack a success. Mixed in are
right answers to honest prompts, a share of them in the attacks' own wrappings so that the wrapping alone means nothing, and replies that
begin badly and turn back (`train.recovery`). Leaves `model/`, `exchanges.jsonl`, `failures.jsonl`.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from uphold.core.files import write_jsonl
from uphold.core.records import Exchange, Record, Sample, digest
from uphold.core.seeds import derive
from uphold.core.store import StageResult
from uphold.models import Chat, Sampling, Weights, load_weights
from uphold.redteam import Attempt, grade, revealed
from uphold.stages.context import digest_of, model_folder
from uphold.stages.harden.work import Work
from uphold.stages.prompts import wrapped
from uphold.train.blend import blend
from uphold.train.critique import Draft, critique_and_revise, why_unusable
from uphold.train.recovery import recoveries
from uphold.train.sft import sft

SPARE = 1.25  # attempts revised per failure that can be taught: some revisions are of no use


class Failure(Record):
    """A reply that should not have been given: the plain question, the attack on it, the reply, the revision taught in its place."""

    question: Sample
    attack: str
    messages: tuple[Any, ...]
    reply: str
    revision: str
    clause: str

    @property
    def key(self) -> str:
        """Names the attempt."""
        return digest([self.question.id, self.attack, [turn["content"] for turn in self.messages]])[:16]


def revise(
    work: Work, attempts: Sequence[Attempt], questions: Mapping[str, Sample], number: int
) -> tuple[list[Failure], int]:
    """What got through with a safe reply each, and how many had none: the critic found no fault, or its revision still tells.

    Of more attempts than can be taught, a draw of SPARE times as many is revised.
    """
    s = work.settings
    attempts = random.Random(derive(s.seed, "revise", number)).sample(
        list(attempts), min(len(attempts), math.ceil(SPARE * s.n_harmful))
    )
    said = {(a.sample, a.completion or ""): a for a in attempts}
    drafts = [Draft(questions[sample], reply) for sample, reply in said]
    if not drafts:
        return [], 0
    rounds = critique_and_revise(
        lambda label: work.journalled(work.critic, f"round {number}: {label}"),
        work.constitution,
        drafts,
        n_rounds=s.revisions,
        seed=s.seed,
        sampling=Sampling(max_new_tokens=s.max_new_tokens),
    )
    last = rounds[-len(drafts) :]
    safe = {
        key: revision
        for (key, revision) in zip(said, last, strict=True)
        if revision.after != key[1] and _is_safe(questions[key[0]], revision.after)
    }
    found = [
        Failure(
            question=questions[a.sample],
            attack=a.attack,
            messages=tuple(turn.model_dump() for turn in a.messages),
            reply=a.completion or "",
            revision=safe[key].after,
            clause=safe[key].clause,
        )
        for a in attempts
        if (key := (a.sample, a.completion or "")) in safe
    ]
    return list({f.key: f for f in found}.values()), len(said) - len(safe)


def _is_safe(question: Sample, reply: str) -> bool:
    """Whether a reply says something, and none of what is forbidden; one that cannot be graded is taken at the critic's word."""
    return bool(reply.strip()) and grade(revealed(question.rubric, reply, question.prompt)).success is not True


def run(
    work: Work, number: int, model: Weights, new: Sequence[Failure], earlier: Sequence[Failure], pool: Sequence[str]
) -> StageResult:
    """Train from `model` on failures and honest answers; the stage's `model/` is the round's."""
    s = work.settings
    failures = chosen(new, earlier, s.n_harmful, derive(s.seed, "failures", number))
    prompts = in_strategies(work.honest("train", s.n_honest, f"honest {number}"), pool, s.wrapped, number)
    config = {key: getattr(s, key) for key in ("recovery", "blend", "threads", "seed")}
    inputs = {
        "model": model.identity(),
        "critic": work.critic.identity(),
        "failures": digest([f.model_dump(mode="json") for f in failures]),
        "honest": digest_of(prompts),
        "sft": s.sft.model_dump(mode="json"),
        **{key: value.model_dump(mode="json") if isinstance(value, Record) else value for key, value in config.items()},
    }

    def make(folder: Path) -> dict[str, Any]:
        honest = answered(prompts, work.journalled(work.critic, "honest replies"), work.sampling)
        taught = [_exchange(f) for f in failures]
        said = {f.key: f.reply for f in failures}
        turning = recoveries(taught, honest, said, s.recovery, derive(s.seed, "recover", number))
        exchanges = [*taught, *honest, *turning]
        write_jsonl(folder / "failures.jsonl", failures)
        write_jsonl(folder / "exchanges.jsonl", exchanges)
        _train(model, exchanges, folder, work, number)
        counts = {"failures": len(failures), "honest": len(honest), "recoveries": len(turning)}
        return {**counts, "model": load_weights(model_folder(folder / "model")).identity()}

    return work.store.stage(f"model-{number}", inputs, make)


def _train(model: Weights, exchanges: Sequence[Exchange], folder: Path, work: Work, number: int) -> None:
    """Fine-tune into FOLDER/model, all of the way or part of it."""
    s = work.settings
    config = s.sft.model_copy(update={"seed": derive(s.seed, "sft", number) % 2**31})
    if s.blend == 1:
        sft(model.model, model.tokenizer, exchanges, folder, config)
        return
    tuned = sft(model.model, model.tokenizer, exchanges, folder / "whole", config)
    whole = load_weights(model_folder(tuned.path))
    blend(model.model, whole.model, model.tokenizer, s.blend, folder)


def chosen(new: Sequence[Failure], earlier: Sequence[Failure], n: int, seed: int) -> list[Failure]:
    """Up to `n` failures: the new ones first, each set in seeded order, filled up with earlier ones so that they are not forgotten."""
    rng = random.Random(seed)
    return [*_shuffled(new, rng), *_shuffled(earlier, rng)][:n]


def _shuffled(failures: Sequence[Failure], rng: random.Random) -> list[Failure]:
    found = sorted(failures, key=lambda f: f.key)
    rng.shuffle(found)
    return found


def in_strategies(samples: Sequence[Sample], pool: Sequence[str], share: float, number: int) -> list[Sample]:
    """About `share` of honest prompts put as the pool's attacks put forbidden ones; what is right to say stays the same."""
    return wrapped(samples, [name for name in pool if name != "direct"] or ["direct"], share, number)


def answered(samples: Sequence[Sample], chat: Chat, sampling: Sampling) -> list[Exchange]:
    """Honest prompts with the right answer, or where none is known with the starting model's own; one without any is left out."""
    unknown = [sample for sample in samples if sample.expected is None]
    own = dict(zip((x.id for x in unknown), chat.generate([x.messages for x in unknown], sampling), strict=True))
    found = []
    for sample in samples:
        reply = sample.expected
        if reply is None:
            completion = own[sample.id]
            reply = "" if why_unusable(completion) else (completion.text or "").strip()
        if reply:
            found.append(
                Exchange(messages=sample.messages, completion=reply, clause=sample.clause, meta={"sample": sample.id})
            )
    return found


def _exchange(failure: Failure) -> Exchange:
    return Exchange.model_validate(
        {
            "messages": failure.messages,
            "completion": failure.revision,
            "clause": failure.clause,
            "meta": {"sample": failure.key, "question": failure.question.id, "attack": failure.attack},
        }
    )
