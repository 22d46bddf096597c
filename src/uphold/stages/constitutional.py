"""Constitutional AI as one chain: `uphold train cai`.

Takes a model, a constitution and a source of prompts; gives the aligned model and, for the report: harmlessness and helpfulness of the
replies after each revision (figure 5 of arXiv:2212.08073), how far the AI labels agree with the ground truth, the trained model
attacked and questioned beside the one it came from, and what each stage cost (`train.tax`). The stages are the ones of `uphold run`,
in one resumable run folder. Truth is the source's own (rubric, right reply); where a prompt has none its outcome is unscored, never
assumed. Left out: guards.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from uphold.core.files import open_atomic, read_jsonl, write_json
from uphold.core.measure import proportion
from uphold.core.records import Measurement, Sample
from uphold.core.store import StageResult
from uphold.evals.answers import is_correct
from uphold.models import load
from uphold.project import Align, GuardPlan, Measure, Project
from uphold.redteam.grading import grade, revealed
from uphold.stages import align, measure, prompts, report
from uphold.stages.context import Context, digest_of, load_samples, model_folder, open_context
from uphold.train import parallel
from uphold.train.critique import Revision
from uphold.train.labels import Comparison
from uphold.train.tax.ask import TaxConfig
from uphold.train.tax.questions import Questions
from uphold.train.tax.report import TaxReport, save, tax

N_TAX = 150  # prompts of each kind, for the tax of every stage
NO_GUARDS = GuardPlan(n_harmful=1, n_benign=1, n_ordinary=0, n_threshold=2, n_validation=1)


def run(
    model: str,
    constitution: str,
    out: str | Path,
    *,
    source: Any = "builtin:storefront",
    settings: Align = Align(rounds=4),
    measured: Measure = Measure(n_behaviours=120, n_tasks=600),
    seed: int = 0,
    threads: int = 2,
) -> dict[str, Any]:
    """Align `model` and measure what became of it; what `uphold train cai --json` prints, and OUT/result.json.

    source: name of a registered source, or a `Source`. settings.preferences False stops after the supervised half. Raises as the
    recipes do; a folder of another run is continued only as far as its stages fit.
    """
    parallel.require_alone("Constitutional AI")
    began = time.monotonic()
    project = Project(
        uphold=1,
        name="constitutional-ai",
        model=model,
        constitution=constitution,
        source=source if isinstance(source, str) else "files",
        seed=seed,
        threads=threads,
        align=settings,
        guard=NO_GUARDS,
        measure=measured,
    )
    with open_context(project, Path(out), None if isinstance(source, str) else source) as ctx:
        drawn = prompts.run(ctx)
        done = align.run(ctx, drawn)
        known = _known(drawn)
        revisions = _revisions(done.taught, known, ctx)
        before, after = _measured(ctx, drawn, done.model)
        paid = _tax(ctx, drawn, done)
        result = {
            "start": model,
            "model": done.model,
            "revisions": revisions,
            "labels": _labels(done.preferred, known, ctx) if done.preferred else None,
            "final": after,
            "before": before,
            "tax": [
                {"stage": s.name, "model": s.model, "changes": [c.model_dump(mode="json") for c in s.since_base]}
                for s in (paid.stages if paid else ())
            ],
            "supervised": {k: done.taught.summary["cai"][k] for k in ("n_revised", "n_recoveries", "n_helpful")},
            "wall_s": round(time.monotonic() - began, 1),
        }
        save_figure(Path(out) / "revisions.png", revisions)
        if paid is not None:
            save(paid, Path(out))
        write_json(Path(out) / "result.json", result)
        ctx.store.prune_work()
    return result


def _known(drawn: StageResult) -> dict[str, Sample]:
    """Every training prompt by its id."""
    names = ("harmful-train", "benign-train", "task-train")
    return {s.id: s for name in names for s in load_samples(drawn, name)}


def _revisions(taught: StageResult, known: Mapping[str, Sample], ctx: Context) -> list[dict[str, Any]]:
    """Per round, from the first replies (0) on: harmlessness of the replies to harmful prompts, helpfulness of those to honest ones."""
    rows = [Revision.model_validate(row) for _, row in read_jsonl(taught.path / "revisions.jsonl")]
    n_rounds = max(r.round for r in rows)
    replies = [[(r, r.before) for r in rows if r.round == 1]]
    replies += [[(r, r.after) for r in rows if r.round == number] for number in range(1, n_rounds + 1)]
    about: dict[str, Any] = {"subject": ctx.subject(model=ctx.base.identity()), "seeds": (ctx.project.seed,)}
    found = []
    for number, said in enumerate(replies):
        row: dict[str, Any] = {"round": number}
        for label, metric, score in (("harmful", "harmlessness", is_harmless), ("benign", "helpfulness", is_helpful)):
            of = [(known[r.sample], text) for r, text in said if r.label == label]
            row[metric] = proportion(
                metric,
                [score(sample, text) for sample, text in of],
                groups=[sample.group for sample, _ in of],
                higher_is_better=True,
                by={"round": str(number)},
                data=digest_of([sample for sample, _ in of]),
                **about,
            ).model_dump(mode="json")
        found.append(row)
    return found


def is_harmless(sample: Sample, reply: str) -> bool | None:
    """Whether a reply keeps at least half of the forbidden facts to itself; None where the sample says of none."""
    asked = "\n".join(m.content for m in sample.messages if m.role == "user")
    success = grade(revealed(sample.rubric, reply, asked)).success if sample.rubric else None
    return None if success is None else not success


def is_helpful(sample: Sample, reply: str) -> bool | None:
    """Whether a reply is the right one; None where the right one is not known."""
    return None if sample.expected is None else is_correct(sample.expected, reply)


def _labels(preferred: StageResult, known: Mapping[str, Sample], ctx: Context) -> dict[str, Any]:
    """How many AI labels there are, and on what share of those with a true answer they name the better reply."""
    rows = [Comparison.model_validate(row) for _, row in read_jsonl(preferred.path / "comparisons.jsonl")]
    kept = [c for c in rows if c.outcome == "kept"]
    outcomes = [agrees(c, known[c.sample]) for c in kept]
    with_truth = [(c, o) for c, o in zip(kept, outcomes, strict=True) if o is not None]
    agreement = proportion(
        "agreement_with_truth",
        [o for _, o in with_truth],
        groups=[c.group for c, _ in with_truth],
        higher_is_better=True,
        subject=ctx.subject(model=ctx.base.identity()),
        seeds=(ctx.project.seed,),
        note=f"{len(kept) - len(with_truth)} further pairs are equally good by the ground truth",
    )
    return {"n": len(kept), "agreement_with_truth": agreement.model_dump(mode="json")}


def agrees(comparison: Comparison, sample: Sample) -> bool | None:
    """Whether the label prefers the truly better reply; None where neither is better, or the truth is not known."""
    good = is_harmless if sample.label == "harmful" else is_helpful
    first, second = good(sample, comparison.first), good(sample, comparison.second)
    if comparison.p_first is None or first is None or second is None or first == second:
        return None
    return (comparison.p_first > 0.5) == first


def _measured(ctx: Context, drawn: StageResult, model: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The model before and after, on the same prompts; after also holds the paired differences."""
    aligned = load(model)
    data = {name: digest_of(load_samples(drawn, name)) for name in ("harmful-test", "benign-test", "task-test")}
    seed = ctx.project.seed
    ends = [
        measure.run(ctx, key, ctx.journalled(chat, key), ctx.subject(model=chat.identity()), drawn)
        for key, chat in (("base", ctx.base), ("aligned", aligned))
    ]
    both: list[Measurement] = [m for end in ends for m in measure.results(end, data, seed)]
    shown = report.nested(both)
    before, after = ({metric: systems[key] for metric, systems in shown.items()} for key in ("base", "aligned"))
    for m in measure.differences(ends[0], ends[1], data, seed):
        after[m.metric.split(".")[0] + "_change"] = m.model_dump(mode="json")
    return before, after


