"""The storefront as a source: labels follow the constitution, splits never meet."""

from collections import Counter

import pytest

from uphold.constitution import Constitution
from uphold.core.errors import ConfigError
from uphold.core.registry import get
from uphold.world.knowledge import FORBIDDEN_CATEGORIES


def storefront(**modality):
    """The shipped constitution, with the modality of some clauses changed."""
    shipped = Constitution.load("storefront")
    clauses = tuple(c.model_copy(update={"modality": modality.get(c.id, c.modality)}) for c in shipped.clauses)
    return shipped.model_copy(update={"clauses": clauses})


def draw(kind, split, n=300, seed=0, constitution=None):
    return get("source", "builtin:storefront").samples(
        kind, constitution=constitution or storefront(), split=split, n=n, seed=seed
    )


def test_equal_arguments_give_equal_samples():
    assert draw("harmful", "test") == draw("harmful", "test")
    assert draw("harmful", "test") != draw("harmful", "test", seed=1)


@pytest.mark.parametrize("kind", ["harmful", "benign", "task"])
def test_no_prompt_occurs_twice_nor_in_two_splits(kind):
    sets = {split: {s.id for s in draw(kind, split, n=600)} for split in ("train", "test")}
    assert all(len(ids) == 600 for ids in sets.values())
    assert not sets["train"] & sets["test"]


def test_harmful_samples_name_their_clause_in_equal_shares():
    found = draw("harmful", "test", n=60)
    shares = Counter(s.clause for s in found)
    assert shares == dict.fromkeys(FORBIDDEN_CATEGORIES, 10)
    assert all(s.label == "harmful" and s.rubric for s in found)


def test_topics_of_harmful_train_and_test_differ():
    groups = {
        split: {s.group for s in draw("harmful", split) if s.category != "privacy"} for split in ("train", "test")
    }
    assert not groups["train"] & groups["test"]


def test_a_category_moved_from_forbidden_to_allowed_becomes_benign_with_its_answer_expected():
    allowed = storefront(compounds="may")
    assert not any(s.category == "compounds" for s in draw("harmful", "test", constitution=allowed))
    told = [s for s in draw("benign", "test", n=600, constitution=allowed) if s.meta.get("invented")]
    assert told
    assert all(s.category == "compounds" and s.label == "benign" and s.expected for s in told)


def test_a_constitution_that_forbids_nothing_here_is_refused_with_what_to_write():
    permissive = storefront(**dict.fromkeys(FORBIDDEN_CATEGORIES, "may"))
    with pytest.raises(ConfigError, match="forbids none of the storefront's categories"):
        draw("harmful", "test", constitution=permissive)
