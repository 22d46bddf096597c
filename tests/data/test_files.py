"""Prompt files: JSONL and CSV, plain and gzipped; every fault named with file and line."""

from __future__ import annotations

import csv
import gzip
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uphold.core import registry
from uphold.core.errors import DataError
from uphold.core.records import Exchange
from uphold.data.files import FileSource, read_prompts, read_rows, well_formed


def jsonl(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def prompts(tmp_path):
    return jsonl(tmp_path / "prompts.jsonl", {"prompt": "one"}, {"prompt": "two"}, {"prompt": " "}, {"prompt": "one"})


def test_prompts_are_read_blank_ones_skipped_and_repeats_dropped_all_counted(prompts):
    found = read_prompts([prompts], "harmful")
    assert [s.prompt for s in found.samples] == ["one", "two"]
    assert {s.label for s in found.samples} == {"harmful"}
    assert (found.n_rows, found.n_blank, found.n_duplicates) == (4, 1, 1)
    assert found.note() == "2 of 4 rows (1 blank, 1 repeated)"
    assert found.samples[1].meta == {"source": "prompts.jsonl", "line": 2}


def test_csv_tsv_and_gzip_hold_the_same_rows(tmp_path, prompts):
    (tmp_path / "a.csv").write_text('prompt,label\n"one, or\nanother",1\ntwo,0\n')
    (tmp_path / "a.tsv").write_text("prompt\tlabel\nthree\tbenign\n")
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(prompts.read_bytes()))
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress((tmp_path / "a.csv").read_bytes()))
    assert [s.prompt for s in read_prompts([tmp_path / "a.csv"]).samples] == ["one, or\nanother", "two"]
    assert read_prompts([tmp_path / "a.csv"]).samples == read_prompts([tmp_path / "a.csv.gz"]).samples[:0] + [
        s.model_copy(update={"meta": s.meta | {"source": "a.csv"}})
        for s in read_prompts([tmp_path / "a.csv.gz"]).samples
    ]
    assert [s.label for s in read_prompts([tmp_path / "a.tsv"]).samples] == ["benign"]
    assert len(read_prompts([tmp_path / "a.jsonl.gz"], "benign").samples) == 2


def test_several_files_are_one_set_with_their_names_kept_apart(tmp_path):
    for folder, rows in (("left", ["a", "b"]), ("right", ["b", "c"])):
        (tmp_path / folder).mkdir()
        jsonl(tmp_path / folder / "rows.jsonl", *({"prompt": p} for p in rows))
    found = read_prompts([tmp_path / "left/rows.jsonl", tmp_path / "right/rows.jsonl"], "benign")
    assert [s.meta["source"] for s in found.samples] == ["left/rows.jsonl", "left/rows.jsonl", "right/rows.jsonl"]
    assert (found.by_file, found.n_duplicates) == ({"left/rows.jsonl": 2, "right/rows.jsonl": 1}, 1)
    assert str(tmp_path) not in found.model_dump_json()


@pytest.mark.parametrize(
    ("written", "label"),
    [
        (1, "harmful"),
        ("1", "harmful"),
        (True, "harmful"),
        (1.0, "harmful"),
        ("Unsafe", "harmful"),
        (0, "benign"),
        ("harmless", "benign"),
        (False, "benign"),
    ],
)
def test_labels_may_be_written_in_several_ways(tmp_path, written, label):
    path = jsonl(tmp_path / "a.jsonl", {"prompt": "x", "label": written})
    assert read_prompts([path]).samples[0].label == label


def test_rows_with_a_reply_become_exchanges_where_replies_are_wanted(tmp_path):
    rows = [
        {"prompt": "q", "completion": "a", "label": 1, "clause": "c"},
        {"prompt": "q", "completion": "", "label": 0},
    ]
    path = jsonl(tmp_path / "a.jsonl", *rows)
    reply, prompt = read_prompts([path], completions=True).examples
    assert isinstance(reply, Exchange)
    assert (reply.completion, reply.clause, reply.meta["label"]) == ("a", "c", "harmful")
    assert prompt.label == "benign"
    assert [s.prompt for s in read_prompts([path], "benign").samples] == ["q"]


