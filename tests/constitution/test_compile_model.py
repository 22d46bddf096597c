"""What a model adds to a compiled policy, and what a bad answer costs: its own paragraph, nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from uphold.cli.main import run
from uphold.constitution.compile import compile_text
from uphold.constitution.prose.refine import Refiner
from uphold.core.journal import Journal
from uphold.models.base import Conversation
from uphold.models.fake import FakeChat

POLICY = """# Returns

The assistant must tell the customer the deadline and the address.

The assistant must not promise a refund.

Staff should be polite.
"""


def reply(*clauses: tuple[int, str, str]) -> str:
    return json.dumps({"clauses": [{"n": n, "text": text, "modality": m, "category": None} for n, text, m in clauses]})


GOOD = reply(
    (1, "The assistant must tell the customer the deadline.", "must"),
    (1, "The assistant must tell the customer the address.", "must"),
)


class Answers:
    """Replies by a word of the paragraph; of any other, the first sentence comes back as it stands."""

    def __init__(self, **by_word: str) -> None:
        self.by_word = by_word

    def __call__(self, conversation: Conversation) -> str:
        asked: dict[str, Any] = json.loads(conversation[-1].content)
        text = " ".join(sentence["text"] for sentence in asked["sentences"])
        whole = reply((1, asked["sentences"][0]["text"], "must" if "must" in text else "should"))
        return next((answer for word, answer in self.by_word.items() if word in text), whole)


def compiled(chat: FakeChat) -> tuple[list[tuple[str, str]], dict[str, Any]]:
    found = compile_text(POLICY, refiner=Refiner(chat))
    assert found.model is not None
    return [(clause.by, clause.text) for clause in found.clauses], dict(found.model)


def test_a_good_answer_replaces_the_rules_for_its_paragraph():
    clauses, model = compiled(FakeChat(Answers(deadline=GOOD, refund="?", Staff="?")))
    assert clauses == [
        ("model", "The assistant must tell the customer the deadline."),
        ("model", "The assistant must tell the customer the address."),
        ("rules", "The assistant must not promise a refund."),
        ("rules", "Staff should be polite."),
    ]
    assert (model["asked"], model["refined"], model["fallbacks"]) == (3, 1, {"not the JSON asked for": 2})


def test_the_ids_of_a_sentence_do_not_depend_on_who_cut_it():
    by_rules = compile_text(POLICY).clauses
    by_model = compile_text(POLICY, refiner=Refiner(FakeChat(Answers(deadline=GOOD, refund="?", Staff="?")))).clauses
    assert by_model[0].id == by_rules[0].id
    assert by_model[1].id == f"{by_rules[0].id}-2"
    assert [clause.id for clause in by_model[2:]] == [clause.id for clause in by_rules[1:]]


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ("Sure! Here you are.", "not the JSON asked for"),
        (
            '{"clauses": [{"n": "1", "text": "The assistant must not promise a refund.", "modality": "must"}]}',
            "not the JSON asked for",
        ),
        (reply((1, "The assistant must not promise a refund.", "shall")), "not the JSON asked for"),
        (
            reply((1, "The assistant must not promise a refund.", "must"))[:-1] + ', "notes": ""}',
            "not the JSON asked for",
        ),
        (reply((7, "The assistant must not promise a refund.", "must")), "no such sentence"),
        (reply((1, "Robots must never harm humanity through weapons.", "must")), "not grounded in the paragraph"),
        (reply((1, "The assistant must promise a refund.", "must")), "a negation was lost"),
        (reply(), "no rule found where the rules found one"),
    ],
)
def test_an_answer_that_cannot_be_believed_leaves_the_rules_and_is_counted(answer: str, why: str):
    clauses, model = compiled(FakeChat(Answers(refund=answer)))
    assert [text for by, text in clauses if by == "rules"] == ["The assistant must not promise a refund."]
    assert model["fallbacks"] == {why: 1}
    assert model["refined"] == 2


def test_a_negation_that_was_added_is_not_believed():
    _, model = compiled(FakeChat(Answers(Staff=reply((1, "Staff should not be polite.", "should")))))
    assert model["fallbacks"] == {"a negation was added": 1}


def test_a_fenced_answer_is_read():
    clauses, _ = compiled(FakeChat(Answers(deadline=f"```json\n{GOOD}\n```")))
    assert ("model", "The assistant must tell the customer the address.") in clauses


def test_a_truncated_answer_is_counted_as_such():
    long = reply(
        *[(1, f"The assistant must tell the customer the deadline {'again ' * i}.", "must") for i in range(60)]
    )
    _, model = compiled(FakeChat(Answers(deadline=long + " x" * 3000)))
    assert model["fallbacks"] == {"truncated": 1}


def test_a_model_that_fails_half_the_time_still_gives_a_whole_constitution():
    clauses, model = compiled(FakeChat(Answers(deadline=GOOD), fail={1, 2}))
    assert [text for _, text in clauses[2:]] == ["The assistant must not promise a refund.", "Staff should be polite."]
    assert model["fallbacks"] == {"no reply": 2}


def test_what_was_asked_once_is_not_asked_again(tmp_path: Path):
    for expected in (3, 3):
        chat = FakeChat(Answers(deadline=GOOD), name="same")
        with Journal(tmp_path / "calls.jsonl") as journal:
            compile_text(POLICY, refiner=Refiner(chat, journal))
            assert len(journal) == expected
    assert chat.asked == []


def test_the_command_counts_what_fell_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    Path("policy.md").write_text(POLICY)
    assert run(["constitution", "compile", "policy.md", "--model", "fake:text=no", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["model"]["fallbacks"] == {"not the JSON asked for": 3}
    assert len(result["clauses"]) == 3
    assert Path("policy.md.calls.jsonl").is_file()


def test_a_model_that_is_down_stops_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    Path("policy.md").write_text(POLICY)
    assert run(["constitution", "compile", "policy.md", "--model", "fake:fail"]) == 2
    assert capsys.readouterr().err == "uphold: fake:fail: told to be down. Use another model.\n"
