"""What a run asks for: as many rows as were wanted, dealt so that nothing but the request tells the label."""

from collections import Counter

import pytest

from uphold.constitution import Constitution
from uphold.core.errors import ConfigError
from uphold.data.synth import Settings
from uphold.data.synth.plan import plan
from uphold.data.synth.templates import DIFFICULTIES, NAMED, REGISTERS

STOREFRONT = Constitution.load("storefront")


def asks(**settings):
    made = Settings(**settings)
    return plan(made.chosen(STOREFRONT), made)


@pytest.mark.parametrize("rows", [1, 2, 7, 20, 33])
def test_every_clause_gets_as_many_rows_of_each_label_as_wanted(rows):
    counts = Counter()
    for ask in asks(rows=rows, languages=("en", "es", "fr")):
        counts[ask.clause, ask.label] += ask.n
    assert set(counts.values()) == {rows}
    assert len(counts) == 2 * len(STOREFRONT.forbidden_categories())


def test_asks_are_numbered_in_order_and_twins_come_last():
    found = asks(rows=10)
    assert [ask.number for ask in found] == list(range(len(found)))
    forms = [ask.form for ask in found]
    assert forms.index("twin") > max(i for i, form in enumerate(forms) if form != "twin")
    # 10 rows: 2 twins, 1 conversation, 7 singles
    assert Counter(ask.form for ask in found if ask.clause == "forgery" and ask.label == "benign") == {
        "single": 2,
        "turns": 1,
        "twin": 2,
    }


def test_language_register_and_difficulty_do_not_tell_the_label():
    for field in ("lang", "register", "difficulty"):
        counts = {label: Counter() for label in ("harmful", "benign")}
        for ask in asks(rows=40, languages=("en", "de")):
            counts[ask.label][getattr(ask, field)] += ask.n
        assert counts["harmful"] == counts["benign"]


def test_rows_are_balanced_over_difficulties_and_languages():
    found = Counter()
    languages = Counter()
    for ask in asks(rows=300, languages=("en", "de", "fr"), clauses=("forgery",)):
        found[ask.difficulty] += ask.n
        languages[ask.lang] += ask.n
    assert max(found.values()) - min(found.values()) <= 20, found  # of 200 each, in asks of up to five
    del languages[""]  # twins take the language of what they twin
    assert max(languages.values()) - min(languages.values()) <= 20, languages


def test_settings_of_another_seed_deal_otherwise():
    assert asks(rows=20, seed=1) != asks(rows=20, seed=2)
    assert asks(rows=20, seed=1) == asks(rows=20, seed=1)


def test_a_constitution_that_forbids_nothing_has_no_plan():
    lenient = Constitution.model_validate(
        {"name": "x", "clauses": [{"id": "a", "text": "Be kind.", "modality": "should"}]}
    )
    with pytest.raises(ConfigError, match="x: no clause forbids anything"):
        Settings().chosen(lenient)


def test_every_template_can_be_filled_and_no_template_asks_for_answers():
    fields = dict.fromkeys("rule kind other topic request language register difficulty examples n".split(), "thing")
    for template in NAMED.values():
        (message,) = template.ask(**fields)
        assert "{" not in message.content
        assert len(template.digest) == 12
    assert set(DIFFICULTIES) == {"easy", "medium", "hard"}
    assert set(REGISTERS) >= {"plain", "formal", "typos"}
