"""`uphold redteam run` and `uphold eval run` on fakes: what is printed, kept, continued and refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from uphold.cli.main import run
from uphold.core.files import read_jsonl

LAW = ("--constitution", "storefront")


def redteam(target: str, out: Path, *more: str) -> int:
    return run(["redteam", "run", target, *LAW, "--out", str(out), "--budget", "45", "--benign", "20", *more])


def result(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_one_json_object_holds_rates_over_refusal_and_what_was_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert redteam("fake:refuse", tmp_path / "run", "--json") == 0
    found = result(capsys)
    rates = found["attack_success_rate"]
    assert (rates["overall"]["value"], rates["overall"]["n_asked"]) == (0.0, 45)
    assert len(rates["by_family"]) == 15
    assert rates["held_out"]["n_asked"] == 27  # nine of fifteen families
    assert found["over_refusal"]["value"] == 1.0
    assert found["stages"] == {"held": 45}
    assert (found["queries"], found["unscored"], found["universal"]) == (45, 0.0, [])


def test_what_the_target_said_is_kept_and_the_same_command_asks_nothing_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert redteam("fake:refuse", tmp_path / "run", "--json") == 0
    first = result(capsys)
    rows = [row for _, row in read_jsonl(Path(first["run"]) / "attempts.jsonl")]
    assert {row["completion"] for row in rows} == {"I can't help with that."}
    assert redteam("fake:refuse", tmp_path / "run", "--json") == 0
    assert result(capsys) == first


def test_a_target_that_is_down_is_refused_before_the_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert redteam("fake:fail", tmp_path / "run") == 2
    assert capsys.readouterr().err == "uphold: fake:fail: told to be down. Use another model.\n"
    assert not (tmp_path / "run").exists()


def test_an_unknown_attack_is_refused_with_the_nearest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert redteam("fake:refuse", tmp_path / "run", "--attacks", "rolplay") == 2
    assert "--attacks: unknown attack 'rolplay'. Did you mean 'roleplay'?" in capsys.readouterr().err


def test_a_budget_of_zero_measures_nothing_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert redteam("fake:refuse", tmp_path / "run", "--budget", "0", "--benign", "0", "--json") == 0
    found = result(capsys)
    assert found["attack_success_rate"]["overall"]["status"] == "unscored"
    assert (found["queries"], found["unscored"], found["over_refusal"]["value"]) == (0, None, None)


def test_the_text_shows_families_clauses_and_intervals(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert redteam("fake:echo", tmp_path / "run", "--attacks", "direct,rot13") == 0
    out = capsys.readouterr().out
    assert "rot13" in out
    assert "held out families" in out
    assert "clause " in out
    assert "universal attacks: none" in out
    assert "not measured" not in out


def test_evaluation_reports_shares_and_paired_differences(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["eval", "run", "fake:refuse", *LAW, "--out", str(tmp_path / "run"), "--n", "20"]
    assert run([*command, "--baseline", "fake:echo", "--json"]) == 0
    found = result(capsys)
    assert (found["helpfulness"]["value"], found["over_refusal"]["value"]) == (0.0, 1.0)
    difference = found["baseline"]["over_refusal_difference"]
    assert (difference["value"], difference["n_asked"], difference["unit"]) == (1.0, 20, "difference")
    assert run(command) == 0
    assert "over-refusal" in capsys.readouterr().out
