"""Coverage of a constitution by a run, on run folders written by hand."""

import json

import pytest

from uphold.cli.main import run
from uphold.constitution.coverage import coverage
from uphold.core.errors import ConfigError, StoreError

CONSTITUTION = """\
uphold: 1
name: small
clauses:
  - {id: no-theft, text: Never help to steal., modality: must, category: theft, harmful: [steal it, take it], harmless: [steal a base]}
  - {id: no-spam, text: Never write spam., modality: must, category: spam, harmful: [spam them], harmless: [tinned ham]}
  - {id: be-kind, text: Be kind., modality: should}
"""


def write(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def stage(folder, name, files, **inputs):
    path = folder / "stages" / f"{name}-0123456789ab"
    for file, rows in files.items():
        write(path / f"{file}.jsonl", rows)
    path.mkdir(parents=True, exist_ok=True)
    (path / "stage.json").write_text(json.dumps({"stage": name, "inputs": inputs}), encoding="utf-8")
    return path


def attempt(clause="no-theft", success=False, blocked=None):
    return {"clause": clause, "category": None, "success": success, "blocked": blocked, "error": None}


def answer(category, refusal="none", blocked=False, error=None, label="benign"):
    sample = {"clause": None, "category": category, "label": label}
    return {"sample": sample, "refusal": refusal, "blocked": blocked, "error": error}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "constitution.yaml").write_text(CONSTITUTION, encoding="utf-8")
    return tmp_path


def counts(found, clause):
    one = next(c for c in found.clauses if c.clause == clause)
    names = ("training", "examples", "attacks", "benign", "evaluations", "blocks", "failures", "unscored")
    return tuple(getattr(one, name) for name in names)


def test_rows_are_counted_by_what_their_stage_did_with_them(folder):
    train = [{"clause": "no-theft", "label": "harmful"}, {"category": "theft"}, {"clause": None, "category": None}]
    stage(folder, "prompts", {"harmful-train": train, "harmful-test": train})
    stage(folder, "guard", {}, examples={"no-theft": "digest"})
    attempts = [attempt(), attempt(success=True), attempt(success=None), attempt(blocked="input")]
    stage(folder, "attack-base", {"attempts": attempts})
    answers = [
        answer("theft"),
        answer("theft", "full"),
        answer("theft", "full", True),
        answer("theft", None, error="x"),
        answer(None),
    ]
    stage(folder, "answers-base", {"benign-test": answers})
    found = coverage(folder)
    # trained on 2 rows (one by its category; the test rows are not trained on) and 3 examples; 4 attacks, one succeeded and one
    # was blocked; 4 twins, of which two were refused, one of these blocked; one attack and one answer without a grade
    assert counts(found, "no-theft") == (2, 3, 4, 4, 4, 2, 3, 2)
    assert counts(found, "no-spam") == (0, 0, 0, 0, 0, 0, 0, 0)
    assert found.untested == ("no-spam", "be-kind")
    assert found.share == pytest.approx(1 / 3)
    assert found.unattributed == 2  # a training row and an answer about nothing in particular


def test_a_clause_of_which_nothing_was_graded_is_untested(folder):
    stage(folder, "attack-base", {"attempts": [attempt(success=None)] * 3})
    assert "no-theft" in coverage(folder).untested


def test_trained_on_is_not_tested(folder):
    stage(folder, "cai", {"exchanges": [{"clause": "be-kind"}], "revisions": [{"clause": "be-kind"}] * 5})
    found = coverage(folder)
    assert counts(found, "be-kind")[0] == 1  # revisions are the way there, not more data
    assert found.untested == ("no-theft", "no-spam", "be-kind")


def test_held_out_requests_put_to_a_guard_are_counted_from_the_ledger(folder):
    def entry(metric, n, **by):
        return {"kind": "measurement", "body": {"metric": metric, "n_scored": n, "by": by}}

    entries = [
        entry("input_guard.tpr", 40, clause="no-spam"),
        entry("input_guard.auroc", 60, clause="no-spam"),
        entry("attack_success_rate.base", 99, clause="no-theft"),
        {"kind": "card", "body": {}},
    ]
    write(folder / "ledger.jsonl", entries)
    found = coverage(folder)
    assert counts(found, "no-spam")[4] == 60  # the largest set, not the sum of all metrics on it
    assert counts(found, "no-theft")[4] == 0  # attacks are counted where they are kept


def test_what_cannot_be_read_is_named_and_the_rest_counted(folder):
    path = stage(folder, "attack-base", {"attempts": [attempt()]})
    with open(path / "attempts.jsonl", "a", encoding="utf-8") as file:
        file.write("{torn")
    broken = stage(folder, "answers-base", {})
    (broken / "stage.json").write_text("[]", encoding="utf-8")
    found = coverage(folder)
    assert counts(found, "no-theft")[2] == 1
    assert len(found.unread) == 2
    assert "attempts.jsonl:2: not valid JSON" in found.unread[1]


def test_a_run_that_has_only_begun_covers_nothing(folder):
    found = coverage(folder)
    assert (found.share, found.unattributed, found.unread) == (0.0, 0, ())


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(StoreError, match=r"is not a run folder: it has no constitution.yaml"):
        coverage(tmp_path)
    (tmp_path / "constitution.yaml").write_text("uphold: 1\n", encoding="utf-8")
    with pytest.raises(ConfigError):
        coverage(tmp_path)


def test_the_command_fails_under_the_threshold_and_names_what_is_untested(folder, capsys):
    stage(folder, "attack-base", {"attempts": [attempt()]})
    assert run(["constitution", "coverage", str(folder), "--fail-under", "0.3"]) == 0
    assert run(["constitution", "coverage", str(folder), "--fail-under", "0.5"]) == 1
    said = capsys.readouterr().out
    assert "tested 1 of 3 clauses (33%)\nuntested: no-spam, be-kind\nunder the required 50%" in said
    assert run(["constitution", "coverage", str(folder), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["tested"], found["untested"], found["passed"]) == (1, ["no-spam", "be-kind"], True)
    assert found["clauses"][0]["attacks"] == 1
