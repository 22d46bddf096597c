"""A generation run: topic trees, requests, conversations and twins for every clause, replies to them, and a second judge's labels.

Takes a constitution and any `Chat`; streams rows (`data.rows`) to OUT/rows.jsonl and leaves OUT/summary.json. Every call is journalled
in OUT/calls.jsonl, and the run is a pure function of its settings and the answers: after a kill the same command walks the same way
through the journal, finds the rows that are there by their ids, and goes on. What cannot be used is counted by its reason and asked for
again, a few times; a model that gives nothing usable for long stops the run. With a `Source` the requests come from it, with
ground truth, and the model only replies. Left out: training on the rows, and judging how varied they are (`data.report`).
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from uphold.constitution import Clause, Constitution
from uphold.core.errors import ConfigError
from uphold.core.files import read_json, store_error, write_json
from uphold.core.journal import Journal
from uphold.core.progress import Bar, progress
from uphold.core.records import Label
from uphold.core.seeds import derive
from uphold.data.dedupe import NearDuplicates, Prepared
from uphold.data.source import Source
from uphold.data.synth import templates
from uphold.data.synth.answers import items, requests
from uphold.data.synth.calls import Budget, Calls
from uphold.data.synth.candidate import Candidate, Turns
from uphold.data.synth.filters import as_example, why_not, why_not_twin
from uphold.data.synth.finish import Finisher, Walk
from uphold.data.synth.languages import NAMES
from uphold.data.synth.plan import Ask, Settings, batches, given, plan, spread
from uphold.data.synth.result import Result, summarise
from uphold.data.synth.rowfile import RowFile
from uphold.models.base import Chat, Sampling

WAVE = 32  # asks put at once
_SHOWN = 3  # of the clause's examples in a prompt
_NOT_THE_RUN = {"max_failures"}  # settings that do not change what is made
Trees = dict[tuple[str, Label], list[tuple[str, ...]]]


@dataclass(frozen=True)
class _Models:
    """Who writes, who judges, and where given requests come from."""

    writer: Chat
    judge: Chat
    source: Source | None
    source_name: str


def synthesise(
    constitution: Constitution,
    writer: Chat,
    out: str | Path,
    settings: Settings = Settings(),
    *,
    judge: Chat | None = None,
    source: Source | None = None,
    source_name: str = "",
    budget: Budget = Budget(),
) -> Result:
    """Make rows in the folder `out`, or go on making them.

    judge: labels requests and replies once more; the writer itself when None. source: gives the requests of both labels; the
    writer's topics and requests are then not asked for. Raises ConfigError when `out` holds another run, StoreError when
    it is in use or damaged. A run that had to stop says why in `Result.stopped`, and what is missing.
    """
    out = Path(out)
    clauses = settings.chosen(constitution)
    models = _Models(writer, judge or writer, source, source_name)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise store_error(out, "make the folder", error) from error
    with Journal(out / "calls.jsonl") as journal:
        _check_same_run(out / "settings.json", clauses, models, settings)
        calls = Calls(journal, budget, settings.max_failures)
        file = RowFile(out / "rows.jsonl")
        try:
            asks = given(clauses, settings) if source else plan(clauses, settings)
            with progress("synthetic rows", sum(ask.n for ask in asks), unit="rows") as bar:
                run = _Run(constitution, clauses, models, settings, calls, file, bar)
                (run.given if source else run.generated)(asks)
            result = summarise(out, asks, calls, file, run.walk.rejected, run.walk.judged, settings.seed)
        finally:
            file.close()
        write_json(out / "summary.json", result)
    return result


def _check_same_run(path: Path, clauses: Sequence[Clause], models: _Models, settings: Settings) -> None:
    """Raise ConfigError when the folder was begun with other settings: rows of two runs must not mix."""
    now = {
        **settings.model_dump(mode="json", exclude=_NOT_THE_RUN),
        "clause_digests": {clause.id: clause.digest for clause in clauses},
        "model": models.writer.identity(),
        "judge": models.judge.identity(),
        "source": models.source_name,
    }
    if path.exists():
        before = read_json(path)
        differing = [key for key in now if before.get(key) != now[key]]
        if differing:
            raise ConfigError(
                f"{path.parent}: holds a run with other settings ({', '.join(differing)}). Choose another folder."
            )
    else:
        write_json(path, now)


class _Run:
    """The state of one run: what is there, what was met again, what is still lacking."""

    def __init__(
        self,
        constitution: Constitution,
        clauses: Sequence[Clause],
        models: _Models,
        settings: Settings,
        calls: Calls,
        file: RowFile,
        bar: Bar,
    ) -> None:
        self._clauses = {clause.id: clause for clause in clauses}
        self._constitution, self._settings, self._calls, self._source = constitution, settings, calls, models.source
        self._writer = models.writer
        self._examples = {c.id: [as_example(text) for text in (*c.harmful, *c.harmless)] for c in clauses}
        self._index = NearDuplicates(settings.threshold)
        for prepared in self._index.prepare(file.texts):
            self._index.keep(prepared)
        self.walk = Walk(
            dict(file.ids), {group: tuple(found) for group, found in file.groups.items()}, Counter(file.by_ask)
        )
        bar.skip(len(file))
        self._finisher = Finisher(
            constitution,
            self._clauses,
            models.writer,
            models.judge,
            models.source_name,
            settings,
            calls,
            file,
            bar,
        )

    def given(self, asks: Sequence[Ask]) -> None:
        """Rows whose requests the source gives, with their ground truth."""
        assert self._source is not None
        for ask in asks:
            kind: Any = "harmful" if ask.label == "harmful" else "benign"
            samples = self._source.samples(
                kind, constitution=self._constitution, split="train", n=ask.n, seed=self._settings.seed
            )
            made = [Candidate(ask, sample.messages, None, sample=sample) for sample in samples]
            for low in range(0, len(made), WAVE):
                self._finisher.finish([c for c in made[low : low + WAVE] if self._is_new(c)], self.walk)
                if self._calls.stopped:
                    return

    def generated(self, asks: Sequence[Ask]) -> None:
        """Topic trees, then singles and conversations, then twins of them; each as often as it takes, up to `tries`."""
        trees = self._trees(asks)
        for part in ([a for a in asks if a.form != "twin"], [a for a in asks if a.form == "twin"]):
            for attempt in range(self._settings.tries):
                lacking = [ask for ask in part if self.walk.have[ask.number] < ask.n]
                for wave in batches(lacking, WAVE):
                    if self._calls.stopped:
                        return
                    self._wave(wave, attempt, trees)

    def _trees(self, asks: Sequence[Ask]) -> Trees:
        """The leaves of each clause's and label's topic tree; the category alone where the model gave none."""
        needed = Counter((ask.clause, ask.label) for ask in asks if ask.form != "twin")
        topics: dict[tuple[str, Label], list[str]] = {}
        for attempt in range(self._settings.tries):
            open_ = [key for key in needed if not topics.get(key)]
            prompts = [self._topic_prompt(*key) for key in open_]
            for key, found in zip(
                open_, self._lists(prompts, self._settings.n_topics, "topics", attempt), strict=False
            ):
                topics[key] = found[: self._settings.n_topics]
        nodes = [(key, topic) for key in needed for topic in topics.get(key, ()) if needed[key] > len(topics[key])]
        n = self._settings.n_subtopics
        prompts = [self._topic_prompt(*key, topic) for key, topic in nodes] if n else []
        below = dict(zip(nodes, self._lists(prompts, n, "topics", 0), strict=False))
        trees: Trees = {}
        for key in needed:
            paths = [
                (i, (topic, *sub))
                for topic in topics.get(key, ())
                for i, sub in enumerate([(s,) for s in below.get((key, topic), ())[:n]] or [()])
            ]
            paths.sort(key=lambda path: path[0])  # neighbours on the list come from different topics
            trees[key] = [path for _, path in paths] or [(str(self._clauses[key[0]].category),)]
        return trees

    def _topic_prompt(self, clause: str, label: Label, topic: str = "") -> Turns:
        template = templates.SUBTOPICS if topic else templates.TOPICS
        n = self._settings.n_subtopics if topic else self._settings.n_topics
        return template.ask(rule=self._clauses[clause].text, kind=templates.kind_of(label), topic=topic, n=n)

    def _lists(self, prompts: Sequence[Turns], n: int, what: str, attempt: int) -> Iterator[list[str]]:
        for reply in self._calls.ask(self._writer, prompts, self._sampling(attempt)):
            found, problem = items(reply, n)
            self._calls.came(what, problem)
            yield found

    def _sampling(self, attempt: int) -> Sampling:
        s = self._settings
        return Sampling(
            temperature=s.temperature, max_new_tokens=s.max_new_tokens, seed=derive(s.seed, "attempt", attempt)
        )

    def _wave(self, asks: Sequence[Ask], attempt: int, trees: Trees) -> None:
        """Put some asks, take what can be used of the answers, and make rows of it."""
        drafts = [draft for ask in asks if (draft := self._draft(ask, attempt, trees)) is not None]
        replies = self._calls.ask(self._writer, [prompt for _, prompt in drafts], self._sampling(attempt))
        answered = [
            (prompt, *_offers(draft, *requests(draft, reply)))
            for (draft, prompt), reply in zip(drafts, replies, strict=False)
        ]
        hashed = self._index.prepare([offer.asked for _, offers, _ in answered for offer in offers])
        kept: list[Candidate] = []
        for (prompt, offers, problem), (base, _) in zip(answered, drafts, strict=False):
            reasons: Counter[str] = Counter([problem] if problem else [])
            n_kept = 0
            for offer, prepared in zip(offers, list(islice(hashed, len(offers))), strict=True):
                if self.walk.have[base.ask.number] + n_kept >= base.ask.n:
                    break
                reason, candidate = self._considered(offer, prompt, prepared)
                if reason:
                    reasons[reason] += 1
                else:
                    kept.append(candidate)
                    n_kept += 1
            self.walk.rejected += reasons
            self._calls.came("requests", "" if n_kept else next(iter(reasons), "nothing new"))
        self._finisher.finish(kept, self.walk)

    def _draft(self, ask: Ask, attempt: int, trees: Trees) -> tuple[Candidate, Turns] | None:
        """What an ask will be asked for, and the prompt; None for a twin of which there is no row yet."""
        clause = self._clauses[ask.clause]
        kind = templates.kind_of(ask.label)
        if ask.form == "twin":
            other: Label = "benign" if ask.label == "harmful" else "harmful"
            pool = self.walk.singles.get((ask.clause, other), [])
            if not pool:
                return None
            of = pool[(ask.leaf + attempt * self._settings.rows) % len(pool)]
            same = replace(ask, lang=of.ask.lang, register=of.ask.register)
            draft = Candidate(same, (), templates.TWIN, of.topic, attempt, twin_of=of)
            fields = {"other": templates.kind_of(other), "request": of.messages[-1].content}
            return draft, templates.TWIN.ask(rule=clause.text, kind=kind, **fields)
        leaves = trees[ask.clause, ask.label]
        topic = leaves[(ask.leaf + attempt) % len(leaves)]
        template = templates.TURNS if ask.form == "turns" else templates.REQUESTS
        rng = random.Random(derive(self._settings.seed, "examples", ask.number, attempt))
        examples = spread(clause.harmful if ask.label == "harmful" else clause.harmless, _SHOWN, rng)
        prompt = template.ask(
            rule=clause.text,
            kind=kind,
            n=ask.n - self.walk.have[ask.number],
            examples=templates.examples_of(examples),
            topic=": ".join(topic),
            language=NAMES[ask.lang],
            register=templates.REGISTERS[ask.register],
            difficulty=templates.DIFFICULTIES[ask.difficulty],
        )
        return Candidate(ask, (), template, topic, attempt), prompt

    def _considered(self, candidate: Candidate, prompt: Turns, hashed: Prepared) -> tuple[str, Candidate]:
        """('' and the candidate with its number) when it can be used, else why not."""
        ask, of = candidate.ask, candidate.twin_of
        instruction = "" if of else prompt[0].content
        reason = why_not(candidate.asked, lang=ask.lang, instruction=instruction, examples=self._examples[ask.clause])
        reason = reason or (why_not_twin(candidate.asked, of.asked) if of else None)
        if reason:
            return reason, candidate
        if candidate.id in self.walk.met:
            return "duplicate", candidate
        there = self.walk.found_there.get(candidate.id)
        if there is not None:
            self.walk.met.add(candidate.id)
            return "", replace(candidate, number=there)
        if self.walk.taken[ask.number] >= ask.n:
            return "surplus", candidate  # a row that another answer filled before an interruption
        twins = (*((of.number,) if of else ()), *self.walk.groups.get(candidate.id, ()))
        if self._index.offer(hashed, twins) is not None:
            return "near-duplicate", candidate
        self.walk.met.add(candidate.id)
        self.walk.taken[ask.number] += 1
        return "", replace(candidate, number=len(self._index) - 1)

    def _is_new(self, candidate: Candidate) -> bool:
        """Whether a given request was not met before; notes it. A source says itself what is distinct."""
        if candidate.id in self.walk.met:
            self.walk.rejected["duplicate"] += 1
            return False
        self.walk.met.add(candidate.id)
        if candidate.id not in self.walk.found_there:
            self.walk.taken[candidate.ask.number] += 1
        return True


def _offers(draft: Candidate, found: Sequence[Turns], problem: str) -> tuple[list[Candidate], str]:
    return [replace(draft, messages=turns) for turns in found], problem
