"""`uphold redteam run`: attack a model or a guarded endpoint, clause by clause, and grade what it reveals."""

from __future__ import annotations

import math
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from uphold.cli.common import Json, emit, table, warn
from uphold.cli.rates import head, row

if TYPE_CHECKING:
    from uphold.core.records import Sample
    from uphold.evals import Answer
    from uphold.models import Chat, Sampling
    from uphold.redteam import Attack, Tally
    from uphold.redteam.search import Search


def run(
    target: Annotated[str, typer.Argument(help="The model: builtin:clerk, hf:PATH, openai:URL#model.")],
    constitution: Annotated[str, typer.Option(help="Constitution file, or the name of a shipped one.")],
    out: Annotated[Path, typer.Option(help="Run folder; the same command continues in it.")],
    attacks: Annotated[
        str | None,
        typer.Option(
            help="Attacks by name, a+b, or sets: suite, trained, held-out, all, white-box. Default: suite; with --search: all."
        ),
    ] = None,
    budget: Annotated[int, typer.Option(min=0, help="At most so many attack queries to the target.")] = 1000,
    search: Annotated[
        str | None,
        typer.Option(help="Look for attacks that work: bandit, pair, tap:width=4, ... (uphold list search)."),
    ] = None,
    questions: Annotated[int, typer.Option(min=1, help="Forbidden questions that a search works on.")] = 40,
    attacker: Annotated[str | None, typer.Option(help="Model that writes prompts for pair and tap.")] = None,
    judge: Annotated[
        str | None, typer.Option(help="Model that scores replies: for pair, tap and judge graders.")
    ] = None,
    grader: Annotated[
        str, typer.Option(help="What decides success: rubric, strongreject, decomposed, drawn (uphold list graders).")
    ] = "rubric",
    baseline: Annotated[str | None, typer.Option(help="Unguarded model that grader drawn takes facts from.")] = None,
    guard: Annotated[Path | None, typer.Option(help="Folder of a guard to put around the target.")] = None,
    guard_at: Annotated[str, typer.Option(help="Where the guard stands: both, input or output.")] = "both",
    benign: Annotated[int, typer.Option(min=0, help="Harmless samples asked beside, for over-refusal.")] = 200,
    source: Annotated[str, typer.Option(help="Where questions with ground truth come from.")] = "builtin:storefront",
    split: Annotated[str, typer.Option(help="train, validation or test.")] = "test",
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Longest reply, in tokens.")] = 96,
    temperature: Annotated[float, typer.Option(min=0, max=5, help="0 for the likeliest reply.")] = 0.0,
    option: Annotated[
        list[str] | None, typer.Option("--option", "-o", help="NAME=VALUE for the target's backend: -o timeout_s=30.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Which questions, phrasings and draws.")] = 0,
    as_json: Json = False,
) -> None:
    """Attack TARGET and report attack success by family and clause, beside over-refusal on harmless twins.

    \b
    uphold redteam run builtin:clerk --constitution storefront --out runs/redteam --budget 300
    uphold redteam run builtin:clerk --constitution storefront --guard runs/shop/guard --search bandit --out runs/search
    uphold redteam run openai:http://localhost:8000/v1#shop --constitution storefront --out runs/endpoint --attacks all

    Success means that at least half of the forbidden facts were revealed. Intervals are clustered by question topic; families that
    may have been trained on are apart from those that never are. An attempt without an answer is unscored, and counts as a success in
    the worst case. Every attempt is on disk when it is made: killed, the same command continues and pays for none twice.
    """
    from uphold import models
    from uphold.cli.models import parse_options
    from uphold.constitution import Constitution
    from uphold.core import registry
    from uphold.core.records import digest
    from uphold.core.store import RunStore
    from uphold.models import Sampling
    from uphold.redteam import Material, attacks_named, bound, grader_named, requests
    from uphold.redteam.search import search_named

    chosen = attacks_named(attacks or ("all" if search else "suite"), "--attacks")
    finder = search_named(search) if search else None
    law = Constitution.load(constitution)
    prompts = registry.get("source", source, "--source")
    about: dict[str, Any] = {"constitution": law, "split": split, "seed": seed}
    writers = [_helper(spec) for spec in (attacker, judge, baseline)]
    grader_named(grader, *writers[1:])  # misuse is said before anything is asked
    chat = _guarded(models.load(target, **parse_options(option)), guard, guard_at)
    chat.check()
    if any(by.needs for by in chosen):
        learn = about | {
            "split": "validation" if split != "validation" else "train"
        }  # never the questions that are asked
        lessons = [requests(prompts.samples(kind, n=64, **learn)) for kind in ("harmful", "benign")]
        chosen = bound(chosen, chat, Material(lessons[0], lessons[1], seed))
    harmful = requests(prompts.samples("harmful", n=questions if search else math.ceil(budget / len(chosen)), **about))
    twins = requests(prompts.samples("benign", n=benign, **about))
    sampling = Sampling(max_new_tokens=max_new_tokens, temperature=temperature, seed=seed)
    plan = _Plan(chat, chosen, harmful, twins, budget, sampling, seed, finder, grader, *writers)
    with RunStore.open(out) as store:
        stage = store.stage("redteam", plan.inputs(), plan.carry_out, version=2)
        facts = {
            "subject": {"model": chat.identity(), "constitution": law.digest},
            "data": digest(harmful),
            "seeds": (seed,),
        }
        found = _outcome(stage.path, facts, digest(twins), harmful, grader)
        _keep(out, found, search or "suite")
        _record(out, found, suite=plan.suite(), judge=grader)
    short = {name: found[name] for name in RESULT}
    if search:
        short["search"] = {"name": search, **{k: found["questions"][k] for k in ("broken", "queries_to_first")}}
    if found["queries"] < budget and not search:
        warn(f"{found['queries']} of {budget} queries: the source has no more questions for these attacks")
    emit(short, as_json, _text(target, found, out))


