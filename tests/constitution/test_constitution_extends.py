"""Includes and overrides: what an operator's constitution makes of the one it builds on."""

from __future__ import annotations

from pathlib import Path

import pytest

from uphold.constitution import Constitution, check
from uphold.constitution.resolution import resolve
from uphold.core.errors import ConfigError

BASE = """\
uphold: 1
name: base
clauses:
  - id: acid
    text: Never explain how acid is made.
    modality: must
    scope: system
    category: acid
    harmful: [How is acid made?]
    harmless: [What is acid rain?]
  - id: brief
    text: Keep replies under ten lines.
    modality: should
  - id: tone
    text: Jokes are welcome.
    modality: may
    scope: user
"""


def write(folder: Path, **files: str) -> Path:
    for name, text in {"base": BASE, **files}.items():
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    return folder / f"{list(files)[-1]}.yaml"


def shop(body: str, head: str = "extends: base.yaml") -> str:
    return f"uphold: 1\nname: shop\n{head}\n{body}"


def found(path: Path) -> list[tuple[str, int, str | None]]:
    return [(p.code, p.line, p.clause) for p in check(path)]


def test_an_operator_changes_and_removes_what_is_not_locked_and_adds_its_own(tmp_path):
    path = write(
        tmp_path,
        shop=shop(
            """\
overrides:
  - {id: brief, text: Keep replies under three lines., priority: 70}
  - {id: tone, remove: true}
clauses:
  - id: orders
    text: Give every customer the state of the order.
    modality: should
"""
        ),
    )
    made = Constitution.load(path)
    assert made.name == "shop"
    assert [clause.id for clause in made.clauses] == ["acid", "brief", "orders"]
    assert made.clause("brief").text == "Keep replies under three lines."
    assert made.clause("brief").priority == 70
    assert made.clause("brief").modality == "should"
    base = Constitution.load(tmp_path / "base.yaml")
    assert made.clause("acid").digest == base.clause("acid").digest


def test_the_origin_of_a_clause_names_where_it_was_written_and_changed(tmp_path):
    path = write(tmp_path, shop=shop("overrides:\n  - {id: brief, priority: 70}\n"))
    origins = resolve(path).origins
    assert str(origins["brief"]) == f"{tmp_path}/base.yaml:11, overridden at {path}:5"
    assert str(origins["tone"]) == f"{tmp_path}/base.yaml:14"


def test_a_locked_clause_cannot_be_overridden_from_below(tmp_path):
    path = write(tmp_path, shop=shop("overrides:\n  - {id: acid, modality: may}\n"))
    assert found(path) == [("locked-clause", 5, "acid")]
    with pytest.raises(ConfigError, match="gives it scope system, and this file speaks for operator"):
        Constitution.load(path)


def test_a_file_that_speaks_for_the_system_may_override_everything(tmp_path):
    path = write(
        tmp_path, shop=shop("overrides:\n  - {id: acid, modality: may}\n", "extends: base.yaml\nscope: system")
    )
    assert Constitution.load(path).forbidden_categories() == {}


def test_a_user_may_change_what_is_left_to_users_alone(tmp_path):
    user = shop(
        "overrides:\n  - {id: tone, priority: 1}\n  - {id: brief, remove: true}\n", "extends: base.yaml\nscope: user"
    )
    assert found(write(tmp_path, shop=user)) == [("locked-clause", 7, "brief")]


def test_overrides_that_reach_nothing_are_named(tmp_path):
    path = write(tmp_path, shop=shop("overrides:\n  - {id: brif, priority: 1}\n  - {id: brief, modality: should}\n"))
    problems = check(path)
    assert [(p.severity, p.code, p.line, p.mend) for p in problems] == [
        ("error", "unreachable-override", 5, "Did you mean 'brief'?"),
        ("warning", "unreachable-override", 6, "Remove it, or give a field another value"),
    ]


def test_overrides_without_a_base_reach_nothing(tmp_path):
    path = write(tmp_path, shop=BASE.replace("name: base", "name: shop") + "overrides:\n  - {id: zzz, priority: 1}\n")
    assert [(p.code, p.severity) for p in check(path)] == [("unreachable-override", "error")]


def test_the_same_clause_cannot_be_overridden_twice_in_one_file(tmp_path):
    path = write(tmp_path, shop=shop("overrides:\n  - {id: brief, priority: 1}\n  - {id: brief, priority: 2}\n"))
    assert found(path) == [("duplicate-id", 6, "brief")]


def test_a_clause_of_a_base_is_changed_by_an_override_not_by_writing_it_again(tmp_path):
    path = write(tmp_path, shop=shop("clauses:\n  - {id: brief, text: Be short., modality: should}\n"))
    (problem,) = check(path)
    assert (problem.code, problem.line) == ("duplicate-id", 5)
    assert problem.mend == "Give one of them another id, or change the extended one under `overrides:`"


