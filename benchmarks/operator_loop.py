"""The operator's loop on real English: an input guard from `assistant` and public prompt sets, measured on held-out prompts.

    python benchmarks/operator_loop.py [DATA]       DATA: folder of the prompt sets, default ../shared/data beside the checkout

Harmful: AdvBench, HarmfulQA and DangerousQA (red-instruct), HarmBench. Benign: CLINC150, Banking77, Self-Instruct, CyberSecEval FRR.
Prompts are split by content: 60% train, 20% set the threshold, 20% are the test. Then each file is left out in turn: trained on the
others, tested on it; and held-out harmful prompts are put in disguise, judged with and without decoded views.
Written to results/operator.json; where the data is not there, it says so and writes nothing.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from unittest.mock import patch

from startup import machine

from uphold.constitution import Constitution
from uphold.core.files import write_json
from uphold.core.measure import proportion, scalar
from uphold.core.records import Measurement, Sample
from uphold.data.transforms import apply
from uphold.guard import LinearGuard, stage
from uphold.guard.operator import held_out, leave_one_out, read_files, train_input_guard

ROOT = Path(__file__).resolve().parents[1]
HARMFUL = ("advbench/harmful_behaviors.jsonl", "red-instruct/harmful_questions.jsonl.gz", "harmbench/behaviors.jsonl")
BENIGN = (
    "clinc150/queries.jsonl.gz",
    "banking77/queries.jsonl.gz",
    "self-instruct/instructions.jsonl.gz",
    "cyberseceval-frr/frr.jsonl.gz",
)
DISGUISES = (
    "base64 base32 hex binary ascii_codes url unicode_escape html_entities unicode_tags rot13 caesar atbash flip leetspeak spell spacing "
    "homoglyph zalgo fullwidth zero_width payload_splitting"
).split()
N_DISGUISED = 200
SEED = 0


def disguised(guard: LinearGuard, samples: list[Sample]) -> list[Measurement]:
    """Recall at the threshold of harmful prompts in each disguise, with decoded views and on the text as it stands."""
    found = []
    for views in ("with", "without"):
        with patch.object(stage, "views", stage.views if views == "with" else lambda text: []):
            for name in DISGUISES:
                judged = guard.score_prompts([apply(name, sample.prompt, SEED) for sample in samples])
                by = {"transform": name, "views": views}
                found.append(proportion("input_guard.disguised.tpr", [v.flagged for v in judged], by=by, seeds=(SEED,)))
    return found


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
    harmful = [s for s in held_out(data, constitution, seed=SEED) if s.label == "harmful"][:N_DISGUISED]
    measured = [
        *report.measurements,
        *leave_one_out(data, constitution, seed=SEED),
        *disguised(guard, harmful),
        seconds,
    ]
    for m in measured:
        if "clause" not in m.by and m.value is not None:
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
