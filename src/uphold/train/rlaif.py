"""Reinforcement learning from AI feedback (arXiv:2212.08073, section 4).

Takes the model that supervised Constitutional AI left, a constitution and prompts. The model answers every prompt twice; a judge
(the model itself unless another is given) says which answer keeps the clause better (`labels.py`); ties and identical pairs are
dropped and counted. The soft labels, with helpful pairs of people where there are any, are then learned in one of two ways: directly
(`how: dpo`), or as in the paper through a preference model in `OUT/reward`, whose health is checked before the model is trained
against it by reinforcement (`how: rl`). Either way the model is held to itself as the reference. Leaves
`OUT/comparisons.jsonl` (every pair, kept or not), `OUT/preferences.jsonl`, `OUT/rlaif.json` (counts) and what the training leaves.
Of several processes the first asks the models while the others wait; all train. Left out: rounds of new comparisons (run it again on
its own result).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from uphold.core.errors import DataError
from uphold.core.files import read_json, read_jsonl, write_json, write_jsonl
from uphold.core.journal import Journal
from uphold.core.measure import proportion
from uphold.core.records import Preference, Record, Sample, digest
from uphold.core.seeds import derive
from uphold.models.base import Chat, Sampling, Weights
from uphold.models.journalled import journalled
from uphold.train import parallel
from uphold.train.critique import draw_drafts
from uphold.train.dpo import DPOConfig, dpo
from uphold.train.health import require_healthy
from uphold.train.labels import Asking, Comparison, Pair, compare_pairs, is_same
from uphold.train.policy import Trained, hold, plain, refuse_other_settings
from uphold.train.reward_net import Base
from uphold.train.rl import rl
from uphold.train.rlhf import RLHFConfig, learn_reward

if TYPE_CHECKING:
    from uphold.constitution import Constitution


class RLAIFConfig(Record):
    """Settings of preference training from AI feedback. temperature and max_new_tokens: of the two answers.

    tie_margin: a label within this of 0.5 is a tie and dropped. contrast: a prompt that the model answers the same way twice is
    paired with an answer of the other kind, which the judge labels like all others: a benign one with an answer the model gave to a
    harmful prompt (a refusal, by then), a harmful one with what the model before alignment says to it, where that is at hand. Without
    the second kind nearly all pairs would speak against refusing. benign_clauses: ids of the clauses under which answers to
    benign prompts are compared; empty: the obliging clauses without a category. n_clauses, chain_of_thought: see `labels.Asking`.
    how: dpo, or rl through a preference model, with these settings for it and for the run (force: also against a sick one).
    """

    temperature: float = Field(default=1.0, gt=0, le=5)
    max_new_tokens: int = Field(default=96, ge=1)
    tie_margin: float = Field(default=0.05, ge=0, le=0.5)
    contrast: bool = True
    benign_clauses: tuple[str, ...] = ()
    n_clauses: int = Field(default=1, ge=1, le=64)
    chain_of_thought: bool = False
    how: Literal["dpo", "rl"] = "dpo"
    seed: int = Field(default=0, ge=0)
    dpo: DPOConfig = DPOConfig(batch_tokens=2048, lr=8e-5, sft_weight=0.2)
    rl: RLHFConfig = RLHFConfig()


def rlaif(
    model: Weights,
    constitution: Constitution,
    samples: Sequence[Sample],
    out_dir: str | Path,
    config: RLAIFConfig = RLAIFConfig(),
    *,
    judge: Chat | None = None,
    before: Chat | None = None,
    helpful: Sequence[Preference] = (),
    journal: Journal | None = None,
    on_log: Callable[[dict[str, float]], None] | None = None,
) -> Trained:
    """Sample, compare, train; the summary is that of `dpo` or `rl` with the counts of `OUT/rlaif.json` under "rlaif".

    judge: who compares; the model itself by default. before: the model before alignment, for contrast. helpful: further pairs
    (people's, for example) to mix in as they are. journal: where model calls are kept (default `OUT/journal.jsonl`). Raises DataError
    when no pair was preferred either way, and as `dpo` does.
    """
    out = Path(out_dir)
    with hold(out):
        preferences, counts = parallel.by_main(
            lambda: _material(model, judge or model, before, constitution, samples, helpful, out, config, journal)
        )
    if config.how == "dpo":
        done = dpo(model.model, model.tokenizer, preferences, out, config.dpo, on_log=on_log)
        return Trained(done.path, {**done.summary, "rlaif": counts}, done.reused)
    body = getattr(model.model, "base_model", model.model)
    base = Base(body, model.tokenizer, "causal", model.spec)
    reward, card, _ = learn_reward(base, preferences, out / "reward", config.rl)
    parallel.by_main(lambda: require_healthy(reward, config.rl.force))
    done = rl(model, model.tokenizer, samples, reward, out, config.rl.rl, on_log=on_log)
    health = {"is_healthy": card.is_healthy, "problems": card.problems}
    return Trained(done.path, {**done.summary, "rlaif": counts, "health": health}, done.reused)


def _material(
    model: Weights,
    judge: Chat,
    before: Chat | None,
    constitution: Constitution,
    samples: Sequence[Sample],
    helpful: Sequence[Preference],
    out: Path,
    config: RLAIFConfig,
    journal: Journal | None,
) -> tuple[list[Preference], dict[str, Any]]:
    """The pairs to train on and the counts, made now or read back from a folder that has them."""
    settings = plain(
        {
            "method": "rlaif",
            **config.model_dump(mode="json", exclude={"dpo", "rl", "how"}),
            "model": model.identity(),
            "judge": judge.identity(),
            "before": before.identity() if before else None,
            "constitution": constitution.digest,
            "samples": digest([s.model_dump(mode="json") for s in samples]),
            "helpful": digest([p.model_dump(mode="json") for p in helpful]),
        }
    )
    if (out / "rlaif.json").exists():
        kept = read_json(out / "rlaif.json")
        refuse_other_settings(out, kept["settings"], settings)
        return [Preference.model_validate(line) for _, line in read_jsonl(out / "preferences.jsonl")], kept
    own = Journal(out / "journal.jsonl") if journal is None else journal
    try:
        pairs = draw_pairs(journalled(model, own, label="two answers each"), samples, config)
        if config.contrast:
            pairs = contrasted(pairs, journalled(before, own, label="answers before") if before else None, config)
        comparisons = compare_pairs(
            lambda label: journalled(judge, own, label=label),
            constitution,
            pairs,
            seed=config.seed,
            tie_margin=config.tie_margin,
            benign_clauses=config.benign_clauses,
            asking=Asking(config.n_clauses, config.chain_of_thought),
        )
    finally:
        if journal is None:
            own.close()
    labelled = [c.preference() for c in comparisons if c.outcome == "kept"]
    outcomes = Counter(c.outcome for c in comparisons)
    if not labelled:
        raise DataError(
            f"no preference among {len(pairs)} pairs ({outcomes['identical']} identical, {outcomes['tie']} ties, "
            f"{outcomes['unscored']} unscored): nothing to learn. Raise the temperature, or choose another judge."
        )
    counts = {**_counts(len(samples), comparisons), "n_helpful": len(helpful), "settings": settings}
    write_jsonl(out / "comparisons.jsonl", comparisons)
    write_jsonl(out / "preferences.jsonl", [*labelled, *helpful])
    write_json(out / "rlaif.json", counts)
    return [*labelled, *helpful], counts


def draw_pairs(model: Chat, samples: Sequence[Sample], config: RLAIFConfig) -> list[Pair]:
    """Two draws per prompt, for the prompts where both gave a usable reply."""
    by_sample: list[dict[str, str]] = []
    for draw in (0, 1):
        sampling = Sampling(
            temperature=config.temperature,
            max_new_tokens=config.max_new_tokens,
            seed=derive(config.seed, "answer", draw),
        )
        drafts, _ = draw_drafts(model, samples, sampling)
        by_sample.append({d.sample.id: d.reply for d in drafts})
    first, second = by_sample
    return [Pair(s, first[s.id], second[s.id]) for s in samples if s.id in first and s.id in second]


def contrasted(pairs: Sequence[Pair], before: Chat | None, config: RLAIFConfig) -> list[Pair]:
    """The pairs, with an answer of the other kind in place of a second reply that repeats the first; see `RLAIFConfig.contrast`."""
    alike = [p for p in pairs if is_same(p.first, p.second)]
    refusals = [p.first for p in pairs if p.sample.label == "harmful"]
    other: dict[str, str] = {}
    if refusals:
        for p in alike:
            if p.sample.label == "benign":
                other[p.sample.id] = refusals[derive(config.seed, "contrast", p.sample.id) % len(refusals)]
    harmful = [p.sample for p in alike if p.sample.label == "harmful"]
    if before is not None and harmful:
        sampling = Sampling(max_new_tokens=config.max_new_tokens)
        completions = before.generate([s.messages for s in harmful], sampling)
        other |= {s.id: c.text.strip() for s, c in zip(harmful, completions, strict=True) if c.text and c.text.strip()}
    return [replace(p, second=other[p.sample.id], is_contrast=True) if p.sample.id in other else p for p in pairs]


def _counts(n_prompts: int, comparisons: Sequence[Comparison]) -> dict[str, Any]:
    outcomes = Counter(c.outcome for c in comparisons)
    asked = [c for c in comparisons if c.outcome != "identical"]
    agreement = proportion("order_agreement", [c.orders_agree for c in asked], groups=[c.group for c in asked])
    by_clause: dict[str, int] = dict(sorted(Counter(c.clause for c in comparisons if c.outcome == "kept").items()))
    return {
        "n_prompts": n_prompts,
        "n_without_reply": n_prompts - len(comparisons),
        "n_kept": outcomes["kept"],
        "n_contrast": sum(c.is_contrast and c.outcome == "kept" for c in comparisons),
        "n_ties": outcomes["tie"],
        "n_identical": outcomes["identical"],
        "n_unscored": outcomes["unscored"],
        "kept_by_clause": by_clause,
        "order_agreement": agreement.model_dump(mode="json"),
    }
