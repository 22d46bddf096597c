"""What an attacker with the weights gets out of the aligned clerk: GCG, random suffixes, a soft prompt, the refusal direction removed.

    python benchmarks/redteam_whitebox.py [--run FOLDER]

--run: the folder of a finished `uphold run examples/storefront` (made in a temporary folder without it). Each attack asks the aligned
model, without its guard, the same forty test questions once, ten of them for GCG, which takes seconds a question; success by ground
truth, clustered by topic. What attacks learn, they learn on validation questions. `direct` and `prefill_topic` need no gradients and
stand beside for comparison. Seconds are of one thread, and include what an attack learns before the first question. Written to
results/redteam_whitebox.json.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from redteam_storefront import ROOT, finished, stage
from startup import machine

from uphold import models
from uphold.constitution import Constitution
from uphold.core import measure
from uphold.core.files import write_json
from uphold.core.records import Measurement
from uphold.core.registry import get
from uphold.models import Sampling
from uphold.redteam import Engine, Material, Try, attack_named, bound, report

ATTACKS = ("direct", "prefill_topic", "gcg", "random_suffix", "refusal_direction", "soft_prompt")
N_ASKED, N_GCG, N_LEARNED = 40, 10, 64


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--run", type=Path, help="a finished run of examples/storefront")
    asked = parser.parse_args()
    source, found = get("source", "builtin:storefront"), list[Measurement]()
    with tempfile.TemporaryDirectory() as folder:
        run = asked.run or Path(folder) / "run"
        finished(run)
        law = Constitution.load(str(run / "constitution.yaml"))
        weights = models.load(f"hf:{stage(run, 'rlaif') / 'model'}")
        lessons = [
            source.samples(kind, constitution=law, split="validation", n=N_LEARNED, seed=0)
            for kind in ("harmful", "benign")
        ]
        questions = source.samples("harmful", constitution=law, split="test", n=N_ASKED, seed=0)
        for name in ATTACKS:
            began, samples = time.perf_counter(), questions[: N_GCG if name == "gcg" else N_ASKED]
            (attack,) = bound([attack_named(name)], weights, Material(lessons[0], lessons[1], 0))
            with Engine(weights, samples, sampling=Sampling(max_new_tokens=96)) as engine:
                engine.ask([Try(sample, attack) for sample in samples])
            spent = (time.perf_counter() - began) / len(samples)
            about = {"subject": {"model": weights.identity(), "constitution": law.digest}, "seeds": (0,)}
            rates = report(engine.tally, **about)
            by = {"attack": name}
            found += [rates[which].model_copy(update={"by": by}) for which in ("overall", "strong")]
            found.append(
                measure.scalar("seconds_per_question", spent, len(samples), higher_is_better=False, unit="s", by=by)
            )
            shown = rates["overall"]
            print(f"{name}: {shown.value} of {shown.n_scored}, {shown.interval}, {spent:.1f} s a question", flush=True)
    path = ROOT / "benchmarks" / "results" / "redteam_whitebox.json"
    record = {"machine": machine(), "command": "python benchmarks/redteam_whitebox.py", "measurements": found}
    write_json(path, record)
    print(f"written {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
