"""No model call is paid for twice, and a run that was killed ends with the very same replies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from uphold.core.errors import ModelError
from uphold.core.journal import Journal
from uphold.core.records import Message
from uphold.models import Completion, FakeChat, JournalledChat, Sampling, Weights, journalled, load_weights
from uphold.models.journalled import answers


def asked(*texts: str):
    return [(Message(role="user", content=text),) for text in texts]


def test_a_second_call_is_answered_from_the_journal_also_after_reopening(tmp_path):
    chat = FakeChat(lambda conversation: conversation[0].content.upper())
    with Journal(tmp_path / "calls") as journal:
        first = JournalledChat(chat, journal).generate(asked("a", "b"))
        assert [reply.text for reply in first] == ["A", "B"]
    with Journal(tmp_path / "calls") as journal:
        assert JournalledChat(chat, journal).generate(asked("b", "c", "a")) == [
            first[1],
            Completion(text="C", n_prompt_tokens=1, n_completion_tokens=1),
            first[0],
        ]
    assert [c[0].content for c in chat.asked] == ["a", "b", "c"]


def test_another_model_sampling_or_conversation_is_another_call(tmp_path):
    with Journal(tmp_path / "calls") as journal:
        chat = FakeChat("one")
        wrapped = JournalledChat(chat, journal)
        wrapped.generate(asked("a"))
        wrapped.generate(asked("a"), Sampling(max_new_tokens=5))
        wrapped.generate(asked("a"), Sampling(temperature=1.0))
        wrapped.generate(asked("a"), Sampling(temperature=1.0, seed=2))
        wrapped.generate([(Message(role="system", content="a"),)])
        assert len(chat.asked) == 5
        JournalledChat(FakeChat("two"), journal).generate(asked("a"))
        assert len(journal) == 6
        wrapped.generate(asked("a"), Sampling(seed=9, top_p=0.5))  # greedy: neither has a say
        assert len(chat.asked) == 5


def test_errors_are_not_kept_and_are_tried_again(tmp_path):
    chat = FakeChat("fine", fail={1})
    with Journal(tmp_path / "calls") as journal:
        wrapped = JournalledChat(chat, journal)
        assert [reply.error for reply in wrapped.generate(asked("a", "b", "c"))] == [None, "told to fail", None]
        assert [reply.text for reply in wrapped.generate(asked("a", "b", "c"))] == ["fine"] * 3
    assert [c[0].content for c in chat.asked] == ["a", "b", "c", "b"]


def test_equal_conversations_are_asked_once_when_greedy_and_each_under_its_own_seed_when_drawn(tmp_path):
    class Seeds(FakeChat):
        def generate(self, conversations, sampling=Sampling()):
            super().generate(conversations, sampling)
            return [Completion(text=str(sampling.seed)) for _ in conversations]

    with Journal(tmp_path / "calls") as journal:
        chat = Seeds("")
        wrapped = JournalledChat(chat, journal)
        assert len({reply.text for reply in wrapped.generate(asked("a", "a", "b"))}) == 1
        assert len(chat.asked) == 2
        drawn = [reply.text for reply in wrapped.generate(asked("a", "a", "b", "a"), Sampling(temperature=1.0))]
        assert len(set(drawn)) == 3
        assert drawn[0] == drawn[2] == "0"  # first times, in whatever company
        assert [reply.text for reply in wrapped.generate(asked("a", "a", "b", "a"), Sampling(temperature=1.0))] == drawn


def test_what_was_answered_before_an_interrupt_is_kept(tmp_path):
    class Stops:
        spec = "fake:stops"

        def identity(self):
            return "stops"

        def generate_parts(self, conversations, sampling=Sampling(), known=None):
            yield {0: Completion(text="first")}
            raise KeyboardInterrupt

        check = stream = generate = None

    with Journal(tmp_path / "calls") as journal:
        with pytest.raises(KeyboardInterrupt):
            JournalledChat(Stops(), journal).generate(asked("a", "b"))
        assert len(journal) == 1


def test_a_stream_is_the_journalled_reply(tmp_path):
    chat = FakeChat("a b c", fail={1})
    with Journal(tmp_path / "calls") as journal:
        wrapped = JournalledChat(chat, journal)
        assert "".join(wrapped.stream(asked("x")[0])) == "a b c"
        assert "".join(wrapped.stream(asked("x")[0])) == "a b c"
        assert len(chat.asked) == 1
        with pytest.raises(ModelError, match=r"^fake:fake: told to fail$"):
            list(wrapped.stream(asked("y")[0]))


def test_a_local_model_stays_weights_and_its_choices_are_kept(tmp_path, tiny):
    weights = load_weights(str(tiny))
    with Journal(tmp_path / "calls") as journal:
        wrapped = journalled(weights, journal)
        assert isinstance(wrapped, Weights)
        assert not isinstance(journalled(FakeChat(""), journal), Weights)
        first = wrapped.choose(asked("w1", "w2"), ["A", "B"])
        assert first == weights.choose(asked("w1", "w2"), ["A", "B"])
        assert wrapped.logprobs(asked("w1"), ["w2 w3"]) == weights.logprobs(asked("w1"), ["w2 w3"])
        weights.choose = weights.logprobs = None  # from here on the journal alone can answer
        assert wrapped.choose(asked("w1", "w2"), ["A", "B"]) == first
        assert len(wrapped.logprobs(asked("w1"), ["w2 w3"])[0]) == 2
        assert wrapped.activations(asked("w1"), [0])[0].shape[0] == 1
        assert wrapped.tokenizer is weights.tokenizer
        assert wrapped.model is weights.model


def test_a_label_shows_progress_and_none_shows_none(tmp_path, capsys):
    with Journal(tmp_path / "calls") as journal:
        JournalledChat(FakeChat("x"), journal).generate(asked("a"))
        assert capsys.readouterr().err == ""
        JournalledChat(FakeChat("x"), journal, label="replies").generate(asked("a", "b"))
        assert capsys.readouterr().err.startswith("replies 2 prompts in ")


def test_a_part_that_is_known_in_full_is_not_run_and_one_known_in_part_is_run_whole(tiny):
    weights = load_weights(str(tiny), batch_tokens=150)
    conversations = asked(*(f"w{i} w{i}" for i in range(12)))
    sampling = Sampling(max_new_tokens=20, temperature=1.0)
    parts = list(weights.generate_parts(conversations, sampling))
    whole = {i: completion for part in parts for i, completion in part.items()}
    assert len(parts) > 2
    known = {**parts[0], next(iter(parts[1])): parts[1][next(iter(parts[1]))]}
    again = list(answers(weights, conversations, sampling, known))
    assert again == parts[1:]
    assert {**known, **{i: c for part in again for i, c in part.items()}} == whole


RUN = """
import json, sys, time
import uphold.models.local
run = uphold.models.local.LocalModel._run
uphold.models.local.LocalModel._run = lambda *rest: time.sleep(0.03) or run(*rest)  # time enough to be killed in
from uphold.core.journal import Journal
from uphold.core.records import Message
from uphold.models import JournalledChat, Sampling, load
journal = Journal(sys.argv[2])
chat = JournalledChat(load(sys.argv[1], batch_tokens=240), journal)
asked = [(Message(role="user", content=f"w{i % 50} w{i // 50} w{i % 7}"),) for i in range(150)]
replies = chat.generate(asked, Sampling(temperature=1.0, max_new_tokens=30, seed=4))
print(json.dumps([r.model_dump() for r in replies]))
"""


def test_a_run_killed_in_the_middle_continues_and_ends_with_the_same_replies(tiny, tmp_path):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def start(journal):
        command = [sys.executable, "-c", RUN, str(tiny), str(journal)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)

    def finish(process):
        out, _ = process.communicate(timeout=120)
        return process.returncode, out

    code, expected = finish(start(tmp_path / "whole"))
    assert code == 0
    process = start(tmp_path / "killed")
    path = tmp_path / "killed"
    while not path.exists() or path.read_bytes().count(b"\n") < 20:
        time.sleep(0.002)
        assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.communicate()
    kept = path.read_bytes().count(b"\n")
    assert 20 <= kept < 150  # it was killed in the middle
    path.write_bytes(path.read_bytes()[:-7])  # and the last line torn
    code, resumed = finish(start(path))
    assert code == 0
    assert json.loads(resumed) == json.loads(expected)
    assert path.read_bytes().count(b"\n") == 150  # nothing was asked twice
