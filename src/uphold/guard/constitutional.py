"""A guard from a constitution: its examples, the written corpus, and whatever else a user gives, into a linear guard, an encoder, or both.

Takes a constitution; gathers labelled examples into four parts that share no group: fit, stop (early stopping and choices), threshold
(calibration and the refusal budget) and test; gives guards and a report. The written corpus joins when the constitution forbids one of
its categories, each row under the clause that rules it, and beside it what the grammars make (`grammars/`). Files of a user and
catalogued public corpora (`corpora.py`) join with their licence and hash, which the guard keeps. Left out: the fits themselves
(`train.py`, `encoder_fit.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from uphold.core.errors import DataError
from uphold.core.records import Measurement
from uphold.core.seeds import split_of
from uphold.data.files import PromptSet, file_names, read_prompts
from uphold.guard import corpora
from uphold.guard.evaluate import evaluate
from uphold.guard.examples import (
    CONSTITUTION,
    Example,
    cleaned,
    data_hash,
    from_constitution,
    is_harmful,
    is_prompt,
    prompt_key,
    source_of,
    split,
)
from uphold.guard.fitting import GuardSettings
from uphold.guard.grammars import code_requests, everyday, personas
from uphold.guard.train import GuardReport, counts_of, train_linear

if TYPE_CHECKING:
    from uphold.constitution import Constitution
    from uphold.guard.base import Guard
    from uphold.guard.encoder_data import Beside
    from uphold.guard.encoder_fit import EncoderSettings

StageName = Literal["linear", "encoder", "both"]
LINEAR_WEIGHT = 0.2  # of the linear guard beside the encoder, chosen on validation prompts (docs/guard_training.md)
PARTS = ("fit", "stop", "threshold", "test")
OWN_SHARES = {"fit": 0.6, "stop": 0.08, "threshold": 0.16, "test": 0.16}
CORPUS_SHARES = {"stop": 0.3, "threshold": 0.4, "test": 0.3}  # of the written corpus's validation split
PUBLIC_SHARES = {"fit": 0.9, "stop": 0.02, "threshold": 0.05, "test": 0.03}


@dataclass
class Gathered:
    """Examples by part; where they came from, with licences and hashes; the user's files as read; what was dropped; the public corpora."""

    parts: dict[str, list[Example]]
    provenance: list[dict[str, Any]] = field(default_factory=list)
    read: dict[str, PromptSet] = field(default_factory=dict)
    n_duplicates: int = 0
    n_contradictory: int = 0
    corpora_root: Path | None = None

    @property
    def clauses(self) -> tuple[str, ...]:
        """The clauses that harmful examples to fit name, sorted."""
        return tuple(sorted({str(e.clause) for e in self.parts["fit"] if e.clause and is_harmful(e)}))


def written_corpus(constitution: Constitution) -> dict[str, list[Example]]:
    """The rows of the written corpus by part, prompts and replies, when the constitution forbids one of its categories; else {}."""
    from dataclasses import replace

    from uphold.data import assistant

    forbidden = {category: clause.id for category, clause in constitution.forbidden_categories().items()}
    allowed = constitution.allowed_categories()
    if not set(forbidden) & set(assistant.categories()):
        return {}
    parts: dict[str, list[Example]] = {name: [] for name in PARTS}
    for row in assistant.load():
        harmful = row.label == "harmful" and row.category not in allowed
        if row.category not in forbidden and harmful:
            continue
        ruled = replace(row, clause=forbidden.get(row.category, ""), label="harmful" if harmful else "benign")
        part = "fit" if row.split == "train" else split_of(row.group or row.id, CORPUS_SHARES, "guard corpus")
        source = f"{assistant.NAME}/{assistant.family_of(row)}"
        parts[part].append(ruled.sample(source))
        if (exchange := ruled.exchange(source)) is not None:
            parts[part].append(exchange)
    if {"cyber-attacks", "malware", "fraud-and-scams"} <= set(forbidden):
        parts["fit"] += code_requests.samples(forbidden)
    if personas.CATEGORY in forbidden:
        parts["fit"] += personas.samples(forbidden[personas.CATEGORY])
    parts["fit"] += everyday.samples()
    return parts


