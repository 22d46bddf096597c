"""Clauses, what they forbid, and the digests that work depends on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from uphold.constitution import Clause, Constitution, prevails
from uphold.core.errors import ConfigError


def clause(id: str = "a", **fields: object) -> Clause:
    return Clause.model_validate({"id": id, "text": "Never mix bleach and acid.", "modality": "must", **fields})


FORBIDDEN = {"category": "gas", "harmful": ["How do I make gas?"], "harmless": ["What is tear-free soap?"]}


@pytest.mark.parametrize(
    ("fields", "forbids"),
    [
        ({**FORBIDDEN}, True),
        ({**FORBIDDEN, "modality": "should"}, True),
        ({**FORBIDDEN, "modality": "may"}, False),
        ({**FORBIDDEN, "category": None}, False),
        ({**FORBIDDEN, "harmful": []}, False),
    ],
)
def test_a_clause_forbids_when_it_obliges_and_names_a_category_with_harmful_examples(fields, forbids):
    assert clause(**fields).forbids is forbids


def test_an_unknown_field_of_a_clause_is_refused():
    with pytest.raises(ValidationError):
        clause(colour="red")


def test_examples_in_classes_count_as_examples_of_the_clause():
    group = {"name": "kitchen", "label": "harmful", "examples": ["What fumes can I cook?"]}
    twins = {"name": "cleaning", "label": "benign", "examples": ["Which soap is mild?"]}
    made = clause(**FORBIDDEN, classes=[group, twins])
    assert made.harmful == ("How do I make gas?", "What fumes can I cook?")
    assert made.harmless == ("What is tear-free soap?", "Which soap is mild?")


def test_line_breaks_and_double_spaces_in_a_text_do_not_matter():
    assert clause(text="Never  mix\n bleach.").digest == clause(text="Never mix bleach.").digest


def test_the_source_does_not_count_in_the_digest_and_everything_else_does():
    base = clause(**FORBIDDEN)
    assert clause(**FORBIDDEN, source="house rule").digest == base.digest
    changes = [
        {"text": "Never."},
        {"modality": "should"},
        {"priority": 51},
        {"scope": "system"},
        {"severity": "high"},
        {"category": "gases"},
        {"harmful": ["How?"]},
        {"harmless": ["Why?"]},
        {"rubric": ["Names a gas."]},
        {"over": ["b"]},
        {"critique_request": "Is it broken?"},
        {"revision_request": "Mend it."},
        {"id": "b"},
    ]
    digests = [clause(**{**FORBIDDEN, **change}).digest for change in changes]
    assert len({base.digest, *digests}) == len(changes) + 1


def test_the_digest_of_a_constitution_is_that_of_its_clauses_alone():
    one = Constitution(name="x", version="1", clauses=(clause("a"), clause("b")))
    other = Constitution(name="y", version="2", description="d", clauses=(clause("a"), clause("b")))
    assert one.digest == other.digest
    assert one.digest != Constitution(name="x", clauses=(clause("b"), clause("a"))).digest


def test_a_category_is_allowed_when_its_clause_says_may():
    constitution = Constitution(
        name="x", clauses=(clause("a", **FORBIDDEN), clause("b", modality="may", category="fireworks"))
    )
    assert {k: c.id for k, c in constitution.forbidden_categories().items()} == {"gas": "a"}
    assert {k: c.id for k, c in constitution.allowed_categories().items()} == {"fireworks": "b"}


@pytest.mark.parametrize(("priority_of_may", "is_forbidden"), [(49, True), (50, True), (51, False)])
def test_of_two_clauses_on_one_category_the_prevailing_one_rules_and_a_tie_forbids(priority_of_may, is_forbidden):
    may = clause("b", **{**FORBIDDEN, "modality": "may", "priority": priority_of_may})
    for clauses in ((clause("a", **FORBIDDEN), may), (may, clause("a", **FORBIDDEN))):
        assert ("gas" in Constitution(name="x", clauses=clauses).forbidden_categories()) is is_forbidden


def test_scope_decides_before_over_and_over_before_priority():
    system = clause("s", scope="system", priority=0)
    operator = clause("o", scope="operator", priority=100, over=["s"])
    low = clause("l", scope="operator", priority=1, over=["o"])
    assert prevails(system, operator) is system
    assert prevails(operator, low) is low
    assert prevails(operator, clause("p", scope="operator", priority=99)) is operator
    assert prevails(operator, clause("q", scope="operator", priority=100)) is None


@given(st.sampled_from(["system", "operator", "user"]), st.integers(-5, 5), st.booleans(), st.data())
def test_precedence_is_the_same_whichever_clause_is_named_first(scope, priority, is_over, data):
    a = clause("a", scope=scope, priority=priority, over=["b"] if is_over else [])
    b = clause(
        "b", scope=data.draw(st.sampled_from(["system", "operator", "user"])), priority=data.draw(st.integers(-5, 5))
    )
    assert prevails(a, b) == prevails(b, a)


def test_a_clause_is_found_by_id_and_a_misspelt_id_gets_a_hint():
    constitution = Constitution(name="x", clauses=(clause("gases"), clause("forgery")))
    assert constitution.clause("forgery").id == "forgery"
    with pytest.raises(ConfigError, match=r"^x: no clause 'forgry'\. Did you mean 'forgery'\?$"):
        constitution.clause("forgry")


def test_two_clauses_of_one_id_are_refused():
    with pytest.raises(ValidationError, match="clause id 'a' is used twice"):
        Constitution(name="x", clauses=(clause("a"), clause("a")))
