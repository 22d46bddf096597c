"""What docs/constitution.md shows is what the program prints."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest

from uphold.cli.main import run
from uphold.constitution import Constitution, check
from uphold.constitution.problems import Code
from uphold.constitution.schema import Clause

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "constitution.md").read_text(encoding="utf-8")
SHOWN = re.findall(
    r"^```console[^\n]*\n\$ uphold (constitution (?:check|resolve|diff)[^\n]*)\n(.+?)\n```", PAGE, re.M | re.S
)


@pytest.mark.parametrize(("command", "shown"), SHOWN, ids=[command for command, _ in SHOWN])
def test_the_output_shown_is_the_output(command, shown, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    words, _, tail = command.partition(" | tail -")
    run(words.split())
    lines = capsys.readouterr().out.splitlines()
    assert lines[-int(tail) if tail else None :] == shown.splitlines()


def test_three_commands_are_shown_with_their_output():
    assert len(SHOWN) == 3


def test_the_example_shown_is_the_file():
    assert (ROOT / "examples/constitution/operator.yaml").read_text(encoding="utf-8") in PAGE


def test_the_operators_example_has_no_problem_and_changes_what_it_says():
    path = ROOT / "examples/constitution/operator.yaml"
    assert check(path) == []
    made = Constitution.load(path)
    assert "dangerous-advice" in made.allowed_categories()
    assert "prescriptions" in made.forbidden_categories()


def test_every_field_of_a_clause_is_in_the_table():
    table = PAGE.partition("## The fields of a clause")[2].partition("\n## ")[0]
    assert [name for name in Clause.model_fields if f"`{name}`" not in table] == []


def test_every_code_that_the_check_can_give_is_in_the_table():
    table = PAGE.partition("## Check a file")[2].partition("\n## ")[0]
    assert [code for code in get_args(Code) if f"`{code}`" not in table] == []


def test_the_python_shown_runs(tmp_path, monkeypatch):
    text = (
        (ROOT / "constitutions" / "storefront.yaml")
        .read_text(encoding="utf-8")
        .replace("id: tampering", "id: old-rule")
    )
    (tmp_path / "shop.yaml").write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"^```python\n(.+?)\n```", PAGE, re.M | re.S)
    names: dict[str, object] = {}
    exec(code, names)
    assert names["problems"] == []
    assert {change.clause for change in names["changes"]} == {"forgery", "brief", "old-rule", "tampering"} - {
        "old-rule"
    }
