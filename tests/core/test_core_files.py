"""Files are whole or absent, and every reading error names its place."""

import errno
import os
import resource
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uphold.core.errors import DataError, StoreError
from uphold.core.files import (
    finite,
    open_atomic,
    read_json,
    read_jsonl,
    read_lines,
    read_text,
    write_atomic,
    write_json,
    write_jsonl,
)
from uphold.core.records import Message


def test_written_text_is_read_back_and_parents_are_made(tmp_path):
    path = tmp_path / "a" / "b.txt"
    write_atomic(path, "naïve\n")
    assert read_text(path) == "naïve\n"
    assert path.read_bytes() == b"na\xc3\xafve\n"


def test_a_write_that_raises_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "kept.txt"
    write_atomic(path, "old")
    with pytest.raises(RuntimeError, match="halfway"), open_atomic(path) as file:
        file.write(b"new, but only ha")
        raise RuntimeError("halfway")
    assert os.listdir(tmp_path) == ["kept.txt"]
    assert read_text(path) == "old"


def test_a_record_that_cannot_be_written_leaves_no_half_file(tmp_path):
    with pytest.raises(TypeError, match="object cannot be written as JSON"):
        write_jsonl(tmp_path / "x.jsonl", [{"a": 1}, {"b": object()}])
    assert os.listdir(tmp_path) == []


def test_nan_is_refused_rather_than_written_as_something_no_reader_takes(tmp_path):
    with pytest.raises(ValueError, match="Out of range float"):
        write_json(tmp_path / "x.json", {"loss": float("nan")})
    assert os.listdir(tmp_path) == []


def test_models_are_written_as_their_json(tmp_path):
    write_json(tmp_path / "m.json", [Message(role="user", content="hi")])
    assert read_json(tmp_path / "m.json") == [{"role": "user", "content": "hi"}]


def test_a_full_disk_is_a_store_error_that_says_so_and_keeps_the_old_file(tmp_path):
    """The system refuses files past 1,000 bytes, as a full disk would refuse them at some point."""
    program = """
import resource, sys
from uphold.core.errors import StoreError
from uphold.core.files import write_atomic
write_atomic("kept.txt", "old")
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    write_atomic("kept.txt", "x" * 5000)
except StoreError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == (
        "kept.txt: cannot write: File too large. The file would be larger than the system allows. "
        "Raise the limit (ulimit -f) or choose another folder.\n"
    )
    assert os.listdir(tmp_path) == ["kept.txt"]
    assert read_text(tmp_path / "kept.txt") == "old"
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 1000, "the limit stayed in the other process"


def test_enospc_names_the_file_and_the_mend(tmp_path):
    with pytest.raises(StoreError) as caught, open_atomic(tmp_path / "x.bin") as file:
        file.write(b"some")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert str(caught.value) == (
        f"{tmp_path / 'x.bin'}: cannot write: No space left on device. "
        "The disk is full. Free some space and run the same command again."
    )
    assert os.listdir(tmp_path) == []


def test_a_file_where_a_folder_is_needed_is_named(tmp_path):
    (tmp_path / "a").write_text("")
    with pytest.raises(StoreError, match="A file stands where a folder is needed"):
        write_atomic(tmp_path / "a" / "b.txt", "x")


def test_missing_file_and_folder_for_a_file(tmp_path):
    with pytest.raises(DataError) as caught:
        read_text(tmp_path / "no.txt")
    assert str(caught.value) == f"{tmp_path / 'no.txt'}: no such file. Check the path."
    with pytest.raises(DataError) as caught:
        read_text(tmp_path)
    assert str(caught.value) == f"{tmp_path}: is a folder, not a file. Name a file in it."


@pytest.mark.parametrize("read", [read_text, lambda path: list(read_lines(path)), lambda path: list(read_jsonl(path))])
def test_bytes_that_are_not_utf8_are_reported_with_their_line(tmp_path, read):
    path = tmp_path / "latin.jsonl"
    path.write_bytes(b'{"a": 1}\n{"a": "caf\xe9"}\n')
    with pytest.raises(DataError) as caught:
        read(path)
    assert str(caught.value) == (
        f"{path}:2: not UTF-8 text (byte 0xe9). Save the file as UTF-8, for example: iconv -f LATIN1 -t UTF-8"
    )


def test_a_byte_order_mark_is_not_text(tmp_path):
    path = tmp_path / "bom.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"a": 1}\n')
    assert list(read_jsonl(path)) == [(1, {"a": 1})]
    assert read_text(path) == '{"a": 1}\n'


def test_jsonl_counts_lines_from_one_and_skips_blank_ones(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text('{"a": 1}\n\n  \r\n{"a": 2}')
    assert list(read_jsonl(path)) == [(1, {"a": 1}), (4, {"a": 2})]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{oops", "not valid JSON: Expecting property name enclosed in double quotes at column 2."),
        ("[1]", "expected one JSON object per line, found list."),
        ('{"a": NaN}', "not valid JSON: NaN is not a JSON number."),
        ("[" * 100_000, "not valid JSON: nested too deeply."),
    ],
)
def test_a_bad_line_is_named_with_what_is_wrong(tmp_path, line, problem):
    path = tmp_path / "x.jsonl"
    path.write_text('{"a": 1}\n' + line + "\n")
    with pytest.raises(DataError) as caught:
        list(read_jsonl(path))
    assert str(caught.value) == f"{path}:2: {problem}"


def test_bad_json_file_names_the_line_inside_it(tmp_path):
    path = tmp_path / "x.json"
    path.write_text('{\n "a": 1,\n "b": }\n')
    with pytest.raises(DataError, match=r"x\.json:3: not valid JSON: Expecting value at column 7\."):
        read_json(path)


any_text = st.text(st.characters(codec=None) | st.characters(categories=["Cs"]))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | any_text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(any_text, inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(st.dictionaries(any_text, json_values, max_size=3), max_size=4))
def test_jsonl_gives_back_what_it_was_given(tmp_path_factory, records):
    path = tmp_path_factory.getbasetemp() / "round.jsonl"
    assert write_jsonl(path, records) == len(records)
    assert [record for _, record in read_jsonl(path)] == records


def test_half_a_character_survives_writing_and_reading(tmp_path):
    path = tmp_path / "broken.jsonl"
    write_jsonl(path, [{"prompt": "half an emoji: \ud83d"}])
    assert list(read_jsonl(path)) == [(1, {"prompt": "half an emoji: \ud83d"})]


def test_finite_turns_what_json_cannot_carry_into_none():
    assert finite(0.25) == 0.25
    assert finite(float("nan")) is None
    assert finite(float("inf")) is None
    assert finite(None) is None


def test_a_read_only_folder_is_reported_with_its_mend(read_only_folder):
    with pytest.raises(StoreError) as caught:
        write_atomic(read_only_folder / "x.txt", "x")
    assert str(caught.value) == (
        f"{read_only_folder / 'x.txt'}: cannot write: Permission denied. "
        "No permission there. Change the permissions or choose another folder."
    )
