"""Stage `attack-...`: the round's attack on training topics, and what got through.

Half of the budget goes evenly over the pool and the questions; the rest to a search that composes the pool's single attacks (a bandit by
default). Compositions that got through are found here; the best of them join the pool. Held-out attacks are never in the pool.
Takes a `Chat` and questions; leaves `sweep/attempts.jsonl` and `search/attempts.jsonl`, each attempt on disk as it is made.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from uphold.core.progress import progress
from uphold.core.records import Measurement, Sample
from uphold.core.seeds import derive
from uphold.models import Chat
from uphold.redteam import Attack, Attempt, Engine, attack_named, read_attempts, run_all
from uphold.redteam.report import report
from uphold.redteam.search import Means, search_named
from uphold.stages.context import digest_of
from uphold.stages.harden.work import Work, ids


class Attacked(NamedTuple):
    """What a round's attack came to. key: of the stage. success: share of attempts that got through, on training topics.

    questions: those asked, by id.
    """

    key: str
    queries: int
    failures: list[Attempt]
    found: list[str]
    success: Measurement
    questions: dict[str, Sample]


def run(work: Work, name: str, chat: Chat, singles: Sequence[Attack], pool: Sequence[str], seed: int) -> Attacked:
    """Attack `chat` with the pool. singles: the attacks that the search composes; found: compositions that got through, best first."""
    s = work.settings
    questions = work.draw("harmful", "train", s.n_questions, f"attack {name}")
    inputs = {
        "target": chat.identity(),
        "questions": digest_of(questions),
        "pool": list(pool),
        "singles": [by.name for by in singles],
        "budget": s.budget,
        "searched": s.searched,
        "search": s.search,
        "sampling": work.sampling.model_dump(mode="json"),
        "seed": seed,
    }

    def make(folder: Path) -> dict[str, int]:
        n_search = round(s.budget * s.searched)
        n_swept = sweep(work, chat, questions, [attack_named(n) for n in pool], folder, s.budget - n_search, seed)
        n_found = 0
        if n_search:
            n_found = search(work, s.search, chat, questions, singles, folder / "search", n_search, seed)
        return {"swept": n_swept, "searched": n_found}

    done = work.store.stage(name, inputs, make)
    attempts = [a for part in ("sweep", "search") for a in _kept(done.path / part)]
    known = ids(questions)
    about: dict[str, Any] = {"subject": {"model": chat.identity()}, "data": digest_of(questions), "seeds": (s.seed,)}
    return Attacked(
        done.key,
        len(attempts),
        [a for a in attempts if a.success and a.completion and a.sample in known],
        _compositions(attempts),
        report(attempts, **about)["overall"],
        known,
    )


def sweep(
    work: Work,
    chat: Chat,
    questions: Sequence[Sample],
    attacks: Sequence[Attack],
    folder: Path,
    budget: int | None,
    seed: int,
    trained: Sequence[str] = (),
) -> int:
    """Every question through every attack, evenly, within the budget; the attempts lie in FOLDER/sweep. Returns how many."""
    total = len(questions) * len(attacks)
    with (
        progress("harden: attack", total if budget is None else min(budget, total), unit="queries") as bar,
        Engine(
            chat,
            questions,
            seed=derive(seed, "sweep"),
            sampling=work.sampling,
            budget=budget,
            trained=trained or [by.family for by in attacks],
            folder=folder / "sweep",
            on_attempts=lambda made: bar.advance(len(made)),
        ) as engine,
    ):
        for _ in run_all(engine, questions, attacks):
            pass
        return engine.queries


def search(
    work: Work,
    spec: str,
    chat: Chat,
    questions: Sequence[Sample],
    attacks: Sequence[Attack],
    folder: Path,
    budget: int,
    seed: int,
) -> int:
    """Look for attacks that work within a budget; the attempts lie in FOLDER. Returns how many were made."""
    with (
        progress("harden: search", budget, unit="queries") as bar,
        Engine(
            chat,
            questions,
            seed=derive(seed, "search"),
            sampling=work.sampling,
            budget=budget,
            folder=folder,
            on_attempts=lambda made: bar.advance(len(made)),
        ) as engine,
    ):
        search_named(spec).run(engine, questions, Means(attacks, seed=derive(seed, "means")))
        return engine.queries


def _kept(folder: Path) -> list[Attempt]:
    path = folder / "attempts.jsonl"
    return list(read_attempts(path)) if path.exists() else []


def _compositions(attempts: Sequence[Attempt]) -> list[str]:
    """Strategies made of several attacks that got through, those with most successes first."""
    successes = Counter(a.attack for a in attempts if a.success and "+" in a.attack)
    return sorted(successes, key=lambda name: (-successes[name], name))
