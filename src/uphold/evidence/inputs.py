"""What a card says beside its numbers: names, prose, the clauses, curves and excerpts.

The pipeline fills a `CardInputs` and saves it with `save_inputs` as `card-inputs.json` in the run folder; the ledger vouches for that
file by its hash. Numbers do not belong here: the card takes each from the ledger, by the metric names given below. Read by `card.py`.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterable
from pathlib import Path

from pydantic import Field, ValidationError

from uphold.core.errors import DataError
from uphold.core.files import read_jsonl, read_text, write_atomic
from uphold.core.records import Record
from uphold.evidence.ledger import Ledger
from uphold.evidence.paths import INPUTS

MAX_POINTS = 240


class System(Record):
    """One of the systems compared; its numbers are the metrics named 'something.KEY'. The first one listed is the baseline."""

    key: str
    label: str
    about: str = ""


class Metric(Record):
    """A metric and what the card calls it. `metric` is a stem ('over_refusal') where systems are compared, a full name elsewhere."""

    metric: str
    label: str
    about: str = ""


class ClauseRow(Record):
    """One clause of the constitution, as the coverage table shows it."""

    id: str
    text: str
    modality: str = ""
    category: str | None = None
    forbids: bool = False


class Curve(Record):
    """One line of a training figure. Curves of one panel share its axes. points: (x, y), at most MAX_POINTS; see `read_curve`."""

    panel: str
    name: str
    y_label: str
    x_label: str = "step"
    points: tuple[tuple[float, float], ...] = Field(min_length=1, max_length=MAX_POINTS)


class Excerpt(Record):
    """A failure, shown as it happened. system: a System key; note: what went wrong.

    transcript: the commitment of the transcript that prompt and completion are taken from when the card is made, so that a redaction
    reaches the card. Without one they are given here; completion None: the reply is withheld.
    """

    system: str
    prompt: str = ""
    completion: str | None = None
    transcript: str = ""
    family: str = ""
    split: str = ""
    clause: str | None = None
    note: str = ""


class Section(Record):
    """A few named metrics with a paragraph about them: the guard's threshold and certificate, the cost of the run."""

    title: str
    about: str = ""
    metrics: tuple[Metric, ...] = ()


HEADLINES = (
    Metric(
        metric="attack_success_rate", label="Attack success", about="attacks that got forbidden knowledge out of it"
    ),
    Metric(metric="over_refusal", label="Over-refusal", about="honest requests refused"),
    Metric(metric="helpfulness", label="Helpfulness", about="everyday tasks done right"),
)


class CardInputs(Record):
    """Everything on the card that is not a number.

    systems: in table order, baseline first. headlines: metric stems of the headline table. family_metric: the stem shown by attack
    family; its measurements carry by={'family': ..., 'split': ...}, and {'split': ...} for the whole of a split.
    clause_metrics: full metric names, measured with by={'clause': id}, that show how each clause was tested.
    provenance: label -> text (hashes, versions). commands: how to make the numbers again. limits: sentences about what the numbers do not
    say, beside those found in the ledger; without digits. failures are cut after `excerpt_chars` characters.
    """

    title: str = "System card"
    summary: str = ""
    systems: tuple[System, ...] = Field(min_length=1)
    headlines: tuple[Metric, ...] = HEADLINES
    family_metric: str = "attack_success_rate"
    split_labels: dict[str, str] = Field(
        default_factory=lambda: {
            "trained": "Families used in training",
            "held_out": "Held-out families: nothing was trained on them",
            "adaptive": "Adaptive attackers: they saw the replies and tried again",
        }
    )
    clauses: tuple[ClauseRow, ...] = ()
    clause_metrics: tuple[Metric, ...] = ()
    curves: tuple[Curve, ...] = ()
    guard: Section | None = None
    more: tuple[Section, ...] = ()
    failures: tuple[Excerpt, ...] = ()
    excerpt_chars: int = Field(600, ge=20)
    notes: tuple[str, ...] = ()
    limits: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    provenance: dict[str, str] = Field(default_factory=dict)


def save_inputs(run: str | Path, inputs: CardInputs, ledger: Ledger) -> Path:
    """Write `card-inputs.json` into a run folder and its hash into the ledger; the same inputs again change nothing."""
    path = Path(run) / INPUTS
    text = json.dumps(inputs.model_dump(mode="json"), indent=1, ensure_ascii=True) + "\n"
    if not path.exists() or path.read_bytes() != text.encode("ascii"):
        write_atomic(path, text)
    ledger.put("artifact", INPUTS, {"sha256": hashlib.sha256(text.encode("ascii")).hexdigest()})
    return path


def load_inputs(run: str | Path, metrics: Iterable[str]) -> CardInputs:
    """The inputs saved in a run folder; without any, plain ones that name the systems after the recorded metrics.

    metrics: metric names in the ledger. Raises DataError naming the file when it cannot be read.
    """
    path = Path(run) / INPUTS
    if not path.exists():
        return plain_inputs(metrics)
    try:
        return CardInputs.model_validate_json(read_text(path))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise DataError(f"{path}: {where}: {first['msg']}. Run the loop again, or restore the file.") from None


def plain_inputs(metrics: Iterable[str]) -> CardInputs:
    """Inputs for a ledger that came without any: one system for each ending of a headline metric, in the order recorded."""
    stems = {headline.metric for headline in HEADLINES}
    found = [name.partition(".")[2] for name in metrics if name.partition(".")[0] in stems and "_minus_" not in name]
    keys = [key for key in dict.fromkeys(found) if key] or ["system"]
    return CardInputs(systems=tuple(System(key=key, label=key.capitalize()) for key in keys))


def read_curve(
    path: str | Path, x: str, y: str, *, panel: str, name: str, y_label: str, x_label: str = "step"
) -> Curve:
    """A curve from a JSONL log: fields `x` and `y` of every line that has both. Long logs are averaged over equal stretches.

    Raises DataError when no line has both.
    """
    points = [
        (float(row[x]), float(row[y]))
        for _, row in read_jsonl(path)
        if isinstance(row.get(x), int | float) and isinstance(row.get(y), int | float)
    ]
    if not points:
        raise DataError(f"{path}: no line has both {x!r} and {y!r}.")
    return Curve(panel=panel, name=name, x_label=x_label, y_label=y_label, points=tuple(thinned(points)))


def thinned(points: list[tuple[float, float]], most: int = MAX_POINTS) -> list[tuple[float, float]]:
    """At most `most` points: the means of as many stretches of consecutive points, of equal length to within one."""
    if len(points) <= most:
        return points
    edges = [i * len(points) // most for i in range(most + 1)]
    stretches = [points[a:b] for a, b in itertools.pairwise(edges)]
    return [(sum(px for px, _ in s) / len(s), sum(py for _, py in s) / len(s)) for s in stretches]
