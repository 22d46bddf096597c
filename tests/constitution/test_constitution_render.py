"""The resolved constitution as a file of its own."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uphold.constitution import Clause, Constitution
from uphold.constitution.render import to_yaml
from uphold.constitution.resolution import resolve
from uphold.constitution.schema import ConstitutionFile
from uphold.core.config import check_config, parse_yaml


@pytest.mark.parametrize("name", ["assistant", "storefront"])
def test_what_is_printed_loads_to_the_same_clauses(tmp_path, name):
    resolution = resolve(name)
    path = tmp_path / "resolved.yaml"
    path.write_text(to_yaml(resolution.constitution, resolution.origins), encoding="utf-8")
    again = Constitution.load(path)
    assert again.clauses == resolution.constitution.clauses
    assert (again.name, again.version, again.description) == (
        resolution.constitution.name,
        resolution.constitution.version,
        resolution.constitution.description,
    )


def test_each_clause_says_where_it_came_from(tmp_path):
    (tmp_path / "base.yaml").write_text("uphold: 1\nname: base\nclauses:\n  - {id: a, text: Hello., modality: may}\n")
    path = tmp_path / "shop.yaml"
    path.write_text("uphold: 1\nname: shop\nextends: base.yaml\noverrides:\n  - {id: a, priority: 9}\n")
    resolution = resolve(path)
    assert (
        to_yaml(resolution.constitution, resolution.origins)
        == f"""\
uphold: 1
name: shop

clauses:
  # from {tmp_path}/base.yaml:4, overridden at {path}:5
  - id: a
    text: Hello.
    modality: may
    priority: 9
    scope: operator
    severity: medium
"""
    )


texts = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=80).filter(
    str.strip
)
groups = st.builds(
    dict,
    name=st.sampled_from(["one", "two"]),
    label=st.sampled_from(["harmful", "benign"]),
    description=texts,
    examples=st.lists(texts, max_size=3),
)
clauses = st.fixed_dictionaries(
    {"text": texts, "modality": st.sampled_from(["must", "should", "may"])},
    optional={
        "priority": st.integers(-9, 99),
        "scope": st.sampled_from(["system", "operator", "user"]),
        "category": st.sampled_from(["x", "y.z"]),
        "harmful": st.lists(texts, max_size=3),
        "harmless": st.lists(texts, max_size=3),
        "classes": st.lists(groups, max_size=2),
        "rubric": st.lists(texts, max_size=2),
        "source": texts,
    },
)


@settings(max_examples=80, deadline=None)
@given(st.lists(clauses, min_size=1, max_size=3))
def test_any_constitution_survives_being_printed_and_read(entries):
    made = Constitution(
        name="x", clauses=tuple(Clause.model_validate({**e, "id": f"c{i}"}) for i, e in enumerate(entries))
    )
    again = check_config(ConstitutionFile, parse_yaml(to_yaml(made)))
    assert again.clauses == made.clauses