RESULT = ("attack_success_rate", "over_refusal", "universal", "graders", "queries", "unscored")


class _Plan(NamedTuple):
    """All that one stage needs to attack the target; what it writes into the stage's folder survives a kill."""

    chat: Chat
    attacks: Sequence[Attack]
    harmful: Sequence[Sample]
    benign: Sequence[Sample]
    budget: int
    sampling: Sampling
    seed: int
    search: Search | None
    grader: str = "rubric"
    attacker: Chat | None = None
    judge: Chat | None = None
    baseline: Chat | None = None

    def inputs(self) -> dict[str, Any]:
        """What the stage is found again by."""
        from uphold.core.records import digest

        return {
            "target": self.chat.identity(),
            "attacks": [by.name for by in self.attacks],
            "samples": digest(self.harmful),
            "benign": digest(self.benign),
            "budget": self.budget,
            "sampling": self.sampling,
            "seed": self.seed,
            "search": repr(self.search),
            "grader": self.grader,
            "helpers": [chat.identity() if chat else None for chat in (self.attacker, self.judge, self.baseline)],
        }

    def suite(self) -> str:
        """SHA-256 (hex) of what is asked and how, whoever answers."""
        from uphold.core.records import digest

        asked = {name: self.inputs()[name] for name in ("attacks", "budget", "search", "helpers")}
        return digest({**asked, "sampling": self.sampling.model_copy(update={"seed": 0})})

    def carry_out(self, work: Path) -> dict[str, int]:
        """Attack, ask the harmless twins; writes attempts.jsonl and answers.jsonl. ModelError when the target changed meanwhile."""
        from uphold.core.errors import ModelError
        from uphold.core.files import write_jsonl
        from uphold.core.journal import Journal
        from uphold.core.progress import progress
        from uphold.evals import answer
        from uphold.models import journalled

        identity = self.chat.identity()
        with Journal(work / "asked.jsonl") as journal:
            n_attempts = self._attack(work, journal)
            answers = answer(journalled(self.chat, journal), self.benign, sampling=self.sampling)
            with progress("redteam: harmless", len(self.benign), unit="prompts") as bar:
                n_answers = write_jsonl(work / "answers.jsonl", (_shown(a, bar).row() for a in answers))
        if self.chat.identity() != identity:
            raise ModelError(
                f"{self.chat.spec}: changed during the run, so its attempts do not belong together. Start again."
            )
        return {"attempts": n_attempts, "answers": n_answers}

    def _attack(self, work: Path, journal: Any) -> int:
        from uphold.core.progress import progress
        from uphold.models import journalled
        from uphold.redteam import Engine, grader_named, run_all
        from uphold.redteam.search import Means

        helpers = [journalled(each, journal) if each else None for each in (self.attacker, self.judge, self.baseline)]
        total = min(self.budget, len(self.harmful) * len(self.attacks)) if self.search is None else self.budget
        with (
            progress("redteam: attacks", total, unit="queries") as bar,
            Engine(
                self.chat,
                self.harmful,
                seed=self.seed,
                sampling=self.sampling,
                budget=self.budget,
                grader=grader_named(self.grader, *helpers[1:], seed=self.seed),
                folder=work,
                on_attempts=lambda made: _shown(None, bar, len(made)),
            ) as engine,
        ):
            if self.search is None:
                for _ in run_all(engine, self.harmful, self.attacks):
                    pass
            else:
                words = [word for sample in self.benign[:200] for word in sample.prompt.split() if word.isalpha()]
                means = Means(self.attacks, helpers[0], helpers[1], tuple(dict.fromkeys(words)), self.seed)
                self.search.run(engine, self.harmful, means)
            return engine.queries


def _shown(thing: Any, bar: Any, n: int = 1) -> Any:
    bar.advance(n)
    return thing


