"""Records are immutable, refuse what they do not know, and are identified by content."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from uphold.core.records import Exchange, Measurement, Message, Preference, Sample, canonical_json, digest

ASK = {"role": "user", "content": "how do i return a lamp"}


def test_the_digest_of_a_value_is_the_sha256_of_its_canonical_json():
    # printf '{"a":[1,2],"b":"x"}' | sha256sum
    assert canonical_json({"b": "x", "a": [1, 2]}) == '{"a":[1,2],"b":"x"}'
    assert digest({"b": "x", "a": (1, 2)}) == "d0f56dda38d34376527524ddd98f7ec117d5cbfb240f86e11bfb9d2d01a717d9"


def test_a_record_has_the_digest_of_its_fields():
    assert digest(Message(**ASK)) == digest(ASK)


@given(st.dictionaries(st.text(), st.integers() | st.text(), max_size=4))
def test_the_order_of_keys_never_changes_a_digest(data):
    assert digest(dict(reversed(data.items()))) == digest(data)


def test_what_is_not_json_has_no_digest():
    with pytest.raises(TypeError, match="set cannot be written as JSON"):
        digest({1, 2})


def test_records_cannot_be_changed_and_refuse_unknown_fields():
    message = Message(**ASK)
    with pytest.raises(ValidationError, match="frozen"):
        message.content = "other"
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        Message(role="user", content="x", name="y")
    with pytest.raises(ValidationError, match="Input should be 'system', 'user', 'assistant' or 'tool'"):
        Message(role="customer", content="x")


def test_a_sample_without_an_id_is_named_by_its_messages_and_is_its_own_group():
    first, same = Sample(messages=[ASK], label="benign"), Sample(messages=[Message(**ASK)], label="harmful", clause="c")
    assert first.id == same.id == first.group == digest([ASK])[:16]
    assert Sample(messages=[ASK], label="benign", id="a", group="lamp").group == "lamp"
    assert Sample(messages=[ASK], label="benign", id="a").group == "a"


def test_the_prompt_is_the_last_user_message():
    talk = [ASK, {"role": "assistant", "content": "bring it"}, {"role": "user", "content": "when"}]
    assert Sample(messages=talk, label="benign").prompt == "when"
    assert Sample(messages=[{"role": "system", "content": "be kind"}], label="benign").prompt == ""


def test_a_sample_needs_messages_and_a_known_label():
    with pytest.raises(ValidationError, match="at least 1 item"):
        Sample(messages=[], label="benign")
    with pytest.raises(ValidationError, match="Input should be 'harmful' or 'benign'"):
        Sample(messages=[ASK], label="bad")


@pytest.mark.parametrize("p", [0.49, 1.01])
def test_a_preference_is_sure_of_its_chosen_reply_by_at_least_half(p):
    with pytest.raises(ValidationError, match=r"greater than or equal to 0\.5|less than or equal to 1"):
        Preference(messages=[ASK], chosen="a", rejected="b", p_chosen=p)


def test_records_travel_as_json_and_come_back():
    exchange = Exchange(messages=[ASK], completion="bring it here", clause="returns")
    assert Exchange.model_validate_json(exchange.model_dump_json()) == exchange


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"value": 0.5, "n_asked": 1, "n_scored": 2}, "m: n_scored 2 exceeds n_asked 1"),
        ({"value": None, "n_asked": 1, "n_scored": 0}, "m: a missing value needs status 'unscored'"),
        (
            {"value": 0.0, "n_asked": 1, "n_scored": 0, "status": "unscored"},
            "m: status 'unscored' cannot carry a value",
        ),
        ({"value": 0.5, "n_asked": -1, "n_scored": 0}, "greater than or equal to 0"),
    ],
)
def test_a_measurement_that_contradicts_itself_is_refused(fields, message):
    with pytest.raises(ValidationError, match=message):
        Measurement(metric="m", **fields)
