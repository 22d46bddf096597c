"""How long the OpenAI Model Spec takes to compile, what comes of it, and how good a read sample is; to results/compile.json.

    python benchmarks/compile.py [MODEL_SPEC.md]        required: >= 200 clauses, < 2 s

The document is CC0 (github.com/openai/model_spec); by default it is looked for beside the checkout. compile_judged.json holds 60 clauses
drawn at random and judged by one reader: is it a rule, faithful to its sentence, one act, readable alone.
"""

from __future__ import annotations

import random
import statistics
import sys
import time
from pathlib import Path

from startup import machine

from uphold.constitution.compile import compile_file, compile_text
from uphold.core import measure, stats
from uphold.core.files import read_json, write_json
from uphold.core.records import Measurement

HERE = Path(__file__).parent
SPEC = HERE.parents[1] / "shared" / "data" / "openai-model-spec" / "model_spec.md"
RUNS = 15
QUALITIES = ("is_rule", "is_faithful", "is_one_act", "stands_alone")


def timed(path: Path) -> Measurement:
    """Median wall-clock seconds to compile the file, after one unmeasured run."""
    compile_file(path)
    taken = []
    for _ in range(RUNS):
        started = time.perf_counter()
        compile_file(path)
        taken.append(time.perf_counter() - started)
    spread = stats.bootstrap_clustered(taken, range(RUNS), statistic=lambda drawn: statistics.median(drawn))
    return measure.scalar(
        "compile_s", statistics.median(taken), RUNS, interval=spread, higher_is_better=False, unit="s", note="median"
    )


def stable(source: str) -> Measurement:
    """Share of edits of one sentence after which every clause outside its paragraph kept its id."""
    before = compile_text(source).clauses
    kept = []
    for clause in random.Random(0).sample(before, 40):
        at = clause.span[1] - 1
        now = {c.id for c in compile_text(source[:at] + " indeed" + source[at:]).clauses}
        start = source.rfind("\n\n", 0, clause.span[0])
        end = source.find("\n\n", clause.span[1])
        kept.append(all(c.id in now for c in before if not start < c.span[0] < end))
    return measure.proportion("ids_kept_outside_the_edited_paragraph", kept, higher_is_better=True)


def judged(path: Path) -> list[Measurement]:
    """Shares of the judged clauses that have each quality; clauses that are no longer made count as unscored."""
    rows = read_json(HERE / "compile_judged.json")["rows"]
    ids = {clause.id for clause in compile_file(path).clauses}
    return [
        measure.proportion(
            f"judged_{quality}", [row[quality] if row["id"] in ids else None for row in rows], higher_is_better=True
        )
        for quality in QUALITIES
    ]


def main() -> None:
    """Measure and write."""
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else SPEC
    found = compile_file(path)
    records = [
        measure.scalar("clauses", len(found.clauses), found.n_sentences, higher_is_better=True, unit="clauses"),
        timed(path),
        stable(found.source),
        *judged(path),
    ]
    for record in records:
        interval = f", 95% {record.interval[0]:.3f}-{record.interval[1]:.3f}" if record.interval else ""
        print(f"{record.metric} {record.value:.3f} (n={record.n_scored}{interval})")
    result = {
        "machine": machine(),
        "command": "python benchmarks/compile.py",
        "document_sha256": found.digest,
        "measurements": records,
    }
    write_json(HERE / "results" / "compile.json", result)
    print("written benchmarks/results/compile.json")


if __name__ == "__main__":
    main()
