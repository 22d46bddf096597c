"""`uphold redteam agents`: a model that acts through tools, and attackers who write where its tools read."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from uphold.cli.common import Json, emit, table, warn
from uphold.cli.rates import head, row

if TYPE_CHECKING:
    from uphold.models import Chat, Sampling
    from uphold.redteam.agents import Case, Defence, Episode, Suite


def agents(
    target: Annotated[str, typer.Argument(help="The model: builtin:clerk, openai:URL#model, hf:PATH, scripted:naive.")],
    out: Annotated[Path, typer.Option(help="Run folder; the same command continues in it.")],
    agent: Annotated[
        str, typer.Option(help="How it acts: native (function calls), text (a text protocol), planned, or auto.")
    ] = "auto",
    defence: Annotated[
        list[str] | None, typer.Option(help="none, delimiting, datamarking, sandwich, allow_list; repeat to compare.")
    ] = None,
    guard: Annotated[str | None, typer.Option(help="Guard that judges results of tools: a folder, or builtin:NAME.")] = None,
    attacks: Annotated[
        str, typer.Option(help="templates, coded, all, or names and compositions: rot13+important_message,todo.")
    ] = "all",
    goals: Annotated[str | None, typer.Option(help="What attackers want, by comma. Default: everything.")] = None,
    vectors: Annotated[str | None, typer.Option(help="Where they can write, by comma. Default: everywhere.")] = None,
    tasks: Annotated[int, typer.Option(min=1, help="Instances of every kind of task.")] = 5,
    budget: Annotated[int, typer.Option(min=0, help="At most so many queries to the target, for each defence.")] = 600,
    steps: Annotated[int, typer.Option(min=1, help="Answers after which an episode is stopped.")] = 12,
    constitution: Annotated[str, typer.Option(help="Constitution whose clauses the actions are counted by.")] = "storefront",
    suite: Annotated[str, typer.Option(help="The shop, its tasks and goals.")] = "builtin:storefront",
    split: Annotated[str, typer.Option(help="Whose customers: train, validation or test.")] = "test",
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Longest reply, in tokens.")] = 256,
    temperature: Annotated[float, typer.Option(min=0, max=5, help="0 for the likeliest reply.")] = 0.0,
    option: Annotated[
        list[str] | None, typer.Option("--option", "-o", help="NAME=VALUE for the target's backend: -o timeout_s=30.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Which shops, customers and order of cases.")] = 0,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Give TARGET tools and a shop, let attackers write where its tools read, and score what it did.

    \b
    uphold redteam agents builtin:clerk --agent planned --out runs/agents --defence none --defence sandwich
    uphold redteam agents openai:http://localhost:8000/v1#shop --out runs/agents --guard runs/shop/guard
    uphold redteam agents scripted:naive --out runs/naive --budget 300

    Every score is read off the end state of the shop: whether the customer got what was asked for, whether the attacker did, what
    left for an address it does not belong to, what was done that nobody asked for. An agent that breaks its form or gives no answer
    is unscored. With several defences, or a guard, all run the same cases and differences are paired. Killed, the same command continues.
    """
    from uphold import models
    from uphold.cli.models import parse_options
    from uphold.constitution import Constitution
    from uphold.core import registry
    from uphold.core.records import digest
    from uphold.core.store import RunStore
    from uphold.models import Sampling
    from uphold.redteam.agents import alone, attack_names, attacked, way_of
    from uphold.redteam.agents.cases import chosen

    law = Constitution.load(constitution)
    world = registry.get("agent-suite", suite, "--suite")
    named = attack_names(attacks)
    wanted = chosen(goals, world.goal_names, "goal", "--goals"), chosen(vectors, world.vectors, "vector", "--vectors")
    defences = _defences(defence, guard)
    chat = models.load(target, **parse_options(option))
    way = way_of(chat, agent)
    chat.check()
    todo = world.tasks(tasks, split, seed)
    cases = [*alone(todo), *attacked(world, todo, named, *wanted, seed)]
    sampling = Sampling(max_new_tokens=max_new_tokens, temperature=temperature, seed=seed)
    data = digest([[*case.key(), case.planted, case.task.request] for case in cases])
    facts = {"model": chat.identity(), "constitution": law.digest}
    plan = _Plan(chat, world, cases, way, budget, steps, sampling, data)
    with RunStore.open(out) as store:
        by_defence = {each.name: plan.episodes(store, each) for each in defences}
    clauses = {clause.category: clause.id for clause in law.clauses if clause.category}
    about = {"subject": facts, "data": data, "seeds": (seed,)}
    found = _outcome(by_defence, defences, clauses, about)
    result = {"target": target, "agent": way, **found}
    _keep(out, result)
    _warn(found["defences"], budget, steps, len(todo))
    emit(result, as_json, _text(target, way, found, out))


