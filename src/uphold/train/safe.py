"""Constrained reinforcement learning with its final test: train under cost limits, then show on held-out prompts whether they hold.

Takes what `rl.rl` takes, with costs by clause; leaves what it leaves and `OUT/bounds.json`: for every clause the rate on prompts the
training never saw and its one-sided upper confidence bound. A limit that the training average meets and the bound does not is not met.
Of several processes all train, the first makes the test.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from uphold.core.errors import DataError
from uphold.core.files import read_json, write_json
from uphold.core.records import Sample, digest
from uphold.models.base import Sampling
from uphold.models.doors import load_weights
from uphold.train import parallel
from uphold.train.constraints import Bound, Constraint, bounds
from uphold.train.policy import Trained
from uphold.train.rewards import Reward, Violation, make_reward
from uphold.train.rl import RLConfig, rl


def clause_costs(
    limits: Mapping[str, float | Constraint], judge: str, samples: Sequence[Sample]
) -> dict[str, tuple[Reward, float | Constraint]]:
    """A cost for each clause: 1 where the registered reward `judge` gives the reply 0.5 or more, on the samples about that clause.

    Raises DataError for a clause that no sample is about: its cost would never be seen.
    """
    known = sorted({s.clause for s in samples if s.clause})
    for clause in limits:
        if clause not in known:
            raise DataError(
                f"no prompt is about clause {clause!r}. Prompts are about: {', '.join(known) or 'no clause'}."
            )
    scorer = make_reward(judge, samples, "--cost-judge")
    return {clause: (Violation(scorer, clause, samples), limit) for clause, limit in limits.items()}


def safe(
    start: Any,
    tokenizer: Any,
    prompts: Sequence[Sample],
    reward: Reward,
    limits: Mapping[str, float | Constraint],
    out_dir: str | Path,
    config: RLConfig = RLConfig(),
    *,
    held_out: Sequence[Sample],
    judge: str = "revealed",
    level: float = 0.95,
    **rest: Any,
) -> Trained:
    """`rl` under limits, then the test; the summary has "bounds", a `Bound` by clause.

    limits: clause -> largest expected cost. held_out: prompts for the test, none of which is among `prompts` (DataError). judge: the
    registered reward that says from 0.5 on that a clause is broken. level: of the bounds, one-sided. rest: as for `rl`.
    """
    asked = {s.messages for s in prompts}
    if shared := sum(s.messages in asked for s in held_out):
        raise DataError(f"{shared} held-out prompts are among those trained on. Take them from another split.")
    if not held_out:
        raise DataError("no held-out prompts: without them no limit can be shown to hold.")
    costs = clause_costs(limits, judge, prompts)
    final = clause_costs(limits, judge, held_out)
    done = rl(start, tokenizer, prompts, reward, out_dir, config, costs=costs, **rest)
    path = Path(out_dir) / "bounds.json"
    found = parallel.by_main(lambda: _tested(done, held_out, final, config, level, path))
    return Trained(
        done.path, {**done.summary, "bounds": {k: v.model_dump(mode="json") for k, v in found.items()}}, done.reused
    )


def _tested(
    done: Trained,
    held_out: Sequence[Sample],
    costs: Mapping[str, tuple[Reward, float | Constraint]],
    config: RLConfig,
    level: float,
    path: Path,
) -> dict[str, Bound]:
    """The bounds, measured now or read back where the same test of the same weights was made before."""
    numbers = {k: (c, limit.limit if isinstance(limit, Constraint) else limit) for k, (c, limit) in costs.items()}
    key = digest(
        [done.summary["weights"], [digest(s) for s in held_out], {k: v for k, (_, v) in numbers.items()}, level]
    )
    if path.exists() and (kept := read_json(path)).get("key") == key:
        return {k: Bound.model_validate(v) for k, v in kept["bounds"].items()}
    sampling = Sampling(temperature=1.0, max_new_tokens=config.max_new_tokens, seed=config.seed)
    found = bounds(load_weights(f"hf:{done.path}"), held_out, numbers, sampling=sampling, level=level)
    write_json(path, {"key": key, "bounds": {k: v.model_dump(mode="json") for k, v in found.items()}})
    return found
