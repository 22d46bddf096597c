"""A project: one folder with `uphold.yaml` beside its constitution, and everything a run depends on besides the code.

`uphold init` writes one that runs. `Project.load` reads the file, with every problem at once, and finds the constitution, policy and
model it names relative to the file. The resolved copy is saved with each run.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from pydantic import Field

from uphold.constitution.reading import SHIPPED
from uphold.core.config import load_config
from uphold.core.errors import ConfigError, did_you_mean
from uphold.core.files import read_text, write_atomic
from uphold.core.records import Record, digest

FILE = "uphold.yaml"
WORKFLOW = ".github/workflows/uphold.yml"
TEMPLATES = Path(__file__).parent / "templates"  # each named after the shipped constitution it goes with


class Align(Record):
    """Alignment training: supervised Constitutional AI, then preferences labelled by the model itself.

    n_harmful: red-team prompts (in families that may be trained on, and plain); n_benign: benign prompts put through critique as
    well; n_helpful: right answers mixed into fine-tuning. rounds: critique and revision rounds. n_harmful_pairs, n_benign_pairs:
    prompts with two replies to compare; their proportion trades refusals against over-refusals. benign_clauses: clauses under which
    answers to benign prompts are compared (empty: those that oblige to something without a category). recoveries: examples of turning
    back per revised reply (0: the plain recipe). preferences: false ends after the supervised half. how: preferences
    are learned directly, or by reinforcement through a preference model. blend: how far to go from the model as it was (0) to the trained
    one (1); less gives back some of what training cost. critics, judges: models that
    critique and compare in place of the model itself. Other settings are the recipes' own.
    """

    n_harmful: int = Field(480, ge=1)
    n_benign: int = Field(300, ge=1)
    n_helpful: int = Field(2400, ge=0)
    rounds: int = Field(2, ge=1, le=16)
    sft_epochs: float = Field(2.0, gt=0)
    n_harmful_pairs: int = Field(120, ge=1)
    n_benign_pairs: int = Field(520, ge=1)
    dpo_epochs: float = Field(1.0, gt=0)
    benign_clauses: tuple[str, ...] = ()
    recoveries: int = Field(1, ge=0, le=16)
    preferences: bool = True
    how: Literal["dpo", "rl"] = "dpo"
    blend: float = Field(0.8, gt=0, le=1)
    critics: tuple[str, ...] = ()
    judges: tuple[str, ...] = ()


class GuardPlan(Record):
    """The classifiers: synthesised training prompts per class, and the share of benign traffic each may block.

    n_ordinary: honest requests, and as many honest replies, added from the shipped written corpus.
    n_threshold: benign samples kept for setting and certifying the threshold. n_validation: forbidden requests, on topics of their own,
    that say what each classifier stops; input_gain: least share of leaks that the input classifier must stop beyond the output
    classifier's to stand in front.
    """

    n_harmful: int = Field(1200, ge=1)
    n_benign: int = Field(1600, ge=1)
    n_ordinary: int = Field(1500, ge=0)
    n_threshold: int = Field(3000, ge=1)
    n_validation: int = Field(300, ge=1)
    input_gain: float = Field(0.05, ge=0, le=1)
    fpr_budget: float = Field(0.005, gt=0, lt=1)


class Measure(Record):
    """How much is measured. n_behaviours: forbidden requests, each put through every attack; n_benign, n_tasks: honest samples."""

    attacks: tuple[str, ...] = ("suite",)
    n_behaviours: int = Field(270, ge=1)
    n_benign: int = Field(1000, ge=1)
    n_tasks: int = Field(600, ge=1)


class Project(Record):
    """What `uphold.yaml` says. align None: the model stays as it is. source `files`: prompts come from files given to the run.

    threads: CPU threads for training and generation; results are bit-equal for equal threads.
    """

    uphold: Literal[1]
    name: str = Field(min_length=1)
    model: str | None = None
    constitution: str = Field(min_length=1)
    source: str = "builtin:storefront"
    policy: str = "storefront"
    seed: int = Field(0, ge=0)
    threads: int = Field(2, ge=1, le=256)
    align: Align | None = None
    guard: GuardPlan = GuardPlan()
    measure: Measure = Measure()

    @property
    def suite(self) -> str:
        """SHA-256 (hex) of what a run asks: where prompts come from, the attacks, how many of each. In every measurement's `suite`."""
        return digest({"source": self.source, "measure": self.measure})

    @classmethod
    def load(cls, folder: str | Path) -> Project:
        """Read FOLDER/uphold.yaml (or the file itself); names of files in it become paths. ConfigError with file and line."""
        path = Path(folder)
        path = path / FILE if path.is_dir() else path
        if not path.exists():
            raise ConfigError(f"{path}: no such project. Make one with: uphold init {Path(folder).name or 'myproject'}")
        project = load_config(cls, path)
        beside = {key: _beside(path.parent, getattr(project, key)) for key in ("constitution", "policy")}
        return project.model_copy(update=beside)


def _beside(folder: Path, name: str) -> str:
    """A file named in the project, found beside it; shipped names stay names."""
    return str(folder / name) if name.endswith((".yaml", ".yml")) else name


def init(folder: str | Path, template: str = "storefront") -> list[Path]:
    """Write a project into a new or empty folder: its `uphold.yaml` and a copy of the shipped constitution. Returns the files."""
    known = sorted(path.stem for path in TEMPLATES.glob("*.yaml"))
    if template not in known:
        raise ConfigError(f"unknown template {template!r}. {did_you_mean(template, known)}")
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder}: already there and not empty. Choose a new folder.")
    sources = {FILE: TEMPLATES / f"{template}.yaml", "constitution.yaml": SHIPPED / f"{template}.yaml"}
    for name, source in sources.items():
        write_atomic(folder / name, read_text(source))
    return [folder / name for name in sources]


def workflow_path(folder: str | Path) -> Path:
    """Where the workflow of a project in `folder` goes: the root of the git checkout around it, or the folder where there is none.

    Raises ConfigError when one is there already."""
    folder = Path(folder).resolve()
    path = next((each for each in (folder, *folder.parents) if (each / ".git").exists()), folder) / WORKFLOW
    if path.exists():
        raise ConfigError(f"{path}: already there. Edit it, or delete it to have it written anew.")
    return path


def add_workflow(folder: str | Path) -> Path:
    """Write `.github/workflows/uphold.yml`, which runs the project of `folder` on each change; returns the file.

    Raises ConfigError when the folder holds no project or the file is there already.
    """
    folder = Path(folder).resolve()
    if not (folder / FILE).is_file():
        raise ConfigError(
            f"{folder}: holds no {FILE}, so there is nothing to run on each change. Make one: uphold init"
        )
    path = workflow_path(folder)
    inside = folder.relative_to(path.parents[2]).as_posix()
    text = read_text(TEMPLATES / "ci" / "workflow.yaml")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, text.replace("UPHOLD_PROJECT: .\n", f"UPHOLD_PROJECT: {json.dumps(inside)}\n", 1))
    return path
