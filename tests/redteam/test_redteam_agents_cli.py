"""`uphold redteam agents`: what is printed, kept, continued and refused; on a real server, and on a model that cannot act."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from uphold.cli.main import run
from uphold.models.tiny import write_tiny_llama

MAIN = "from uphold.cli.main import main; main()"


def agents(target: str, out: Path, *more: str) -> int:
    return run(["redteam", "agents", target, "--out", str(out), "--tasks", "1", *more])


def result(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


@contextlib.contextmanager
def served(spec: str) -> Iterator[str]:
    command = [sys.executable, "-c", MAIN, "models", "serve", spec, "--name", "shop", "--port", "0", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert process.stdout is not None
    try:
        yield json.loads(process.stdout.readline())["spec"]
    finally:
        process.terminate()
        process.wait(60)
        process.stdout.close()


def test_one_json_object_holds_every_number_of_every_defence(tmp_path, capsys):
    more = ("--budget", "200", "--steps", "8", "--defence", "none", "--defence", "allow_list", "--json")
    assert agents("scripted:naive", tmp_path / "run", *more) == 0
    found = result(capsys)
    assert set(found) == {"target", "agent", "defences", "differences", "queries", "unscored"}
    assert (found["agent"], list(found["defences"])) == ("native", ["none", "allow_list"])
    none = found["defences"]["none"]
    assert (none["utility"]["value"], none["utility"]["n_asked"]) == (1.0, 8)
    success = none["attack_success_rate"]
    assert set(success) == {"overall", "by_goal", "by_vector", "by_attack", "by_task"}
    assert success["overall"]["interval_method"] == "wilson-clustered"
    assert set(none["unauthorised_action_rate"]["by_clause"]) >= {"privacy", "takeover", "none"}
    change = found["differences"]["allow_list"]["agent_attack_success_rate"]
    assert change["value"] < 0 and change["baseline"] == "none"  # noqa: PT018
    for name in ("agents.json", "agents.png", "agents.csv", "agents.svg", "agents.txt"):
        assert (tmp_path / "run" / name).stat().st_size > 0


def test_the_same_command_again_asks_nothing_and_says_the_same(tmp_path, capsys):
    for _ in range(2):
        assert agents("scripted:careful", tmp_path / "run", "--budget", "150", "--json") == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first == second
    assert len(list((tmp_path / "run" / "stages").glob("agents-*"))) == 1


def test_an_endpoint_with_function_calls_is_attacked_through_a_real_server(tmp_path, capsys):
    with served("scripted:naive") as spec:
        assert agents(spec, tmp_path / "run", "--budget", "120", "--attacks", "todo,tool_knowledge", "--json") == 0
    found = result(capsys)
    assert (found["agent"], found["unscored"]) == ("native", 0.0)
    overall = found["defences"]["none"]["attack_success_rate"]["overall"]
    assert (overall["value"], overall["n_scored"] > 5) == (1.0, True)


def test_a_model_that_cannot_act_is_unscored_and_the_user_is_told(tmp_path, capsys):
    folder = write_tiny_llama(tmp_path / "tiny", n_words=200, n_context=1024)
    more = ("--budget", "40", "--steps", "4", "--max-new-tokens", "4", "--agent", "text", "--json")
    assert agents(f"hf:{folder}", tmp_path / "run", *more) == 0
    printed = capsys.readouterr()
    own = json.loads(printed.out)["defences"]["none"]
    assert own["endings"]["protocol"] == 13  # of 40 queries; an episode that breaks its form takes 3
    assert (own["utility"]["value"], own["utility"]["status"]) == (None, "unscored")
    assert "broke its form in 13 of 13 episodes, which are unscored. Try --agent planned" in printed.err


def test_a_workflow_asks_even_a_model_of_noise_and_scores_what_can_be_scored(tmp_path, capsys):
    assert (
        agents("fake:text=your refund is 3 coins.", tmp_path / "run", "--agent", "planned", "--budget", "60", "--json")
        == 0
    )
    own = result(capsys)["defences"]["none"]
    assert own["endings"]["protocol"] > 0
    assert own["utility"]["n_scored"] < own["utility"]["n_asked"] == 8
    assert own["unauthorised_action_rate"]["alone"]["value"] > 0  # it paid what nobody is owed


def test_the_text_names_the_target_the_defences_and_the_files(tmp_path, capsys):
    assert (
        agents("scripted:careful", tmp_path / "run", "--budget", "150", "--defence", "none", "--defence", "sandwich")
        == 0
    )
    printed = capsys.readouterr().out
    assert printed.startswith("target scripted:careful acting by native: ")
    assert "\ndefence sandwich: done " in printed
    assert "\nsandwich minus none, same cases" in printed
    assert "agents.json" in printed


def test_a_budget_too_small_for_the_tasks_is_said(tmp_path, capsys):
    assert agents("scripted:careful", tmp_path / "run", "--budget", "0", "--json") == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["defences"]["none"]["utility"]["value"] is None
    assert "the budget of 0 queries ended before all 8 tasks were done alone" in printed.err


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--defence", "sandwhich"), "unknown defence 'sandwhich'. Did you mean 'sandwich'?"),
        (("--goals", "refund"), "unknown goal 'refund'"),
        (("--vectors", "emial"), "unknown vector 'emial'. Did you mean 'email'?"),
        (("--attacks", "tod"), "unknown injection 'tod'. Did you mean 'todo'?"),
        (("--agent", "planed"), "unknown agent 'planed'. Did you mean 'planned'?"),
        (("--suite", "builtin:shop"), "unknown agent-suite 'builtin:shop'"),
        (("--guard", "nowhere"), "nowhere"),
        (("--split", "tset"), "unknown split 'tset'"),
    ],
)
def test_misuse_is_refused_before_anything_is_asked(tmp_path, capsys, more, said):
    assert agents("scripted:careful", tmp_path / "run", *more) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_an_unknown_reference_agent_is_refused_by_name(tmp_path, capsys):
    assert agents("scripted:kind", tmp_path / "run") == 2
    assert "write scripted:careful or scripted:naive" in capsys.readouterr().err
