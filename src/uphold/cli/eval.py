"""`uphold eval`: helpfulness and over-refusal of a model, alone or paired with a baseline, and refusals in a file of replies."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from uphold.cli.common import Json, emit, table
from uphold.cli.rates import head, row
from uphold.cli.refusals import refusal

if TYPE_CHECKING:
    from uphold.core.records import Sample
    from uphold.core.store import RunStore
    from uphold.evals import Answer
    from uphold.models import Chat, Sampling

app = typer.Typer(help="Measure helpfulness and over-refusal.", no_args_is_help=True)


app.command()(refusal)


@app.command()
def run(
    target: Annotated[str, typer.Argument(help="The model: builtin:clerk, hf:PATH, openai:URL#model.")],
    constitution: Annotated[str, typer.Option(help="Constitution file, or the name of a shipped one.")],
    out: Annotated[Path, typer.Option(help="Run folder; the same command continues in it.")],
    baseline: Annotated[str | None, typer.Option(help="Another model, asked the same; differences are paired.")] = None,
    n: Annotated[int, typer.Option(min=1, help="Samples: tasks, and as many benign prompts.")] = 200,
    source: Annotated[str, typer.Option(help="Where prompts with ground truth come from.")] = "builtin:storefront",
    split: Annotated[str, typer.Option(help="train, validation or test.")] = "test",
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Longest reply, in tokens.")] = 96,
    seed: Annotated[int, typer.Option(help="Which samples are drawn.")] = 0,
    as_json: Json = False,
) -> None:
    """Ask TARGET tasks with known answers and harmless twins of forbidden requests.

    \b
    uphold eval run builtin:clerk --constitution storefront --out runs/eval --n 50

    helpfulness: share of tasks answered exactly. over_refusal: share of harmless prompts wholly refused or blocked.
    """
    from uphold import models
    from uphold.constitution import Constitution
    from uphold.core import registry
    from uphold.core.records import digest
    from uphold.core.store import RunStore
    from uphold.evals import (
        helpfulness,
        helpfulness_by_task,
        helpfulness_difference,
        over_refusal,
        over_refusal_by_category,
        over_refusal_difference,
        partial_refusal,
    )

    law = Constitution.load(constitution)
    prompts = registry.get("source", source, "--source")
    about: dict[str, Any] = {"constitution": law, "split": split, "n": n, "seed": seed}
    tasks, benign = prompts.samples("task", **about), prompts.samples("benign", **about)
    sampling = models.Sampling(max_new_tokens=max_new_tokens, seed=seed)
    chat = models.load(target)
    chat.check()
    with RunStore.open(out) as store:
        done, harmless = (
            _asked(store, name, chat, part, sampling) for name, part in (("task", tasks), ("benign", benign))
        )
        facts = {"subject": {"model": chat.identity(), "constitution": law.digest}, "seeds": (seed,)}
        on_tasks, on_benign = {**facts, "data": digest(tasks)}, {**facts, "data": digest(benign)}
        result: dict[str, Any] = {
            "target": target,
            "helpfulness": helpfulness(done, **on_tasks),
            "helpfulness_by_task": helpfulness_by_task(done, **on_tasks),
            "over_refusal": over_refusal(harmless, **on_benign),
            "over_refusal_by_category": over_refusal_by_category(harmless, **on_benign),
            "partial_refusal": partial_refusal(harmless, **on_benign),
        }
        asked = {"source": source, "split": split, "n": n, "max_new_tokens": max_new_tokens}
        _record(out, result, suite=digest(asked))
        if baseline is not None:
            other = models.load(baseline)
            other.check()
            before, calm = (
                _asked(store, name, other, part, sampling) for name, part in (("task", tasks), ("benign", benign))
            )
            paired = {"baseline": other.identity()}
            result["baseline"] = {
                "target": baseline,
                "helpfulness_difference": helpfulness_difference(before, done, **on_tasks, **paired),
                "over_refusal_difference": over_refusal_difference(calm, harmless, **on_benign, **paired),
            }
    result["run"] = str(out)
    emit(result, as_json, _text(result))


def _record(out: Path, result: dict[str, Any], *, suite: str) -> None:
    """The target's measurements into the run's ledger."""
    from uphold.core.records import Measurement
    from uphold.evidence.ledger import Ledger

    about = {"suite": suite, "judge": "ground truth"}
    found = [m for part in result.values() for m in (part.values() if isinstance(part, dict) else [part])]
    made = [m.model_copy(update=about) for m in found if isinstance(m, Measurement) and m.n_asked]
    Ledger(out).append_measurements("eval", made)


def _asked(store: RunStore, name: str, chat: Chat, samples: Sequence[Sample], sampling: Sampling) -> list[Answer]:
    """The graded answers to samples, from the store when they are there."""
    from uphold.core.files import read_jsonl, write_jsonl
    from uphold.core.journal import Journal
    from uphold.core.records import digest
    from uphold.evals import Answer, answer
    from uphold.models import journalled

    def make(work: Path) -> dict[str, int]:
        with Journal(work / "calls.jsonl") as journal:
            answers = answer(journalled(chat, journal, label=f"eval: {name}"), samples, sampling=sampling)
            return {"answers": write_jsonl(work / "answers.jsonl", (found.row() for found in answers))}

    inputs = {"target": chat.identity(), "samples": digest(samples), "sampling": sampling}
    stage = store.stage(f"eval-{name}", inputs, make)
    return [Answer.from_row(row) for _, row in read_jsonl(stage.path / "answers.jsonl")]


def _text(result: dict[str, Any]) -> str:
    rows = [
        head(f"target {result['target']}"),
        row("helpfulness", result["helpfulness"]),
    ]
    rows += [row(f"  {task}", m) for task, m in result["helpfulness_by_task"].items()]
    rows.append(row("over-refusal", result["over_refusal"]))
    rows += [row(f"  near {category}", m) for category, m in result["over_refusal_by_category"].items()]
    rows.append(row("partial refusal", result["partial_refusal"]))
    if "baseline" in result:
        paired = result["baseline"]
        rows.append((f"against {paired['target']}", "", "", ""))
        rows.append(row("  helpfulness", paired["helpfulness_difference"]))
        rows.append(row("  over-refusal", paired["over_refusal_difference"]))
    return f"{table(rows)}\nwritten {result['run']}"
