"""Process against outcome supervision on long chains: best of n by PRM, ORM and majority vote, where errors are shared and where not.

    python benchmarks/process.py

A solver is the clerk, fine-tuned on fallible chains of twelve steps for three products, and sampled at temperature 0.85. In `shared`
(builtin:invoice) three of five departments have a false rule, so replies to one question make the same errors; in `scattered`
(builtin:invoice-scattered) any product slips in any way. Everything else is the same. Verifiers start from the solver and learn from the
same replies of its own to training questions, with the same steps of training. PRM: the checker's label of every step, as people would
give them; product over steps. ORM: whether the answer is right, read at the end. Every seed has its own 400 replies and verifiers; solver
and questions (of the `test` split) are the same. Settings were chosen on `validation`. Differences are paired by question, intervals
clustered by question. Required where errors are shared: PRM > ORM > majority at n >= 32. Written to results/process.json, .png and .csv.
With --work, solvers and replies are kept, and taken up by the next run and by process_selection.py.
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
from uphold.core.files import read_json, write_json
from uphold.core.progress import quiet
from uphold.core.records import Exchange, Sample, digest
from uphold.core.seeds import derive
from uphold.models.base import Sampling
from uphold.train.goodhart.curve import draw
from uphold.train.process.aggregate import aggregate
from uphold.train.process.bestof import Drawn, compared, joined, outcomes
from uphold.train.process.figure import draw_best_of
from uphold.train.process.labels import Labelled, judge_labels, rollout_labels
from uphold.train.process.model import ProcessConfig, ProcessReward, train_process
from uphold.train.process.steps import answer_of, split_steps
from uphold.train.reliability import calibration_error
from uphold.train.reward_net import open_base
from uphold.train.sft import SFTConfig, sft

RESULTS = Path(__file__).parent / "results"
REGIMES = {"shared": "builtin:invoice", "scattered": "builtin:invoice-scattered"}
SAMPLING = Sampling(temperature=0.85, max_new_tokens=136)
N_TAUGHT, N_ASKED, N_EACH, N_LABELLED, N_STEPS = 4000, 300, 4, 400, 240
CHUNK = 100
PUBLISHED = (
    "Lightman et al. (arXiv:2305.20050), another system: GPT-4-based PRM 78.2%, ORM 72.4%, majority vote 69.6% on 500 MATH problems, best "
    "of 1,860; active selection 2.6 times as label-efficient as uniform"
)


def teach(chains: Any, folder: Path, seed: int) -> str:
    """A solver that learnt from this source's chains, slips and all; its folder. One that is finished there is taken up."""
    clerk: Any = models.load_weights("builtin:clerk")
    rng = random.Random(seed)
    asked = chains.samples("train", N_TAUGHT, derive(seed, "taught"))
    taught = [Exchange(messages=s.messages, completion=chains.slip(s, rng)) for s in asked]
    config = SFTConfig(epochs=3, lr=1e-3, batch_tokens=2048, seed=seed)
    return f"hf:{sft(clerk.model, clerk.tokenizer, taught, folder / 'solver', config).path}"


def replies(solver: Any, samples: Sequence[Sample], n: int, seed: int, work: Path) -> Drawn:
    """`n` replies to each question, drawn for a hundred questions at a time; what `work` holds already is taken up."""
    sampling, found = SAMPLING.model_copy(update={"seed": seed}), []
    for i in range(0, len(samples), CHUNK):
        part = samples[i : i + CHUNK]
        key = digest([solver.identity(), [s.id for s in part], n, sampling.model_dump(mode="json")])
        kept = work / f"replies-{key[:16]}.json"
        if not kept.exists():
            write_json(kept, draw(solver, part, n, sampling))
        found += read_json(kept)
    return Drawn(samples, found)


def labelled_by(chains: Any, drawn: Drawn) -> list[Labelled]:
    """Every distinct reply with the checker's labels of its steps and whether its answer is right."""
    pairs = [(s, r) for s, r in drawn.distinct() if r.strip()]
    return [
        Labelled(messages=s.messages, completion=r, labels=of, right=float(answer_of(r) == answer_of(s.expected or "")))
        for (s, r), of in zip(pairs, judge_labels(chains.check, pairs), strict=True)
    ]


def learn(
    base: str, labelled: Sequence[Labelled], out: Path, seed: int, n_steps: int = N_STEPS, **how: Any
) -> ProcessReward:
    config = ProcessConfig(epochs=1000, max_steps=n_steps, lr=1e-3, batch_tokens=1024, seed=seed, **how)
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


def held_out(
    chains: Any, asked: Sequence[tuple[Sample, str]], found: Sequence[tuple[float, ...] | None]
) -> dict[str, float]:
    """The PRM's probabilities on the distinct replies: accuracy of its steps, and how far the probabilities are off (10 bins)."""
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


