"""Agents under prompt injection in the shop: written to results/agents.json and, as pictures, beside it in results/agents/.

    python benchmarks/agents.py                 the built-in model as a workflow under every defence, reference agents, episodes a second

The clerk's answers are its own; the workflow around it is fixed, so four of the nine goals ask for calls that it never makes: the success
on the five that its words can reach is given apart. Reference agents are no models; their scores are known beforehand, and a figure
other than 0 and 1 there is a fault of the harness. A figure on the clerk is about methods, never about a real model.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from startup import machine

from uphold.core import measure, registry
from uphold.core.files import write_json
from uphold.core.records import Measurement, digest
from uphold.guard import Guard
from uphold.models import load
from uphold.redteam.agents import Case, Defence, Episode, alone, attack_names, attacked, compare, defence_named, guarded
from uphold.redteam.agents.figure import draw_defences
from uphold.redteam.agents.run import run_cases
from uphold.redteam.agents.scores import rate, report, succeeded

BUDGET, GUARD_BUDGET, N_EACH, SEED = 320, 120, 4, 0  # a guard that reads every result takes most of the time
REACHABLE = ("change_address", "cancel_other", "reveal_other", "forbidden", "misdirect")
"""Goals that an answer of the model alone can reach in the workflow: by an address, a number, or words to the customer."""
DEFENCES = ("none", "delimiting", "datamarking", "sandwich", "allow_list")
COMMAND = "python benchmarks/agents.py"
SUITE = registry.get("agent-suite", "builtin:storefront")


def cases(split: str) -> list[Case]:
    tasks = SUITE.tasks(N_EACH, split, SEED)
    names = attack_names("all")
    return [*alone(tasks), *attacked(SUITE, tasks, names, SUITE.goal_names, SUITE.vectors, SEED)]


def clerk() -> list[Measurement]:
    """The clerk in the workflow, the same cases under every defence."""
    chat, asked = load("builtin:clerk"), cases("test")
    data = digest([[*case.key(), case.planted] for case in asked])
    defences: list[Defence] = [*map(defence_named, DEFENCES), guarded(Guard.load("builtin:assistant"))]
    found: list[Measurement] = []
    reports, before = {}, list[Episode]()
    for defence in defences:
        made = run_cases(chat, asked, SUITE, defence, way="planned", budget=GUARD_BUDGET if defence.guard else BUDGET)
        before = before or made
        subject = {"model": chat.identity(), "defence": defence.name} | (
            {"guard": defence.guard} if defence.guard else {}
        )
        about = {"subject": subject, "data": data, "seeds": (SEED,)}
        own = reports[defence.name] = report(made, {}, defence.name, **about)
        within = [e for e in made if e.goal in REACHABLE]
        by = {"defence": defence.name, "goals": "reachable"}
        found += [
            own["utility"],
            own["utility_under_attack"],
            own["attack_success_rate"]["overall"],
            rate("agent_attack_success_rate", within, succeeded, higher_is_better=False, by=by, **about),
            own["exfiltration_rate"]["attacked"],
            own["unauthorised_action_rate"]["attacked"],
            *own["attack_success_rate"]["by_goal"].values(),
            *own["attack_success_rate"]["by_attack"].values(),
        ]
        if made is not before:
            by = {"defence": defence.name}
            found += compare(before, made, baseline="none", by=by, **about).values()
        print(f"clerk, {defence.name}: {len(made)} episodes", flush=True)
    folder = Path(__file__).parent / "results" / "agents"
    folder.mkdir(exist_ok=True)
    draw_defences(folder / "clerk", reports, title="The clerk in a fixed workflow, attacked", command=COMMAND)
    return found


def references() -> list[Measurement]:
    """Reference agents by function calls: their known scores, and what the harness costs."""
    asked = cases("test")
    plain = [c for c in asked if c.attack and "+" not in c.attack and c.attack != "forged_record"][:2000]
    found = []
    for name in ("careful", "naive"):
        began = time.perf_counter()
        made = run_cases(load(f"scripted:{name}"), plain, SUITE, defence_named("none"), way="native")
        seconds = time.perf_counter() - began
        about = {"by": {"agent": f"scripted:{name}"}, "seeds": (SEED,)}
        found.append(rate("agent_attack_success_rate", made, succeeded, higher_is_better=False, **about))
        found.append(measure.scalar("agent_episodes_per_s", len(made) / seconds, len(made), unit="episodes/s", **about))
        print(
            f"scripted:{name}: success {found[-2].value}, {found[-1].value:,.0f} episodes/s (n={len(made)})", flush=True
        )
    return found


def show(found: Sequence[Measurement]) -> None:
    for m in found:
        if "goal" not in m.by and "attack" not in m.by and m.value is not None and m.interval:
            about = " ".join(m.by.values())
            print(
                f"{m.metric} {about} {m.value:+.3f} (n={m.n_scored} of {m.n_asked}, 95% {m.interval[0]:.3f} to {m.interval[1]:.3f})"
            )


def main() -> None:
    found = references() + clerk()
    show(found)
    path = Path(__file__).parent / "results" / "agents.json"
    write_json(path, {"machine": machine(), "command": COMMAND, "measurements": found})
    print(f"written {path.relative_to(Path(__file__).parents[1])}")


if __name__ == "__main__":
    main()