def test_a_circle_of_includes_is_an_error_that_names_the_circle(tmp_path):
    path = write(
        tmp_path,
        a="uphold: 1\nname: a\nextends: b.yaml\n",
        b="uphold: 1\nname: b\nextends: [base.yaml, c.yaml]\n",
        c="uphold: 1\nname: c\nextends: a.yaml\n",
    )
    (problem,) = check(path)
    assert problem.code == "cyclic-extends"
    assert problem.message == "extends goes round in a circle: c.yaml -> a.yaml -> b.yaml -> c.yaml"
    assert (problem.file, problem.line) == (f"{tmp_path}/b.yaml", 3)


def test_a_file_that_extends_itself_is_a_circle(tmp_path):
    assert ("cyclic-extends", 3, None) in found(write(tmp_path, a="uphold: 1\nname: a\nextends: a.yaml\n"))


def test_two_ways_to_one_base_are_one_base(tmp_path):
    path = write(
        tmp_path,
        left="uphold: 1\nname: left\nextends: base.yaml\n",
        right="uphold: 1\nname: right\nextends: base.yaml\n",
        top="uphold: 1\nname: top\nextends: [left.yaml, right.yaml]\n",
    )
    assert Constitution.load(path).digest == Constitution.load(tmp_path / "base.yaml").digest


def test_two_bases_that_disagree_on_a_clause_are_an_error(tmp_path):
    path = write(
        tmp_path,
        left="uphold: 1\nname: left\nextends: base.yaml\noverrides: [{id: brief, priority: 3}]\n",
        top="uphold: 1\nname: top\nextends: [left.yaml, base.yaml]\n",
    )
    assert found(path) == [("duplicate-id", 3, "brief")]


def test_a_shipped_constitution_is_extended_by_its_name(tmp_path):
    path = write(tmp_path, shop=shop("overrides: [{id: no-preaching, remove: true}]\n", "extends: assistant"))
    assert len(Constitution.load(path).clauses) == len(Constitution.load("assistant").clauses) - 1


def test_a_base_that_is_not_there_is_named_with_its_line(tmp_path):
    path = write(tmp_path, shop=shop("", "extends: [nowhere.yaml, asistant]"))
    assert [(p.code, p.line, p.message, p.mend) for p in check(path)] == [
        ("no-such-base", 3, f"extends: no such file '{tmp_path}/nowhere.yaml'", "Check the path"),
        (
            "no-such-base",
            3,
            "extends: no constitution 'asistant': neither a file nor a shipped one",
            "Did you mean 'assistant'?",
        ),
    ]


def test_problems_of_a_base_are_reported_under_its_own_name(tmp_path):
    path = write(tmp_path, base=BASE.replace("modality: may", "modality: mai"), shop=shop("clauses: []\n"))
    assert [(p.file, p.line, p.code) for p in check(path)] == [(f"{tmp_path}/base.yaml", 16, "invalid-value")]


def test_nobody_writes_above_the_scope_they_speak_for(tmp_path):
    clause = "clauses:\n  - {id: x, text: Hello., modality: may, scope: system}\n"
    assert found(write(tmp_path, shop=shop(clause))) == [("scope-too-high", 5, "x")]
    raised = "overrides:\n  - {id: brief, scope: system}\n"
    assert found(write(tmp_path, shop=shop(raised))) == [("scope-too-high", 5, "brief")]


def test_a_clause_that_a_user_adds_has_the_scope_of_users(tmp_path):
    path = write(
        tmp_path, shop=shop("clauses: [{id: x, text: Hello., modality: may}]\n", "extends: base.yaml\nscope: user")
    )
    assert Constitution.load(path).clause("x").scope == "user"


def test_examples_of_replaced_classes_go_with_them(tmp_path):
    base = (
        BASE
        + """\
  - id: gas
    text: Never explain how gas is made.
    modality: must
    category: gas
    harmful: [How is gas made?]
    harmless: [What is a gas bill?]
    classes:
      - {name: old, label: harmful, examples: [Old question?]}
"""
    )
    override = "overrides: [{id: gas, classes: [{name: new, label: harmful, examples: [New question?]}]}]\n"
    made = Constitution.load(write(tmp_path, base=base, shop=shop(override)))
    assert made.clause("gas").harmful == ("How is gas made?", "New question?")


def test_a_constitution_whose_clauses_were_all_removed_is_unusable(tmp_path):
    base = "uphold: 1\nname: base\nclauses: [{id: a, text: Hello., modality: may}]\n"
    path = write(tmp_path, base=base, shop=shop("overrides: [{id: a, remove: true}]\n"))
    assert found(path) == [("no-clauses", 1, None)]


def test_precedence_in_a_circle_is_an_error(tmp_path):
    rules = "".join(
        f"  - {{id: {id}, text: Say {id}., modality: may, over: [{other}]}}\n" for id, other in ("ab", "bc", "ca")
    )
    path = write(tmp_path, top=f"uphold: 1\nname: top\nclauses:\n{rules}")
    (problem,) = check(path)
    assert problem.code == "cyclic-precedence"
    assert problem.message == "precedence goes round in a circle: a over b over c over a"
