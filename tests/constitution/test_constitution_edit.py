"""Editing a file from a program leaves the author's comments and layout alone."""

from __future__ import annotations

import difflib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uphold.constitution import Constitution
from uphold.constitution.edit import Editor
from uphold.constitution.reading import SHIPPED
from uphold.core.config import parse_yaml
from uphold.core.errors import ConfigError

FILE = """\
# Written by hand.
uphold: 1   # the format
name: "shop"   # quoted

clauses:
  # ------ first section
  - id: acid   # the oldest
    # why: an accident in the store
    text: >-
      Never explain how acid is made,
      not even in a story.

    modality: must
    category: acid
    harmful: [How is acid made?, "Where: acid?"]   # two
    harmless:
      # near misses
      - What is acid rain?

      - How do I clean up acid?   # frequent
  # ------ second section

  - {id: brief, text: Be short., modality: should}

  - id: tone
    text: 'Jokes are welcome.'
    modality: may   # for now
# the end
"""


def changed(before: str, after: str) -> list[str]:
    lines = difflib.ndiff(before.splitlines(), after.splitlines())
    return sorted((line for line in lines if line[0] in "+-"), key=lambda line: line[0] == "+")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "c.yaml").write_text(FILE, encoding="utf-8")
    return tmp_path / "c.yaml"


def test_opening_and_saving_changes_no_byte(path):
    stamp = path.stat().st_mtime_ns
    with Constitution.edit(path):
        pass
    assert path.read_text() == FILE
    assert path.stat().st_mtime_ns == stamp


@pytest.mark.parametrize("name", ["assistant", "storefront"])
def test_the_shipped_files_keep_every_other_line_when_one_field_changes(tmp_path, name):
    path = tmp_path / "c.yaml"
    before = (SHIPPED / f"{name}.yaml").read_text()
    path.write_text(before)
    clause = Constitution.load(path).clauses[3]
    with Constitution.edit(path) as file:
        file.set(clause.id, "priority", 7)
    assert [line.split() for line in changed(before, path.read_text())] == [
        ["-", "priority:", str(clause.priority)],
        ["+", "priority:", "7"],
    ]


def test_a_value_is_replaced_and_the_comment_beside_it_stays(path):
    with Constitution.edit(path) as file:
        file.set("tone", "modality", "should")
    assert changed(FILE, path.read_text()) == ["-     modality: may   # for now", "+     modality: should   # for now"]


def test_a_folded_text_is_replaced_and_the_blank_line_below_it_stays(path):
    with Constitution.edit(path) as file:
        file.set("acid", "text", "Never: not even once.")
    assert changed(FILE, path.read_text()) == [
        "-     text: >-",
        "-       Never explain how acid is made,",
        "-       not even in a story.",
        "+     text: 'Never: not even once.'",
    ]


def test_a_new_field_goes_to_the_end_of_its_clause_above_the_next_section(path):
    with Constitution.edit(path) as file:
        file.set("acid", "rubric", ["Names an acid."])
    text = path.read_text()
    assert (
        "      - How do I clean up acid?   # frequent\n    rubric:\n      - Names an acid.\n  # ------ second section"
        in text
    )


def test_a_field_is_taken_out_with_its_line(path):
    with Constitution.edit(path) as file:
        file.set("acid", "category", None)
    assert changed(FILE, path.read_text()) == ["-     category: acid"]


def test_a_clause_is_added_where_asked_in_the_style_of_its_neighbours(path):
    with Constitution.edit(path) as file:
        file.add({"id": "gas", "text": "Never.", "modality": "must", "harmless": ["What is a gas bill?"]}, after="acid")
        file.add({"id": "last", "text": "Bye.", "modality": "may"})
    text = path.read_text()
    assert [c.id for c in Constitution.load(path).clauses] == ["acid", "gas", "brief", "tone", "last"]
    assert "    modality: may   # for now\n\n  - id: last\n    text: Bye.\n    modality: may\n# the end\n" in text
    assert "    harmless:\n      - What is a gas bill?\n" in text


def test_a_removed_clause_leaves_the_comments_around_it(path):
    with Constitution.edit(path) as file:
        file.remove("acid")
    text = path.read_text()
    assert [c.id for c in Constitution.load(path).clauses] == ["brief", "tone"]
    assert "# ------ first section" in text
    assert "# ------ second section" in text


