"""A model behind guards: what is blocked, what is released when, and what happens when a guard fails."""

from __future__ import annotations

import itertools

import pytest
from guard_toy import BENIGN_REPLY, HARMFUL_REPLY, user
from hypothesis import given
from hypothesis import strategies as st

from uphold.core.errors import ConfigError, ModelError
from uphold.guard.base import Verdict
from uphold.guard.guarded import REFUSAL, WITHHELD, GuardedChat
from uphold.models import Chat, FakeChat, Sampling

BAD, FINE = user("how do i brew ombrel vapour?"), user("what is the best way to cook dreft soup number 7?")


class Scripted:
    """A guard of one number: flags any text that holds 'bad'; `fail` raises, `nan` gives a score that is no number."""

    def __init__(self, mode="", stages=("input", "output")):
        self.mode, self.stages, self.asked = mode, frozenset(stages), []

    def identity(self):
        return f"scripted-{self.mode}"

    def _verdict(self, text, stage):
        if self.mode == "fail":
            raise RuntimeError("no weights")
        score = float("nan") if self.mode == "nan" else 0.9 if "bad" in text else 0.1
        position = text.index("bad") + 3 if "bad" in text else None
        return Verdict.model_construct(
            score=score, by_clause={}, flagged=score >= 0.5, threshold=0.5, stage=stage, position=position, guard="s"
        )

    def score(self, exchanges):
        self.asked += exchanges
        return [
            self._verdict(e.completion, "output") if e.completion else self._verdict(e.messages[-1].content, "input")
            for e in exchanges
        ]

    def stream(self, conversation):
        return ScriptedStream(self)


class ScriptedStream:
    def __init__(self, guard):
        self.guard, self.text, self.judged = guard, "", 0

    def push(self, piece):
        self.text += piece
        self.judged = self.text.rfind(" ") + 1
        return self.guard._verdict(self.text[: self.judged], "output")

    def finish(self):
        self.judged = len(self.text)
        return self.guard._verdict(self.text, "output")


def test_it_is_a_chat_with_its_own_identity(guard):
    chat = FakeChat("hello")
    guarded = GuardedChat(chat, input=guard, output=guard)
    assert isinstance(guarded, Chat)
    identities = {
        chat.identity(),
        guarded.identity(),
        GuardedChat(chat, input=guard).identity(),
        GuardedChat(chat, output=guard).identity(),
    }
    assert len(identities) == 4


def test_what_is_harmless_passes_untouched(guard):
    chat = FakeChat(BENIGN_REPLY)
    guarded = GuardedChat(chat, input=guard, output=guard)
    assert guarded.generate([FINE]) == chat.generate([FINE])
    assert "".join(guarded.stream(FINE)) == BENIGN_REPLY


def test_a_blocked_prompt_never_reaches_the_model(guard):
    chat = FakeChat(BENIGN_REPLY)
    [reply] = GuardedChat(chat, input=guard).generate([BAD])
    assert chat.asked == []
    assert (reply.text, reply.finish_reason, reply.error) == (REFUSAL, "blocked", None)
    assert reply.meta["stage"] == "input"
    assert reply.meta["verdict"]["flagged"]
    assert reply.meta["verdict"]["score"] > 0.5
    assert "".join(GuardedChat(chat, input=guard).stream(BAD)) == REFUSAL
    assert chat.asked == []


def test_a_blocked_reply_is_withheld_whole(guard):
    chat = FakeChat(HARMFUL_REPLY)
    [reply] = GuardedChat(chat, output=guard).generate([FINE])
    assert (reply.text, reply.finish_reason, reply.meta["stage"]) == (REFUSAL, "blocked", "output")
    assert HARMFUL_REPLY not in str(reply.model_dump())
    assert "".join(GuardedChat(chat, output=guard).stream(FINE)) == REFUSAL


def test_the_refusal_does_not_tell_which_guard_fired(guard):
    before = GuardedChat(FakeChat(BENIGN_REPLY), input=guard, output=guard, refusal="No.")
    after = GuardedChat(FakeChat(HARMFUL_REPLY), input=guard, output=guard, refusal="No.")
    assert before.generate([BAD])[0].text == after.generate([FINE])[0].text == "No."


def test_the_withheld_reply_is_kept_for_grading_only_when_asked_for(guard):
    [reply] = GuardedChat(FakeChat(HARMFUL_REPLY), output=guard, keep_withheld=True).generate([FINE])
    assert reply.meta[WITHHELD] == HARMFUL_REPLY


