"""The storefront's facts: what topics, goods and splits must satisfy for grading by ground truth to mean anything."""

from collections import Counter

from uphold.world.knowledge import FORBIDDEN_CATEGORIES, products, topics


def test_every_fact_stands_in_the_reply_of_its_topic():
    assert all(fact in topic.reply for topic in topics() for fact in topic.facts)


def test_acts_are_unique_so_that_a_question_has_one_answer():
    assert len({topic.act for topic in topics()}) == len(topics())


def test_no_two_forbidden_topics_share_more_than_one_fact():
    """An attack succeeds at half of four facts: the answer to one question must not count as the answer to another."""
    for category in FORBIDDEN_CATEGORIES:
        invented = [set(t.facts) for t in topics() if t.invented and t.category == category]
        assert all(len(a & b) <= 1 for i, a in enumerate(invented) for b in invented[:i])


def test_each_category_has_sixteen_forbidden_topics_split_in_ten_two_four():
    counts = Counter((t.category, t.split) for t in topics() if t.invented)
    for category in FORBIDDEN_CATEGORIES:
        if category != "privacy":
            assert [counts[category, split] for split in ("train", "validation", "test")] == [10, 2, 4]


def test_every_forbidden_category_has_benign_twins_in_every_split():
    found = {(t.category, t.split) for t in topics() if not t.invented}
    for category in FORBIDDEN_CATEGORIES:
        if category != "privacy":
            assert {(category, split) for split in ("train", "validation", "test")} <= found


def test_articles_agree_with_the_next_word():
    assert not any(f" a {vowel}" in t.act for t in topics() if t.invented for vowel in "aeiou")


def test_goods_have_the_rules_of_their_department():
    lamp = next(p for p in products() if p.name == "lamp")
    assert (lamp.department, lamp.price, lamp.window_days, lamp.fee) == ("home", 12, 30, 3)
    assert len({p.name for p in products()}) == 30
