"""A pytest plugin: run a small alignment suite on each change, and fail only on a regression beyond the noise.

Installed with Uphold (entry point `pytest11`); does nothing to test runs that do not use it, and imports nothing until then. A test
asks for the fixture `uphold_ci`, or carries the marker `uphold`, which needs no code at all:

    @pytest.mark.uphold(target="hf:models/ours", constitution="constitution.yaml", baseline="baseline.json", margin=0.02)
    def test_alignment_held():
        "The body runs when the comparison held."

Runs go to `--uphold-runs` (default: a folder that pytest makes), the tables to the terminal's summary and, where
$GITHUB_STEP_SUMMARY names a file, to the job's page. Without a baseline the numbers are shown and the test is skipped, saying so:
a first run proves nothing, and is no failure either. `--uphold-save-baseline FILE` makes its numbers the next baseline.
Left out: the measuring itself. Every suite is a command of `uphold` run in this process, with its resume and its ledger.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from uphold.evidence.compare import Comparison

MARKER = (
    "uphold(target, constitution, attacks='suite', budget=200, n=100, seed=0, run=None, project=None, baseline=None, "
    "metrics=(), by=(), margin=None, fdr=0.05, allow=())"
)
_SHOWN = pytest.StashKey[list[tuple[str, str, str]]]()
"""(test, terminal text, Markdown) of every comparison"""


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("uphold", "alignment suites (Uphold)")
    group.addoption("--uphold-baseline", metavar="RUN|FILE", help="run folder or baseline file to compare with")
    group.addoption("--uphold-save-baseline", metavar="FILE", help="write the run's numbers here for the next time")
    group.addoption("--uphold-runs", metavar="FOLDER", help="where runs go; a folder that is kept resumes and caches")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", f"{MARKER}: run a small suite and fail on a regression beyond the noise")
    config.stash[_SHOWN] = []


@dataclass
class UpholdCI:
    """What a test does with Uphold. runs: folder under which runs are made; baseline: from the command line, or None."""

    runs: Path
    baseline: str | None
    save: Path | None
    test: str
    shown: list[tuple[str, str, str]] = field(default_factory=list)

    def command(self, *words: str) -> None:
        """Any command of `uphold`, in this process; the test fails when its exit code is not 0."""
        from uphold.cli.main import run

        if code := run(["--quiet", *words]):
            pytest.fail(f"uphold {' '.join(words)} ended with exit code {code}; its message is above.", pytrace=False)

    def suite(
        self,
        target: str,
        constitution: str,
        *,
        name: str = "suite",
        attacks: str = "suite",
        budget: int = 200,
        n: int = 100,
        source: str = "builtin:storefront",
        seed: int = 0,
    ) -> Path:
        """Attack success (`budget` queries), over-refusal and helpfulness (`n` samples each) of a model; returns the run folder."""
        out = self.runs / name
        common = ["--constitution", str(constitution), "--out", str(out), "--source", source, "--seed", str(seed)]
        self.command("redteam", "run", target, *common, "--attacks", attacks, "--budget", str(budget), "--benign", "0")
        self.command("eval", "run", target, *common, "--n", str(n))
        return out

    def project(self, folder: str | Path, *, name: str = "project") -> Path:
        """`uphold run` of a project; returns the run folder. The gate's verdict is on the card, and fails nothing here."""
        from uphold import pipeline
        from uphold.core.errors import UpholdError
        from uphold.project import Project

        out = self.runs / name
        try:
            pipeline.run(Project.load(folder), out)
        except UpholdError as error:
            pytest.fail(str(error), pytrace=False)
        return out

    def compare(
        self,
        run: str | Path,
        baseline: str | Path | None = None,
        *,
        metrics: Sequence[str] = (),
        by: Sequence[str] = (),
        margin: float | None = None,
        fdr: float = 0.05,
        allow: Sequence[str] = (),
    ) -> Comparison | None:
        """Compare a run with the baseline (default: --uphold-baseline), show the table, and fail on a regression beyond the noise.

        With `margin`, also what is not shown to lie within it is told, but only a regression fails. Without a baseline: skips the
        test. Misuse (other judge, broken ledger, ...) fails it with the message.
        """
        from uphold.core.errors import UpholdError
        from uphold.evidence.compare import Settings, compare
        from uphold.evidence.compare_subject import save_baseline
        from uphold.evidence.compare_text import markdown, text

        against = str(baseline) if baseline is not None else self.baseline
        if against is not None and not Path(against).exists() and baseline is None:
            against = None  # a cache that is still empty
        settings = Settings(metrics=tuple(metrics), by=tuple(by), margin=margin, fdr=fdr, allow=tuple(allow))
        try:
            found = compare([against, str(run)], settings) if against is not None else None
            if self.save is not None and not (found and found.worse):  # a regression must not become the next baseline
                save_baseline(str(run), self.save)
        except UpholdError as error:
            pytest.fail(str(error), pytrace=False)
        if found is None:
            self._show("no baseline yet: nothing to compare with", "**No baseline yet: nothing to compare with.**\n")
            pytest.skip(
                "no baseline yet: give one with --uphold-baseline, or save this run with --uphold-save-baseline"
            )
        self._show(text(found), markdown(found, self.test))
        if found.worse:
            reasons = [f"  {row.name}, {d.run}: {d.reason}" for row, d in found.worse]
            pytest.fail("\n".join([f"worse than {found.baseline} beyond the noise:", *reasons]), pytrace=False)
        return found

    def _show(self, terminal: str, page: str) -> None:
        self.shown.append((self.test, terminal, page))


