"""A Hugging Face `model-index` block: the headline numbers in the form that the Hub's model cards read.

One result per task and data revision (https://huggingface.co/docs/hub/model-cards); what the format has no field for (n, interval, worst
case, judge, the ledger entry's hash) goes into `args`, which it passes on untouched. Values are the ledger's, unrounded.
Left out: `verified`, which only the Hub may say, and measurements without a value.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

from uphold.evidence.format import worst_end
from uphold.evidence.inputs import CardInputs
from uphold.evidence.numbers import Number, Numbers


def model_index(inputs: CardInputs, numbers: Numbers) -> dict[str, Any]:
    """{'model-index': [...]}: one model a system that has headline numbers; empty list of results nowhere."""
    models = []
    for system in inputs.systems:
        found = [(m, numbers.find(f"{m.metric}.{system.key}")) for m in inputs.headlines]
        shown = [(m.label, n) for m, n in found if n is not None and n.value is not None]
        if not shown:
            continue
        by_data: dict[str, list[tuple[str, Number]]] = {}
        for label, n in shown:
            by_data.setdefault(n.m.data, []).append((label, n))
        name = f"{inputs.title.removeprefix('System card: ')} ({system.label})"
        models.append({"name": name, "results": [_result(data, rows) for data, rows in by_data.items()]})
    return {"model-index": models}


def _result(data: str, rows: Sequence[tuple[str, Number]]) -> dict[str, Any]:
    dataset = {"type": "uphold", "name": " and ".join(label for label, _ in rows)}
    return {
        "task": {"type": "text-generation"},
        "dataset": {**dataset, "revision": data} if data else dataset,
        "metrics": [_metric(label, n) for label, n in rows],
    }


def _metric(label: str, n: Number) -> dict[str, Any]:
    m = n.m
    args: dict[str, Any] = {"n_asked": m.n_asked, "n_scored": m.n_scored, "unit": m.unit, "ledger_entry": n.hash}
    if m.interval is not None:
        args |= {"interval": list(m.interval), "interval_method": m.interval_method, "level": m.level}
    worst = worst_end(m)
    if worst is not None:
        args["worst_case"] = worst
    if m.judge:
        args["judge"] = m.judge
    return {"type": m.metric.partition(".")[0], "name": label, "value": m.value, "args": args}


def front_matter(inputs: CardInputs, numbers: Numbers) -> str:
    """The block as YAML between two lines of dashes, as it opens a README on the Hub; '' where there is no headline number."""
    from ruamel.yaml import YAML

    found = model_index(inputs, numbers)
    if not found["model-index"]:
        return ""
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.width = 200
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    stream = io.StringIO()
    yaml.dump(found, stream)
    return f"---\n{stream.getvalue()}---\n"
