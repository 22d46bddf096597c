"""What was paid for once is kept, through crashes, full disks and several threads."""

import json
import os
import subprocess
import sys
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uphold.core.errors import StoreError
from uphold.core.journal import Journal


def test_values_are_there_again_after_reopening(tmp_path):
    with Journal(tmp_path / "calls.jsonl") as journal:
        journal.put_many({"a": {"text": "naïve"}, "b": None})
        journal.put("c", [1, 2.5])
    with Journal(tmp_path / "calls.jsonl") as journal:
        assert journal.get("a") == {"text": "naïve"}
        assert "b" in journal
        assert journal.get("b", "absent") is None
        assert journal.get("nothing", "absent") == "absent"
        assert list(journal.keys()) == ["a", "b", "c"]
        assert len(journal) == 3


def test_the_last_value_under_a_key_wins(tmp_path):
    with Journal(tmp_path / "j") as journal:
        journal.put("a", 1)
        journal.put("a", 2)
    with Journal(tmp_path / "j") as journal:
        assert journal.get("a") == 2


@pytest.mark.parametrize("cut", range(1, 19))
def test_a_last_line_torn_anywhere_is_dropped_and_the_rest_stands(tmp_path, cut):
    path = tmp_path / "j"
    with Journal(path) as journal:
        journal.put("a", 1)
        kept = path.read_bytes()
        journal.put("b", "two")  # {"k": "b", "v": "two"}\\n is 23 bytes
    path.write_bytes(path.read_bytes()[:-cut])
    with Journal(path) as journal:
        assert list(journal.keys()) == ["a"]
        journal.put("c", 3)
    assert path.read_bytes() == kept + b'{"k": "c", "v": 3}\n'


@pytest.mark.parametrize("tail", [b"\0\0\0\0", b"\0\0\0\n", b'{"k": "x"}\n', b"[]\n", b"\xff\xfe\n"])
def test_a_last_line_of_wrong_bytes_is_dropped_too(tmp_path, tail):
    path = tmp_path / "j"
    path.write_bytes(b'{"k": "a", "v": 1}\n' + tail)
    with Journal(path) as journal:
        assert list(journal.keys()) == ["a"]
    assert path.read_bytes() == b'{"k": "a", "v": 1}\n'


def test_damage_in_the_middle_is_named_and_never_skipped(tmp_path):
    path = tmp_path / "j"
    path.write_bytes(b'{"k": "a", "v": 1}\noops\n{"k": "b", "v": 2}\n')
    with pytest.raises(StoreError) as caught:
        Journal(path)
    assert str(caught.value) == (f"{path}:2: damaged line. Delete that line, or the whole file to ask the model again.")
    assert path.read_bytes().count(b"\n") == 3, "nothing was cut"


def test_a_value_that_is_not_json_keeps_nothing_of_its_batch(tmp_path):
    with Journal(tmp_path / "j") as journal:
        with pytest.raises(TypeError, match="set cannot be written as JSON"):
            journal.put_many({"good": 1, "bad": {1, 2}})
        assert len(journal) == 0
    assert (tmp_path / "j").read_bytes() == b""


def test_a_second_writer_is_refused(tmp_path):
    with Journal(tmp_path / "j"), pytest.raises(StoreError) as caught:
        Journal(tmp_path / "j")
    assert str(caught.value) == f"{tmp_path / 'j'}: already open for writing, by another run. Wait for it or stop it."


def test_threads_may_put_at_once(tmp_path):
    with Journal(tmp_path / "j") as journal:

        def work(name):
            for i in range(25):
                journal.put_many({f"{name}-{i}": i, f"{name}-{i}-text": "x" * 500})

        threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(journal) == 4 * 25 * 2
    with Journal(tmp_path / "j") as journal:
        assert len(journal) == 200
        assert journal.get("c-24") == 24


def test_a_killed_writer_loses_at_most_what_was_in_flight(tmp_path):
    program = """
import os, signal, sys
from uphold.core.journal import Journal
journal = Journal("j")
for i in range(50):
    journal.put(str(i), i)
    if i == 30:
        os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=False)
    with Journal(tmp_path / "j") as journal:
        assert [journal.get(str(i)) for i in range(31)] == list(range(31))


def test_a_disk_that_fills_up_keeps_the_journal_whole(tmp_path):
    """The system refuses bytes past 100, so the second batch is written in part and must be cut off again."""
    program = """
import resource
from uphold.core.errors import StoreError
from uphold.core.journal import Journal
journal = Journal("j")
journal.put("a", 1)
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
try:
    journal.put("b", "x" * 500)
except StoreError as error:
    print(error)
print(len(journal))
resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
journal.put("c", 3)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == (
        "j: cannot write the journal: File too large. The file would be larger than the system allows. "
        "Raise the limit (ulimit -f) or choose another folder.\n1\n"
    )
    assert (tmp_path / "j").read_bytes() == b'{"k": "a", "v": 1}\n{"k": "c", "v": 3}\n'


def test_a_folder_that_refuses_is_reported(read_only_folder):
    with pytest.raises(StoreError, match="cannot open the journal"):
        Journal(read_only_folder / "j")


@given(st.dictionaries(st.text(), st.none() | st.integers() | st.text() | st.lists(st.booleans()), max_size=5))
def test_any_keys_and_values_come_back(tmp_path_factory, values):
    path = tmp_path_factory.mktemp("journal") / "j"
    with Journal(path) as journal:
        journal.put_many(values)
    with Journal(path) as journal:
        assert {key: journal.get(key) for key in journal.keys()} == values  # noqa: SIM118  a Journal is not a dict
    assert all(set(json.loads(line)) == {"k", "v"} for line in path.read_bytes().splitlines())
    os.unlink(path)
