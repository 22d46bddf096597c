"""Constitutional AI, the supervised half (Bai et al. 2022, arXiv:2212.08073, section 3): a model taught by its own revisions.

Takes a model, a constitution, harmful and benign prompts. The model answers all of them; a critic (the model itself unless another
is given) critiques and revises the answers over several rounds (`critique.py`); the model is then fine-tuned on the revised answers
to harmful prompts, with its own unrevised answers to the benign ones mixed in so that it stays helpful, and with recovery examples
(`recovery.py`). In deliberative mode (Guan et al. 2024, arXiv:2412.16339) the model answers harmful prompts with the clauses before
its eyes, the answers that the critic finds innocent are taught, and the clauses are dropped from the prompt. Leaves
`OUT/revisions.jsonl` (every round of every reply, with clause and critique), `OUT/exchanges.jsonl` (what was trained on), `OUT/cai.json`
(counts) and what `sft.py` leaves.
Of several processes the first asks the models while the others wait; all train.
Left out: human-written revisions (mix them in as `helpful`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from uphold.constitution.requests import Shot
from uphold.core.errors import DataError
from uphold.core.files import read_json, read_jsonl, write_json, write_jsonl
from uphold.core.journal import Journal
from uphold.core.records import Exchange, Record, Sample, digest
from uphold.core.seeds import derive
from uphold.models.base import Chat, Sampling, Weights
from uphold.models.journalled import journalled
from uphold.train import parallel
from uphold.train.critique import Draft, Revision, count_rounds, critique_and_revise, draw_drafts, forbidding
from uphold.train.policy import Trained, hold, plain, refuse_other_settings
from uphold.train.recovery import Recovery, recoveries
from uphold.train.sft import SFTConfig, sft

if TYPE_CHECKING:
    from uphold.constitution import Constitution


class CAIConfig(Record):
    """Settings of supervised Constitutional AI. n_rounds: critique-revision rounds per reply (the paper: 4).

    temperature: of the first replies to harmful prompts; benign_temperature: to benign ones, which are trained on as they are (0,
    the default, keeps the model's best answers); critiques and revisions are greedy. keep: train on every round's revision, as the paper
    does, or on the last alone. max_new_tokens: of each reply, critique and revision. mode: see the module. recovery: examples of
    turning back; copies 0 leaves the paper's own recipe.
    """

    mode: Literal["critique", "deliberative"] = "critique"
    n_rounds: int = Field(default=4, ge=1, le=16)
    temperature: float = Field(default=1.0, ge=0, le=5)
    benign_temperature: float = Field(default=0.0, ge=0, le=5)
    max_new_tokens: int = Field(default=96, ge=1)
    keep: Literal["all", "last"] = "all"
    recovery: Recovery = Recovery()
    seed: int = Field(default=0, ge=0)
    sft: SFTConfig = SFTConfig(epochs=2.0, batch_tokens=2048, lr=2e-4)


def cai(
    model: Weights,
    constitution: Constitution,
    harmful: Sequence[Sample],
    benign: Sequence[Sample],
    out_dir: str | Path,
    config: CAIConfig = CAIConfig(),
    *,
    critic: Chat | None = None,
    helpful: Sequence[Exchange] = (),
    shots: Sequence[Shot] = (),
    journal: Journal | None = None,
    on_log: Callable[[dict[str, float]], None] | None = None,
) -> Trained:
    """Critique, revise, fine-tune; the summary is `sft`'s with the counts of `OUT/cai.json` under "cai".

    critic: who critiques and revises; the model itself by default, `critics.Mixed` for several. helpful: further exchanges to mix in
    as they are. shots: worked examples shown to the critic. journal: where model calls are kept (default `OUT/journal.jsonl`), so
    that a changed clause asks only what it changes. Raises DataError when nothing was revised, and as `sft` does.
    """
    out = Path(out_dir)
    with hold(out):
        exchanges, counts = parallel.by_main(
            lambda: _material(
                model, critic or model, constitution, harmful, benign, helpful, shots, out, config, journal
            )
        )
    done = sft(model.model, model.tokenizer, exchanges, out, config.sft, on_log=on_log)
    return Trained(done.path, {**done.summary, "cai": counts}, done.reused)


def _material(
    model: Weights,
    critic: Chat,
    constitution: Constitution,
    harmful: Sequence[Sample],
    benign: Sequence[Sample],
    helpful: Sequence[Exchange],
    shots: Sequence[Shot],
    out: Path,
    config: CAIConfig,
    journal: Journal | None,
) -> tuple[list[Exchange], dict[str, Any]]:
    """The exchanges to train on and the counts, made now or read back from a folder that has them."""
    settings = plain(
        {
            "method": "cai",
            **config.model_dump(mode="json", exclude={"sft"}),
            "model": model.identity(),
            "critic": critic.identity(),
            "constitution": constitution.digest,
            "samples": digest([s.model_dump(mode="json") for s in (*harmful, *benign)]),
            "helpful": digest([e.model_dump(mode="json") for e in helpful]),
            "shots": digest([[s.rule, [m.model_dump() for m in s.messages], *s[2:]] for s in shots]),
        }
    )
    if (out / "cai.json").exists():
        kept = read_json(out / "cai.json")
        refuse_other_settings(out, kept["settings"], settings)
        return [Exchange.model_validate(line) for _, line in read_jsonl(out / "exchanges.jsonl")], kept
    own = Journal(out / "journal.jsonl") if journal is None else journal
    try:
        drafts, n_failed = _drafts(journalled(model, own, label="first replies"), constitution, harmful, benign, config)
        revisions = critique_and_revise(
            lambda label: journalled(critic, own, label=label),
            constitution,
            drafts,
            n_rounds=1 if config.mode == "deliberative" else config.n_rounds,
            seed=config.seed,
            sampling=Sampling(max_new_tokens=config.max_new_tokens),
            shots=shots,
        )
    finally:
        if journal is None:
            own.close()
    if config.mode == "deliberative":
        revised = innocent_exchanges(revisions)
    else:
        revised = revised_exchanges(revisions, config.keep)
    if not revised:
        raise DataError(
            f"no reply to {len(harmful)} harmful prompts was {'found innocent' if config.mode == 'deliberative' else 'revised'}, "
            "so there is nothing to learn. Check the critic's verdicts: uphold world score shows the clerk's own rates."
        )
    honest = [*_kept(drafts), *helpful]
    said = {draft.sample.id: draft.reply for draft in drafts} if config.mode == "critique" else {}
    recovering = recoveries(_last_round(revised), honest if said else (), said, config.recovery, config.seed)
    exchanges = [*revised, *honest, *recovering]
    counts = _counts(drafts, n_failed, revisions, revised, helpful, settings) | {"n_recoveries": len(recovering)}
    write_jsonl(out / "revisions.jsonl", revisions)
    write_jsonl(out / "exchanges.jsonl", exchanges)
    write_json(out / "cai.json", counts)
    return exchanges, counts


def _drafts(
    model: Chat, constitution: Constitution, harmful: Sequence[Sample], benign: Sequence[Sample], config: CAIConfig
) -> tuple[list[Draft], int]:
    """The model's replies to both kinds of prompt, and how many prompts got none that can be used."""
    drafts: list[Draft] = []
    n_failed = 0
    rules = [c.text for c in forbidding(constitution)] if config.mode == "deliberative" else []
    kinds: tuple[tuple[Sequence[Sample], float, list[str]], ...] = (
        (harmful, config.temperature, rules),
        (benign, config.benign_temperature, []),
    )
    for samples, temperature, shown in kinds:
        if samples:
            sampling = Sampling(
                temperature=temperature, max_new_tokens=config.max_new_tokens, seed=derive(config.seed, "replies")
            )
            found, failed = draw_drafts(model, samples, sampling, rules=shown)
            drafts += found
            n_failed += failed
    return drafts, n_failed


def _counts(
    drafts: Sequence[Draft],
    n_failed: int,
    revisions: Sequence[Revision],
    revised: Sequence[Exchange],
    helpful: Sequence[Exchange],
    settings: Mapping[str, Any],
) -> dict[str, Any]:
    n_harmful = sum(d.sample.label == "harmful" for d in drafts)
    by_clause: dict[str, int] = {}
    for exchange in revised:
        by_clause[str(exchange.clause)] = by_clause.get(str(exchange.clause), 0) + 1
    return {
        "rounds": count_rounds(revisions),
        "n_without_reply": n_failed,
        "n_revised": len(revised),
        "n_never_revised": n_harmful - len({e.meta["sample"] for e in revised}),
        "n_benign_kept": len(drafts) - n_harmful,
        "n_helpful": len(helpful),
        "revised_by_clause": dict(sorted(by_clause.items())),
        "settings": dict(settings),
    }


def revised_exchanges(revisions: Sequence[Revision], keep: Literal["all", "last"]) -> list[Exchange]:
    """What to train on for harmful prompts: the revised replies, each with the clause and round that made it; no text twice per prompt.

    A reply that no round changed is left out: whether it was harmless or the critic blind is unknown.
    """
    found: dict[tuple[str, str], Exchange] = {}
    for r in sorted(revisions, key=lambda r: (r.sample, -r.round)):
        if r.label != "harmful" or not r.is_changed:
            continue
        key = (r.sample, "" if keep == "last" else r.after)
        if key in found:
            continue
        found[key] = Exchange(
            messages=r.messages,
            completion=r.after,
            clause=r.clause,
            meta={"sample": r.sample, "round": r.round, "clause_digest": r.clause_digest},
        )
    return list(found.values())


def innocent_exchanges(revisions: Sequence[Revision]) -> list[Exchange]:
    """What to train on in deliberative mode: the replies to harmful prompts that the critic found innocent, without the clauses that
    stood in the prompt when they were sampled."""
    return [
        Exchange(
            messages=r.messages,
            completion=r.before,
            clause=r.clause,
            meta={"sample": r.sample, "round": r.round, "clause_digest": r.clause_digest},
        )
        for r in revisions
        if r.label == "harmful" and r.guilty is False and r.round == 1
    ]


def _last_round(revised: Sequence[Exchange]) -> list[Exchange]:
    """The latest revision of each prompt."""
    latest: dict[str, Exchange] = {}
    for exchange in sorted(revised, key=lambda e: e.meta["round"]):
        latest[exchange.meta["sample"]] = exchange
    return list(latest.values())


def _kept(drafts: Sequence[Draft]) -> list[Exchange]:
    """The model's own answers to benign prompts, as they were before any critique: their label is trusted over the critic."""
    return [
        Exchange(messages=d.sample.messages, completion=d.reply, clause=d.sample.clause, meta={"sample": d.sample.id})
        for d in drafts
        if d.sample.label == "benign"
    ]
