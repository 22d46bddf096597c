"""Process against outcome supervision on refund chains: best of n by PRM, ORM and majority vote, where errors are shared and where not.

    python benchmarks/process.py

A solver is the clerk, fine-tuned on chains that slip in 45% of cases, and sampled at temperature 1. In `shared` (chains builtin:refund)
three departments have a false rule, so replies to one question make the same error; in `scattered` (builtin:refund-scattered) any chain
slips in any way. Everything else is the same. Verifiers start from the solver and learn from the same replies of its own to training
questions, with the same steps of training. PRM: the checker's label of every step, as people would give them; product over steps. ORM:
whether the answer is right, learnt as said by --orm. Every seed has its own solver, verifiers and questions of the `test` split; settings
were chosen on `validation`. Differences are paired by question. Required where errors are shared: PRM > ORM > majority at n >= 32.
Written to results/process.json, results/process.png and .csv. Active selection: process_selection.py.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import random
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from startup import machine

from uphold import models
from uphold.core import registry
from uphold.core.files import write_json
from uphold.core.progress import quiet
from uphold.core.records import Exchange, Sample
from uphold.core.seeds import derive
from uphold.models.base import Sampling
from uphold.train.goodhart.curve import draw
from uphold.train.process.aggregate import aggregate
from uphold.train.process.bestof import Drawn, Outcomes, compared, joined, outcomes
from uphold.train.process.figure import draw_best_of
from uphold.train.process.labels import Labelled, judge_labels, rollout_labels
from uphold.train.process.model import ProcessConfig, ProcessReward, train_process
from uphold.train.process.steps import answer_of, split_steps
from uphold.train.reliability import calibration_error
from uphold.train.reward_net import open_base
from uphold.train.sft import SFTConfig, sft

RESULTS = Path(__file__).parent / "results"
REGIMES = {"shared": "builtin:refund", "scattered": "builtin:refund-scattered"}
NS = (1, 2, 4, 8, 16, 32, 64)
SAMPLING = Sampling(temperature=1.0, max_new_tokens=64)
N_TAUGHT, N_ASKED, N_EACH, N_STEPS = 3000, 600, 8, 200
PUBLISHED = (
    "Lightman et al. (arXiv:2305.20050), another system: GPT-4-based PRM 78.2%, ORM 72.4%, majority vote 69.6% on 500 MATH problems, best "
    "of 1,860; active selection 2.6 times as label-efficient as uniform"
)


def teach(chains: Any, folder: Path, seed: int) -> str:
    """A solver that learnt from this source's chains, slips and all; its folder."""
    clerk: Any = models.load_weights("builtin:clerk")
    rng = random.Random(seed)
    asked = chains.samples("train", N_TAUGHT, derive(seed, "taught"))
    taught = [Exchange(messages=s.messages, completion=chains.slip(s, rng)) for s in asked]
    config = SFTConfig(epochs=2, lr=5e-4, batch_tokens=4096, seed=seed)
    return f"hf:{sft(clerk.model, clerk.tokenizer, taught, folder / 'solver', config).path}"


def replies(solver: Any, samples: Sequence[Sample], n: int, seed: int) -> Drawn:
    return Drawn(samples, draw(solver, samples, n, SAMPLING.model_copy(update={"seed": seed})))


def labelled_by(chains: Any, drawn: Drawn) -> list[Labelled]:
    """Every distinct reply with the checker's labels of its steps and whether its answer is right."""
    pairs = [(s, r) for s, r in drawn.distinct() if r.strip()]
    return [
        Labelled(messages=s.messages, completion=r, labels=of, right=float(answer_of(r) == answer_of(s.expected or "")))
        for (s, r), of in zip(pairs, judge_labels(chains.check, pairs), strict=True)
    ]


def by_outcome(labelled: Sequence[Labelled]) -> list[Labelled]:
    """The answer's label at the end of every step: an outcome model that is read, in training, after every step."""
    return [x.model_copy(update={"labels": (x.right,) * len(x.labels)}) for x in labelled]


def learn(base: str, labelled: Sequence[Labelled], out: Path, seed: int, n_steps: int, **how: Any) -> ProcessReward:
    config = ProcessConfig(epochs=1000, max_steps=n_steps, lr=1e-3, batch_tokens=3072, seed=seed, **how)
    return ProcessReward.load(train_process(open_base(base), labelled, out, config).path)


def facts(drawn: Drawn) -> dict[str, float]:
    """How the solver errs: accuracy of one reply, different answers to a question, and how often a wrong answer outvotes the right one."""
    n, n_each = len(drawn.samples), len(drawn.replies[0])
    right, answers, top_wrong, outvoted = 0, 0, 0, 0
    for s, of in zip(drawn.samples, drawn.replies, strict=True):
        votes = Counter(answer_of(r) for r in of)
        answers += len(votes)
        hits = votes.pop(answer_of(s.expected or ""), 0)
        most = max(votes.values(), default=0)
        right, top_wrong, outvoted = right + hits, top_wrong + most, outvoted + (most > hits)
    return {
        "one_reply_right": right / (n * n_each),
        "answers_per_question": answers / n,
        "most_frequent_wrong_answer": top_wrong / (n * n_each),
        "right_answer_outvoted": outvoted / n,
    }


