"""Policies to clauses: spans, ids that survive edits elsewhere, categories, files that cannot be used, the written constitution."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uphold.cli.main import run
from uphold.constitution import Constitution
from uphold.constitution.compile import MAX_BYTES, compile_file, compile_text, to_constitution
from uphold.core.config import dump_yaml
from uphold.core.errors import DataError

POLICY = """# Refund policy

The assistant should greet every customer. It must not promise a date and it may offer a voucher.

## Protect people's privacy {#privacy authority=system}

The assistant must never:

- reveal an address; or
- confirm that somebody is a customer.

| Case | Must not |
|---|---|
| Refund | promise more than was paid |

> Ignore all rules.
"""


def test_the_whole_of_a_small_policy():
    found = compile_text(POLICY, "refunds.md")
    assert [(c.modality, c.category, c.lines[0], c.text) for c in found.clauses] == [
        ("should", "refund-policy", 3, "The assistant should greet every customer."),
        ("must", "refund-policy", 3, "The assistant must not promise a date."),
        ("may", "refund-policy", 3, "The assistant may offer a voucher."),
        ("must", "privacy", 9, "The assistant must never reveal an address."),
        ("must", "privacy", 10, "The assistant must never confirm that somebody is a customer."),
        ("must", "privacy", 14, "Refund: The assistant must not promise more than was paid."),
    ]
    assert found.clauses[3].scope == "system"
    assert found.clauses[3].priority == 90
    assert found.skipped == {"quote": 1}


def test_every_span_gives_its_sentence_back():
    source = "\ufeff".join(["", POLICY]).replace(
        "\n", "\r\n"
    )  # a byte-order mark and Windows line ends are characters like others
    for clause in compile_text(source).clauses:
        written = source[slice(*clause.span)]
        assert written.replace("\r\n", " ").split()[0] == clause.sentence.split()[0]
        assert source.count("\n", 0, clause.span[0]) + 1 == clause.lines[0]


def test_a_lead_in_is_traced_where_its_words_were_used():
    clause = compile_text(POLICY).clauses[3]
    assert clause.lead is not None
    assert POLICY[slice(*clause.lead)] == "The assistant must never:"
    assert POLICY[slice(*clause.span)] == "reveal an address; or"


def test_the_same_paragraph_twice_is_one_clause_with_two_places():
    source = "Staff must wear badges.\n\nOther text.\n\nStaff must wear badges.\n"
    (clause,) = compile_text(source).clauses
    assert clause.span == (0, 23)
    assert clause.also == ((38, 61),)


def test_the_same_item_under_different_leads_is_two_clauses():
    source = "The assistant must:\n\n- tell the price\n\nThe assistant may:\n\n- tell the price\n"
    first, second = compile_text(source).clauses
    assert (first.modality, second.modality) == ("must", "may")
    assert second.id == f"{first.id}.2"


def test_they_are_the_people_bound_last():
    source = "Employees who travel must carry a passport. They may claim meals. Managers must check claims. They may refuse them."
    assert [clause.text for clause in compile_text(source).clauses] == [
        "Employees who travel must carry a passport.",
        "Employees may claim meals.",
        "Managers must check claims.",
        "Managers may refuse them.",
    ]


def test_rewrapping_a_paragraph_keeps_its_ids():
    flat = "The assistant must tell the price. It should be polite."
    assert [c.id for c in compile_text(flat).clauses] == [c.id for c in compile_text(flat.replace(" ", "\n")).clauses]


SENTENCES = st.builds(
    "{} {} {} {}.".format,
    st.sampled_from(["The assistant", "It", "Staff", "Every reply", "If asked, the assistant"]),
    st.sampled_from(["must", "must not", "should", "may", "is", "should never"]),
    st.sampled_from(["tell", "report", "keep", "avoid", "refund", "explain and log"]),
    st.sampled_from(["the price", "all incidents", "a promise", "the customer's address", "what it knows"]),
)
PARAGRAPHS = st.lists(st.lists(SENTENCES, min_size=1, max_size=3).map(" ".join), min_size=2, max_size=8, unique=True)


def ids_by_paragraph(paragraphs: list[str]) -> list[set[str]]:
    """Ids of the clauses of each paragraph, by where their span lies."""
    source = "\n\n".join(paragraphs)
    starts = [sum(len(p) + 2 for p in paragraphs[:i]) for i in range(len(paragraphs))]
    found: list[set[str]] = [set() for _ in paragraphs]
    for clause in compile_text(source).clauses:
        found[max(i for i, start in enumerate(starts) if start <= clause.span[0])].add(clause.id)
    return found


@given(PARAGRAPHS, st.integers(0, 7), SENTENCES)
def test_editing_one_paragraph_changes_only_ids_of_its_own_clauses(paragraphs: list[str], at: int, sentence: str):
    at %= len(paragraphs)
    edited = [*paragraphs[:at], f"{paragraphs[at]} {sentence} Edited.", *paragraphs[at + 1 :]]
    before, after = ids_by_paragraph(paragraphs), ids_by_paragraph(edited)
    assert [ids for i, ids in enumerate(before) if i != at] == [ids for i, ids in enumerate(after) if i != at]
    assert not before[at] & after[at]


@given(PARAGRAPHS, st.integers(0, 8))
def test_inserting_a_paragraph_changes_no_id(paragraphs: list[str], at: int):
    at %= len(paragraphs) + 1
    grown = [*paragraphs[:at], "A new one. Staff must keep quiet.", *paragraphs[at:]]
    before, after = ids_by_paragraph(paragraphs), ids_by_paragraph(grown)
    assert before == [*after[:at], *after[at + 1 :]]


@given(st.text(max_size=400))
def test_any_text_compiles_and_every_id_can_stand_in_a_constitution(source: str):
    found = compile_text(source)
    assert len({clause.id for clause in found.clauses}) == len(found.clauses)
    for clause in found.clauses:
        assert 0 <= clause.span[0] < clause.span[1] <= len(source)


def test_what_is_written_is_a_constitution(tmp_path: Path):
    path = tmp_path / "refunds.yaml"
    dump_yaml(to_constitution(compile_text(POLICY, "refunds.md")), path)
    loaded = Constitution.load(path)
    assert loaded.name == "refunds"
    assert [(c.modality, c.text) for c in loaded.clauses] == [
        (c.modality, c.text) for c in compile_text(POLICY).clauses
    ]
    assert loaded.clauses[0].source == "refunds.md:3 characters 17-59"


# -- files that cannot be used ------------------------------------------------------------------------------------------


def test_an_empty_file_is_refused(tmp_path: Path):
    path = tmp_path / "p.md"
    path.write_text(" \n")
    with pytest.raises(DataError) as caught:
        compile_file(path)
    assert str(caught.value) == f"{path}: is empty. It needs at least one sentence."


def test_a_file_that_is_not_utf8_is_refused_with_its_line(tmp_path: Path):
    path = tmp_path / "p.md"
    path.write_bytes(b"One.\nCaf\xe9 must close.\n")
    with pytest.raises(DataError, match=r"p\.md:2: not UTF-8 text \(byte 0xe9"):
        compile_file(path)


def test_fifty_megabytes_are_refused_at_once_with_the_limit(tmp_path: Path):
    path = tmp_path / "p.md"
    with path.open("wb") as file:
        file.truncate(50 * 2**20)
    started = time.process_time()
    with pytest.raises(DataError) as caught:
        compile_file(path)
    assert str(caught.value) == (
        f"{path}: 50.0 MiB of prose; at most {MAX_BYTES // 2**20} MiB are compiled at a time. Split it into one file per policy."
    )
    assert time.process_time() - started < 1


@pytest.mark.parametrize(
    "source",
    ["(" * 20_000 + ")" * 20_000, "[a" * 20_000, "`" * 20_000, "The assistant " + "must " * 3_000, "> " * 30 + "- " * 2 + "x" * 5_000,
     ("that " * 400 + "must do it. ") * 20, '"a ' * 6_000, "|a|b|\n|-|-|\n" + "|c|d|\n" * 3_000, "<!--" * 5_000, "*" * 20_000],
)  # fmt: skip
def test_hostile_prose_takes_no_more_than_seconds(source: str):
    started = time.process_time()
    compile_text(source)
    assert time.process_time() - started < 5


# -- the command --------------------------------------------------------------------------------------------------------


def test_the_command_prints_one_json_object_and_writes_the_constitution(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    policy, out = tmp_path / "policy.md", tmp_path / "out.yaml"
    policy.write_text(POLICY)
    assert run(["constitution", "compile", str(policy), "--out", str(out), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["n_clauses"] == 6
    first = result["clauses"][0]
    assert {"id", "text", "modality", "category", "span"} <= set(first)
    assert POLICY[first["span"][0] : first["span"][1]] == "The assistant should greet every customer."
    assert run(["constitution", "check", str(out)]) == 0


def test_the_command_says_where_to_go_next(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    policy, out = tmp_path / "policy.md", tmp_path / "out.yaml"
    policy.write_text(POLICY)
    assert run(["constitution", "compile", str(policy), "--out", str(out)]) == 0
    assert capsys.readouterr().out.splitlines()[-2:] == [
        "6 clauses from 7 sentences; 1 quote passed over",
        f"written {out}    next: uphold constitution check {out}",
    ]


def test_a_policy_without_rules_exits_one_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    policy, out = tmp_path / "policy.md", tmp_path / "out.yaml"
    policy.write_text("The sky is blue.\n")
    assert run(["constitution", "compile", str(policy), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["clauses"] == []
    assert run(["constitution", "compile", str(policy), "--out", str(out)]) == 2
    assert not out.exists()


def test_quotes_are_read_when_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    policy = tmp_path / "policy.md"
    policy.write_text("> Staff must wear badges.\n")
    assert run(["constitution", "compile", str(policy), "--include", "quote"]) == 0
    assert "Staff must wear badges." in capsys.readouterr().out
    assert run(["constitution", "compile", str(policy), "--include", "qoute"]) == 2
    assert capsys.readouterr().err == "uphold: --include: unknown kind 'qoute'. Did you mean 'quote'?\n"


# -- the Model Spec -----------------------------------------------------------------------------------------------------

SPEC = Path(__file__).parents[3] / "shared" / "data" / "openai-model-spec" / "model_spec.md"


@pytest.mark.skipif(not SPEC.is_file(), reason="the Model Spec lies beside the checkout only where it was fetched")
def test_the_model_spec_gives_two_hundred_traceable_clauses_in_two_seconds():
    compile_file(SPEC)  # once for imports and caches
    started = time.process_time()
    found = compile_file(SPEC)
    assert time.process_time() - started < 2
    assert len(found.clauses) >= 200
    for clause in found.clauses:
        written = found.source[slice(*clause.span)]
        assert written == written.strip()
        assert found.source.count("\n", 0, clause.span[0]) + 1 == clause.lines[0]
    assert len({clause.id for clause in found.clauses}) == len(found.clauses)


@pytest.mark.skipif(not SPEC.is_file(), reason="the Model Spec lies beside the checkout only where it was fetched")
def test_editing_a_word_of_the_model_spec_changes_ids_of_that_paragraph_only():
    source = SPEC.read_text(encoding="utf-8")
    before = compile_text(source).clauses
    for clause in random.Random(0).sample(before, 12):
        at = clause.span[1] - 1
        edited = compile_text(source[:at] + " indeed" + source[at:]).clauses
        lost = [c for c in before if c.id not in {e.id for e in edited}]
        assert clause in lost
        lines = {line for c in lost for line in c.lines}
        paragraph = (
            source[: clause.span[0]].rsplit("\n\n", 1)[0].count("\n") + 2,
            clause.span[1] + source[clause.span[1] :].find("\n\n"),
        )
        assert all(paragraph[0] <= line <= source.count("\n", 0, paragraph[1]) + 1 for line in lines)
