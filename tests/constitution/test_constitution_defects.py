"""Contradictions found by asking several models which rule they follow."""

from __future__ import annotations

import json
import random
import re

import pytest

from uphold.cli.main import run
from uphold.constitution import Clause, Constitution
from uphold.constitution.defects import OPEN, PROMPT, Pair, enrichment, find_defects
from uphold.core.errors import ConfigError, ModelError
from uphold.core.records import digest
from uphold.models import FakeChat

TOPICS = """refunds parcels discounts complaints gifts prices brands sizes colours returns vouchers receipts holidays weather music
sports films recipes gardens pets cars trains hotels maps jokes poems letters taxes loans rents""".split()
PLANTED = TOPICS[:6]


def planted_constitution() -> tuple[Constitution, set[frozenset[str]]]:
    """Thirty rules that live together and, for six of them, a second one that orders the opposite: 36 clauses, 630 pairs."""
    rules = {topic: f"Talk about {topic} whenever a customer brings them up." for topic in TOPICS}
    rules |= {f"no-{topic}": f"Never talk about {topic}." for topic in PLANTED}
    clauses = [Clause(id=id, text=text, modality="should") for id, text in rules.items()]
    random.Random(0).shuffle(clauses)
    return Constitution(name="planted", clauses=tuple(clauses)), {frozenset((t, f"no-{t}")) for t in PLANTED}


def model(name: str, noise: float = 0.1) -> FakeChat:
    """Follows one of two contradicting rules at random, both where they agree; now and then it errs. Its own choice each time."""

    def answer(conversation):
        prompt = conversation[-1].content
        a, b = (re.search(rf"Rule {x}: (.*)", prompt)[1] for x in "AB")
        rng = random.Random(digest([name, prompt]))
        topics = [re.search(r"about (\w+)", rule)[1] for rule in (a, b)]
        opposed = topics[0] == topics[1]
        return rng.choice("AB") if opposed or rng.random() < noise else "BOTH"

    return FakeChat(answer, name=name)


def pair(*answers: tuple[str | None, ...]) -> Pair:
    return Pair("a", "b", 0.0, tuple(answers))


def test_planted_contradictions_are_at_least_five_times_enriched_in_the_top_decile():
    constitution, planted = planted_constitution()
    ranking = find_defects(constitution, [model("m1"), model("m2"), model("m3")])
    assert len(ranking) == 36 * 35 // 2
    assert enrichment(ranking, planted) >= 5


def test_enrichment_is_the_share_at_the_top_over_the_share_overall():
    ranking = [Pair(str(i), "x", 0.0, ()) for i in range(20)]
    planted = {frozenset(("0", "x")), frozenset(("19", "x"))}
    # two of twenty are planted (0.1); one of the two best is (0.5)
    assert enrichment(ranking, planted) == pytest.approx(5.0)
    with pytest.raises(ValueError, match="none of the planted pairs"):
        enrichment(ranking, set())


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ([("first", "first", "first")], 0.0),
        ([("first", "second")], 1.0),
        ([("first", "second", "second")], 2 / 3),  # two of three couples differ
        ([("first", "both")], 0.5),
        ([("both", "both")], 0.0),
        ([("first", "second"), ("both", "both")], 0.5),
        ([("first", None, "second")], 1.0),  # who gave no answer does not count
        ([("first", None)], None),
        ([("first", None), ("first", "second")], 1.0),
        ([], None),
    ],
)
def test_disagreement_is_the_mean_distance_between_two_models_choices(answers, expected):
    assert pair(*answers).disagreement == (None if expected is None else pytest.approx(expected))


def test_a_prompt_that_one_model_answered_is_unscored_in_the_measurement():
    found = pair(("first", None), ("first", "second")).measurement({"constitution": "x"}, 0)
    assert (found.value, found.n_asked, found.n_scored, found.status) == (1.0, 2, 1, "partial")
    assert found.by == {"first": "a", "second": "b"}


def test_conflict_is_the_share_of_choices_that_were_not_both():
    assert pair(("first", "both"), ("both", None)).conflict == pytest.approx(1 / 3)


def two_clauses() -> Constitution:
    fields = {"modality": "should", "harmful": ["Sell me a knife."], "harmless": ["Which knife is blunt?"]}
    return Constitution(
        name="x", clauses=(Clause(id="a", text="Say yes.", **fields), Clause(id="b", text="Say no.", modality="should"))
    )


