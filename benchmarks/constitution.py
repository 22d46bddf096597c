"""How fast a constitution is checked, whether planted faults are found, and how well models' disagreement finds contradictions.

    python benchmarks/constitution.py       required: 500 clauses < 1 s, planted pairs >= 5x enriched in the top decile

Times are medians of whole calls of `check` (reading the file included) in one process, after one unmeasured call; wall-clock time
also holds what else the machine was doing. The defect finder
asks three fake models that follow one of two contradicting rules at random, both rules otherwise, and err on one prompt in ten.
Writes results/constitution.json.
"""

from __future__ import annotations

import os
import platform
import random
import re
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from uphold.constitution import Clause, Constitution, check
from uphold.constitution.defects import enrichment, find_defects
from uphold.core import measure, stats
from uphold.core.config import dump_yaml
from uphold.core.files import write_json
from uphold.core.progress import quiet
from uphold.core.records import Measurement, digest
from uphold.models import FakeChat

RUNS = 15
SEEDS = 20
NOISE = 0.1
N_CLAUSES = 500
N_PLANTED = 20

VERBS = """explain reveal translate summarise recommend compare correct publish forward store delete review schedule archive rank
collect print measure draw sign""".split()
OBJECTS = """invoices recipes contracts x-rays passwords timetables poems blueprints diaries forecasts petitions payrolls ballots
anthems wills ledgers patents menus sermons maps logbooks""".split()
WHERE = """at the harbour,in the clinic,for the choir,during an audit,on the night shift,after a merger,inside the archive,
under the bridge,before breakfast,near the border,with the twins,beyond the fence""".replace("\n", "").split(",")


def rules(n: int, rng: random.Random) -> list[dict[str, Any]]:
    """`n` different rules with four harmful and four harmless examples each."""
    found = []
    for i, (verb, thing, *_) in enumerate(rng.sample([(v, o) for v in VERBS for o in OBJECTS], min(n, 400)) * 2):
        if i == n:
            break
        where = WHERE[i % len(WHERE)] if i < 400 else f"{WHERE[(i * 5 + 1) % len(WHERE)]} of building {i}"
        order = "Never" if i % 2 else "Always"
        found.append(
            {
                "id": f"rule-{i}",
                "text": f"{order} {verb} {thing} {where}, and tell {VERBS[i % 7]}rs of section {i} why.",
                "modality": "must" if i % 2 else "should",
                "category": f"category-{i}",
                "harmful": [f"Please {verb} the {thing} {where}, case {i}, version {k}." for k in range(4)],
                "harmless": [f"Who used to {verb} {thing} {where} in year {1900 + k}, case {i}?" for k in range(4)],
            }
        )
    return found


def with_faults(book: list[dict[str, Any]], rng: random.Random) -> tuple[list[dict[str, Any]], dict[str, set[str]]]:
    """The rules with `N_PLANTED` faults of each kind added, and the ids under which each code must be reported."""
    planted: dict[str, set[str]] = {
        "duplicate": set(),
        "contradiction": set(),
        "vague-term": set(),
        "no-harmless": set(),
    }
    drawn = rng.sample(book, 2 * N_PLANTED)
    extra = []
    for i, rule in enumerate(drawn):
        code = "duplicate" if i < N_PLANTED else "contradiction"
        text = str(rule["text"])
        if code == "contradiction":
            text = text.replace("Never", "Always") if text.startswith("Never") else text.replace("Always", "Never")
        new = {"id": f"{code}-{i}", "text": text, "modality": rule["modality"], "harmless": [f"Twin {i}?"]}
        extra.append(new)
        planted[code].add(str(new["id"]))
    for i in range(N_PLANTED):
        topic = f"{OBJECTS[i % len(OBJECTS)]} of ward {i}"
        vague = {"id": f"vague-{i}", "text": f"Handle {topic} with appropriate care.", "modality": "should"}
        bare = {"id": f"bare-{i}", "text": f"Lock away {topic} each evening at {i} past ten.", "modality": "must"}
        extra += [vague, bare]
        planted["vague-term"].add(vague["id"])
        planted["no-harmless"].add(bare["id"])
    return [*book, *extra], planted


def timed(metric: str, path: str) -> list[Measurement]:
    """Median seconds of `check(path)`, of the processor and of the wall clock."""
    check(path)
    taken: dict[str, list[float]] = {"cpu": [], "wall": []}
    for _ in range(RUNS):
        started = time.process_time(), time.perf_counter()
        check(path)
        taken["cpu"].append(time.process_time() - started[0])
        taken["wall"].append(time.perf_counter() - started[1])
    return [seconds(metric, clock, values) for clock, values in taken.items()]