def held_out(chains: Any, prm: ProcessReward, drawn: Drawn) -> dict[str, float]:
    """The PRM on the distinct test replies: accuracy of its steps, and how far its probabilities are off (10 bins)."""
    asked = drawn.distinct()
    found = prm.steps([Exchange(messages=s.messages, completion=r) for s, r in asked])
    cells = [
        (p, float(t))
        for (s, r), of in zip(asked, found, strict=True)
        if of is not None
        for p, t in zip(of, chains.check(s, split_steps(r)), strict=True)
    ]
    return {
        "n_steps": len(cells),
        "step_accuracy": sum((p >= 0.5) == (t == 1) for p, t in cells) / len(cells),
        "calibration_error": calibration_error(*zip(*cells, strict=True)),
    }


def run(name: str, seed: int, split: str, n_questions: int, folder: Path) -> dict[str, Any]:
    """One seed of one regime: a solver, its verifiers, and best of n on its questions."""
    chains = registry.get("chains", REGIMES[name])
    at = teach(chains, folder, seed)
    solver = models.load_weights(at)
    drawn = replies(solver, chains.samples(split, n_questions, derive(seed, "asked")), max(NS), derive(seed, split))
    learning = replies(solver, chains.samples("train", N_ASKED, derive(seed, "learning")), N_EACH, derive(seed, "pool"))
    labelled = labelled_by(chains, learning)
    prm = learn(at, labelled, folder / "prm", seed, N_STEPS)
    orm = learn(at, labelled, folder / "orm", seed, N_STEPS, reads="reply")
    asked = drawn.distinct()
    of_steps = prm.steps([Exchange(messages=s.messages, completion=r) for s, r in asked])
    known = {(s.id, r): steps for (s, r), steps in zip(asked, of_steps, strict=True)}

    def scores(how: Any) -> list[list[float | None]]:
        return [
            [None if (steps := known[s.id, r]) is None else aggregate(steps, how) for r in of]
            for s, of in zip(drawn.samples, drawn.replies, strict=True)
        ]

    found = outcomes(drawn, {"PRM": scores("product"), "ORM": drawn.scores(orm)}, NS)
    hows = {how: outcomes(drawn, {how: scores(how)}, [max(NS)])[max(NS)][how] for how in ("product", "min", "last", "mean")}  # fmt: skip
    return {
        "seed": seed,
        "outcomes": found,
        "aggregates": {how: sum(hits) / len(hits) for how, hits in hows.items()},
        "questions": [s.id for s in drawn.samples],
        "labelled_replies": len(labelled),
        "right_answer_by_a_wrong_step": sum(x.right == 1 and 0 in x.labels for x in labelled),
        "solver": facts(drawn),
        "prm": held_out(chains, prm, drawn),
        "rollouts": agreement(solver, chains, learning, seed),
    }


def agreement(solver: Any, chains: Any, learning: Drawn, seed: int) -> dict[str, float]:
    """How far labels by four roll-outs agree with the checker's, on the steps of 100 replies."""
    pairs = [(s, r) for s, r in learning.distinct() if r.strip()]
    some = random.Random(seed).sample(pairs, min(100, len(pairs)))
    drawn, truth = rollout_labels(solver, some, n=4, seed=seed), judge_labels(chains.check, some)
    cells = [(r > 0, t == 1) for of, true in zip(drawn, truth, strict=True) for r, t in zip(of, true, strict=True)]
    return {"n_steps": len(cells), "agree": sum(a == b for a, b in cells) / len(cells)}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--split", default="test", choices=("validation", "test"))
    parser.add_argument("--questions", type=int, default=200, help="a seed")
    parser.add_argument("--seeds", type=int, default=3, help="where errors are shared; one where they scatter")
    parser.add_argument("--out", type=Path, default=RESULTS)
    a = parser.parse_args()
    quiet()
    torch.set_num_threads(1)
    began = time.monotonic()
    result: dict[str, Any] = {"machine": machine(), "command": "python benchmarks/process.py", "split": a.split}
    panels = {}
    for name, seeds in (("shared", range(a.seeds)), ("scattered", range(1))):
        runs = []
        for seed in seeds:
            with tempfile.TemporaryDirectory() as scratch:
                runs.append(run(name, seed, a.split, a.questions, Path(scratch)))
            print(name, seed, round(time.monotonic() - began), runs[-1]["solver"], runs[-1]["prm"], flush=True)
            tell(runs[-1]["outcomes"])
        groups = [q for of in runs for q in of["questions"]]
        found = compared(joined([of["outcomes"] for of in runs]), groups, seeds=list(seeds))
        panels[f"errors {name}"] = found
        result[name] = {
            "by_n": {str(n): {k: m.model_dump(mode="json") for k, m in of.items()} for n, of in found.items()},
            "by_seed": [{**of, "outcomes": shares(of["outcomes"]), "questions": len(of["questions"])} for of in runs],
        }
    write_json(a.out / "process.json", result | {"published": PUBLISHED, "wall_s": round(time.monotonic() - began, 1)})
    draw_best_of(a.out, panels, "process")
    for name, found in panels.items():
        for key, m in found[max(NS)].items():
            print(name, key, m.value, m.interval)


def shares(found: Outcomes) -> dict[int, dict[str, float]]:
    return {n: {k: sum(hits) / len(hits) for k, hits in of.items()} for n, of in found.items()}


def tell(found: Outcomes) -> None:
    for n, of in shares(found).items():
        print(n, {k: round(v, 3) for k, v in of.items()}, flush=True)


if __name__ == "__main__":
    main()