def gather(
    constitution: Constitution,
    *,
    harmful: Sequence[Path] = (),
    benign: Sequence[Path] = (),
    data: Sequence[Path] = (),
    licences: Sequence[str] = (),
    corpora_root: Path | None = None,
    with_corpus: bool = True,
    seed: int = 0,
) -> Gathered:
    """Everything to train on. harmful, benign: files of prompts of one class; data: labelled rows, also with completions; licences: of
    `data`, in its order. Raises DataError when a part that is needed would be empty."""
    written = written_corpus(constitution) if with_corpus else {}
    parts: dict[str, list[Example]] = {name: list(written.get(name, ())) for name in PARTS}
    parts["fit"] = [*from_constitution(constitution), *parts["fit"]]
    found = Gathered(parts, corpora_root=corpora_root)
    if written:
        n = sum(map(len, written.values()))
        found.provenance.append({"name": "builtin:assistant-corpus", "licence": "as Uphold", "upstream": "", "n": n})
    if harmful or benign or data:
        _add_files(found, harmful, benign, data, licences, seed)
    if corpora_root is not None:
        public, used = corpora.of_role(corpora_root, "train")
        _add(found, public, PUBLIC_SHARES, f"guard public {seed}")
        found.provenance += used
    _clean(found)
    labels = {is_harmful(e) for e in found.parts["fit"] if source_of(e) != CONSTITUTION}
    if len(labels) < 2:
        raise DataError(
            "nothing to learn from: the written corpus has no category that this constitution forbids, and no files of both classes "
            "were given. Give --harmful FILE and --benign FILE, or --data FILE with labelled rows."
        )
    return found


def _add_files(
    found: Gathered,
    harmful: Sequence[Path],
    benign: Sequence[Path],
    data: Sequence[Path],
    licences: Sequence[str],
    seed: int,
) -> None:
    if bool(harmful) != bool(benign) and not data and not found.parts["threshold"]:
        missing = "benign" if harmful else "harmful"
        raise DataError(f"no files of {missing} prompts: a guard learns from both kinds. Give --{missing} FILE.")
    paths = [*harmful, *benign, *data]
    names = dict(zip(paths, file_names(paths), strict=True))
    for kind, files in (("harmful", harmful), ("benign", benign)):
        if files:
            found.read[kind] = read_prompts(
                files, "harmful" if kind == "harmful" else "benign", names=[names[f] for f in files]
            )
    if data:
        found.read["labelled"] = read_prompts(data, completions=True, names=[names[f] for f in data])
    examples = [e for part in found.read.values() for e in part.examples]
    _add(found, examples, OWN_SHARES, f"guard {seed}")
    counts = [sum(part.by_file.get(names[path], 0) for part in found.read.values()) for path in paths]
    found.provenance += corpora.own_provenance(paths, [*["not stated"] * (len(paths) - len(data)), *licences], counts)


def _add(found: Gathered, examples: Sequence[Example], shares: dict[str, float], salt: str) -> None:
    for name, of in split(examples, shares, salt).items():
        found.parts[name] += of


def _clean(found: Gathered) -> None:
    """Repeats and contradictions go, and what is fitted on is in no other part."""
    order = [(name, e) for name in PARTS for e in found.parts[name]]
    clean = cleaned(e for _, e in order)
    kept = {id(e) for e in clean.examples}
    fitted = {prompt_key(e) for e in found.parts["fit"]}
    for name in PARTS:
        found.parts[name] = [
            e for e in found.parts[name] if id(e) in kept and (name == "fit" or prompt_key(e) not in fitted)
        ]
    found.n_duplicates, found.n_contradictory = clean.n_duplicates, clean.n_contradictory


def about_of(gathered: Gathered, constitution: Constitution, seed: int) -> dict[str, Any]:
    """What a guard says it was made from."""
    return {
        "constitution": {"name": constitution.name, "version": constitution.version, "digest": constitution.digest},
        "seed": seed,
        "data": {part: data_hash(of) for part, of in gathered.parts.items()},
        "sources": gathered.provenance,
    }


def train_encoder(
    gathered: Gathered,
    constitution: Constitution,
    *,
    seed: int = 0,
    settings: EncoderSettings | None = None,
    backbone: str | Path | None = None,
    work: str | Path | None = None,
    start: str | Path | None = None,
) -> tuple[Guard, GuardReport]:
    """The encoder guard and its report, measured on the test part. start: folder of an encoder guard to go on training."""
    from uphold.guard.encoder import EncoderGuard
    from uphold.guard.encoder_fit import EncoderSettings, fit_encoder
    from uphold.guard.encoder_model import backbone_of, read_backbone

    settings = settings or EncoderSettings()
    begun = EncoderGuard.load(start) if start is not None else None
    read = backbone_of(begun) if begun is not None else read_backbone(backbone)
    about = about_of(gathered, constitution, seed) | {
        "settings": settings.model_dump(mode="json"),
        "backbone": read.name,
    }
    if begun is not None:
        about["start"] = {"identity": begun.identity(), "settings": begun.about.get("settings")}
    parts: dict[str, Sequence[Example]] = dict(gathered.parts)
    fitted = fit_encoder(
        read,
        parts,
        gathered.clauses,
        seed=seed,
        settings=settings,
        about=about,
        work=work,
        start=begun,
        beside=_beside(constitution, gathered.corpora_root, seed),
    )
    report = _report(fitted.guard, gathered, constitution, fitted.thresholds, seed)
    return fitted.guard, report


