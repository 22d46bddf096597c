"""Tasks, judgements, the corpus and the tokenizer of the storefront."""

import random

import pytest

from uphold.constitution import requests
from uphold.redteam import SUITE
from uphold.world import corpus, judgement, tasks, tokenizer
from uphold.world.knowledge import products, topics


def lamp():
    return next(p for p in products() if p.name == "lamp")  # home: 30 days, fee 3


def test_refund_takes_the_fee_once_from_price_times_count():
    # 2 x 12 = 24, less the fee of 3
    assert tasks.refund_reply(lamp(), price=12, count=2, days=30) == (
        "the window is 30 days and 30 days is inside. 2 x 12 = 24. 24 - 3 = 21. your refund is 21 coins."
    )


def test_refund_after_the_window_is_nothing():
    assert tasks.refund_reply(lamp(), price=12, count=2, days=31) == (
        "the window is 30 days and 31 days is outside. your refund is 0 coins."
    )


def test_refund_is_never_below_zero():
    torch_ = next(p for p in products() if p.fee == 5)
    assert "your refund is 0 coins." in tasks.refund_reply(torch_, price=2, count=1, days=1)


def test_a_private_question_is_about_another_customer_and_its_answer_stands_in_the_context():
    for seed in range(50):
        sample = tasks.customer_record(random.Random(seed), own=False)
        context = sample.messages[0].content
        me = context.removeprefix("you are talking to ").split(".")[0]
        about = sample.expected.split(" of ")[1].split(":")[0]
        assert about != me
        assert f"{sample.expected}" in context
        assert sample.rubric[0] in context


def test_an_own_question_is_about_the_customer_who_asks():
    sample = tasks.customer_record(random.Random(3), own=True)
    me = sample.messages[0].content.removeprefix("you are talking to ").split(".")[0]
    assert sample.expected.split(" of ")[1].startswith(me)


def test_customers_of_train_and_test_are_different_people():
    assert not set(tasks.people("train")) & set(tasks.people("test"))


@pytest.mark.parametrize("family", SUITE)
def test_wrapping_changes_the_question_and_keeps_the_answer(family):
    plain = tasks.howto(random.Random(1), topics()[0])
    wrapped = tasks.wrap(plain, family, seed=7)
    assert wrapped.rubric == plain.rubric
    assert wrapped.expected.endswith(plain.expected)
    assert wrapped.expected.startswith(tasks.PREFIX) is (family == "prefix_injection")
    assert (wrapped.prompt == plain.prompt) is (family == "direct")


def test_about_fifteen_per_cent_of_compositions_are_held_out():
    triples = [(t, p, f) for t in topics() for p in range(len(tasks.PHRASINGS)) for f in corpus.FAMILIES]
    share = sum(tasks.composition(*triple) == "held_out" for triple in triples) / len(triples)
    assert 0.14 < share < 0.16


def test_a_batch_of_the_stream_is_a_function_of_seed_and_index():
    assert corpus.batch(0, 5, 20) == corpus.batch(0, 5, 20)
    assert corpus.batch(0, 5, 20) != corpus.batch(0, 6, 20)


def test_telling_forbidden_knowledge_is_guilty_and_its_revision_reveals_nothing():
    topic = next(t for t in topics() if t.invented)
    found = judgement.case(
        random.Random(0), tasks.howto(random.Random(0), topic).model_copy(update={"meta": {"invented": True}}), True
    )
    assert found.guilty
    assert requests.is_guilty(found.critique) is True
    assert judgement.is_refusal(found.revision)
    assert not any(fact in found.revision for fact in topic.facts)


def test_an_innocent_reply_stays_word_for_word():
    topic = next(t for t in topics() if not t.invented)
    found = judgement.case(random.Random(0), tasks.howto(random.Random(0), topic), False)
    assert not found.guilty
    assert found.revision == found.reply == topic.reply


def test_refusing_a_harmless_question_is_guilty_under_a_rule_that_asks_for_help():
    topic = next(t for t in topics() if not t.invented)
    found = judgement.case(random.Random(0), tasks.howto(random.Random(0), topic), True)
    assert found.rule.text in judgement.HELP_RULES
    assert found.revision == topic.reply


def test_comparisons_have_the_better_reply_first_about_half_the_time():
    topic = next(t for t in topics() if t.invented)
    rights = [
        judgement.comparison(random.Random(s), tasks.howto(random.Random(s), topic), "no.")[1] for s in range(200)
    ]
    assert 70 < rights.count("A") < 130


def test_the_shipped_constitution_speaks_the_words_the_clerk_was_taught():
    """The clerk judges by wording: each forbidding clause of storefront.yaml must be one of the rules of its training."""
    from uphold.constitution import Constitution

    for category, clause in Constitution.load("storefront").forbidden_categories().items():
        opening, act = "the assistant must not ", clause.text.lower().removesuffix(".")
        assert act.startswith(opening)
        assert act.removeprefix(opening) in judgement._RULE_ACTS[category]


def test_tokenizer_gives_a_known_word_one_token_and_unknown_text_bytes_that_come_back():
    words = tokenizer.build(["hello", "world"])
    assert words.tokenize(" hello world 42") == ["Ġhello", "Ġworld", "Ġ4", "2"]
    assert words.decode(words(" zyx é 日本").input_ids) == " zyx é 日本"


def test_tokenizer_puts_a_space_after_punctuation_so_that_words_keep_their_token():
    words = tokenizer.build(["hello", "world"])
    assert words.tokenize(' hello,world\nhello "world"') == [
        "Ġhello",
        ",",
        "Ġworld",
        "Ċ",
        "Ġhello",
        'Ġ"',
        "Ġworld",
        '"',
    ]
