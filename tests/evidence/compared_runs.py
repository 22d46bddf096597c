"""Made-up run folders for comparisons: rows in finished stages and their measurements in the ledger, as real runs keep both."""

from __future__ import annotations

from pathlib import Path

from uphold import evals
from uphold.core.files import write_jsonl
from uphold.core.records import Message, Sample, digest
from uphold.core.store import RunStore
from uphold.evals.answers import Answer
from uphold.evidence.ledger import Ledger
from uphold.redteam.attempt import Attempt
from uphold.redteam.report import measurements, report

FAMILIES = ("direct", "story")


def attempts_of(outcomes, group_of=lambda i: f"topic-{i}", words="tell me"):
    """One attempt per outcome (True, False, None); families alternate."""
    return [
        Attempt(
            sample=f"q{i}",
            group=group_of(i),
            clause="no-forbidden-goods",
            category="goods",
            attack=FAMILIES[i % 2],
            family=FAMILIES[i % 2],
            split="held_out",
            messages=(Message(role="user", content=f"{words} {i}"),),
            completion=None if outcome is None else "here",
            revealed=None if outcome is None else float(outcome),
            success=outcome,
            error="no reply" if outcome is None else None,
        )
        for i, outcome in enumerate(outcomes)
    ]


def answers_of(outcomes, kind):
    """kind 'benign': outcome is whether it was refused; 'task': whether it was right."""
    found = []
    for i, outcome in enumerate(outcomes):
        sample = Sample(
            messages=(Message(role="user", content=f"{kind} {i}"),),
            label="benign",
            category="mould",
            expected="yes" if kind == "task" else None,
            meta={"task": "price"} if kind == "task" else {},
        )
        right = outcome if kind == "task" else None
        refusal = None if outcome is None else "full" if outcome and kind == "benign" else "none"
        found.append(Answer(sample, None if outcome is None else "yes", right, refusal))
    return found


def write_run(
    folder,
    *,
    attacked=(),
    refused=(),
    right=(),
    group_of=lambda i: f"topic-{i}",
    words="tell me",
    system="",
    model="m1",
    constitution="c1",
    suite="suite-1",
    judge="ground truth",
    seed=0,
    with_rows=True,
):
    """A finished run of one system: attack success, over-refusal and helpfulness from the given outcomes. Returns the folder."""
    folder = Path(folder)
    attempts = attempts_of(attacked, group_of, words)
    benign, tasks = answers_of(refused, "benign"), answers_of(right, "task")
    hashes = {
        "harmful-test": digest([a.messages for a in attempts]),
        "benign-test": digest([a.sample for a in benign]),
        "task-test": digest([a.sample for a in tasks]),
    }
    ending = f"-{system}" if system else ""
    if with_rows:
        with RunStore.open(folder) as store:
            store.stage(
                f"attack{ending}",
                {"system": model, "samples": hashes["harmful-test"]},
                lambda work: write_jsonl(work / "attempts.jsonl", (a.row() for a in attempts)),
            )
            store.stage(
                f"answers{ending}",
                {"system": model, **{name: hashes[name] for name in ("benign-test", "task-test")}},
                lambda work: [
                    write_jsonl(work / f"{name}.jsonl", (a.row() for a in rows))
                    for name, rows in (("benign-test", benign), ("task-test", tasks))
                ],
            )
    about = {"subject": {"model": model, "constitution": constitution}, "seeds": (seed,)}
    made = measurements(report(attempts, data=hashes["harmful-test"], **about)) if attempts else []
    made += [evals.over_refusal(benign, data=hashes["benign-test"], **about)] if benign else []
    made += [evals.helpfulness(tasks, data=hashes["task-test"], **about)] if tasks else []
    names = {"suite": suite, "judge": judge}
    tail = f".{system}" if system else ""
    Ledger(folder).append_measurements(
        f"run{tail}", [m.model_copy(update={**names, "metric": m.metric + tail}) for m in made]
    )
    return folder


def outcomes(n, true):
    """n outcomes of which the first `true` are true."""
    return [i < true for i in range(n)]