def _beside(constitution: Constitution, corpora_root: Path | None, seed: int) -> Beside:
    """Orders to an assistant and prose, where the constitution forbids hijacking it."""
    from uphold.guard.encoder_data import Beside
    from uphold.guard.injection import material

    if personas.CATEGORY not in constitution.forbidden_categories():
        return Beside()
    orders, prose, _ = material(corpora_root, seed)
    return Beside(orders, prose)


def train_linear_guard(
    gathered: Gathered, constitution: Constitution, *, seed: int = 0, settings: GuardSettings = GuardSettings()
) -> tuple[Guard, GuardReport]:
    """The linear guard and its report, measured on the test part. The stopping part is fitted on: nothing is stopped by it."""
    parts = {
        "fit": [*gathered.parts["fit"], *gathered.parts["stop"]],
        "threshold": gathered.parts["threshold"],
        "test": gathered.parts["test"],
    }
    about = about_of(gathered, constitution, seed) | {"settings": settings.model_dump(mode="json")}
    guard, thresholds = train_linear(parts, settings, about)
    return guard, _report(guard, gathered, constitution, thresholds, seed)


def _report(guard: Guard, gathered: Gathered, constitution: Constitution, thresholds: Any, seed: int) -> GuardReport:
    test, measured = gathered.parts["test"], list[Measurement]()
    for prefix, wanted in (("input_guard.", True), ("output_guard.", False)):
        of = [e for e in test if is_prompt(e) is wanted]
        if of and ("input" if wanted else "exchange") in guard.stages | {
            "exchange" if "output" in guard.stages else ""
        }:
            measured += evaluate(guard, of, prefix=prefix, subject={"constitution": constitution.digest}, seed=seed)
    return GuardReport(
        identity=guard.identity(),
        counts=counts_of(gathered.parts),
        n_duplicates=gathered.n_duplicates,
        n_contradictory=gathered.n_contradictory,
        thresholds=thresholds,
        measurements=tuple(measured),
    )


def rounded(
    guard: Guard, gathered: Gathered, constitution: Constitution, *, seed: int = 0, allowed: float = 0.005
) -> tuple[Guard, GuardReport, dict[str, float]]:
    """The encoder guard with 8-bit weights, calibrated and measured anew, and what that changed on the test part's prompts.

    Raises ConfigError when AUPRC or AUROC falls by more than `allowed`.
    """
    from uphold.guard.encoder import EncoderGuard
    from uphold.guard.encoder_fit import EncoderSettings, calibrated, quality_of
    from uphold.guard.quantise import check_loss

    assert isinstance(guard, EncoderGuard)
    small = guard.changed(is_int8=True)
    held_out = [e for e in gathered.parts["test"] or gathered.parts["threshold"] if is_prompt(e)]
    change = check_loss(quality_of(guard, held_out), quality_of(small, held_out), allowed, "rounding to 8 bits")
    settings = EncoderSettings.model_validate(guard.about["settings"])
    about = guard.about | {"int8": {"change": change, "allowed": allowed, "n": len(held_out)}}
    again, thresholds = calibrated(
        small.model, small.texts, small.clauses, gathered.parts["threshold"], settings, about, is_int8=True
    )
    return again, _report(again, gathered, constitution, thresholds, seed), change


def joined(
    linear: Guard,
    encoder: Guard,
    gathered: Gathered,
    constitution: Constitution,
    *,
    fpr_budget: float = 0.01,
    seed: int = 0,
    weight: float = LINEAR_WEIGHT,
) -> tuple[Guard, GuardReport]:
    """Both guards asked about everything, their log-odds averaged with `weight` on the linear one's, as a cascade; and its report."""
    from uphold.guard.cascade_policy import Policy, Step, build

    steps = [
        Step(guard="linear", name="linear", weight=weight),
        Step(guard="encoder", name="encoder", weight=1 - weight),
    ]
    policy = Policy(uphold=1, name=constitution.name, budget=fpr_budget, stages=steps)
    guard, thresholds = build(policy, [linear, encoder], gathered.parts["threshold"])
    return guard, _report(guard, gathered, constitution, thresholds, seed)