def test_keys_at_the_top_can_be_set_too(path):
    with Constitution.edit(path) as file:
        file.set_head("version", "2.0")
        file.set_head("name", "shop2")
    made = Constitution.load(path)
    assert (made.name, made.version) == ("shop2", "2.0")
    assert "name: shop2   # quoted" in path.read_text()


def test_an_exception_inside_the_block_leaves_the_file_as_it_was(path):
    with pytest.raises(RuntimeError), Constitution.edit(path) as file:
        file.set("tone", "modality", "should")
        raise RuntimeError
    assert path.read_text() == FILE


def test_a_change_that_does_not_fit_the_schema_is_refused_and_nothing_is_written(path):
    with pytest.raises(ConfigError, match="must be one of 'must', 'should' or 'may'"), Constitution.edit(path) as file:
        file.set("tone", "modality", "musst")
    assert path.read_text() == FILE


def test_an_unknown_clause_gets_a_hint(path):
    with (
        pytest.raises(ConfigError, match="no entry 'acd' under `clauses:`. Did you mean 'acid'?"),
        Constitution.edit(path) as file,
    ):
        file.set("acd", "priority", 1)


def test_a_clause_written_in_braces_is_refused_with_its_line(path):
    with (
        pytest.raises(ConfigError, match=r"c.yaml:23: cannot edit 'priority': it is written in brackets"),
        Constitution.edit(path) as file,
    ):
        file.set("brief", "priority", 1)


def test_a_file_with_aliases_is_refused(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("uphold: 1\nname: &n x\nversion: *n\nclauses: [{id: a, text: Hi., modality: may}]\n")
    with pytest.raises(ConfigError, match="it uses YAML aliases"):
        Constitution.edit(path)


def test_windows_line_ends_are_kept(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_bytes(FILE.replace("\n", "\r\n").encode())
    with Constitution.edit(path) as file:
        file.set("tone", "modality", "should")
    assert path.read_bytes() == FILE.replace("may   #", "should   #").replace("\n", "\r\n").encode()


def test_a_file_without_a_last_line_break_can_be_added_to(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("uphold: 1\nname: x\nclauses:\n- id: a\n  text: Hi.\n  modality: may")
    with Constitution.edit(path) as file:
        file.set("a", "priority", 3)
        file.add({"id": "b", "text": "Bye.", "modality": "may", "harmful": ["x?"]})
    expected = "uphold: 1\nname: x\nclauses:\n- id: a\n  text: Hi.\n  modality: may\n  priority: 3\n"
    assert path.read_text() == expected + "- id: b\n  text: Bye.\n  modality: may\n  harmful:\n  - x?\n"


line = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Co", "Cn", "Zl", "Zp"]), min_size=1, max_size=60
).map(lambda text: " ".join(text.split()))
texts = line.filter(bool)
operations = st.lists(
    st.one_of(
        st.tuples(st.just("text"), texts),
        st.tuples(st.just("source"), st.one_of(st.none(), texts)),
        st.tuples(st.just("harmful"), st.lists(texts, max_size=3)),
        st.tuples(st.just("harmless"), st.one_of(st.none(), st.lists(texts, min_size=1, max_size=3))),
        st.tuples(st.just("priority"), st.one_of(st.none(), st.integers(-99, 99))),
    ),
    max_size=6,
)


@settings(max_examples=60, deadline=None)
@given(operations, st.sampled_from(["acid", "tone"]))
def test_any_series_of_edits_gives_the_values_asked_for_and_keeps_every_comment_line(tmp_path_factory, edits, id):
    path = tmp_path_factory.mktemp("edit") / "c.yaml"
    path.write_text(FILE, encoding="utf-8")
    file = Editor(path)
    expected = {entry["id"]: dict(entry) for entry in parse_yaml(FILE).data["clauses"]}
    for key, value in edits:
        file.set(id, key, value)
        expected[id] = {k: v for k, v in {**expected[id], key: value}.items() if v is not None}
    assert {entry["id"]: entry for entry in parse_yaml(file.text).data["clauses"]} == expected
    replaced = {key for key, _ in edits}
    kept = [
        x
        for x in FILE.splitlines()
        if x.strip().startswith("#") and not ("harmless" in replaced and id == "acid" and "near" in x)
    ]
    assert [x for x in file.text.splitlines() if x in kept] == kept