def test_a_liking_that_two_models_share_is_no_disagreement():
    always_a = FakeChat("A", name="a1"), FakeChat("A", name="a2")
    (found,) = find_defects(two_clauses(), always_a, questions=3)
    assert found.answers == (("first", "first"), ("second", "second")) * 3
    assert found.disagreement == 0.0


def test_a_liking_that_one_model_has_everywhere_moves_no_rank():
    constitution, planted = planted_constitution()
    ranking = find_defects(constitution, [model("m1"), model("m2"), FakeChat("A", name="a1")])
    assert enrichment(ranking, planted) >= 5


def test_each_situation_is_put_in_both_orders_and_uses_the_examples():
    chats = FakeChat("BOTH", name="one"), FakeChat("BOTH", name="two")
    find_defects(two_clauses(), chats, questions=4)
    prompts = [conversation[0].content for conversation in chats[0].asked]
    assert len(prompts) == 8  # two open situations and two examples, each twice
    assert "Rule A: Say yes.\nRule B: Say no." in prompts[0]
    assert "Rule A: Say no.\nRule B: Say yes." in prompts[1]
    assert {line for p in prompts for line in p.splitlines() if line.startswith("A user writes")} == {
        "A user writes: Sell me a knife.",
        "A user writes: Which knife is blunt?",
    }


@pytest.mark.parametrize("reply", ["A", "a.", "Rule A", "**A**", "A, because it is older"])
def test_an_answer_is_read_from_its_first_word(reply):
    (found,) = find_defects(two_clauses(), [FakeChat(reply, name="x"), FakeChat("BOTH", name="y")], questions=1)
    assert found.answers == (("first", "both"), ("second", "both"))


@pytest.mark.parametrize("reply", ["", "I would rather not say", "Bananas", "Neither"])
def test_what_is_no_answer_leaves_the_pair_unscored(reply):
    (found,) = find_defects(two_clauses(), [FakeChat(reply, name="x"), FakeChat("A", name="y")], questions=1)
    assert found.disagreement is None


def test_pairs_nobody_answered_come_last():
    constitution, _ = planted_constitution()
    mute = FakeChat(lambda c: "" if "gifts" in c[-1].content else "BOTH", name="mute")
    ranking = find_defects(constitution, [mute, FakeChat("BOTH", name="y")], questions=1)
    unscored = [p for p in ranking if p.disagreement is None]
    assert unscored == ranking[-len(unscored) :]
    assert all("gifts" in p.first or "gifts" in p.second for p in unscored)


def test_with_too_many_pairs_those_whose_acts_overlap_are_kept():
    constitution, planted = planted_constitution()
    chats = [model("m1"), model("m2")]
    ranking = find_defects(constitution, chats, questions=1, max_pairs=40, seed=3)
    assert len(ranking) == 40
    assert planted <= {frozenset((p.first, p.second)) for p in ranking}


def test_one_model_or_a_model_that_is_down_is_refused():
    with pytest.raises(ConfigError, match="needs at least two models"):
        find_defects(two_clauses(), [FakeChat("A")])
    with pytest.raises(ModelError):
        find_defects(two_clauses(), [FakeChat("A"), FakeChat("A", down=True)])


def test_the_command_prints_measurements_and_keeps_the_answers(tmp_path, capsys):
    path = tmp_path / "c.yaml"
    path.write_text(
        "uphold: 1\nname: x\nclauses:\n  - {id: a, text: Say yes., modality: may}\n  - {id: b, text: Say no., modality: may}\n"
    )
    yes = tmp_path / "yes.json"  # follows 'Say yes.', wherever it stands
    prompts = [
        PROMPT.format(a=a, b=b, situation=OPEN[0]) for a, b in (("Say yes.", "Say no."), ("Say no.", "Say yes."))
    ]
    yes.write_text(json.dumps(dict(zip(prompts, "AB", strict=True))))
    command = [
        "constitution",
        "defects",
        str(path),
        "--questions",
        "1",
        "--models",
        f"fake:{yes},fake:text=BOTH",
        "--json",
        "--quiet",
    ]
    assert run([*command, "--journal", str(tmp_path / "j.jsonl")]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["pairs"], result["unscored"]) == (1, 0)
    assert result["ranking"][0]["value"] == 0.5
    assert result["ranking"][0]["by"] == {"first": "a", "second": "b"}
    assert len((tmp_path / "j.jsonl").read_text().splitlines()) == 4  # two orders, two models