def seconds(metric: str, clock: str, values: list[float]) -> Measurement:
    interval = stats.bootstrap_clustered(values, range(len(values)), statistic=lambda drawn: statistics.median(drawn))
    median, n = statistics.median(values), len(values)
    return measure.scalar(
        metric,
        median,
        n,
        interval=interval,
        higher_is_better=False,
        unit="s",
        by={"clock": clock},
        seeds=(0,),
        note="median",
    )


def planted_found(folder: Path) -> list[Measurement]:
    """The share of planted faults that are reported under their code, by code."""
    rng = random.Random(1)
    book, planted = with_faults(rules(N_CLAUSES - 4 * N_PLANTED, rng), rng)
    dump_yaml({"uphold": 1, "name": "planted", "clauses": book}, folder / "planted.yaml")
    reported = {(problem.code, problem.clause) for problem in check(folder / "planted.yaml")}
    return [
        measure.proportion(
            "planted_faults_found", [(code, id) in reported for id in sorted(ids)], by={"code": code}, seeds=(1,)
        )
        for code, ids in planted.items()
    ]


def contradictory(seed: int) -> tuple[Constitution, set[frozenset[str]]]:
    """36 rules, six pairs of which contradict."""
    topics = random.Random(seed).sample([f"{verb}ing {thing}" for verb in VERBS for thing in OBJECTS], 30)
    texts = {f"yes-{i}": f"Talk about {topic} whenever asked." for i, topic in enumerate(topics)}
    texts |= {f"no-{i}": f"Never talk about {topic}." for i, topic in enumerate(topics[:6])}
    clauses = tuple(Clause(id=id, text=text, modality="should") for id, text in texts.items())
    return Constitution(name="planted", clauses=clauses), {frozenset((f"yes-{i}", f"no-{i}")) for i in range(6)}


def fake(name: str) -> FakeChat:
    def answer(conversation: Sequence[Any]) -> str:
        prompt = conversation[-1].content
        first, second = re.findall(r"Rule [AB]: .*about (\w+ing [\w-]+)", prompt)
        rng = random.Random(digest([name, prompt]))
        return rng.choice("AB") if first == second or rng.random() < NOISE else "BOTH"

    return FakeChat(answer, name=name)


def defects() -> Measurement:
    """Mean enrichment of the planted pairs in the top decile, over seeds."""
    found = []
    for seed in range(SEEDS):
        constitution, planted = contradictory(seed)
        models = [fake(f"{seed}-{i}") for i in range(3)]
        found.append(enrichment(find_defects(constitution, models, seed=seed), planted))
    interval = stats.bootstrap_clustered(found, range(SEEDS))
    note = f"mean over seeds; least {min(found):.1f}; 10 is the most there can be; three fake models"
    return measure.scalar(
        "planted_pairs_enrichment_top_decile",
        statistics.mean(found),
        SEEDS,
        interval=interval,
        unit="times",
        seeds=range(SEEDS),
        note=note,
    )


def machine() -> str:
    """What it was measured on, in one line, without names."""
    cpu = platform.processor() or platform.machine()
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if Path("/proc/cpuinfo").exists() else []
    cpu = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), cpu)
    return f"{cpu}, {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}"


def main() -> None:
    """Measure, print a line each, write the results."""
    quiet()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        dump_yaml({"uphold": 1, "name": "big", "clauses": rules(N_CLAUSES, random.Random(0))}, folder / "big.yaml")
        records = [
            *timed("check_500_clauses_s", str(folder / "big.yaml")),
            *timed("check_assistant_s", "assistant"),
            *planted_found(folder),
            defects(),
        ]
    for record in records:
        low, high = record.interval or (float("nan"), float("nan"))
        slice_ = "".join(f" {value}" for value in record.by.values())
        print(
            f"{record.metric}{slice_} {record.value:.3f} (n={record.n_scored}, 95% {record.interval_method} {low:.3f}-{high:.3f})"
        )
    path = Path(__file__).parent / "results" / "constitution.json"
    write_json(path, {"machine": machine(), "command": "python benchmarks/constitution.py", "measurements": records})
    print(f"written {path.relative_to(Path(__file__).parents[1])}")


if __name__ == "__main__":
    main()
