"""The ledger: what is appended, what counts, and what a reader may rely on."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from synthetic_evidence import Clock, share

from uphold.core.errors import DataError, StoreError
from uphold.core.records import Measurement
from uphold.evidence.ledger import Ledger, verify


def lines_of(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "ledger.jsonl").read_text().splitlines()]


def test_an_entry_holds_the_measurement_and_seals_the_line_before_it(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, clock=Clock())
    first, second = share("asr.base", 90, 100), share("asr.aligned", 10, 100)
    hashes = ledger.append_measurements("attack", [first, second])

    one, two = lines_of(tmp_path)
    assert [one["seq"], two["seq"]] == [0, 1]
    assert one["time"] == "2026-01-02T03:04:06.000000Z"
    assert (one["kind"], one["stage"]) == ("measurement", "attack")
    assert Measurement.model_validate(one["body"]) == first
    assert one["prev"] == "0" * 64
    assert two["prev"] == one["hash"] == hashes[0]
    assert two["hash"] == hashes[1]


def test_anyone_can_check_a_line_by_cutting_the_hash_out_and_hashing_the_rest(tmp_path: Path) -> None:
    Ledger(tmp_path).append(share("asr.base", 90, 100))
    line = (tmp_path / "ledger.jsonl").read_bytes().rstrip(b"\n")
    before, _, after = line.partition(b',"hash":"')
    assert hashlib.sha256(before + b"}").hexdigest() == after[:64].decode()


def test_appending_what_is_already_there_adds_nothing(tmp_path: Path) -> None:
    measured = [share("asr.base", 90, 100), share("asr.base", 5, 10, by={"family": "roleplay"})]
    hashes = Ledger(tmp_path).append_measurements("attack", measured)
    before = (tmp_path / "ledger.jsonl").read_bytes()

    assert Ledger(tmp_path).append_measurements("attack", measured) == hashes
    assert (tmp_path / "ledger.jsonl").read_bytes() == before


@pytest.mark.parametrize("kept", range(0, 5 * 700, 97))
def test_a_run_killed_in_the_middle_of_a_write_ends_with_the_same_numbers_when_repeated(
    tmp_path: Path, kept: int
) -> None:
    old, new = [share(f"m{i}", 1, 10) for i in range(4)], [share(f"m{i}", i, 10) for i in range(3)]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for run in (whole, killed):
        Ledger(run).append_measurements("attack", old)
    acknowledged = (killed / "chain-head.json").read_bytes()
    start = (killed / "ledger.jsonl").stat().st_size
    for run in (whole, killed):
        Ledger(run).append_measurements("attack", new)  # two changed, one as before, one retired

    written = (killed / "ledger.jsonl").read_bytes()
    (killed / "ledger.jsonl").write_bytes(written[: start + kept])  # what had reached the disk
    if start + kept < len(written):
        (killed / "chain-head.json").write_bytes(acknowledged)  # and was not acknowledged yet
    Ledger(killed).append_measurements("attack", new)

    def numbers(run: Path) -> list[Measurement]:
        return sorted((entry.measurement for entry in Ledger(run).current().values()), key=lambda m: m.metric)

    assert numbers(killed) == numbers(whole) == new
    assert verify(killed).ok


def test_a_changed_measurement_supersedes_the_old_one_with_the_same_metric_slice_and_role(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    old = ledger.append_measurements("attack", [share("asr", 9, 10, subject={"model": "aaa", "role": "base"})])
    new = ledger.append_measurements("attack", [share("asr", 8, 10, subject={"model": "bbb", "role": "base"})])

    assert [entry.hash for entry in ledger.entries()] == [*old, *new]
    assert [entry.hash for entry in ledger.current().values()] == new


def test_slices_and_roles_are_kept_apart(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.append_measurements(
        "attack",
        [
            share("asr", 9, 10),
            share("asr", 8, 10, by={"split": "held_out"}),
            share("asr", 7, 10, subject={"role": "guarded"}),
        ],
    )
    assert [round(entry.measurement.value or 0, 1) for entry in ledger.current().values()] == [0.9, 0.8, 0.7]


def test_going_back_to_an_earlier_input_appends_again_so_the_latest_entry_always_counts(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    for k in (9, 8, 9):
        ledger.append_measurements("attack", [share("asr", k, 10)])
    assert len(ledger.entries()) == 3
    assert [entry.seq for entry in ledger.current().values()] == [2]


def test_what_a_stage_no_longer_measures_is_retired_not_left_standing(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    clause = {"clause": "no-poisons"}
    ledger.append_measurements("attack", [share("asr", 9, 10), share("asr", 5, 5, by=clause)])
    ledger.append_measurements("evals", [share("over_refusal", 0, 10)])
    ledger.append_measurements("attack", [share("asr", 9, 10)])  # the clause was allowed, so nothing attacks it now

    assert [key[0:2] for key in ledger.current()] == [("asr", ()), ("over_refusal", ())]
    assert [entry.kind for entry in ledger.entries()] == ["measurement", "measurement", "measurement", "retired"]
    assert verify(tmp_path).ok


def test_retiring_brings_back_what_another_stage_said_of_the_same_thing(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.append_measurements("first", [share("asr", 1, 10)])
    ledger.append_measurements("second", [share("asr", 2, 10)])
    assert [e.measurement.value for e in ledger.current().values()] == [0.2]
    ledger.append_measurements("second", [])
    assert [e.measurement.value for e in ledger.current().values()] == [0.1]


def test_one_stage_cannot_measure_one_thing_twice(tmp_path: Path) -> None:
    with pytest.raises(
        DataError,
        match=r"stage 'attack' measured asr \(split=held_out\) twice\. Give each its own metric name or slice\.",
    ):
        Ledger(tmp_path).append_measurements("attack", [share("asr", k, 10, by={"split": "held_out"}) for k in (1, 2)])
    assert (tmp_path / "ledger.jsonl").read_bytes() == b""


def test_a_number_that_is_not_finite_is_refused_and_nothing_of_its_batch_is_written(tmp_path: Path) -> None:
    bad = Measurement(metric="loss", value=float("nan"), n_asked=1, n_scored=1)
    with pytest.raises(
        DataError, match=r"loss: cannot go into the ledger: .* Numbers must be finite; not measured is None"
    ):
        Ledger(tmp_path).append_measurements("train", [share("asr", 1, 2), bad])
    assert (tmp_path / "ledger.jsonl").read_bytes() == b""


def test_a_named_fact_is_written_once_until_it_changes(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    first = ledger.put("artifact", "card-inputs.json", {"sha256": "aa"})
    assert ledger.put("artifact", "card-inputs.json", {"sha256": "aa"}) == first
    assert ledger.put("artifact", "card-inputs.json", {"sha256": "bb"}) != first
    assert ledger.view().named["artifact", "card-inputs.json"].body == {"name": "card-inputs.json", "sha256": "bb"}


def test_two_open_ledgers_see_each_others_entries(tmp_path: Path) -> None:
    one, other = Ledger(tmp_path), Ledger(tmp_path)
    one.append_measurements("a", [share("a", 1, 2)])
    other.append_measurements("b", [share("b", 1, 2)])
    one.append_measurements("c", [share("c", 1, 2)])
    assert [entry.body["metric"] for entry in other.entries()] == ["a", "b", "c"]
    assert verify(tmp_path).ok


def test_a_clock_that_goes_backwards_is_held_at_the_last_entrys_time(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, clock=Clock(steps_s=[10, -3600, 5]))
    for metric in ("a", "b", "c"):
        ledger.append(share(metric, 1, 2))
    assert [entry.time[11:19] for entry in ledger.entries()] == ["03:04:15", "03:04:15", "03:04:15"]
    assert verify(tmp_path).ok


def test_text_in_any_script_survives(tmp_path: Path) -> None:
    note = 'naïve "quotes" \u2028 \ud83d 火 \x00 ,"hash":"'
    Ledger(tmp_path).append(share("asr", 1, 2, note=note))
    assert next(iter(Ledger(tmp_path).current().values())).measurement.note == note
    assert verify(tmp_path).ok


def test_no_ledger_is_an_error_that_says_what_makes_one(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"ledger\.jsonl: no ledger here\. It is written by: uphold run"):
        Ledger(tmp_path).entries()


def test_nothing_is_built_on_a_damaged_ledger(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.append_measurements("attack", [share("a", 1, 2), share("b", 1, 2)])
    path = tmp_path / "ledger.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"value":0.5', b'"value":0.1', 1))
    with pytest.raises(
        StoreError, match=r"ledger\.jsonl:1: damaged entry\. Restore the file from a copy, or start a new run"
    ):
        Ledger(tmp_path).append(share("c", 1, 2))


def test_nothing_is_built_on_a_ledger_that_was_cut_short(tmp_path: Path) -> None:
    Ledger(tmp_path).append_measurements("attack", [share("a", 1, 2), share("b", 1, 2)])
    path = tmp_path / "ledger.jsonl"
    path.write_bytes(path.read_bytes().splitlines(keepends=True)[0])
    with pytest.raises(StoreError, match=r"not the ledger that was acknowledged \(2 entries, of which 1 are here\)"):
        Ledger(tmp_path).append(share("c", 1, 2))


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot write"):
        Ledger(tmp_path / "file" / "run").append(share("a", 1, 2))
