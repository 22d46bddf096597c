"""`uphold data stats`, `dedupe` and `synth` as a user meets them."""

import json

import pytest

from uphold.cli.main import run

ROWS = [
    {"prompt": "how do i grow tall tomatoes on a small balcony", "label": "benign", "extra": 1},
    {"prompt": "How do I grow tall tomatoes on a small balcony?", "label": "benign", "extra": 2},
    {"prompt": "my landlord will not answer any of my letters", "label": "harmful", "extra": 3},
]


@pytest.fixture
def prompts(tmp_path):
    file = tmp_path / "prompts.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    return file


def test_stats_describe_a_file(prompts, capsys):
    assert run(["data", "stats", str(prompts)]) == 0
    assert "near-duplicate: prompts.jsonl:2 of prompts.jsonl:1 (1)" in capsys.readouterr().out
    assert run(["data", "stats", str(prompts), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["n"], found["counts"]["label"]) == (3, {"benign": 2, "harmful": 1})
    assert found["measurements"][0]["metric"] == "near_duplicates"


def test_stats_know_the_written_corpus(capsys):
    assert run(["data", "stats", "builtin:assistant-corpus", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["name"] == "builtin:assistant-corpus"


def test_stats_of_an_empty_or_missing_file_say_so(tmp_path, capsys):
    (tmp_path / "empty.jsonl").touch()
    assert run(["data", "stats", str(tmp_path / "empty.jsonl")]) == 2
    assert "holds no rows" in capsys.readouterr().err
    assert run(["data", "stats", str(tmp_path / "none.jsonl")]) == 2
    assert "no such file" in capsys.readouterr().err


def test_dedupe_keeps_the_first_of_each_as_it_was(prompts, tmp_path, capsys):
    out = tmp_path / "distinct.jsonl"
    assert run(["data", "dedupe", str(prompts), "--out", str(out), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["rows"], found["kept"]) == (3, 2)
    assert found["repeats"] == [{"line": 2, "like": 1, "jaccard": 1.0}]
    assert [json.loads(line) for line in out.read_text().splitlines()] == [ROWS[0], ROWS[2]]
    assert run(["data", "dedupe", str(prompts), "--out", str(out)]) == 2
    assert "already there. Choose another name for --out." in capsys.readouterr().err


def test_synth_makes_rows_offline_from_a_source(tmp_path, capsys):
    command = [
        "data",
        "synth",
        "storefront",
        "--source",
        "builtin:storefront",
        "--model",
        "fake:text=no. verdict: innocent",
    ]
    command += ["--rows", "2", "--out", str(tmp_path / "made"), "--json"]
    assert run(command) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["n_rows"], found["n_planned"], found["missing"]) == (24, 24, [])
    assert run(["data", "stats", found["rows"]]) == 0


def test_synth_stops_a_model_that_never_writes_a_list(tmp_path, capsys):
    command = [
        "data",
        "synth",
        "storefront",
        "--model",
        "fake:text=Well.\n\nIt depends.\n\nOn much.",
        "--out",
        str(tmp_path / "made"),
    ]
    assert run(command) == 1
    said = capsys.readouterr().out
    assert "gave nothing usable (malformed 20), more than the 50% that --max-failures allows" in said
    assert "missing: " in said


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--langs", "xx"], "language 'xx' is not known."),
        (["--registers", "formel"], "register 'formel' is not known. Did you mean 'formal'?"),
        (["--clause", "forgary"], "no clause 'forgary'. Did you mean 'forgery'?"),
        (["--clause", "help"], "clause 'help' forbids nothing"),
        (["--twins", "0.8", "--multi-turn", "0.5"], "together at most 1"),
        (["--source", "builtin:shop"], "unknown source 'builtin:shop'"),
    ],
)
def test_synth_says_what_is_wrong_with_a_setting(tmp_path, capsys, flags, message):
    assert run(["data", "synth", "storefront", "--model", "fake:echo", "--out", str(tmp_path / "made"), *flags]) == 2
    assert message in capsys.readouterr().err