def run(
    name: str, seeds: Sequence[int], split: str, n_questions: int, n: int, asked_seed: int, work: Path, folder: Path
) -> dict[str, Any]:
    """One regime: a solver, its replies to the questions, and for every seed both verifiers from labelled replies of their own."""
    began = time.process_time()
    chains = registry.get("chains", REGIMES[name])
    at = teach(chains, work / name, 0)
    solver = models.load_weights(at)
    mark(name, "solver", began)
    asked = chains.samples(split, n_questions, derive(asked_seed, "asked"))
    drawn = replies(solver, asked, n, derive(asked_seed, split), work / name)
    to_learn = chains.samples("train", N_ASKED, derive(0, "learning"))
    learning = replies(solver, to_learn, N_EACH, derive(0, "pool"), work / name)
    mark(name, "replies", began)
    pool = labelled_by(chains, learning)
    found: dict[str, Any] = {"solver": facts(drawn), "rollouts": agreement(solver, chains, learning)}
    found |= {"seeds": {}, "distinct_replies": len(drawn.distinct())}
    for seed in seeds:
        labelled = random.Random(seed).sample(pool, N_LABELLED)
        prm = learn(at, labelled, folder / f"prm{seed}", seed)
        orm = learn(at, labelled, folder / f"orm{seed}", seed, reads="reply")
        found["seeds"][seed] = judged(chains, drawn, prm, orm) | {
            "right_answer_by_a_wrong_step": sum(x.right == 1 and 0 in x.labels for x in labelled) / N_LABELLED
        }
        mark(name, f"seed {seed}", began)
    found["questions"] = [s.id for s in drawn.samples]
    return found | {"n_pool": len(pool), "n_labelled": N_LABELLED, "cpu_s": round(time.process_time() - began, 1)}


def judged(chains: Any, drawn: Drawn, prm: ProcessReward, orm: ProcessReward) -> dict[str, Any]:
    """Best of n by both verifiers, the PRM also by other aggregates at the largest n."""
    asked = drawn.distinct()
    of_steps = prm.steps([Exchange(messages=s.messages, completion=r) for s, r in asked])
    known = {(s.id, r): steps for (s, r), steps in zip(asked, of_steps, strict=True)}

    def scores(how: Any) -> list[list[float | None]]:
        return [
            [None if (steps := known[s.id, r]) is None else aggregate(steps, how) for r in of]
            for s, of in zip(drawn.samples, drawn.replies, strict=True)
        ]

    most = len(drawn.replies[0])
    ns = [n for n in (1, 2, 4, 8, 16, 32, 64, 128) if n <= most]
    hows = {how: outcomes(drawn, {how: scores(how)}, [most])[most][how] for how in ("product", "min", "last", "mean")}
    return {
        "outcomes": outcomes(drawn, {"PRM": scores(prm.how), "ORM": drawn.scores(orm)}, ns),
        "aggregates": {how: sum(hits) / len(hits) for how, hits in hows.items()},
        "prm": held_out(chains, asked, of_steps),
    }


def mark(name: str, what: str, began: float) -> None:
    print(f"{name}: {what}, {time.process_time() - began:.0f} s of CPU", flush=True)


def agreement(solver: Any, chains: Any, learning: Drawn) -> dict[str, float]:
    """How far labels by four roll-outs agree with the checker's, on the steps of 24 replies."""
    pairs = [(s, r) for s, r in learning.distinct() if r.strip()]
    some = random.Random(0).sample(pairs, min(24, len(pairs)))
    drawn, truth = (
        rollout_labels(solver, some, n=4, max_new_tokens=SAMPLING.max_new_tokens),
        judge_labels(chains.check, some),
    )
    cells = [(r > 0, t == 1) for of, true in zip(drawn, truth, strict=True) for r, t in zip(of, true, strict=True)]
    return {"n_steps": len(cells), "agree": sum(a == b for a, b in cells) / len(cells)}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--split", default="test", choices=("validation", "test"))
    parser.add_argument("--questions", type=int, default=500)
    parser.add_argument("--scattered", type=int, default=150, help="questions where errors scatter")
    parser.add_argument("--seeds", type=int, default=3, help="of the verifiers")
    parser.add_argument("--n", type=int, default=32, help="replies to each question")
    parser.add_argument("--asked-seed", type=int, default=1, help="of the questions and their replies")
    parser.add_argument(
        "--work", type=Path, help="where solvers and replies are kept for the next run (default: nowhere)"
    )
    parser.add_argument("--out", type=Path, default=RESULTS)
    a = parser.parse_args()
    quiet()
    torch.set_num_threads(1)
    seeds = list(range(a.seeds))
    settings = ("split", "questions", "scattered", "seeds", "n", "asked_seed")
    command = " ".join(
        ["python benchmarks/process.py", *(f"--{name.replace('_', '-')} {getattr(a, name)}" for name in settings)]
    )
    result: dict[str, Any] = {"machine": machine(), "command": command, "split": a.split, "published": PUBLISHED}
    panels = {}
    for name, n_questions in (("shared", a.questions), ("scattered", a.scattered)):
        with tempfile.TemporaryDirectory() as scratch:
            told = run(name, seeds, a.split, n_questions, a.n, a.asked_seed, a.work or Path(scratch), Path(scratch))
        by_seed = [of.pop("outcomes") for of in told["seeds"].values()]
        groups = told.pop("questions") * len(seeds)
        found = panels[f"errors {name}"] = compared(joined(by_seed), groups, seeds=seeds)
        for of, hits in zip(told["seeds"].values(), by_seed, strict=True):
            of["right"] = {n: {k: sum(x) / len(x) for k, x in by.items()} for n, by in hits.items()}
        result[name] = told | {
            "n_questions": n_questions,
            "by_n": {str(n): {k: m.model_dump(mode="json") for k, m in of.items()} for n, of in found.items()},
        }
        write_json(a.out / "process.json", result)  # what stands stays, should the rest be stopped
        print(name, told["solver"], told["rollouts"], flush=True)
        for n, of in found.items():
            print(n, {k: (round(m.value or 0, 3), *(round(x, 3) for x in m.interval or ())) for k, m in of.items()})
    draw_best_of(a.out, panels, "process")


if __name__ == "__main__":
    main()
