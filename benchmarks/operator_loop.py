"""The operator's loop on real English: an input guard from `assistant` and public prompt sets, measured on held-out prompts.

    python benchmarks/operator_loop.py [DATA]       DATA: folder of the prompt sets, default ../shared/data beside the checkout

Harmful: AdvBench, HarmfulQA and DangerousQA (red-instruct), HarmBench. Benign: CLINC150, Banking77, Self-Instruct, CyberSecEval FRR.
Prompts are split by content: 60% train, 20% set the threshold, 20% are the test. Then each file is left out in turn: trained on the
others, tested on it. Written to results/operator.json; where the data is not there, it says so and writes nothing.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from startup import machine

from uphold.constitution import Constitution
from uphold.core.files import write_json
from uphold.core.measure import scalar
from uphold.guard.operator import leave_one_out, read_files, train_input_guard

ROOT = Path(__file__).resolve().parents[1]
HARMFUL = ("advbench/harmful_behaviors.jsonl", "red-instruct/harmful_questions.jsonl.gz", "harmbench/behaviors.jsonl")
BENIGN = (
    "clinc150/queries.jsonl.gz",
    "banking77/queries.jsonl.gz",
    "self-instruct/instructions.jsonl.gz",
    "cyberseceval-frr/frr.jsonl.gz",
)
SEED = 0


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT.parent / "shared" / "data"
    missing = [name for name in (*HARMFUL, *BENIGN) if not (folder / name).is_file()]
    if missing:
        print(f"skipped: {folder} lacks {', '.join(missing)}. Name the folder that holds the prompt sets.")
        return
    constitution = Constitution.load("assistant")
    data = read_files([folder / name for name in HARMFUL], [folder / name for name in BENIGN])
    began = time.process_time()
    guard, report = train_input_guard(data, constitution, seed=SEED)
    seconds = scalar("train_cpu_s", time.process_time() - began, 1, unit="s", higher_is_better=False, seeds=(SEED,))
    measured = [*report.measurements, *leave_one_out(data, constitution, seed=SEED), seconds]
    for m in measured:
        if m.by.keys() <= {"source"} and m.value is not None:
            low, high = m.interval or (float("nan"), float("nan"))
            name = " ".join([m.metric, *m.by.values()])
            print(f"{name:75} {m.value:.4f}  (n={m.n_scored}, 95% {low:.4f}-{high:.4f})")
    print(f"threshold: {report.thresholds['input'].sentence()}")
    path = Path(__file__).parent / "results" / "operator.json"
    write_json(
        path,
        {
            "machine": machine(),
            "command": "python benchmarks/operator_loop.py",
            "data": data.about(),
            "counts": report.counts["input"],
            "threshold": report.thresholds["input"],
            "guard": guard.identity(),
            "measurements": measured,
        },
    )
    print(f"written {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
