"""The GitHub workflow that `uphold init --ci` writes: it parses, its commands exist, and its shell does what it says."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys

import pytest
from compared_runs import outcomes, write_run
from ruamel.yaml import YAML

from uphold.cli.main import load, verbs
from uphold.cli.main import run as uphold
from uphold.project import FILE, WORKFLOW, add_workflow


@pytest.fixture
def project(tmp_path, capsys):
    """A repository with a project in a sub-folder and its workflow."""
    (tmp_path / ".git").mkdir()
    assert uphold(["init", str(tmp_path / "shop"), "--ci", "--json"]) == 0
    written = json.loads(capsys.readouterr().out)["files"]
    assert written[-1].endswith(WORKFLOW)
    return tmp_path


def steps_of(project):
    workflow = YAML(typ="safe").load((project / WORKFLOW).read_text())
    return workflow, workflow["jobs"]["alignment"]["steps"]


def shell(step, folder, **more):
    """Run a step's commands as the runner does (bash -e), with `uphold` being this checkout's."""
    (folder / "bin").mkdir(exist_ok=True)
    tool = folder / "bin" / "uphold"
    tool.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m uphold "$@"\n')
    tool.chmod(0o755)
    env = os.environ | {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}", **more}
    return subprocess.run(
        ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail", "-c", step["run"]],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
    )


def named(project, name):
    return next(step for step in steps_of(project)[1] if step.get("name") == name)


def test_the_workflow_names_the_project_from_the_root_of_the_repository(project):
    workflow, _ = steps_of(project)
    assert workflow["env"]["UPHOLD_PROJECT"] == "shop"


def test_it_may_read_the_code_and_nothing_more(project):
    workflow, _ = steps_of(project)
    assert workflow["permissions"] == {"contents": "read"}


def test_it_installs_runs_verifies_compares_posts_uploads_and_caches(project):
    _, steps = steps_of(project)
    done = [step.get("name", step.get("uses")) for step in steps]
    order = ["Install", "Find the baseline", "Run the suite", "Check the evidence", "Compare with the baseline"]
    assert [name for name in done if name in order] == order
    uses = [step["uses"].split("@")[0] for step in steps if "uses" in step]
    assert {"actions/cache/restore", "actions/cache/save", "actions/upload-artifact"} <= set(uses)
    on_main = [step for step in steps if "baseline" in step.get("name", "") and "next" in step["name"]]
    assert all("refs/heads/main" in step["if"] for step in on_main)


def test_what_it_reads_from_the_event_never_reaches_a_shell(project):
    _, steps = steps_of(project)
    assert not any("${{" in step.get("run", "") for step in steps)


def test_every_command_in_it_exists_with_the_options_it_is_given(project):
    _, steps = steps_of(project)
    lines = [line for step in steps for line in step.get("run", "").splitlines()]
    commands = [
        shlex.split(m.group(0))
        for line in lines
        if (m := re.search(r"(?<![\w'])uphold (?:--quiet )?[a-z].*?(?=\|\||$)", line))
    ]
    assert len(commands) == 4
    for words in commands:
        rest = [word for word in words[1:] if word != "--quiet"]
        assert rest[0] in verbs()
        known = {option for each in typer_options(rest[0]) for option in each}
        assert {word for word in rest if word.startswith("--")} <= known


def typer_options(verb):
    return [parameter.opts for parameter in load(verb).params]


def test_the_compare_step_fails_on_a_regression_and_leaves_the_table(project):
    step = named(project, "Compare with the baseline")
    write_run(project / "runs" / "old", attacked=outcomes(100, 20))
    write_run(project / "runs" / "ci", attacked=outcomes(100, 70), model="m2")
    (project / ".uphold").mkdir()
    assert (
        uphold(["compare", str(project / "runs/old"), "--save-baseline", str(project / ".uphold/baseline.json")]) == 0
    )
    done = shell(step, project)
    assert done.returncode == 1, done.stderr
    assert "▼ worse" in (project / "runs/ci-compare/compare.md").read_text()
    page = project / "summary.md"
    assert shell(named(project, "Post the table"), project, GITHUB_STEP_SUMMARY=str(page)).returncode == 0
    assert page.read_text().startswith("## Alignment, compared")


def test_the_compare_step_passes_on_the_first_day_and_says_so(project):
    write_run(project / "runs" / "ci", attacked=outcomes(100, 70))
    assert shell(named(project, "Compare with the baseline"), project).returncode == 0
    assert "No baseline yet" in (project / "runs/ci-compare/compare.md").read_text()
    assert shell(named(project, "Check the evidence"), project).returncode == 0
    assert shell(named(project, "Make the next baseline"), project).returncode == 0
    assert json.loads((project / ".uphold/baseline.json").read_text())["format"] == "uphold-baseline"


def test_a_verdict_of_the_gate_does_not_stop_the_run_step_and_misuse_does(project):
    step = {"run": named(project, "Run the suite")["run"]}
    for code, expected in ((0, 0), (1, 0), (2, 1)):
        fake = {"run": f"uphold() {{ return {code}; }}\n{step['run']}"}
        done = shell(fake, project, UPHOLD_PROJECT="shop", UPHOLD_RUN_OPTIONS="")
        assert done.returncode == expected


def test_the_workflow_is_added_to_a_project_that_is_there_and_never_written_over(project, capsys):
    (project / WORKFLOW).unlink()
    before = (project / "shop" / FILE).read_text()
    assert uphold(["init", str(project / "shop"), "--ci"]) == 0
    assert (project / "shop" / FILE).read_text() == before
    assert uphold(["init", str(project / "shop"), "--ci"]) == 2
    assert "already there" in capsys.readouterr().err


def test_a_new_project_is_not_half_written_when_a_workflow_is_there(project, capsys):
    assert uphold(["init", str(project / "second"), "--ci"]) == 2
    assert not (project / "second").exists()


def test_without_a_repository_it_goes_into_the_project(tmp_path):
    (tmp_path / FILE).write_text("uphold: 1\n")
    path = add_workflow(tmp_path)
    assert path == tmp_path / WORKFLOW
    assert 'UPHOLD_PROJECT: "."' in path.read_text()