@pytest.fixture
def uphold_ci(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> UpholdCI:
    """Runs suites and compares them; see `UpholdCI`."""
    config = request.config
    kept = config.getoption("--uphold-runs")
    save = config.getoption("--uphold-save-baseline")
    return UpholdCI(
        runs=Path(kept) if kept else tmp_path_factory.mktemp("uphold"),
        baseline=config.getoption("--uphold-baseline"),
        save=Path(save) if save else None,
        test=request.node.name,
        shown=config.stash[_SHOWN],
    )


def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    """Tests with the marker get the fixture; no other test is touched."""
    for item in items:
        names = getattr(item, "fixturenames", None)
        if names is not None and "uphold_ci" not in names and item.get_closest_marker("uphold") is not None:
            names.insert(0, "uphold_ci")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> None:
    """What the marker asks for, before the test's own body and as part of it, so that a regression is a failure."""
    marker = item.get_closest_marker("uphold")
    if marker is None:
        return
    if marker.args:
        pytest.fail("@pytest.mark.uphold takes names only: target=..., constitution=..., or run=...", pytrace=False)
    asked: dict[str, Any] = dict(marker.kwargs)
    ci: UpholdCI = item.funcargs["uphold_ci"]  # type: ignore[attr-defined]
    judging = {key: asked.pop(key) for key in ("metrics", "by", "margin", "fdr", "allow", "baseline") if key in asked}
    run = asked.pop("run", None)
    project = asked.pop("project", None)
    if run is None and project is None:
        try:
            inspect.signature(ci.suite).bind(**asked)
        except TypeError as error:
            pytest.fail(f"@pytest.mark.uphold: {error}. Known: {MARKER}", pytrace=False)
        run = ci.suite(**{"name": item.name, **asked})
    ci.compare(run if run is not None else ci.project(project, name=item.name), **judging)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """The tables, after all tests; once more on the job's page where there is one."""
    shown = config.stash[_SHOWN]
    if not shown:
        return
    terminalreporter.section("uphold")
    for test, table, _ in shown:
        terminalreporter.write_line(f"{test}: {table}\n")
    page = os.environ.get("GITHUB_STEP_SUMMARY")
    if page:
        with open(page, "a", encoding="utf-8") as file:
            file.write("\n".join(markdown for _, _, markdown in shown) + "\n")
