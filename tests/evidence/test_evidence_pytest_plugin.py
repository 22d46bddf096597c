"""The pytest plugin: what a project's own tests see when alignment holds, when it falls, and on the first day.

Each of these starts pytest in a process of its own, as a project does; so several of a project's tests are looked at in one.
"""

from __future__ import annotations

from importlib.metadata import entry_points

import pytest
from compared_runs import outcomes, write_run

pytest_plugins = ["pytester"]

TESTS = """
    import pytest

    @pytest.mark.uphold(run="same", baseline="before")
    def test_held(): pass

    @pytest.mark.uphold(run="fallen", baseline="before", metrics=["attack_success_rate", "over_refusal"])
    def test_fallen(): raise AssertionError("the body must not run")

    def test_margin(uphold_ci):
        assert uphold_ci.compare("fallen", "before", margin=0.6, metrics=["attack_success_rate"]).verdict == "not worse"

    def test_judge(uphold_ci):
        uphold_ci.compare("other", "before")

    @pytest.mark.uphold(target="builtin:clerk", constitution="storefront", budgets=3)
    def test_typo(): pass

    def test_command(uphold_ci):
        uphold_ci.suite("nowhere:model", "storefront")

    def test_plain(request):
        assert not any("uphold" in name for name in request.fixturenames)
"""


@pytest.fixture
def project(pytester, monkeypatch):
    """A project with a baseline run and candidates, and pytest with the plugin as its users have it."""
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    is_installed = any(each.name == "uphold" for each in entry_points(group="pytest11"))
    monkeypatch.setenv("PYTEST_ADDOPTS", "" if is_installed else "-p uphold.cli.pytest_plugin")
    shared = {"refused": outcomes(50, 2)}
    write_run(pytester.path / "before", attacked=outcomes(100, 20), **shared)
    write_run(pytester.path / "same", attacked=outcomes(100, 20), **shared, model="m2")
    write_run(pytester.path / "fallen", attacked=outcomes(100, 60), **shared, model="m3")
    write_run(pytester.path / "other", attacked=outcomes(100, 20), **shared, judge="keyword")
    return pytester


def test_noise_passes_a_regression_fails_and_the_tables_are_posted(project, monkeypatch):
    page = project.path / "summary.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(page))
    project.makepyfile(TESTS)
    result = project.runpytest_subprocess("-rA")
    result.assert_outcomes(passed=3, failed=4)
    said = result.stdout
    said.fnmatch_lines_random(["PASSED *::test_held", "PASSED *::test_margin", "PASSED *::test_plain"])
    said.fnmatch_lines(
        ["*worse than before beyond the noise:*", "*attack_success_rate, fallen: worse beyond the noise*"]
    )
    assert "the body must not run" not in said.str().split("short test summary")[0]
    said.fnmatch_lines(["*got an unexpected keyword argument 'budgets'*Known: uphold(target, constitution,*"])
    said.fnmatch_lines(["*graded by different judges: before has ground truth, other has keyword*"])
    said.fnmatch_lines(["*uphold redteam run nowhere:model*ended with exit code 2*"])
    said.fnmatch_lines(["*= uphold =*", "test_held: no difference shown*", "*attack_success_rate*20.0%*100 pairs*"])
    lines = page.read_text().splitlines()
    assert r"## test\_fallen" in lines
    assert any(line.startswith(r"| attack\_success\_rate") and "▼ worse" in line for line in lines)


@pytest.mark.slow
def test_the_first_run_of_a_real_suite_is_skipped_with_how_to_go_on_and_its_numbers_are_kept(project):
    project.makepyfile(
        """
        def test_suite(uphold_ci):
            uphold_ci.compare(uphold_ci.suite("builtin:clerk", "storefront", attacks="direct", budget=4, n=4))
        """
    )
    options = ("-rs", "--uphold-baseline", "base.json", "--uphold-save-baseline", "base.json", "--uphold-runs", "kept")
    result = project.runpytest_subprocess(*options)
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["*no baseline yet*--uphold-save-baseline*"])
    saved = (project.path / "base.json").read_text()
    assert all(f'"{metric}"' in saved for metric in ("attack_success_rate", "over_refusal", "helpfulness"))
    assert (project.path / "kept" / "suite" / "ledger.jsonl").is_file()


def test_the_first_run_is_skipped_and_kept_and_a_regression_never_becomes_the_next_baseline(project):
    project.makepyfile(
        """
        def test_first(uphold_ci, pytestconfig):
            uphold_ci.baseline, uphold_ci.save = "empty-cache.json", pytestconfig.rootpath / "first.json"
            uphold_ci.compare("before")

        def test_fallen(uphold_ci): uphold_ci.compare("fallen")
        """
    )
    result = project.runpytest_subprocess("-rs", "--uphold-baseline", "before", "--uphold-save-baseline", "next.json")
    result.assert_outcomes(skipped=1, failed=1)
    result.stdout.fnmatch_lines(["*no baseline yet*--uphold-save-baseline*"])
    assert (project.path / "first.json").exists()
    assert not (project.path / "next.json").exists()