def test_other_columns_that_mean_something_are_kept(tmp_path):
    row = {"prompt": "q", "category": "c", "group": "g", "expected": "e", "clause": "k", "other": 3}
    [sample] = read_prompts([jsonl(tmp_path / "a.jsonl", row)], "benign").samples
    assert (sample.category, sample.group, sample.expected, sample.clause) == ("c", "g", "e", "k")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b"", "a.jsonl: holds no rows. Give one JSON object or CSV row per prompt."),
        ("a.csv", b"prompt\n", "a.csv: holds no rows."),
        (
            "a.jsonl",
            b'{"prompt": ""}\n{"prompt": " "}\n',
            "a.jsonl: all 2 prompts are blank. Put the text into the column 'prompt'.",
        ),
        (
            "a.jsonl",
            b'{"text": "x", "id": 1}\n',
            "a.jsonl:1: no column 'prompt'. Columns found: text, id. Rename the one that holds",
        ),
        ("a.csv", b"text,id\nx,1\n", "a.csv:2: no column 'prompt'. Columns found: text, id."),
        (
            "a.jsonl",
            b'{"prompt": "x"}\n{"prompt": 3}\n',
            "a.jsonl:2: the prompt is int, not text. Write it as a string.",
        ),
        ("a.jsonl", b'{"prompt": "x"}\n["y"]\n', "a.jsonl:2: expected one JSON object per line, found list."),
        ("a.jsonl", b'{"prompt": "x"\n', "a.jsonl:1: not valid JSON"),
        ("a.jsonl", b'{"prompt": "x"}\n{"prompt": "\xe9"}\n', "a.jsonl:2: not UTF-8 text. Save the file as UTF-8"),
        ("a.csv", b"prompt\nx\n\xff\n", "a.csv:3: not UTF-8 text."),
        ("a.csv", b'prompt\n"x" y\n', "a.csv:2: not valid CSV"),
        ("a.jsonl.gz", b"not gzip", "a.jsonl.gz: not a whole gzip file"),
        ("a.jsonl.gz", gzip.compress(b'{"prompt": "x"}\n' * 1000)[:-9], "a.jsonl.gz: not a whole gzip file"),
        ("a.txt", b"x\n", "a.txt: cannot tell its format by its name. Known: .jsonl, .csv, .tsv, each also with .gz."),
        ("a", b"x\n", "cannot tell its format by its name"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_with_what_to_do(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_prompts([tmp_path / name], "harmful")
    assert message in str(caught.value)


def test_missing_labels_and_odd_ones_are_named(tmp_path):
    with pytest.raises(
        DataError, match=r"a\.jsonl:1: no column 'label'\. Columns found: prompt\. Say which rows are harmful"
    ):
        read_prompts([jsonl(tmp_path / "a.jsonl", {"prompt": "x"})])
    with pytest.raises(DataError, match=r"b\.jsonl:1: label 'jailbreak' is neither harmful nor benign"):
        read_prompts([jsonl(tmp_path / "b.jsonl", {"prompt": "x", "label": "jailbreak"})])


def test_a_missing_file_a_folder_and_no_file_at_all(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        read_prompts([tmp_path / "none.jsonl"], "harmful")
    (tmp_path / "folder.jsonl").mkdir()
    with pytest.raises(DataError, match="is a folder, not a file"):
        read_prompts([tmp_path / "folder.jsonl"], "harmful")
    with pytest.raises(DataError, match="no files given"):
        read_prompts([], "harmful")


def test_unpaired_surrogates_become_replacement_characters(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"prompt": "a \\ud800 b \\ud83d\\ude00"}\n')
    assert read_prompts([tmp_path / "a.jsonl"], "benign").samples[0].prompt == "a \ufffd b 😀"


@given(st.text(st.characters(codec=None), max_size=50))
def test_well_formed_text_can_be_encoded_and_is_left_alone_where_it_could(text):
    mended = well_formed(text)
    mended.encode("utf-8")
    assert well_formed(mended) == mended
    if not any("\ud800" <= c <= "\udfff" for c in text):
        assert mended == text


@given(
    st.lists(
        st.text(st.characters(codec="utf-8", exclude_characters="\x00\r"), min_size=1, max_size=30),
        min_size=1,
        max_size=8,
    )
)
def test_any_text_survives_both_formats(tmp_path_factory, texts):
    folder = tmp_path_factory.mktemp("rows")
    jsonl(folder / "a.jsonl", *({"prompt": text} for text in texts))
    out = io.StringIO(newline="")
    csv.writer(out).writerows([["prompt"], *([text] for text in texts)])
    (folder / "a.csv").write_bytes(out.getvalue().encode())
    for name in ("a.jsonl", "a.csv"):
        assert [row["prompt"] for _, row in read_rows(folder / name)] == texts


def test_a_long_csv_field_is_read(tmp_path):
    (tmp_path / "a.csv").write_text("prompt\n" + "x" * 1_000_000 + "\n")
    assert len(read_prompts([tmp_path / "a.csv"], "benign").samples[0].prompt) == 1_000_000


def test_files_are_a_source_whose_splits_share_no_prompt(tmp_path):
    harmful = jsonl(tmp_path / "h.jsonl", *({"prompt": f"bad {i}"} for i in range(200)))
    benign = jsonl(
        tmp_path / "b.jsonl", *({"prompt": f"good {i}", "expected": "yes" if i % 2 else None} for i in range(200))
    )
    source = registry.get("source", "files")(harmful=[harmful], benign=[benign])
    assert isinstance(source, FileSource)
    drawn = {
        s: source.samples("harmful", constitution=None, split=s, n=500, seed=0) for s in ("train", "validation", "test")
    }
    assert sum(map(len, drawn.values())) == 200 == len({x.prompt for part in drawn.values() for x in part})
    assert {x.split for x in drawn["test"]} == {"test"}
    assert 90 <= len(drawn["train"]) <= 150
    few = source.samples("harmful", constitution=None, split="train", n=10, seed=0)
    assert few == drawn["train"][:10] != source.samples("harmful", constitution=None, split="train", n=10, seed=1)
    assert all(x.expected == "yes" for x in source.samples("task", constitution=None, split="train", n=500, seed=0))
    with pytest.raises(DataError, match="no files of harmful prompts were given"):
        FileSource(benign=[benign]).samples("harmful", constitution=None, split="train", n=1, seed=0)