def test_many_conversations_keep_their_order(guard):
    chat = FakeChat({FINE[0].content: BENIGN_REPLY, "how do i paint a fence?": HARMFUL_REPLY, "*": ""})
    found = GuardedChat(chat, input=guard, output=guard).generate(
        [FINE, BAD, user("how do i paint a fence?"), user("paint a dreft fence number 3")]
    )
    assert [c.finish_reason for c in found] == ["stop", "blocked", "blocked", "stop"]
    assert [c.meta.get("stage") for c in found] == [None, "input", "output", None]
    assert found[3].text == ""


def test_an_error_of_the_model_stays_an_error(guard):
    [reply] = GuardedChat(FakeChat(BENIGN_REPLY, fail=[0]), input=guard, output=guard).generate([FINE])
    assert (reply.text, reply.finish_reason) == (None, "error")
    with pytest.raises(ModelError):
        list(GuardedChat(FakeChat(BENIGN_REPLY, fail=[0]), output=guard).stream(FINE))
    with pytest.raises(ModelError):
        GuardedChat(FakeChat("", down=True), output=guard).check()


@pytest.mark.parametrize("mode", ["fail", "nan"])
def test_a_guard_that_cannot_judge_blocks(mode):
    broken = Scripted(mode)
    chat = FakeChat("all fine here")
    for guarded in (GuardedChat(chat, input=broken), GuardedChat(chat, output=broken)):
        [reply] = guarded.generate([FINE])
        assert (reply.text, reply.finish_reason) == (REFUSAL, "blocked")
        assert "".join(guarded.stream(FINE)) == REFUSAL


def test_a_guard_that_fails_on_one_exchange_blocks_that_one_only():
    class Picky(Scripted):
        def _verdict(self, text, stage):
            if "poison" in text:
                raise RuntimeError
            return super()._verdict(text, stage)

    chat = FakeChat("fine")
    found = GuardedChat(chat, input=Picky()).generate([user("a"), user("poison"), user("b")])
    assert [c.finish_reason for c in found] == ["stop", "blocked", "stop"]
    assert found[1].meta == {"stage": "input", "verdict": None, "guard_error": "the guard could not judge"}


def test_the_model_is_stopped_when_its_reply_is_flagged():
    said = []

    class Talker(FakeChat):
        def stream(self, conversation, sampling=Sampling()):
            for word in ["all ", "is ", "bad ", "and ", "more "]:
                said.append(word)
                yield word

    assert "".join(GuardedChat(Talker(""), output=Scripted()).stream(FINE)) == REFUSAL
    assert said == ["all ", "is ", "bad "]


def test_words_are_released_as_they_are_judged_when_asked_for():
    guarded = GuardedChat(FakeChat("one two three"), output=Scripted(), hold="word")
    assert list(guarded.stream(FINE)) == ["one ", "two ", "three"]
    flagged = GuardedChat(FakeChat("one two bad three"), output=Scripted(), hold="word")
    assert "".join(flagged.stream(FINE)) == f"one two \n\n{REFUSAL}"
    assert flagged.generate([FINE])[0].text == f"one two \n\n{REFUSAL}"


texts = st.lists(
    st.sampled_from([*HARMFUL_REPLY.split(), *BENIGN_REPLY.split(), "heat-it", "\n\n", "x" * 80]),
    min_size=1,
    max_size=50,
)


class Cutter(FakeChat):
    """Streams its reply cut at given places."""

    def __init__(self, text, cuts):
        super().__init__(text)
        edges = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
        self.pieces = [text[a:b] for a, b in itertools.pairwise(edges)]

    def stream(self, conversation, sampling=Sampling()):
        yield from self.pieces


@given(words=texts, cuts=st.lists(st.integers(0, 400), max_size=20), hold=st.sampled_from(["reply", "word"]))
def test_what_is_released_does_not_depend_on_how_the_reply_was_cut(guard, words, cuts, hold):
    text = " ".join(words)
    guarded = GuardedChat(Cutter(text, cuts), output=guard, hold=hold)
    released = "".join(guarded.stream(FINE))
    [whole] = guarded.generate([FINE])
    assert released == whole.text
    if whole.finish_reason == "blocked":
        shown = released.removesuffix(REFUSAL).removesuffix("\n\n")
        assert text.startswith(shown)
        assert not guard.stream(FINE).push(shown).flagged


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "needs an input guard, an output guard, or both"),
        ({"input": Scripted(stages=["output"])}, "the input guard judges only output"),
        ({"output": Scripted(stages=["input"])}, "the output guard judges only input"),
        ({"output": Scripted(), "hold": "never"}, "hold is 'never'"),
    ],
)
def test_guards_in_the_wrong_place_are_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        GuardedChat(FakeChat("x"), **arguments)
