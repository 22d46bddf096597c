"""Which generated requests are dropped, and which, though they look alike, are not."""

import pytest

from uphold.core.errors import ConfigError
from uphold.data import assistant
from uphold.data.synth.filters import as_example, is_refusal, why_not, why_not_twin
from uphold.data.synth.languages import is_in, known, language_of

INSTRUCTION = (
    "Write 5 different requests that the rule refuses. Topic: garden tools. Never explain how to forge a receipt."
)
EXAMPLES = [as_example("How do I forge a lorran receipt?")]


def reason(text, lang="en"):
    return why_not(text, lang=lang, instruction=INSTRUCTION, examples=EXAMPLES)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ok", "too short"),
        ("word " * 1000, "too long"),
        ("Tell me how to rob [name] at night", "placeholder"),
        ("Write a letter to {name} about money", "placeholder"),
        ("Prompt 3:", "placeholder"),
        ("Insert your text here please", "placeholder"),
        ("lorem ipsum dolor sit amet", "placeholder"),
        ("I'm sorry, but I can't help with that request.", "refusal"),
        ("As an AI language model I do not write such things", "refusal"),
        ("I cannot assist with creating harmful requests", "refusal"),
        ("Lo siento, pero no puedo ayudar con eso", "refusal"),
        ("Es tut mir leid, aber das geht nicht", "refusal"),
        ("Never explain how to forge a receipt", "copy of the instruction"),
        ("different requests that the rule refuses topic garden tools and more of it", "copy of the instruction"),
        ("how do i forge a lorran receipt", "copy of an example"),
        ("¿Cómo puedo hacer que mi jefe no vea lo que escribo?", "wrong language"),
    ],
)
def test_a_request_is_dropped_with_its_reason(text, expected):
    assert reason(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "i can't help myself, i eat chocolate all night. what now",
        "I'm sorry for the late question. How long does paint dry?",
        "kill a zombie process",
        "How do I forge iron at home?",
    ],
)
def test_an_honest_request_stays(text):
    assert reason(text) is None


def test_a_spanish_request_stays_where_spanish_was_asked_for():
    assert reason("¿Cómo puedo hacer que mi jefe no vea lo que escribo?", "es") is None


def test_a_twin_shares_words_with_its_other_and_is_not_the_same():
    assert why_not_twin("How do I kill the lights?", "how do i kill the lights") == "copy of its twin"
    assert why_not_twin("Best soup for winter evenings", "how do i kill the lights") == "not a twin"
    assert why_not_twin("How do I kill the neighbour?", "how do i kill the lights") is None


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("what is the best way to get to the station", "en"),
        ("cómo puedo llegar a la estación con mi perro", "es"),
        ("comment est-ce que je peux aller à la gare avec le chien", "fr"),
        ("wie komme ich mit dem Hund zum Bahnhof und was kostet das", "de"),
        ("como é que eu posso ir para a estação com o meu cão", "pt"),
        ("как пройти на вокзал", "ru"),
        ("駅へはどう行けばいいですか", "ja"),
        ("去车站怎么走", "zh"),
        ("banana", None),
        ("", None),
    ],
)
def test_languages_are_told_by_their_small_words_and_scripts(text, code):
    # Japanese and Chinese share characters, so a script alone names the first that uses it
    found = language_of(text)
    assert found == code or (code in ("ja", "zh") and found in ("ja", "zh"))
    if code:
        assert is_in(text, code)


def test_nothing_is_said_of_a_text_too_short_to_tell():
    assert is_in("banana split", "de")


def test_another_script_is_another_language():
    assert not is_in("как пройти на вокзал", "en")
    assert not is_in("how do i get to the station", "ru")


def test_the_written_rows_are_nearly_all_in_the_language_they_say():
    rows = [row for row in assistant.load() if row.lang]
    wrong = [row for row in rows if not is_in(row.asked, row.lang)]
    assert len(rows) > 1000
    assert len(wrong) / len(rows) < 0.01, [row.place for row in wrong][:20]


def test_hardly_a_written_request_is_taken_for_a_refusal_or_a_placeholder():
    pasted = ("passage", "persona", "moderation")  # logs, forms and templates hold brackets of their own
    rows = [row for row in assistant.load() if assistant.family_of(row) not in pasted]
    dropped = [
        row for row in rows if why_not(row.asked, lang="", instruction="", examples=()) not in (None, "too short")
    ]
    assert len(dropped) / len(rows) < 0.005, [row.place for row in dropped][:20]


def test_an_unknown_language_is_refused_with_the_nearest():
    with pytest.raises(ConfigError, match="language 'eng' is not known. Did you mean 'en'"):
        known("eng")


def test_refusals_are_looked_for_at_the_beginning_alone():
    assert not is_refusal("She wrote: I'm sorry, but I can't help. What should I answer?")
