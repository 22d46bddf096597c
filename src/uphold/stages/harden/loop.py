"""Adversarial rounds: attack, learn from what got through, measure again; a curve per round. `uphold redteam harden`.

Round 0 measures the start. Each further round attacks the current model or guarded endpoint on training topics with a growing pool of
attacks (`attack.py`), turns what got through into training rows for the model (`teach.py`), the guard (`fence.py`) or both, trains, and
measures on test topics (`measure.py`): attacks that were trained on, attacks that never are, and an adaptive search apart, beside
over-refusal and helpfulness, each paired against round 0. After Ganguli et al. 2022 (arXiv:2209.07858) for the loop, and HarmBench's R2D2
(arXiv:2402.04249) for its lesson: a model trained against one kind of attack is much weaker against others, so those are reported apart.
A round that breaks a stated limit is the last and is not kept. Every step is a stage of one run folder: killed, the same call continues.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from uphold.constitution import Constitution
from uphold.core import registry
from uphold.core.config import dump_yaml
from uphold.core.errors import Unsupported
from uphold.core.files import write_atomic, write_json
from uphold.core.journal import Journal
from uphold.core.records import Measurement
from uphold.core.seeds import derive
from uphold.core.store import RunStore
from uphold.guard import Guard
from uphold.models import Chat, Weights, load, load_weights
from uphold.redteam import Attack
from uphold.redteam.search import search_named
from uphold.stages.context import model_folder, use_threads
from uphold.stages.harden import attack, fence, measure, teach
from uphold.stages.harden.figure import draw
from uphold.stages.harden.settings import Harden, library
from uphold.stages.harden.work import System, Work


def run(
    target: str | Chat,
    constitution: str | Constitution,
    out: str | Path,
    settings: Harden = Harden(),
    *,
    guard: str | Path | Guard | None = None,
    critic: str | Chat | None = None,
    source: Any = "builtin:storefront",
    command: str = "",
) -> dict[str, Any]:
    """Harden `target` over rounds; what `uphold redteam harden --json` prints, and OUT/result.json.

    target, critic: models, or how to open them. A target whose weights are not here can only be hardened by a guard. guard: one that
    already stands around the target; it stays, and the trained one stands outside it. critic: who revises replies; the target as it was.
    source: name of a registered source, or a `Source`. command: kept beside the figure. Raises ConfigError on settings that contradict each
    other, Unsupported when a model without weights is to be trained, and what the recipes raise.
    """
    began = time.monotonic()
    known, held_out = library(settings)
    for spec in (settings.search, settings.probe.search):
        search_named(spec)  # misuse is said before anything is asked
    law = constitution if isinstance(constitution, Constitution) else Constitution.load(constitution)
    chat = _opened(target, settings.train)
    start = System(chat, given=guard if guard is None or isinstance(guard, Guard) else Guard.load(guard))
    reviser = chat if critic is None else load(critic) if isinstance(critic, str) else critic
    reviser.check()
    use_threads(settings.threads)
    with RunStore.open(out) as store:
        write_atomic(store.folder / "harden.yaml", dump_yaml(settings))
        calls = Journal(store.folder / "calls.jsonl")
        try:
            prompts = registry.get("source", source, "--source") if isinstance(source, str) else source
            loop = Loop(Work(settings, law, prompts, store, calls, reviser), start, known, held_out)
            stopped = loop.all_rounds()
        finally:
            calls.close()
        result = {
            "target": chat.spec,
            "train": settings.train,
            **loop.kept(),
            "stopped": stopped,
            "gain": _gain(loop.rows[loop.last_good]),
            "limits": {name: getattr(settings, f"max_{name}") for name in ("over_refusal", "helpfulness_loss")},
            "rounds": loop.rows,
            "wall_s": round(time.monotonic() - began, 1),
        }
        draw(store.folder / "rounds", loop.rows, command)
        write_json(store.folder / "result.json", result)
        store.prune_work()
    return result


def _opened(target: str | Chat, train: str) -> Chat:
    """The target, ready to be asked; Unsupported when it is to be trained and its weights are not here."""
    chat = load(target) if isinstance(target, str) else target
    if train != "guard" and not isinstance(chat, Weights):
        raise Unsupported(
            f"{chat.spec}: its weights are not here, so it cannot be trained. Harden it by a guard: --train guard."
        )
    chat.check()
    return chat


@dataclass
class Loop:
    """The rounds as they go. system: the current one; rows: what `rounds[]` holds; last_good: the round that is kept."""

    work: Work
    system: System
    known: Sequence[Attack]
    held_out: Sequence[Attack]
    rows: list[dict[str, Any]] = field(default_factory=list)
    last_good: int = 0
    start: measure.Rows = field(init=False)

    def __post_init__(self) -> None:
        self.pool = [by.name for by in self.known]
        self.failures: list[teach.Failure] = []
        self.leaks: list[fence.Leak] = []
        self.systems = [self.system]

    def all_rounds(self) -> str | None:
        """The start measured, then every round; why it ended early, None when it did not."""
        self.start = measure.run(self.work, self.system, self.known, self.held_out)
        self.rows.append(self._row(0, self.start, {}))
        for number in range(1, self.work.settings.rounds + 1):
            steps = self._round(number)
            self.systems.append(self.system)
            rows = measure.run(self.work, self.system, self.known, self.held_out)
            self.rows.append(self._row(number, rows, steps))
            if broken := self.rows[-1]["broken_limits"]:
                return f"round {number} broke a limit: {'; '.join(broken)}. Kept: round {self.last_good}."
            self.last_good = number
        return None

    def kept(self) -> dict[str, Any]:
        """The round that is kept and where its model and guard are."""
        system = self.systems[self.last_good]
        return {
            "kept_round": self.last_good,
            "model": system.chat.spec,
            "guard": None if system.trained is None else str(system.trained),
        }

    def _round(self, number: int) -> dict[str, Any]:
        """Attack and learn; changes `system` and `pool`."""
        train, before = self.work.settings.train, list(self.pool)
        steps: dict[str, Any] = {"pool": before, "attacks": {}, "learnt": {}}
        found: list[str] = []
        if train in ("model", "both"):
            found += self._teach(number, steps)
        if train in ("guard", "both"):
            found += self._fence(number, steps)
        fresh = [name for name in dict.fromkeys(found) if name not in before]
        self.pool += fresh[: self.work.settings.grow]
        steps["joined"] = fresh[: self.work.settings.grow]
        return steps

    def _attacked(self, number: int, what: str, chat: Chat, steps: dict[str, Any]) -> attack.Attacked:
        seed = derive(self.work.settings.seed, "round", number, what)
        done = attack.run(self.work, f"attack-{what}-{number}", chat, self.known, self.pool, seed)
        steps["attacks"][what] = {
            "queries": done.queries,
            "through": len(done.failures),
            "success_on_train_topics": done.success.model_dump(mode="json"),
            "compositions_found": len(done.found),
        }
        return done

    def _teach(self, number: int, steps: dict[str, Any]) -> list[str]:
        model = self.system.chat
        assert isinstance(model, Weights)
        done = self._attacked(number, "model", model, steps)
        new, without = teach.revise(self.work, done.failures, done.questions, number)
        steps["learnt"]["model"] = {"new_failures": len(new), "without_safe_reply": without}
        if new:
            stage = teach.run(self.work, number, model, new, self.failures, self.pool)
            steps["learnt"]["model"] |= stage.summary
            self.system = self.system.over(load_weights(model_folder(stage.path / "model")))
            self.leaks += fence.leaks(done.failures, done.questions)
        self.failures += new
        return done.found

    def _fence(self, number: int, steps: dict[str, Any]) -> list[str]:
        done = self._attacked(number, "guard", self.system.guarded, steps)
        new = fence.leaks(done.failures, done.questions)
        self.leaks += new
        steps["learnt"]["guard"] = {"new_leaks": len(new)}
        if new or (self.leaks and self.system.trained is None):
            stage = fence.run(self.work, number, self.system.chat, self.leaks, self.pool)
            steps["learnt"]["guard"] |= stage.summary
            self.system = replace(self.system, trained=stage.path / "guard")
        return done.found

    def _row(self, number: int, rows: measure.Rows, steps: dict[str, Any]) -> dict[str, Any]:
        seed = self.work.settings.seed
        changed = measure.changes(self.start, rows, seed) if number else {}
        limits = measure.limits(rows, seed)
        lost = measure.helpfulness_lost(self.start, rows, seed)
        return {
            "round": number,
            **steps,
            "model": self.system.chat.spec,
            "guard": None if self.system.trained is None else str(self.system.trained),
            **_plain(measure.results(rows, seed)),
            "by_family": _plain(measure.by_family(rows, seed)),
            "change": _plain(changed),
            "validation": _plain({**limits, "helpfulness_change": lost}),
            "broken_limits": self._broken(limits["over_refusal"], lost) if number else [],
        }

    def _broken(self, over_refusal: Measurement, lost: Measurement) -> list[str]:
        """The limits that validation prompts break, in words; what was not scored counts as bad."""
        s, found = self.work.settings, []
        if over_refusal.worst is not None and over_refusal.worst > s.max_over_refusal:
            found.append(f"over-refusal {over_refusal.worst:.3f} on validation prompts, at most {s.max_over_refusal:g}")
        if lost.worst is not None and -lost.worst > s.max_helpfulness_loss:
            found.append(f"helpfulness {lost.worst:+.3f} on validation prompts, at most -{s.max_helpfulness_loss:g}")
        return found


def _plain(found: dict[str, Measurement]) -> dict[str, Any]:
    return {name: m.model_dump(mode="json") for name, m in found.items()}


def _gain(row: dict[str, Any]) -> dict[str, Any] | None:
    """What the kept round took off attack success, in points and as a share of what there was; None when no round was kept."""
    return {name: _fall(row, name) for name in ("trained", "held_out", "adaptive")} if row["round"] else None


def _fall(row: dict[str, Any], name: str) -> dict[str, Any]:
    after, change = row[name]["value"], row["change"][name]
    if after is None or change["value"] is None:
        return {"points": None, "share": None, "interval": None}
    before = after - change["value"]
    low, high = change["interval"]
    share = -change["value"] / before if before else None
    return {"points": -change["value"], "interval": [-high, -low], "share": share}
