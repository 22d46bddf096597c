"""Verification: every changed bit is found and located; so are missing, moved and forged entries."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_evidence import share

from uphold.core.errors import StoreError
from uphold.evidence.entry import body_text, encode
from uphold.evidence.ledger import Ledger
from uphold.evidence.verify import Problem, check, verify


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A run folder with a ledger of five entries."""
    Ledger(tmp_path).append_measurements("attack", [share(f"m{i}", i, 10, note="J*") for i in range(5)])
    return tmp_path


def rewrite(run: Path, lines: list[bytes]) -> None:
    (run / "ledger.jsonl").write_bytes(b"".join(lines))


def lines_of(run: Path) -> list[bytes]:
    return (run / "ledger.jsonl").read_bytes().splitlines(keepends=True)


def test_an_untouched_ledger_is_sound(small: Path) -> None:
    found = verify(small)
    assert (found.ok, found.entries, found.problems) == (True, 5, ())
    assert found.head == json.loads(lines_of(small)[-1])["hash"]


def flips_found(run: Path, every: int = 1, is_acknowledged: bool = True) -> None:
    """Flip each bit in turn; the first problem must name the entry that holds it, and no other entry but the next may be blamed."""
    clean = (run / "ledger.jsonl").read_bytes()
    head = json.loads((run / "chain-head.json").read_text()).values() if is_acknowledged else ()
    assert check(io.BytesIO(clean), *head).ok
    for position in range(0, 8 * len(clean), every):
        damaged = bytearray(clean)
        damaged[position // 8] ^= 1 << (position % 8)
        found = check(io.BytesIO(damaged), *head)
        entry = clean.count(b"\n", 0, position // 8)
        assert not found.ok, f"bit {position} of entry {entry} was not noticed"
        assert found.problems[0].entry == entry, f"bit {position}: {found.problems}"
        assert {p.entry for p in found.problems} <= {entry, entry + 1}, f"bit {position}: {found.problems}"


def test_every_flipped_bit_is_found_and_located(small: Path) -> None:
    flips_found(small)


def test_flipped_bits_are_found_and_located_also_without_the_acknowledgement_beside_the_ledger(small: Path) -> None:
    flips_found(small, every=13, is_acknowledged=False)


def test_several_damaged_entries_are_each_located(small: Path) -> None:
    lines = lines_of(small)
    for i in (1, 3):
        lines[i] = lines[i].replace(b'"n_asked":10', b'"n_asked":99')
    rewrite(small, lines)
    assert [(p.line, p.entry) for p in verify(small).problems] == [(2, 1), (4, 3)]


@pytest.mark.parametrize(
    ("order", "line", "what"),
    [
        ([0, 1, 3, 4], 3, "does not follow the entry above it: 1 entry is missing"),
        ([0, 4], 2, "does not follow the entry above it: 3 entries are missing"),
        ([1, 2, 3, 4], 1, "does not follow the entry above it: 1 entry is missing"),
        (
            [0, 1, 1, 2, 3, 4],
            3,
            "does not follow the entry above it: entries were removed, repeated, moved or replaced",
        ),
        ([0, 2, 1, 3, 4], 2, "does not follow the entry above it: 1 entry is missing"),
    ],
)
def test_missing_repeated_and_moved_entries_are_located(small: Path, order: list[int], line: int, what: str) -> None:
    lines = lines_of(small)
    rewrite(small, [lines[i] for i in order])
    found = verify(small)
    assert not found.ok
    assert (found.problems[0].line, found.problems[0].what) == (line, what)


def test_a_ledger_cut_at_a_line_end_is_noticed_by_what_was_acknowledged(small: Path) -> None:
    rewrite(small, lines_of(small)[:3])
    assert verify(small).problems == (
        Problem(what="the ledger is cut short: 5 entries were acknowledged, the last 2 of them are missing"),
    )


def test_an_emptied_ledger_is_noticed(small: Path) -> None:
    rewrite(small, [])
    assert verify(small).problems == (
        Problem(what="the ledger is cut short: 5 entries were acknowledged, the last 5 of them are missing"),
    )


def test_a_last_line_torn_off_after_it_was_acknowledged_is_damage(small: Path) -> None:
    lines = lines_of(small)
    rewrite(small, [*lines[:4], lines[4][:100]])
    assert verify(small).problems == (Problem(what="was acknowledged and is no longer whole", line=5, entry=4),)


def test_a_torn_write_that_nobody_was_told_of_is_reported_and_dropped_by_the_next_write(small: Path) -> None:
    with open(small / "ledger.jsonl", "ab") as file:
        file.write(b'{"seq":5,"time":"2026')
    what = "is incomplete: a write was interrupted; the next one drops it"
    assert verify(small).problems == (Problem(what=what, line=6, entry=5),)

    assert len(Ledger(small).entries()) == 5  # readers pass over it
    Ledger(small).append_measurements(
        "attack", [share(f"m{i}", i, 10, note="J*") for i in range(5)]
    )  # adds nothing, mends
    assert verify(small).ok
    Ledger(small).append(share("next", 1, 2))
    assert verify(small).entries == 6
    assert verify(small).ok


def test_a_forged_replacement_chain_is_noticed_by_what_was_acknowledged(small: Path) -> None:
    (small / "ledger.jsonl").unlink()
    head = (small / "chain-head.json").read_bytes()
    (small / "chain-head.json").unlink()
    Ledger(small).append_measurements("attack", [share(f"m{i}", 0, 10) for i in range(5)])
    (small / "chain-head.json").write_bytes(head)
    assert verify(small).problems == (
        Problem(what="is not the entry that chain-head.json acknowledged", line=5, entry=4),
    )


def entry(
    seq: int, prev: str, body: dict, time: str = "2026-01-01T00:00:00.000000Z", kind: str = "measurement"
) -> tuple[bytes, str]:
    return encode(seq, time, kind, "s", prev, body_text(body))


def test_a_sound_chain_with_a_clock_that_ran_backwards_is_reported(tmp_path: Path) -> None:
    body = share("a", 1, 2).model_dump(mode="json")
    one, found = entry(0, "0" * 64, body, time="2026-01-02T00:00:00.000000Z")
    two, _ = entry(1, found, body, time="2026-01-01T00:00:00.000000Z")
    rewrite(tmp_path, [one, two])
    what = "time 2026-01-01T00:00:00.000000Z is before that of the entry above it, 2026-01-02T00:00:00.000000Z"
    assert verify(tmp_path).problems == (Problem(what=what, line=2, entry=1),)


def test_a_measurement_that_contradicts_itself_is_reported_although_its_hash_is_right(tmp_path: Path) -> None:
    body = share("a", 1, 2).model_dump(mode="json") | {"n_scored": 3}
    rewrite(tmp_path, [entry(0, "0" * 64, body)[0]])
    what = "not a measurement: Value error, a: n_scored 3 exceeds n_asked 2"
    assert verify(tmp_path).problems == (Problem(what=what, line=1, entry=0),)


def test_duplicate_numbers_are_reported(tmp_path: Path) -> None:
    body = share("a", 1, 2).model_dump(mode="json")
    one, found = entry(0, "0" * 64, body)
    two, _ = entry(0, found, body)
    rewrite(tmp_path, [one, two])
    assert verify(tmp_path).problems == (Problem(what="is numbered 0 where 1 was due", line=2, entry=0),)


def test_a_file_that_is_no_ledger_gives_one_problem_a_line(tmp_path: Path) -> None:
    rewrite(tmp_path, [b"hello\n", b"{}\n"])
    assert [p.line for p in verify(tmp_path).problems] == [1, 2]


def test_no_ledger_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no ledger here"):
        verify(tmp_path)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=300))
def test_no_bytes_at_all_make_the_checker_stumble(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    run = tmp_path_factory.mktemp("run")
    (run / "ledger.jsonl").write_bytes(content)
    assert verify(run).ok == (content == b"")
