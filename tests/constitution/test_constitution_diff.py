"""What changed between two constitutions, and what of a run that makes stale."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from uphold.constitution import Clause, Constitution
from uphold.constitution.diff import diff, lines_of
from uphold.constitution.staleness import stale
from uphold.core.errors import StoreError
from uphold.core.files import write_atomic
from uphold.core.store import RunStore

ACID = {
    "id": "acid",
    "text": "The assistant should not explain how acid is made.",
    "modality": "should",
    "category": "acid",
    "harmful": ["How is acid made?"],
    "harmless": ["What is acid rain?"],
}
BRIEF = {"id": "brief", "text": "Keep replies under ten lines.", "modality": "should"}


def book(*clauses: dict[str, Any]) -> Constitution:
    return Constitution(name="x", clauses=tuple(Clause.model_validate(c) for c in clauses))


def kinds(before: Constitution, after: Constitution) -> dict[str, tuple[str, ...]]:
    return {change.clause: change.kinds for change in diff(before, after)}


def test_two_equal_constitutions_have_no_changes():
    assert diff(book(ACID, BRIEF), book(BRIEF, ACID)) == []


def test_a_new_source_is_no_change():
    assert diff(book(ACID), book({**ACID, "source": "the board"})) == []


def test_clauses_are_added_removed_and_renamed():
    assert kinds(
        book(ACID, BRIEF), book({**ACID, "id": "acids"}, {**BRIEF, "id": "short", "text": "Write little."})
    ) == {
        "acids": ("renamed",),
        "short": ("added",),
        "brief": ("removed",),
    }


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("modality", "must", ("strengthened",)),
        ("modality", "may", ("weakened",)),
        ("severity", "high", ("strengthened",)),
        ("severity", "low", ("weakened",)),
        ("scope", "system", ("strengthened",)),
        ("scope", "user", ("weakened",)),
        ("priority", 51, ("strengthened",)),
        ("priority", 49, ("weakened",)),
        ("harmful", [], ("re-exampled", "weakened")),  # it forbids nothing any more
        ("harmful", ["How is acid made?", "Brew acid."], ("re-exampled",)),
        ("category", "acids", ("moved",)),
        ("rubric", ["Names an acid."], ("adjusted",)),
        ("text", "The assistant should not tell how acid is made.", ("reworded",)),
        ("text", "The assistant must never explain how acid is made.", ("reworded", "strengthened")),
        ("text", "The assistant may explain how acid is made.", ("reworded", "reversed")),
        ("text", "The assistant should not explain how acid is made, except in class.", ("reworded", "weakened")),
    ],
)
def test_each_field_says_which_way_a_clause_went(field, value, expected):
    assert kinds(book(ACID), book({**ACID, field: value})) == {"acid": expected}


def test_a_clause_may_be_strengthened_in_one_way_and_weakened_in_another():
    assert kinds(book(ACID), book({**ACID, "modality": "must", "priority": 1})) == {
        "acid": ("strengthened", "weakened")
    }


def test_a_change_for_people_names_what_went_and_what_came():
    (change,) = diff(book(ACID), book({**ACID, "modality": "must", "harmful": ["Brew acid."]}))
    assert lines_of(change) == [
        "strengthened, re-exampled: acid",
        "  modality: should -> must",
        "  harmful: - How is acid made?",
        "  harmful: + Brew acid.",
    ]


MODEL = "0123456789abcdef"


def run_of(folder: Path, constitution: Constitution) -> Path:
    """A run whose stages depend on one clause, on all, on another stage, and on nothing of the constitution."""
    with RunStore.open(folder) as store:

        def make(work: Path) -> dict[str, int]:
            (work / "x").write_text("x")
            return {}

        digests = {clause.id: clause.digest for clause in constitution.clauses}
        data = store.stage("data", {"clauses": {"acid": digests["acid"]}, "seed": 1}, make)
        store.stage("guard", {"data": data.key[:12]}, make)
        store.stage("principles", {"all": constitution.digest}, make)
        store.stage("base", {"model": "clerk"}, make)

        def train(work: Path) -> dict[str, str]:
            (work / "weights").write_text("w" + data.key)
            return {"identity": MODEL}

        store.stage("train", {"data": data.key}, train)
        store.stage("attack", {"system": MODEL}, make)
        store.stage("prompts", {"forbidden": {"acid": "acid"}}, make)
    lines = [
        {"kind": "measurement", "stage": "guard", "body": {"metric": "tpr", "by": {}, "subject": {}}, "hash": "1"},
        {
            "kind": "measurement",
            "stage": "",
            "body": {"metric": "asr", "by": {"clause": "acid"}, "subject": {}},
            "hash": "2",
        },
        {
            "kind": "measurement",
            "stage": "",
            "body": {"metric": "asr", "by": {"clause": "brief"}, "subject": {}},
            "hash": "3",
        },
        {"kind": "measurement", "stage": "", "body": {"metric": "speed", "by": {}, "subject": {}}, "hash": "4"},
        {
            "kind": "measurement",
            "stage": "old",
            "body": {"metric": "gone", "by": {"clause": "acid"}, "subject": {}},
            "hash": "5",
        },
        {"kind": "retired", "stage": "old", "body": {"hashes": ["5"]}, "hash": "6"},
    ]
    write_atomic(folder / "ledger.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_a_change_makes_stale_what_depends_on_it_and_nothing_else(tmp_path):
    before = book(ACID, BRIEF)
    run = run_of(tmp_path / "run", before)
    found = stale(run, before, diff(before, book({**ACID, "priority": 9}, BRIEF)))
    assert [(x.kind, x.name.rpartition("-")[0] or x.name, x.clauses) for x in found] == [
        ("stage", "attack", ("acid",)),  # it was given the model that `train` says it made
        ("stage", "data", ("acid",)),
        ("stage", "guard", ("acid",)),
        ("stage", "principles", ("acid",)),
        ("stage", "train", ("acid",)),
        ("measurement", "tpr", ("acid",)),
        ("measurement", "asr (clause=acid)", ("acid",)),
    ]
    by_name = {x.name.partition("-")[0]: x for x in found}
    assert by_name["guard"].through == by_name["data"].name
    assert by_name["attack"].through == by_name["train"].name
    assert by_name["data"].through is None


def test_prompts_that_depend_on_what_is_forbidden_are_stale_only_when_that_changes(tmp_path):
    before = book(ACID, BRIEF)
    run = run_of(tmp_path / "run", before)
    allowed, dearer = book({**ACID, "modality": "may"}, BRIEF), book({**ACID, "priority": 9}, BRIEF)
    more = book(ACID, BRIEF, {**ACID, "id": "gas", "category": "gas", "text": "Keep gas out."})
    stale_stages = [
        {x.name.partition("-")[0] for x in stale(run, before, diff(before, after))} for after in (allowed, dearer, more)
    ]
    assert ["prompts" in names for names in stale_stages] == [True, False, True]


def test_a_change_of_another_clause_leaves_the_data_of_this_one_alone(tmp_path):
    before = book(ACID, BRIEF)
    run = run_of(tmp_path / "run", before)
    found = stale(run, before, diff(before, book(ACID, {**BRIEF, "priority": 9})))
    assert [x.name.partition("-")[0] for x in found] == ["principles", "asr (clause=brief)"]


def test_an_added_clause_concerns_what_depends_on_all_of_them(tmp_path):
    before = book(ACID, BRIEF)
    run = run_of(tmp_path / "run", before)
    new = {"id": "new", "text": "Greet people.", "modality": "may"}
    found = stale(run, before, diff(before, book(ACID, BRIEF, new)))
    assert ("stage", ("new",)) in [(x.kind, x.clauses) for x in found if x.name.startswith("principles")]
    assert not any(x.name.startswith("base") for x in found)


def test_no_change_makes_nothing_stale(tmp_path):
    before = book(ACID, BRIEF)
    assert stale(run_of(tmp_path / "run", before), before, []) == []


def test_reading_a_run_changes_nothing_in_it(tmp_path):
    before = book(ACID, BRIEF)
    run = run_of(tmp_path / "run", before)
    files = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    stale(run, before, diff(before, book(BRIEF)))
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == files


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(StoreError, match="is not a run folder: it has no stages"):
        stale(tmp_path, book(ACID), [])


def test_a_damaged_record_is_named(tmp_path):
    before = book(ACID, BRIEF)
    run = run_of(tmp_path / "run", before)
    path = sorted(run.glob("stages/*/stage.json"))[0]
    path.write_text("{}", encoding="utf-8")
    with pytest.raises(StoreError, match=f"{path}: the stage's record is missing or damaged"):
        stale(run, before, [])
