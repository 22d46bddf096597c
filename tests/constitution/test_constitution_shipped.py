"""The constitutions that come with the package."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from uphold.constitution import Constitution, check
from uphold.constitution.reading import SHIPPED, shipped_names

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", ["assistant", "storefront"])
def test_shipped_constitutions_have_no_problem_at_all(name):
    assert [str(problem) for problem in check(name)] == []


def test_each_shipped_constitution_is_linked_from_the_top_of_the_repository():
    for name in shipped_names():
        link = ROOT / "constitutions" / f"{name}.yaml"
        assert link.resolve() == (SHIPPED / f"{name}.yaml").resolve()
        assert Constitution.load(link).digest == Constitution.load(name).digest


def test_the_assistant_forbids_many_categories_each_with_twelve_examples_of_both_kinds():
    forbidden = Constitution.load("assistant").forbidden_categories()
    assert len(forbidden) >= 20
    for category, clause in forbidden.items():
        assert len(clause.harmful) >= 12, category
        assert len(clause.harmless) >= 12, category


def test_no_example_of_the_assistant_stands_twice():
    clauses = Constitution.load("assistant").clauses
    lines = list(itertools.chain.from_iterable((*c.harmful, *c.harmless) for c in clauses))
    plain = [" ".join(line.casefold().split()) for line in lines]
    assert len(set(plain)) == len(plain)


def test_the_assistant_says_what_it_is_for_besides_what_it_refuses():
    clauses = [c for c in Constitution.load("assistant").clauses if c.category is None]
    assert {"help-fully", "honesty", "admit-not-knowing", "respect-autonomy", "crisis-hand-over"} <= {
        c.id for c in clauses
    }


def test_examples_are_varied_in_length_and_register():
    lines = [line for c in Constitution.load("assistant").clauses for line in (*c.harmful, *c.harmless)]
    lengths = sorted(len(line.split()) for line in lines)
    assert lengths[len(lengths) // 20] <= 7  # one in twenty is short
    assert lengths[-len(lengths) // 20] >= 18  # one in twenty is long
    assert sum(line[0].islower() for line in lines) >= 50  # typed in a hurry
    openings = [" ".join(line.split()[:2]).casefold() for line in lines]
    assert max(openings.count(o) for o in set(openings)) <= len(lines) * 0.15


def test_form_does_not_give_the_label_away():
    """Questions, hurried lower case and length are spread alike, so that a guard cannot learn them in place of the subject."""
    clauses = Constitution.load("assistant").forbidden_categories().values()
    harmful = [line for c in clauses for line in c.harmful]
    harmless = [line for c in clauses for line in c.harmless]
    for is_so in (lambda line: "?" in line, lambda line: line[0].islower(), lambda line: len(line.split()) > 14):
        shares = [sum(map(is_so, lines)) / len(lines) for lines in (harmful, harmless)]
        assert abs(shares[0] - shares[1]) <= 0.15, shares
