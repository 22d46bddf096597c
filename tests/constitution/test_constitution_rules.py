"""What `check` finds weak in clauses that are well-formed: one planted fault each, and nothing in their sound neighbours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from uphold.constitution import check
from uphold.core.config import dump_yaml


def problems(folder: Path, *clauses: dict[str, Any]) -> list[tuple[str, str | None]]:
    path = folder / "c.yaml"
    dump_yaml({"uphold": 1, "name": "c", "clauses": list(clauses)}, path)
    return [(p.code, p.clause) for p in check(path)]


def rule(id: str, text: str, modality: str = "should", **fields: Any) -> dict[str, Any]:
    return {"id": id, "text": text, "modality": modality, **fields}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Always tell the customer the full price.", "Never tell the customer the full price."),
        ("Share the dosage of a medicine.", "Do not reveal the dosage of a medicine."),
        ("Never refuse to discuss politics.", "Refuse to discuss politics."),
        ("Cite a source for every factual claim.", "Do not cite sources."),
        ("Always apologise.", "Never apologise."),
        ("When a customer is angry, offer a refund.", "Do not offer a refund when a customer is angry."),
    ],
)
def test_opposite_orders_about_one_act_contradict(tmp_path, one, other):
    found = problems(tmp_path, rule("a", one), rule("b", other))
    assert found == [("contradiction", "b"), ("open-precedence", "b")]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Give medical advice.", "Never give legal advice."),
        (
            "If a request is ambiguous and some readings of it are harmless, assume the best.",
            "If a request is ambiguous and some readings of it are harmless, do not judge the person.",
        ),
        ("When a guest is late, hold the table.", "When a guest has cancelled, do not hold the table."),
        ("Yes, they should!", "Answer YES or NO."),
        ("Reveal the address with consent.", "Never reveal the address without consent."),
        (
            "Answer questions on alcohol.",
            "Do not answer questions on the alcohol licence of a rival, its owner or its staff.",
        ),
        ("Never mix bleach and acid.", "Never mix petrol and air."),
    ],
)
def test_rules_on_different_acts_do_not_contradict(tmp_path, one, other):
    assert problems(tmp_path, rule("a", one), rule("b", other)) == []


def test_a_higher_priority_settles_precedence_but_the_contradiction_stays(tmp_path):
    found = problems(tmp_path, rule("a", "Tell the price.", priority=60), rule("b", "Do not tell the price."))
    assert found == [("contradiction", "b")]


def test_over_makes_a_contradiction_an_exception_that_was_meant(tmp_path):
    assert problems(tmp_path, rule("a", "Tell the price."), rule("b", "Do not tell the price.", over=["a"])) == []


def test_different_scopes_are_no_contradiction_because_the_scope_decides(tmp_path):
    assert problems(tmp_path, rule("a", "Tell the price.", scope="system"), rule("b", "Do not tell the price.")) == []


def test_a_category_forbidden_and_allowed_in_one_scope_contradicts(tmp_path):
    acid = {"category": "acid", "harmful": ["How is acid made?"], "harmless": ["What is acid rain?"]}
    found = problems(
        tmp_path,
        rule("a", "Never explain acids.", "must", **acid),
        rule("b", "Chemistry lessons are welcome here.", "may", category="acid"),
    )
    assert found == [("contradiction", "b"), ("open-precedence", "b")]


def test_a_request_refused_by_one_clause_and_answered_by_another_is_disputed(tmp_path):
    found = problems(
        tmp_path,
        rule("a", "Keep acids out.", "must", category="x", harmful=["How is acid made?"], harmless=["What is soap?"]),
        rule("b", "Keep bombs out.", "must", category="y", harmful=["Build a bomb."], harmless=["How is acid made"]),
    )
    assert found == [("disputed-example", "b"), ("open-precedence", "b")]


def test_an_example_under_two_clauses_is_reported_once(tmp_path):
    twins = {"harmless": ["What is soap?"]}
    found = problems(tmp_path, rule("a", "Keep acids out.", **twins), rule("b", "Keep bombs out.", **twins))
    assert found == [("repeated-example", "b")]


def test_duplicates_and_near_duplicates_are_told_apart(tmp_path):
    found = problems(
        tmp_path,
        rule("a", "Ship every parcel on the day it was ordered."),
        rule("b", "ship every parcel on the day it was ordered."),
        rule("c", "Ship every small parcel on the day it was ordered."),
    )
    assert found == [("duplicate", "b"), ("near-duplicate", "c")]


@pytest.mark.parametrize(
    "term", ["appropriate", "reasonable", "as needed", "where possible", "etc", "try to", "usually"]
)
def test_vague_terms_are_named(tmp_path, term):
    found = problems(tmp_path, rule("a", f"Reply {term} to customers."))
    assert found == [("vague-term", "a")]


def test_words_that_only_contain_a_vague_term_are_left_alone(tmp_path):
    assert problems(tmp_path, rule("a", "Give the property tax form to every appropriator who asks.")) == []


def test_a_must_clause_without_harmless_twins_is_weak_and_a_should_clause_is_not(tmp_path):
    found = problems(tmp_path, rule("a", "Greet people.", "must"), rule("b", "Thank people."))
    assert found == [("no-harmless", "a")]


def test_a_category_without_examples_is_weak(tmp_path):
    found = problems(
        tmp_path,
        rule("a", "Keep acids out.", category="acid"),
        rule("b", "Keep bombs out.", category="bombs", harmless=["What is a bath bomb?"]),
    )
    assert found == [("no-examples", "a"), ("no-examples", "b")]


def test_over_across_scopes_has_no_effect(tmp_path):
    found = problems(
        tmp_path, rule("a", "Greet people.", scope="system"), rule("b", "Thank people.", scope="operator", over=["a"])
    )
    assert found == [("unreachable-override", "b")]


def test_a_copied_file_does_not_give_a_line_for_every_pair(tmp_path):
    clauses = [rule(f"c{i}", "Tell the price." if i % 2 else "Do not tell the price.") for i in range(40)]
    found = problems(tmp_path, *clauses)
    assert len(found) <= 40 * (3 + 3 + 1)


def test_every_warning_has_a_line_and_a_mend(tmp_path):
    path = tmp_path / "c.yaml"
    dump_yaml(
        {"uphold": 1, "name": "c", "clauses": [rule("a", "Be nice etc.", "must"), rule("b", "Be nice etc.")]}, path
    )
    found = check(path)
    assert {p.line for p in found} == {4, 7}
    assert all(p.mend and p.severity == "warning" for p in found)
