"""`uphold constitution`, as a person or a script meets it."""

from __future__ import annotations

import json

import pytest

from uphold.cli.main import run

BAD = "uphold: 1\nname: x\nclauses:\n  - id: a\n    text: Hi.\n    modality: musst\n"


def test_check_of_a_clean_file_says_so_and_exits_zero(capsys):
    assert run(["constitution", "check", "storefront"]) == 0
    assert capsys.readouterr().out == "shipped/storefront.yaml: 9 clauses, 0 errors, 0 warnings\n"


def test_check_of_a_bad_file_names_line_and_mend_and_exits_two(tmp_path, capsys):
    path = tmp_path / "bad.yaml"
    path.write_text(BAD)
    assert run(["constitution", "check", str(path)]) == 2
    assert capsys.readouterr().out.splitlines() == [
        f"error: {path}:6: a: modality: must be one of 'must', 'should' or 'may'. Did you mean 'must'? [invalid-value]",
        f"{path}: 0 clauses, 1 error, 0 warnings",
    ]


def test_check_json_is_one_object_with_problems(tmp_path, capsys):
    path = tmp_path / "bad.yaml"
    path.write_text(BAD)
    assert run(["constitution", "check", str(path), "--json"]) == 2
    result = json.loads(capsys.readouterr().out)
    assert result["errors"] == 1
    assert result["problems"] == [
        {
            "severity": "error",
            "code": "invalid-value",
            "file": str(path),
            "line": 6,
            "clause": "a",
            "message": "modality: must be one of 'must', 'should' or 'may'",
            "mend": "Did you mean 'must'?",
        }
    ]


def test_an_unknown_name_exits_two_with_a_message_on_stderr(capsys):
    assert run(["constitution", "check", "asistant"]) == 2
    assert "Did you mean 'assistant'?" in capsys.readouterr().err


@pytest.mark.parametrize("word", ["clauses", "overrides", "extends", "harmless"])
def test_the_schema_is_json_and_knows_the_language(capsys, word):
    assert run(["constitution", "schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    assert schema["$schema"].startswith("https://json-schema.org/")
    assert word in json.dumps(schema)