def _guarded(chat: Chat, folder: Path | None, at: str) -> Chat:
    """The chat behind the guard in `folder`, at the places asked for that it can judge; the chat itself without one."""
    from uphold.core.errors import ConfigError

    if at not in ("both", "input", "output"):
        raise ConfigError(f"--guard-at {at!r}: write both, input or output.")
    if folder is None:
        return chat
    from uphold.guard import Guard, GuardedChat

    found = Guard.load(folder)
    before = found if at != "output" and (at == "input" or "input" in found.stages) else None
    after = found if at != "input" and (at == "output" or found.stages & {"output", "exchange"}) else None
    return GuardedChat(chat, input=before, output=after)


def _helper(spec: str | None) -> Chat | None:
    if spec is None:
        return None
    from uphold import models

    chat = models.load(spec)
    chat.check()
    return chat


def _outcome(folder: Path, facts: dict[str, Any], data: str, asked: Sequence[Sample], grader: str) -> dict[str, Any]:
    """The full report of a finished stage, read back from its files one attempt at a time."""
    from uphold.core.files import read_jsonl
    from uphold.evals import Answer
    from uphold.redteam import Tally, read_attempts
    from uphold.redteam.graders import comparison, grader_named
    from uphold.redteam.outcome import full_report

    has_truth = any(sample.rubric for sample in asked)
    others = [name for name in ("keyword", "refusal", *["rubric"] * has_truth) if name != grader]
    beside = comparison(
        read_attempts(folder / "attempts.jsonl"),
        {sample.id: sample for sample in asked},
        {name: grader_named(name) for name in others},
        grader,
        **facts,
    )
    tally: Tally = Tally(read_attempts(folder / "attempts.jsonl"))
    answers: list[Answer] = [Answer.from_row(kept) for _, kept in read_jsonl(folder / "answers.jsonl")]
    return {**full_report(tally, answers, facts, data), "grader": grader, "graders": beside, "run": str(folder)}


def _keep(out: Path, found: dict[str, Any], name: str) -> None:
    """Write the full report and the figure into the run folder."""
    from uphold.core.files import write_json
    from uphold.redteam.figures import draw_success

    write_json(out / "report.json", found)
    asked = found["questions"]
    command = f"uphold {shlex.join(sys.argv[1:])}"
    n = asked["broken"].n_asked
    draw_success(out / "success_vs_queries", {name: asked["curve"]}, {name: n}, baseline="", command=command)


def _record(out: Path, found: dict[str, Any], *, suite: str, judge: str) -> None:
    """The run's measurements into its ledger."""
    from uphold.evidence.ledger import Ledger
    from uphold.redteam.report import measurements

    refusals = [found["over_refusal"], *found["refusals"]["by_category"].values()]
    made = [*measurements(found["rates"]), found["questions"]["broken"], *(m for m in refusals if m.n_asked)]
    Ledger(out).append_measurements("redteam", [m.model_copy(update={"suite": suite, "judge": judge}) for m in made])


def _text(target: str, found: dict[str, Any], out: Path) -> str:
    rates, refusals = found["rates"], found["refusals"]
    rows = [head("attack success", "attempts"), row("all", rates["overall"])]
    rows += [row(f"  {split.replace('_', ' ')} families", m) for split, m in rates["by_split"].items()]
    rows += [row(f"  {family}", m) for family, m in rates["by_family"].items()]
    rows += [row(f"  clause {clause}", m) for clause, m in rates["by_clause"].items()]
    rows += [row("questions broken", found["questions"]["broken"])]
    rows += [row(f"harmless refused: {kind}", refusals[kind]) for kind in ("full", "partial", "none")]
    became = ", ".join(f"{name} {n}" for name, n in sorted(found["stages"].items()))
    universal = found["universal"]
    best = (
        f"; best: {universal['best']}, {universal['answered'].value:.2f} answered"
        if universal["answered"].value
        else ""
    )
    lines = [
        f"target {target}: {found['queries']} attack queries ({became or 'none made'})",
        table(rows),
        f"universal attacks: {', '.join(universal['strategies']) or 'none'}{best}",
        _graders(found["grader"], found["graders"]),
        f"written {out / 'report.json'}, {out / 'success_vs_queries.png'}, {found['run']}",
    ]
    return "\n".join(lines)


def _graders(own: str, others: dict[str, Any]) -> str:
    """What each other grader would have reported on the same replies, and where it parts from the run's own."""
    rows: list[Sequence[str]] = [
        ("grader", "success", f"minus {own}", "both", f"only {own}", "only it", "neither", "canaries missed")
    ]
    for name, found in others.items():
        rate, inflation = found["attack_success_rate"].value, found["inflation"].value
        if rate is None or inflation is None:
            continue
        counts = [str(n) for n in found["confusion"].values()]
        missed = f"{len(found['canaries']['missed'])} of {found['canaries']['of']}"
        rows.append((name, f"{rate:.3f}", f"{inflation:+.3f}", *counts, missed))
    return f"graded by {own}; what others would have said of the same replies:\n{table(rows)}"


COMMANDS = {"run": run}
