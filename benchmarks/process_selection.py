"""How many labels active selection saves: a PRM from replies chosen as convincing wrong answers, or uniformly.

    python benchmarks/process_selection.py

The solver errs in shared ways (`process.py`). Both arms start from the same 12 labelled replies. Active: the PRM learnt from those scores
the pool, and the rest of the budget is labelled as `choose.convincing` picks it (four in five the wrong answers it rates highest);
uniform: the rest is drawn. Those 12 count in both. Every PRM starts from the solver and is trained for the same number of steps; accuracy
is best of 32 on the same questions of `test`, none of them asked by process.py. Label efficiency: ratio of labelled replies at equal
accuracy by straight lines in log labels, as in the paper; its interval draws seeds and questions. On `validation` the PRM gains nothing
above 100 replies (1,200 labels of steps), so the numbers of replies end there. Written to results/process_selection.json after every seed.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import random
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from process import PUBLISHED, REGIMES, labelled_by, learn, replies, teach
from startup import machine

from uphold import models
from uphold.core import measure, registry
from uphold.core.files import finite, write_json
from uphold.core.progress import quiet
from uphold.core.seeds import derive
from uphold.train.process.bestof import Drawn, outcomes
from uphold.train.process.choose import convincing, efficiency_interval
from uphold.train.process.labels import Labelled

BUDGETS = (25, 50, 100)
N_START, N_STEPS, N_BEST = 12, 80, 32
N_ASKED, N_EACH = 500, 4


def arm(at: str, labelled: list[Labelled], drawn: Drawn, seed: int) -> list[bool]:
    """Whether best of 32 by a PRM from these replies is right, by question."""
    with tempfile.TemporaryDirectory() as folder:
        prm = learn(at, labelled, Path(folder), seed, N_STEPS)
        return outcomes(drawn, {"PRM": drawn.scores(prm)}, [N_BEST])[N_BEST]["PRM"]


def run(at: str, pool: list[Labelled], drawn: Drawn, seed: int) -> dict[str, dict[int, list[bool]]]:
    """One seed: its own start, selector and draws; hits by arm and number of labels."""
    rng = random.Random(seed)
    order = rng.sample(pool, len(pool))
    start, rest = order[:N_START], order[N_START:]
    with tempfile.TemporaryDirectory() as folder:
        selector = learn(at, start, Path(folder), seed, N_STEPS)
        scores = selector.score([x.exchange for x in rest])
    right = [x.right == 1 for x in rest]
    found: dict[str, dict[int, list[bool]]] = {"active": {}, "uniform": {}}
    for n in BUDGETS:
        chosen = {
            "active": [rest[i] for i in convincing(scores, right, n - N_START, seed=seed)],
            "uniform": rest[: n - N_START],
        }
        for name, more in chosen.items():
            found[name][n] = arm(at, start + more, drawn, seed)
            print(seed, name, n, round(sum(found[name][n]) / len(found[name][n]), 3), flush=True)
    return found


def told(runs: list[dict[str, dict[int, list[bool]]]], drawn: Drawn, pool: list[Labelled]) -> dict[str, Any]:
    """The result of the seeds so far: label efficiency, and both arms at every number of labelled replies."""
    hits = {name: {n: [of[name][n] for of in runs] for n in BUDGETS} for name in ("active", "uniform")}
    ratio, interval, defined = efficiency_interval(hits["active"], hits["uniform"])
    seeds = list(range(len(runs)))
    about: dict[str, Any] = {"groups": [s.id for s in drawn.samples] * len(runs), "seeds": seeds}
    flat = {name: {n: [hit for of in runs for hit in of] for n, runs in by.items()} for name, by in hits.items()}
    return {
        "n_pool": len(pool),
        "wrong_in_pool": sum(x.right == 0 for x in pool) / len(pool),
        "start_labels": N_START,
        "label_efficiency": {"value": finite(ratio), "interval": [finite(interval.low), finite(interval.high)],
                             "method": f"{interval.method}; null: beyond all numbers, or not defined",
                             "n_questions": len(drawn.samples), "seeds": seeds, "resamples_defined": defined},
        "by_labels": {
            str(n): {
                **{name: measure.proportion(f"right, {name}", of[n], **about).model_dump(mode="json")
                   for name, of in flat.items()},
                "difference": measure.paired_difference("active - uniform", flat["uniform"][n], flat["active"][n],
                                                        **about).model_dump(mode="json"),
                "by_seed": {name: [sum(of) / len(of) for of in by[n]] for name, by in hits.items()},
            }
            for n in BUDGETS
        },
        "published": PUBLISHED,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--split", default="test", choices=("validation", "test"))
    parser.add_argument("--questions", type=int, default=100)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--asked-seed", type=int, default=2, help="of the questions; another one than process.py's")
    parser.add_argument("--work", type=Path, help="where process.py kept its solver")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "process_selection.json")
    a = parser.parse_args()
    quiet()
    torch.set_num_threads(1)
    began = time.monotonic()
    settings = [f"--{k.replace('_', '-')} {getattr(a, k)}" for k in ("split", "questions", "seeds", "asked_seed")]
    chains = registry.get("chains", REGIMES["shared"])
    with tempfile.TemporaryDirectory() as scratch:
        work = (a.work or Path(scratch)) / "shared"
        at = teach(chains, work, 0)
        solver: Any = models.load_weights(at)
        asked = chains.samples(a.split, a.questions, derive(a.asked_seed, "asked"))
        drawn = replies(solver, asked, N_BEST, derive(a.asked_seed, a.split), work)
        to_label = chains.samples("train", N_ASKED, derive(0, "selection"))
        pool = labelled_by(chains, replies(solver, to_label, N_EACH, derive(0, "selection pool"), work))
        print("pool", len(pool), round(time.monotonic() - began), flush=True)
        runs = []
        for seed in range(a.seeds):
            runs.append(run(at, pool, drawn, seed))
            result = told(runs, drawn, pool) | {
                "machine": machine(),
                "command": " ".join(["python benchmarks/process_selection.py", *settings]),
                "split": a.split,
                "wall_s": round(time.monotonic() - began, 1),
            }
            write_json(a.out, result)  # what stands stays, should the rest be stopped
    print(result["label_efficiency"])
    for n, of in result["by_labels"].items():
        print(
            n,
            {name: (round(of[name]["value"], 3), of[name]["interval"]) for name in ("active", "uniform", "difference")},
        )


if __name__ == "__main__":
    main()
