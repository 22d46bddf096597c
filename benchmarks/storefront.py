"""The whole loop on the built-in model: `uphold run examples/storefront`, timed, written to results/storefront.json.

    python benchmarks/storefront.py         required on two cores: wall_s <= 300, peak_rss_mb <= 2,500

One run in a fresh folder, as `make demo` does it; every metric is kept with its n and interval.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from startup import machine

from uphold.core.files import write_json

ROOT = Path(__file__).parents[1]
KEPT = ("value", "n_asked", "n_scored", "interval", "interval_method", "worst", "best")


def kept(found: dict[str, Any]) -> dict[str, Any]:
    """What the result file keeps of a measurement, with its splits."""
    splits = {name: kept(m) for name, m in found.get("by_split", {}).items()}
    return {key: found[key] for key in KEPT} | ({"by_split": splits} if splits else {})


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "uphold", "run", "examples/storefront", "--out", f"{folder}/run", "--json"]
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
        result = json.loads(done.stdout)
    metrics = ("attack_success_rate", "over_refusal", "helpfulness")
    record = {
        "command": "uphold run examples/storefront --json",
        "machine": machine(),
        "subject": result["attack_success_rate"]["guarded"]["subject"],
        "code": result["attack_success_rate"]["guarded"]["code"],
        **{metric: {system: kept(m) for system, m in result[metric].items()} for metric in metrics},
        "gate": result["gate"],
        "wall_s": result["wall_s"],
        "peak_rss_mb": result["peak_rss_mb"],
    }
    write_json(ROOT / "benchmarks" / "results" / "storefront.json", record)
    print(json.dumps({key: record[key] for key in ("wall_s", "peak_rss_mb", "gate")}, indent=1))


if __name__ == "__main__":
    main()