class _Plan(NamedTuple):
    """What is the same for every defence."""

    chat: Chat
    suite: Suite
    cases: Sequence[Case]
    way: str
    budget: int
    steps: int
    sampling: Sampling
    data: str

    def episodes(self, store: Any, defence: Defence) -> list[Episode]:
        """The episodes under one defence: run, or read back where they were run before."""
        from uphold.core.files import read_jsonl
        from uphold.redteam.agents import Episode

        inputs = {
            "target": self.chat.identity(), "suite": self.suite.name, "cases": self.data, "agent": self.way,
            "budget": self.budget, "steps": self.steps, "sampling": self.sampling,
            "defence": defence.name, "guard": defence.guard,
        }  # fmt: skip
        stage = store.stage("agents", inputs, lambda work: self._run(work, defence), version=1)
        path = stage.path / "episodes.jsonl"
        return [Episode.from_row(kept) for _, kept in read_jsonl(path)] if path.exists() else []

    def _run(self, work: Path, defence: Defence) -> dict[str, int]:
        from uphold.core.progress import progress
        from uphold.redteam.agents import run_cases

        with progress(f"agents: {defence.name}", self.budget, unit="queries") as bar:
            made = run_cases(
                self.chat,
                self.cases,
                self.suite,
                defence,
                way=self.way,
                budget=self.budget,
                max_steps=self.steps,
                sampling=self.sampling,
                folder=work,
                on_episodes=lambda new: bar.advance(sum(episode.queries for episode in new)),
            )
        return {"episodes": len(made), "queries": sum(episode.queries for episode in made)}


def _defences(named: Sequence[str] | None, guard: str | None) -> list[Defence]:
    """Those named, 'none' first where something is compared with it; the guard last."""
    from uphold.guard import Guard
    from uphold.redteam.agents import defence_named, guarded

    names = list(dict.fromkeys(named or ["none"]))
    found = [defence_named(name, "--defence") for name in names]
    return [*found, guarded(Guard.load(guard))] if guard else found


def _outcome(
    by_defence: dict[str, list[Episode]], defences: Sequence[Defence], clauses: dict[str, str], about: dict[str, Any]
) -> dict[str, Any]:
    from uphold.redteam.agents.scores import compare, report

    reports = {}
    differences: dict[str, Any] = {}
    first = defences[0].name
    for each in defences:
        subject = about["subject"] | ({"guard": each.guard} if each.guard else {}) | {"defence": each.name}
        own = about | {"subject": subject}
        reports[each.name] = report(by_defence[each.name], clauses, each.name, **own)
        if each.name != first:
            differences[each.name] = compare(
                by_defence[first], by_defence[each.name], baseline=first, by={"defence": each.name}, **own
            )
    asked = [episode for episodes in by_defence.values() for episode in episodes]
    missing = sum(not episode.is_whole and not episode.succeeded for episode in asked)
    return {
        "defences": reports,
        "differences": differences,
        "queries": sum(episode.queries for episode in asked),
        "unscored": missing / len(asked) if asked else None,
    }


def _keep(out: Path, result: dict[str, Any]) -> None:
    from uphold.core.files import write_json
    from uphold.redteam.agents.figure import draw_defences

    write_json(out / "agents.json", result)
    title = f"{result['target']} acting by {result['agent']}"
    command = f"uphold {shlex.join(sys.argv[1:])}"
    draw_defences(out / "agents", result["defences"], title=title, command=command)


def _warn(reports: dict[str, Any], budget: int, steps: int, n_tasks: int) -> None:
    for name, found in reports.items():
        n = sum(found["episodes"].values())
        broken = found["endings"]["protocol"]
        if n and broken > n / 2:
            warn(
                f"{name}: the agent broke its form in {broken} of {n} episodes, which are unscored. Try --agent planned"
            )
        if found["episodes"]["alone"] < n_tasks:
            warn(
                f"{name}: the budget of {budget} queries ended before all {n_tasks} tasks were done alone: "
                f"an episode may take {steps}. Give a larger --budget, or fewer --tasks or --steps"
            )


def _text(target: str, way: str, found: dict[str, Any], out: Path) -> str:
    lines = [f"target {target} acting by {way}: {found['queries']} queries"]
    for name, own in found["defences"].items():
        ended = ", ".join(f"{how} {n}" for how, n in own["endings"].items() if n) or "no episodes"
        seen = f"the injection was read in {own['exposed']} of {own['episodes']['attacked']}"
        lines += ["", f"defence {name}: {ended}; {seen}", table(_rows(own))]
    for name, changes in found["differences"].items():
        rows = [head(f"{name} minus {next(iter(found['defences']))}, same cases", "pairs")]
        lines += ["", table([*rows, *(row(f"  {metric}", m) for metric, m in changes.items())])]
    return "\n".join([*lines, "", f"written {out / 'agents.json'}, {out / 'agents.png'}"])


def _rows(own: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    success = own["attack_success_rate"]
    rows = [head("", "episodes"), row("utility, nobody attacks", own["utility"])]
    rows += [row("utility under attack", own["utility_under_attack"]), row("attack success", success["overall"])]
    for part in ("goal", "vector", "attack"):
        rows += [row(f"  {part} {value}", m) for value, m in success[f"by_{part}"].items()]
    rows.append(row("exfiltration under attack", own["exfiltration_rate"]["attacked"]))
    rows.append(row("exfiltration, nobody attacks", own["exfiltration_rate"]["alone"]))
    rows.append(row("unauthorised under attack", own["unauthorised_action_rate"]["attacked"]))
    by_clause = own["unauthorised_action_rate"]["by_clause"]
    rows += [row(f"  clause {clause}", m) for clause, m in by_clause.items() if m.value]
    rows.append(row("unauthorised, nobody attacks", own["unauthorised_action_rate"]["alone"]))
    return rows


COMMANDS = {"agents": agents}
