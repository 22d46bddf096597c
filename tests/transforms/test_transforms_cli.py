"""`uphold data transform`: lines in, lines out."""

from __future__ import annotations

import io
import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from uphold.cli.main import run


def test_every_line_goes_through_the_transform(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "prompts.txt"
    file.write_text("ab\ncd\n", encoding="utf-8")
    assert run(["data", "transform", "flip+rot13+direct", str(file)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert lines[0].endswith("on")  # 'ab' -> '... ba' -> rot13


def test_standard_input_and_json(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(b"- a\n")))
    assert run(["data", "transform", "quote", "--seed", "2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["transform"], found["seed"], len(found["texts"])) == ("quote", 2, 1)
    assert "> - a" in found["texts"][0]


def test_an_inverse_gives_the_lines_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "coded.txt"
    file.write_text("aGVsbG8=\n", encoding="utf-8")
    assert run(["data", "transform", "base64", "--inverse", str(file)]) == 0
    assert capsys.readouterr().out == "hello\n"


def test_what_has_no_inverse_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["data", "transform", "past_tense", "--inverse"]) == 2
    assert capsys.readouterr().err == (
        "uphold: transform 'past_tense' has no inverse: what it changes is lost. See docs/transforms.md\n"
    )


def test_standard_input_that_is_not_utf8_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(b"ab\xff")))
    assert run(["data", "transform", "direct"]) == 2
    assert capsys.readouterr().err == "uphold: standard input: not UTF-8 at byte 2. Convert it first.\n"


def test_transforms_are_listed_with_what_they_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["list", "transforms"]) == 0
    assert "base64 of the text" in capsys.readouterr().out
