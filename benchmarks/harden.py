"""Adversarial rounds on the clerk: how much robustness is gained on attacks that nothing was trained on, and what it costs.

    python benchmarks/harden.py [--arms model,supervised,guard] [--out DIR]        published gains: 10 to 30%

Each arm is `uphold redteam harden` with its defaults. model: from the helpful-only clerk. supervised: from a clerk that plain supervised
Constitutional AI has taught (one revision, no recovery examples, no preferences). guard: the clerk as it is, behind a guard that learns.
Writes benchmarks/results/harden.json: every round's Measurements, the fall of attack success on held-out attacks with its paired interval,
and the wall time; the curve of each arm lies in DIR/ARM/rounds.png.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from startup import machine

from uphold.constitution import Constitution
from uphold.core.files import read_json, write_json
from uphold.core.measure import code_version
from uphold.core.records import Exchange, Sample
from uphold.core.registry import get
from uphold.models import load_weights
from uphold.redteam import TRAINED
from uphold.stages.harden.loop import run
from uphold.stages.harden.settings import Harden
from uphold.stages.prompts import wrapped
from uphold.train.cai import CAIConfig, cai
from uphold.train.recovery import Recovery

RESULT = Path(__file__).parent / "results" / "harden.json"
METRICS = ("trained", "held_out", "adaptive", "over_refusal", "helpfulness")
KEPT = ("value", "n_asked", "n_scored", "interval", "interval_method")


def supervised(out: Path, threads: int) -> str:
    """The clerk after plain supervised Constitutional AI; how to open it."""
    import torch

    torch.set_num_threads(threads)
    law, source = Constitution.load("storefront"), get("source", "builtin:storefront")

    def drawn(kind: str, n: int) -> list[Sample]:
        found: list[Sample] = source.samples(kind, constitution=law, split="train", n=n, seed=5)
        return found

    harmful = wrapped(drawn("harmful", 240), TRAINED, 0.75, 0)
    helpful = [Exchange(messages=s.messages, completion=s.expected or "") for s in drawn("task", 600)]
    config = CAIConfig(n_rounds=1, recovery=Recovery(copies=0))
    done = cai(load_weights("builtin:clerk"), law, harmful, drawn("benign", 100), out, config, helpful=helpful)
    return f"hf:{done.path}"


def short(row: dict[str, Any]) -> dict[str, Any]:
    """What a reader wants of a round: values with intervals, changes, what was attacked and learnt."""
    numbers = {name: {key: row[name][key] for key in KEPT} for name in METRICS if name in row}
    changes = {name: {key: m[key] for key in KEPT} for name, m in row["change"].items()}
    families = {name: m["value"] for name, m in row["by_family"].items()}
    rest = {key: row[key] for key in ("joined", "broken_limits") if key in row}
    through = {what: {k: hit[k] for k in ("queries", "through")} for what, hit in row.get("attacks", {}).items()}
    return {"round": row["round"], **numbers, "change": changes, "by_family": families, "attacks": through, **rest}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arms", default="model,supervised,guard")
    parser.add_argument("--out", type=Path, default=Path(tempfile.mkdtemp()))
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    result: dict[str, Any] = read_json(RESULT) if RESULT.exists() else {}
    result |= {"command": "python benchmarks/harden.py", "machine": machine(), "code": code_version()}
    result["published"] = (
        "robustness gains of 10 to 30% from rounds of adversarial training; their models, attacks and judges, not ours"
    )
    for arm in asked.arms.split(","):
        target = supervised(asked.out / "supervised-start", asked.threads) if arm == "supervised" else "builtin:clerk"
        is_fresh = not (asked.out / arm).exists()
        settings = Harden(train="guard" if arm == "guard" else "model", threads=asked.threads)
        done = run(target, "storefront", asked.out / arm, settings, critic="builtin:clerk")
        result[arm] = {
            "rounds": [short(row) for row in done["rounds"]],
            "gain": done["gain"],
            "kept_round": done["kept_round"],
            "stopped": done["stopped"],
            "wall_s": done["wall_s"] if is_fresh else None,  # a run that found finished stages says nothing of the time
        }
        for row in done["rounds"]:
            print(arm, row["round"], {name: row[name]["value"] for name in METRICS if name in row}, flush=True)
        print(arm, "gain", done["gain"], done["stopped"] or "", done["wall_s"], "s", flush=True)
        write_json(RESULT, result)


if __name__ == "__main__":
    main()
