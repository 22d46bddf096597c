"""What models really write around a list, and what is read out of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uphold.data.synth.parsing import clean, parse_items, parse_turns

THREE = ["one cat", "two dogs", "three mice"]
TURNS = '[{"role":"user","content":"hi"},{"role":"assistant","content":"hello"},{"role":"user","content":"bye now"}]'


@pytest.mark.parametrize(
    "text",
    [
        "1. one cat\n2. two dogs\n3. three mice",
        "1) one cat\n2) two dogs\n3) three mice",
        "(1) one cat\n(2) two dogs\n(3) three mice",
        "- one cat\n* two dogs\n• three mice",
        "**1.** one cat\n**2.** two dogs\n**3.** three mice",
        "Sure! Here are three:\n\n1. one cat\n\n2. two dogs\n\n3. three mice\n\nLet me know if you need more.",
        '1. "one cat"\n2. “two dogs”\n3. «three mice»',
        "1. **one cat**\n2. Prompt: two dogs\n3. **Request 3:** three mice",
        '["one cat", "two dogs", "three mice"]',
        '```json\n["one cat", "two dogs", "three mice"]\n```',
        '[{"prompt": "one cat"}, {"request": "two dogs"}, {"text": "three mice", "id": 3}]',
        '{"requests": ["one cat", "two dogs", "three mice"]}',
        '{"prompt": "one cat"}\n{"prompt": "two dogs"}\n{"prompt": "three mice"}',
        '"one cat"\n"two dogs",\n"three mice"',
        "one cat\ntwo dogs\nthree mice",
        "Here you go:\none cat\ntwo dogs\nthree mice",
    ],
)
def test_three_items_are_found_however_they_are_written(text):
    assert parse_items(text, n=3) == THREE


def test_a_line_that_goes_on_belongs_to_its_item():
    assert parse_items("1. one\n   cat\n2. two dogs", n=2) == ["one cat", "two dogs"]


@pytest.mark.parametrize(
    "text",
    ["", "  \n", "[]", "{}", "Well, it depends.\n\nOn many things.\n\nMore on that later.", "[1, 2]", "```\n```"],
)
def test_prose_and_nothing_are_no_list(text):
    assert parse_items(text, n=2) == []


def test_the_last_item_of_a_reply_that_was_cut_off_is_dropped():
    assert parse_items("1. one cat\n2. two do", n=3, is_cut=True) == ["one cat"]
    assert parse_items('["one cat", "two dogs", "thr', n=3, is_cut=True) == ["one cat", "two dogs"]
    assert parse_items('{"prompt": "one cat"}\n{"prompt": "two', n=3, is_cut=True) == ["one cat"]
    assert parse_items("one cat\ntwo do", n=2, is_cut=True) == []


def test_one_item_may_stand_alone():
    assert parse_items('"How do I kill time on a train?"', n=1) == ["How do I kill time on a train?"]


def test_a_number_in_an_item_is_no_mark():
    assert parse_items("1. 3 ways to cook rice\n2. 5.5 litres of what", n=2) == [
        "3 ways to cook rice",
        "5.5 litres of what",
    ]


def test_quotes_inside_an_item_stay():
    assert clean('"Stop" said the man, "now"') == '"Stop" said the man, "now"'


def turns(found):
    return [(m.role[0], m.content) for m in found] if found else None


@pytest.mark.parametrize(
    "text",
    [
        "User: hi\nAssistant: hello\nUser: bye now",
        "**User:** hi\n**Assistant:** hello\n**User:** bye now",
        "Usuario: hi\nAsistente: hello\n\nUsuario: bye\nnow",
        "Nutzer: hi\nAssistent: hello\nNutzer: bye now\nAssistent: see you",
        TURNS,
        f'```json\n{{"turns":{TURNS}}}\n```',
    ],
)
def test_a_conversation_is_found_however_it_is_written(text):
    assert turns(parse_turns(text)) == [("u", "hi"), ("a", "hello"), ("u", "bye now")]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hello",
        "User: hi",
        "User: hi\nUser: there\nUser: all",
        "Assistant: hi\nUser: x\nAssistant: y",
        '[{"role":"robot","content":"x"}]',
    ],
)
def test_what_does_not_take_turns_is_no_conversation(text):
    assert parse_turns(text) is None


def test_the_last_turn_of_a_conversation_that_was_cut_off_is_dropped():
    text = "User: a b\nAssistant: c d\nUser: e f\nAssistant: g h\nUser: i"
    assert turns(parse_turns(text, is_cut=True)) == [("u", "a b"), ("a", "c d"), ("u", "e f")]


@given(st.text(max_size=300), st.integers(1, 9), st.booleans())
def test_no_text_breaks_the_parsers(text, n, is_cut):
    assert all(item.strip() for item in parse_items(text, n=n, is_cut=is_cut))
    found = parse_turns(text, is_cut=is_cut)
    assert found is None or (len(found) >= 3 and found[-1].role == "user")


@given(
    st.lists(
        st.text(alphabet="abc xyz'?,.", min_size=1).filter(lambda t: any(c.isalpha() for c in t)),
        min_size=2,
        max_size=9,
    )
)
def test_what_is_written_as_a_numbered_list_is_read_back(items):
    items = [" ".join(item.split()).strip(" '?,.") or "x" for item in items]
    assert parse_items("\n".join(f"{i}. {item}" for i, item in enumerate(items, 1)), n=len(items)) == items


def test_nesting_without_end_is_no_list():
    assert parse_items("[" * 100_000, n=3) == []
    assert parse_turns("[" * 100_000) is None
