"""How well the prompt-injection detector finds instructions hidden in documents that it was never trained on.

    python benchmarks/injection.py [DATA] [GUARD]

DATA: folder of the public corpora (default ../shared/data beside the checkout); GUARD: a document guard (default builtin:injection). Held
out: BIPIA's attacks, each put into one of its e-mails at the start, middle or end, against the same e-mails clean; and generated
documents whose templates no other part holds. CyberSecEval's direct injections were used to choose, and are shown for that. Other guards
stand beside it: builtin:assistant, which was not made for this, and the linear guard on the same generated documents. Written to
results/injection.json.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from startup import machine

from uphold.core.files import write_json
from uphold.core.measure import proportion
from uphold.core.records import Measurement, Sample
from uphold.core.seeds import uniform
from uphold.data.files import read_rows
from uphold.guard import Guard
from uphold.guard.corpora import read_corpus
from uphold.guard.document import DocumentGuard
from uphold.guard.evaluate import evaluate, measured, verdicts
from uphold.guard.examples import data_hash, exchange_of, group_of, is_harmful
from uphold.guard.features import FeatureSpec
from uphold.guard.fitting import GuardSettings
from uphold.guard.injection import CHOOSING, held_out_mail
from uphold.guard.injection_data import document, generated
from uphold.guard.train import train_linear

ROOT = Path(__file__).resolve().parents[1]
SEED = 0


def sets_of(data: Path) -> dict[str, list[Sample]]:
    """Name -> labelled documents."""
    test = generated("test", 150, SEED)
    found: dict[str, list[Sample]] = {"generated, templates held out": test}
    if (data / "bipia-injection").exists():
        clean, attacked = held_out_mail(data)
        found["BIPIA attacks in e-mails, held out"] = [*clean, *attacked]
        for kind in ("text", "code"):
            of_kind = [s for s in attacked if str(s.meta["kind"]).startswith(kind)]
            found[f"of these, {kind} attacks"] = [*clean, *of_kind]
    if (data / CHOOSING.name).exists():
        benign = [s for s in generated("validation", 150, 7) if s.label == "benign"]
        found["CyberSecEval injections against generated clean documents, used to choose"] = [
            *read_corpus(data, CHOOSING),
            *benign,
        ]
    return found


def prose_of_others(data: Path) -> list[Sample]:
    """Clean text that was not trained on: 300 replies of hh-rlhf."""
    path = data / "hh-rlhf-harmless" / "harmless_base.jsonl.gz"
    texts = (
        [str(row["chosen"]).rpartition("Assistant:")[2].strip() for _, row in read_rows(path)] if path.exists() else []
    )
    kept = sorted({text for text in texts if len(text) > 40}, key=lambda text: uniform(text, "prose"))[:300]
    return [document(text, "benign", source="hh-rlhf") for text in kept]


def linear() -> Any:
    """The linear guard on the same generated documents."""
    settings = GuardSettings(features=FeatureSpec(bits=17), c=(3.0,), q0=(1000.0,))
    fit = [*generated("train", 1500, SEED, whole=False)[:1500], *generated("train", 700, SEED)[700:]]
    guard, _ = train_linear({"fit": fit, "threshold": generated("validation", 600, SEED)}, settings, {})
    return guard


def where(guard: DocumentGuard, attacked: list[Sample]) -> Measurement:
    """Share of flagged documents whose highest sentence overlaps the attack."""
    right: list[bool] = []
    groups = []
    for sample in attacked:
        if guard.score([exchange_of(sample)])[0].flagged:
            text, attack = sample.prompt, str(sample.meta["attack"])
            start = text.index(attack)
            top = max(guard.spans(text), key=lambda span: span.score)
            right.append(min(top.end, start + len(attack)) > max(top.start, start))
            groups.append(group_of(sample))
    about: dict[str, Any] = {"subject": {"guard": guard.identity()}, "data": data_hash(attacked), "seeds": (SEED,)}
    return proportion("span_found", right, groups=groups, note="of flagged BIPIA documents", **about)


def main() -> None:
    data = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT.parent / "shared" / "data"
    detector = Guard.load(sys.argv[2] if len(sys.argv) > 2 else "builtin:injection")
    assert isinstance(detector, DocumentGuard)
    guards: dict[str, Any] = {"detector": detector, "linear": linear(), "builtin:assistant": detector.base}
    sets = sets_of(data)
    numbers: list[Measurement] = []
    for name, guard in guards.items():
        for what, documents in sets.items():
            numbers += evaluate(guard, documents, prefix="", slices=(), seed=SEED, note=f"{name}; {what}")
            print_last(numbers, name, what)
    if (data / "bipia-injection").exists():
        clean, attacked = held_out_mail(data)
        for place in ("start", "middle", "end"):
            at = [s for s in attacked if s.meta["place"] == place]
            found = verdicts(detector, [exchange_of(s) for s in [*clean, *at]])
            by = {"place": place}
            numbers += measured(detector, [*clean, *at], found, prefix="", seed=SEED, by=by, note="detector")
        numbers.append(where(detector, attacked))
        print(numbers[-1].metric, numbers[-1].value, numbers[-1].interval)
    prose = prose_of_others(data)
    if prose:
        numbers += [
            m for m in evaluate(detector, prose, prefix="prose.", slices=(), seed=SEED) if m.metric == "prose.fpr"
        ]
    started, n = time.process_time(), sum(len(s.prompt) for s in sets["generated, templates held out"])
    verdicts(detector, [exchange_of(s) for s in sets["generated, templates held out"]])
    seconds = time.process_time() - started
    result = {
        "machine": machine(),
        "guards": {name: guard.identity() for name, guard in guards.items()},
        "sets": {
            name: {"harmful": sum(map(is_harmful, of)), "benign": sum(not is_harmful(s) for s in of)}
            for name, of in sets.items()
        },
        "processor_s_per_1000_characters": 1000 * seconds / n,
        "measurements": [m.model_dump(mode="json") for m in numbers],
    }
    write_json(ROOT / "benchmarks" / "results" / "injection.json", result)
    print("written benchmarks/results/injection.json")


def print_last(numbers: list[Measurement], name: str, what: str) -> None:
    shown = {m.metric: m for m in numbers[-7:]}
    cells = [
        f"{metric} {m.value:.3f} {tuple(round(x, 3) for x in m.interval or ())}"
        for metric, m in shown.items()
        if m.value is not None
    ]
    print(f"{name} | {what} | {'; '.join(cells)}", flush=True)


if __name__ == "__main__":
    main()
