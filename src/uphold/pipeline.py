"""The loop: one constitution in; a trained and guarded model, measured, judged, and its card out.

Every line below is a stage of `uphold.stages`: finished stages are found again by the hash of what went into them, so the same
command continues a killed run and redoes only what a change touches. Two loops share the end: `align_and_guard` on a model whose
weights are here, and `guard_endpoint` for operators, on prompts from files.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from uphold.core.errors import ConfigError
from uphold.evidence.inputs import CardInputs, System
from uphold.evidence.policy import load_policy
from uphold.guard.guarded import GuardedChat
from uphold.models import Chat, load
from uphold.project import Project
from uphold.stages import align, guard, keep, measure, operate, prompts, report
from uphold.stages.context import Context, digest_of, load_samples, open_context

SYSTEMS = (
    System(key="base", label="base", about="the model as it was given"),
    System(key="aligned", label="aligned", about="after Constitutional AI and preference training"),
    System(key="guarded", label="aligned + guard", about="the aligned model behind the input and output classifiers"),
)
Say = Callable[[str], None]


def align_and_guard(ctx: Context, say: Say) -> dict[str, Any]:
    """The whole loop on a model whose weights are here."""
    say("constitution -> prompts")
    drawn = prompts.run(ctx)
    base = ctx.base
    if ctx.project.align:
        say("critique and revision -> supervised training; AI preferences -> preference training")
        done = align.run(ctx, drawn)
        aligned, trained = load(done.model), done.stages
    else:
        aligned, trained = base, []
    say("constitutional classifiers")
    _, guards = guard.run(ctx, drawn)
    say("attack; honest requests; tasks")
    model = {"base": base.identity(), "aligned": aligned.identity(), "guarded": aligned.identity()}
    chats: dict[str, Chat] = {
        "base": ctx.journalled(base, "base"),
        "aligned": ctx.journalled(aligned, "aligned"),
        "guarded": GuardedChat(ctx.journalled(aligned, "aligned"), input=guards.input, output=guards.guard),
    }
    subjects = {key: ctx.subject(model=model[key]) for key in chats}
    subjects["guarded"] |= {"guard": guards.guard.identity()}
    systems = [s for s in SYSTEMS if s.key != "aligned" or trained]
    measured = [measure.run(ctx, s.key, chats[s.key], subjects[s.key], drawn) for s in systems]
    say("evidence -> gate -> card")
    kept = [keep.transcripts(ctx, one) for one in measured]
    keep.data(ctx, drawn, guards.ordinary)
    data = {name: digest_of(load_samples(drawn, name)) for name in ("harmful-test", "benign-test", "task-test")}
    seed = ctx.project.seed
    found = [m for one in measured for m in measure.results(one, data, seed)]
    pairs = [(measured[0], one) for one in measured[1:]] + list(pairwise(measured[1:]))
    found += [m for before, after in pairs for m in measure.differences(before, after, data, seed)]
    found += guards.measurements
    hashes = {"model": model["base"], "aligned model": model["aligned"], "guard": guards.guard.identity()}
    inputs = report.card_inputs(ctx, systems, measured, kept, guards.section, trained, report.provenance(ctx, hashes))
    return _end(ctx, inputs, report.publish(ctx, found, inputs))


def guard_endpoint(ctx: Context, harmful: Sequence[Path], benign: Sequence[Path], say: Say) -> dict[str, Any]:
    """The operator's loop: an input guard from the constitution and real prompts, measured on the held-out part and at the endpoint."""
    say("constitution and prompt files -> input guard")
    found, inputs = operate.run(ctx, harmful, benign, say)
    say("evidence -> gate -> card")
    return _end(ctx, inputs, report.publish(ctx, found, inputs))


def run(
    project: Project,
    out: str | Path,
    *,
    harmful: Sequence[Path] = (),
    benign: Sequence[Path] = (),
    say: Say = lambda line: None,
) -> dict[str, Any]:
    """Run a project in the folder `out`, or continue it; returns what `uphold run --json` prints, and leaves it as OUT/result.json."""
    began = time.monotonic()
    load_policy(project.policy)  # one that is missing or at fault stops the run here, not at its end
    with open_context(project, Path(out)) as ctx:
        if project.source == "files":
            if not harmful or not benign:
                raise ConfigError(
                    f"project {project.name!r} takes its prompts from files. Give both kinds: --harmful FILE --benign FILE"
                )
            result = guard_endpoint(ctx, harmful, benign, say)
        else:
            if harmful or benign:
                raise ConfigError(
                    f"project {project.name!r} takes its prompts from {project.source}. --harmful and --benign are for source: files"
                )
            result = align_and_guard(ctx, say)
        result |= {"wall_s": round(time.monotonic() - began, 1), "peak_rss_mb": _peak_rss_mb()}
        report.write_result(ctx.store.folder, result)
        ctx.store.prune_work()
    return result


def _end(ctx: Context, inputs: CardInputs, done: report.Report) -> dict[str, Any]:
    folder = ctx.store.folder
    return {
        **report.nested(done.measurements),
        "gate": {
            "verdict": done.decision.verdict,
            "reasons": list(done.decision.reasons),
            "missing": list(done.decision.missing),
        },
        "card": str(done.card.html),
        "run": str(folder),
        "table": report.table(inputs, done.measurements),
    }


def _peak_rss_mb() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1024 * 1024 if sys.platform == "darwin" else 1024), 1)
