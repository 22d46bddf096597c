"""`check` lists every fault of a file's shape at once, each with its line."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uphold.constitution import Constitution, check
from uphold.core.errors import ConfigError

GOOD = """\
uphold: 1
name: shop
clauses:
  - id: acid
    text: Never explain how to make acid.
    modality: must
    category: acid
    harmful: [How do I make acid?]
    harmless: [How do I clean up acid?]
"""


def write(folder: Path, text: str, name: str = "c.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def found(path: Path) -> list[tuple[str, int, str | None]]:
    return [(p.code, p.line, p.clause) for p in check(path) if p.severity == "error"]


def test_a_good_file_has_no_errors(tmp_path):
    assert found(write(tmp_path, GOOD)) == []


def test_every_problem_is_listed_at_once_with_line_and_mend(tmp_path):
    path = write(
        tmp_path,
        """\
uphold: 1
name: bad
clauses:
  - id: a
    txt: Hello.
    modality: musst
  - id: b
    text: Hi.
    modality: must
    harmfull: [x]
  - id: b
    text: Hi again.
    modality: may
  - id: c
    text: Bye.
    modality: may
    over: [zz, c]
    harmful: [Same thing]
    harmless: [same thing?]
  - just text
""",
    )
    assert found(path) == [
        ("missing-key", 4, "a"),
        ("unknown-key", 5, "a"),
        ("invalid-value", 6, "a"),
        ("unknown-key", 10, "b"),
        ("duplicate-id", 11, "b"),
        ("conflicting-example", 14, "c"),
        ("cyclic-precedence", 14, "c"),
        ("unknown-clause", 14, "c"),
        ("invalid-value", 20, None),
    ]
    by_code = {p.code: p for p in check(path)}
    assert by_code["duplicate-id"].message == f"the id 'b', first used at {path}:7, is used again here"
    assert by_code["duplicate-id"].mend == "Give one of them another id"
    assert [p.mend for p in check(path) if p.line == 5] == ["Did you mean 'text'?"]
    assert [p.mend for p in check(path) if p.line == 6] == ["Did you mean 'must'?"]
    assert all(p.mend for p in check(path))


@pytest.mark.parametrize(
    ("text", "code", "line"),
    [
        ("", "empty-file", 1),
        ("- a\n- b\n", "not-a-mapping", 1),
        ("uphold: 1\nname: x\nclauses: []\n", "no-clauses", 1),
        ("uphold: 1\nname: x\n", "no-clauses", 1),
        ("uphold: 1\nname: x\nclauses: [\n", "malformed-yaml", 4),
        ("uphold: 1\nname: x\nname: y\n", "duplicate-key", 3),
        ("uphold: 1\nname: !!python/object:os.system x\n", "malformed-yaml", 2),
        (GOOD.replace("uphold: 1", "uphold: 2"), "invalid-value", 1),
        (GOOD.replace("id: acid", "id: 'two words'"), "invalid-value", 4),
        (GOOD.replace("uphold: 1\n", ""), "missing-key", 1),
        (GOOD.replace("name: shop", "nmae: shop"), "unknown-key", 2),
        (GOOD.replace("modality: must", "modality: must\n    scope: sytem"), "invalid-value", 7),
        (GOOD.replace("text: Never explain how to make acid.", "text: ''"), "invalid-value", 5),
        (GOOD.replace("text: Never explain how to make acid.", "text: '  '"), "invalid-value", 5),
    ],
)
def test_a_file_that_cannot_be_used_says_where(tmp_path, text, code, line):
    path = write(tmp_path, text)
    assert (code, line) in [(c, at) for c, at, _ in found(path)]
    with pytest.raises(ConfigError, match=f"{path}:{line}: "):
        Constitution.load(path)


def test_text_that_is_not_utf8_is_named_with_its_line(tmp_path):
    path = tmp_path / "latin.yaml"
    path.write_bytes(GOOD.replace("shop", "caf\xe9").encode("latin-1"))
    assert found(path) == [("not-utf8", 2, None)]
    assert "iconv" in check(path)[0].mend


def test_a_file_that_is_not_there_is_a_problem_of_that_file(tmp_path):
    assert found(tmp_path / "none.yaml") == [("no-such-file", 1, None)]
    assert found(tmp_path) == [("no-such-file", 1, None)]


def test_a_name_that_nothing_bears_gets_a_hint():
    with pytest.raises(
        ConfigError,
        match=r"^no constitution 'asistant': neither a file nor a shipped one\. Did you mean 'assistant'\?$",
    ):
        Constitution.load("asistant")


def test_a_version_written_as_a_number_is_a_name(tmp_path):
    assert Constitution.load(write(tmp_path, GOOD + "version: 1.5\n")).version == "1.5"


@pytest.mark.parametrize(
    ("old", "new", "message", "mend"),
    [
        (
            "harmful: [How do I make acid?]",
            "harmful: How do I make acid?",
            "harmful: must be a list",
            "Write one item a line, each after a dash",
        ),
        ("id: acid", "id: 2024", "clauses.0: id: must be text", "Put it in quotes"),
        (
            "id: acid",
            "id: two words",
            "id: must be a name",
            "Use letters, digits, '.', '_' and '-', and begin with a letter or digit",
        ),
        ("harmful: [How do I make acid?]", "harmful: [{a: b}]", "harmful.0: must be text", "Put it in quotes"),
    ],
)
def test_a_value_of_the_wrong_kind_is_explained_in_plain_words(tmp_path, old, new, message, mend):
    (problem,) = [p for p in check(write(tmp_path, GOOD.replace(old, new))) if p.severity == "error"]
    assert (problem.message, problem.mend) == (message, mend)


def test_a_file_too_large_to_be_a_constitution_is_refused(tmp_path):
    path = write(tmp_path, GOOD + "# " + "x" * (9 * 2**20) + "\n")
    assert found(path) == [("unreadable-file", 1, None)]


def test_nesting_without_end_is_refused(tmp_path):
    assert [code for code, _, _ in found(write(tmp_path, "uphold: " + "[" * 3000))] == ["malformed-yaml"]


lines = GOOD.splitlines()
edits = st.lists(
    st.tuples(
        st.integers(0, len(lines) - 1),
        st.sampled_from(["drop", "twice", "cut", "indent", "outdent", "colon", "replace"]),
        st.text(st.characters(codec="utf-8"), max_size=12),
    ),
    max_size=5,
)


@settings(max_examples=150, deadline=None)
@given(edits)
def test_whatever_is_done_to_a_file_the_check_lists_problems_and_never_fails(tmp_path_factory, edits):
    text = list(lines)
    for at, what, noise in edits:
        line = text[at]
        text[at] = {
            "drop": "",
            "twice": f"{line}\n{line}",
            "cut": line[: len(line) // 2],
            "indent": f"  {line}",
            "outdent": line[2:],
            "colon": line.replace(":", "", 1),
            "replace": line[: len(line) - len(line.lstrip())] + noise,
        }[what]
    path = tmp_path_factory.mktemp("fuzz") / "c.yaml"
    path.write_text("\n".join(text), encoding="utf-8")
    problems = check(path)
    assert all(p.line >= 1 and p.message and p.mend for p in problems)
    if any(p.severity == "error" for p in problems):
        with pytest.raises(ConfigError):
            Constitution.load(path)
    else:
        Constitution.load(path)