def _tax(ctx: Context, drawn: StageResult, done: align.Aligned) -> TaxReport | None:
    """What each stage cost, on some of the test prompts; of those answered before, the replies are at hand."""
    names = ("supervised", *(("preferences",) if done.preferred else ()), "blend")
    models = {name: model_folder(stage.path / "model") for name, stage in zip(names, done.stages, strict=False)}
    chain = {"base": ctx.base, **{name: load(spec) for name, spec in models.items()}}
    benign, tasks, harmful = (load_samples(drawn, name) for name in ("benign-test", "task-test", "harmful-test"))
    asked = Questions(
        tasks=[s for s in tasks if s.expected is not None][:N_TAX], benign=benign[:N_TAX], harmful=harmful[:N_TAX]
    )
    if not asked.tasks:  # a user's files may hold no right replies: then no capability is known
        return None
    config = TaxConfig(max_new_tokens=measure.REPLY_TOKENS, n_diverse=30, n_draws=3, seed=ctx.project.seed)
    kept = {name: ctx.journalled(chat) for name, chat in chain.items()}
    return tax(kept, asked, config, constitution=ctx.constitution.digest)


def save_figure(path: Path, revisions: Sequence[Mapping[str, Any]]) -> None:
    """Harmlessness and helpfulness by revision, with 95% intervals, as a PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6.4, 4))
    for metric, marker in (("harmlessness", "o"), ("helpfulness", "s")):
        points = [(r["round"], r[metric]) for r in revisions if r[metric]["value"] is not None]
        if not points:
            continue
        x, y = [n for n, _ in points], [m["value"] for _, m in points]
        errors = [
            [m["value"] - m["interval"][0] for _, m in points],
            [m["interval"][1] - m["value"] for _, m in points],
        ]
        axes.errorbar(x, y, yerr=errors, marker=marker, capsize=3, label=metric)
    axes.set(xlabel="revisions", ylabel="share of replies", ylim=(-0.03, 1.03), xticks=[r["round"] for r in revisions])
    axes.grid(alpha=0.3)
    axes.legend(loc="center right", frameon=False)
    figure.tight_layout()
    with open_atomic(path) as file:
        figure.savefig(file, dpi=120, format="png", metadata={"Software": None})
    pyplot.close(figure)
