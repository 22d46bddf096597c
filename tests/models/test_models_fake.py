"""Fakes answer what they are told, count what they are asked, and fail on purpose."""

from __future__ import annotations

import json
import time

import pytest

from uphold.core.errors import ConfigError, DataError, ModelError
from uphold.core.records import Message
from uphold.models import Chat, FakeChat, Sampling, load
from uphold.models.base import again


def asked(text: str):
    return (Message(role="system", content="be brief"), Message(role="user", content=text))


def test_echo_refuse_and_text():
    assert load("fake:echo").generate([asked("hello there")])[0].text == "hello there"
    assert load("fake:refuse").generate([asked("x")])[0].text == "I can't help with that."
    assert load("fake:text=good day").generate([asked("x")])[0].text == "good day"


def test_a_table_from_prompt_to_reply_with_a_default(tmp_path):
    (tmp_path / "t.json").write_text(json.dumps({"hi": "hello", "*": "what?"}))
    chat = load(f"fake:{tmp_path}/t.json")
    assert [reply.text for reply in chat.generate([asked("hi"), asked("ho")])] == ["hello", "what?"]
    assert FakeChat({"hi": "hello"}).generate([asked("ho")])[0].text == ""


def test_it_counts_calls_and_conversations():
    chat = FakeChat("x")
    chat.generate([asked("a"), asked("b")])
    list(chat.stream(asked("c")))
    assert chat.calls == 2
    assert [c[1].content for c in chat.asked] == ["a", "b", "c"]


def test_it_fails_where_it_is_told_to():
    by_number = FakeChat("x", fail={1})
    assert [reply.error for reply in by_number.generate([asked("a"), asked("b"), asked("c")])] == [
        None,
        "told to fail",
        None,
    ]
    by_content = FakeChat("x", fail=lambda conversation: conversation[1].content == "b")
    assert [reply.text for reply in by_content.generate([asked("a"), asked("b")])] == ["x", None]


def test_a_fake_that_is_down_fails_its_check_and_every_reply():
    chat = load("fake:fail")
    with pytest.raises(ModelError, match=r"^fake:fail: told to be down\. Use another model\.$"):
        chat.check()
    reply = chat.generate([asked("a")])[0]
    assert (reply.text, reply.finish_reason, reply.error) == (None, "error", "told to fail")
    with pytest.raises(ModelError, match=r"^fake:fail: told to fail$"):
        list(chat.stream(asked("a")))


def test_latency_is_waited_once_a_call():
    chat = load("fake:echo", latency_s=0.05)
    started = time.perf_counter()
    chat.generate([asked("a")] * 10)
    assert 0.05 <= time.perf_counter() - started < 0.5  # ten times would be 0.5


def test_a_word_counts_as_a_token():
    reply = FakeChat("one two three").generate([asked("a b")], Sampling(max_new_tokens=2))[0]
    assert (reply.text, reply.finish_reason, reply.n_prompt_tokens, reply.n_completion_tokens) == (
        "one two",
        "length",
        4,
        2,
    )


@pytest.mark.parametrize("text", ["", " ", "a", " a  b ", "a\nb c"])
def test_pieces_of_a_stream_join_to_the_reply(text):
    chat = FakeChat(text)
    assert "".join(chat.stream(asked("x"))) == chat.generate([asked("x")])[0].text == text


def test_identity_is_of_the_answers():
    assert FakeChat("a").identity() != FakeChat("b").identity()
    assert FakeChat({"a": "b"}).identity() == FakeChat({"a": "b"}).identity()
    assert FakeChat(str, name="one").identity() != FakeChat(str, name="two").identity()


def test_a_fake_is_a_chat_and_shows_its_name():
    assert isinstance(FakeChat("x"), Chat)
    assert repr(FakeChat("secret", name="n")) == "FakeChat('fake:n')"


def test_bad_fakes_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"^model 'fake:ecko': unknown fake\. Write fake:echo, fake:refuse"):
        load("fake:ecko")
    (tmp_path / "t.json").write_text("[1]")
    with pytest.raises(ConfigError, match=r"t\.json: a fake's table must be one JSON object"):
        load(f"fake:{tmp_path}/t.json")
    with pytest.raises(DataError, match=r"none\.json"):
        load(f"fake:{tmp_path}/none.json")


def test_asking_again_changes_the_seed_and_nothing_else():
    sampling = Sampling(temperature=1.0, seed=5, max_new_tokens=7)
    assert again(sampling, 0) is sampling
    second, third = again(sampling, 1), again(sampling, 2)
    assert len({sampling.seed, second.seed, third.seed}) == 3
    assert second.model_copy(update={"seed": 5}) == sampling
