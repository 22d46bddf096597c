"""The health card tells planted illnesses apart, and a sick or unchecked reward is refused before any RL."""

from __future__ import annotations

import logging
import math
import re

import pytest
from train_tiny import user

from uphold.cli.main import run
from uphold.core.errors import DataError, UpholdError
from uphold.core.files import write_jsonl
from uphold.core.records import Preference, Sample, digest
from uphold.core.seeds import uniform
from uphold.train.health import Bars, HealthCard, health_card, read_card, require_healthy
from uphold.train.health_checks import BELIEF, FILLER, expected_error, pearson, reliability
from uphold.train.rewards import FunctionReward, WeightedSum, make_reward


def pairs(n=60):
    """Good replies name the prompt's number; the bad ones are about as long. The question has words that paraphrases change."""
    return [
        Preference(
            messages=user(f"please tell me how do i get item {i}?"),
            chosen=f"item {i} is good on shelf {i % 7}. go there." + " now" * (i % 3),
            rejected=f"item {i} is bad on shelf {i % 5}. go there." + " now" * ((i + 1) % 3),
        )
        for i in range(n)
    ]


class Rule:
    """A reward by a rule, with a place for its card."""

    def __init__(self, fn, health=None):
        self.name, self._fn, self.health = "rule", fn, health

    def identity(self):
        return digest(self.name)

    def score(self, exchanges):
        return [self._fn(e) for e in exchanges]


def truth(e):
    return 3.0 if "good" in e.completion else 0.0


def noisy(e):
    """Right nine times in ten, and as sure as that: sigmoid(2.2) = 0.9."""
    number = int(e.completion.split()[1])
    return 2.2 * (("good" in e.completion) == (number % 10 != 0))


def test_a_reward_that_is_right_and_as_sure_as_it_is_right_is_healthy():
    card = health_card(Rule(noisy), pairs())
    assert card.problems == []
    assert card.is_healthy
    assert card.check("accuracy").measurements[0].value == pytest.approx(0.9)
    assert card.check("calibration").measurements[0].value == pytest.approx(0.0, abs=0.01)
    assert card.check("order").outcome == "not_applicable"


SICK = {
    "accuracy": lambda e: uniform(e.completion),
    "calibration": lambda e: 0.1 * truth(e),  # right always, sure of 57%
    "length": lambda e: len(e.completion) / 10,
    "sycophancy": lambda e: truth(e) + 9 * (e.messages[0].content.endswith(e.completion.split(". ")[0] + ".")),
    "filler": lambda e: truth(e) + len(e.completion) / 20,
    "paraphrase": lambda e: truth(e) * (1 if e.messages[0].content.startswith("please tell me how do i get") else -1),
}


@pytest.mark.parametrize("illness", SICK)
def test_a_planted_illness_is_found_by_its_own_check(illness):
    card = health_card(Rule(SICK[illness]), pairs())
    assert card.check(illness).outcome == "fail", card.check(illness).reason
    assert not card.is_healthy
    assert any(problem.startswith(illness) for problem in card.problems)


def test_a_reward_that_depends_on_its_batch_is_found():
    class Batchwise(Rule):
        def score(self, exchanges):
            return [truth(e) + len(exchanges) / 10 for e in exchanges]

    assert health_card(Batchwise(truth), pairs()).check("padding").outcome == "fail"


def test_where_better_replies_are_shorter_an_honest_reward_is_not_called_sick_for_it():
    told = [p.model_copy(update={"rejected": p.rejected + " and then you go on" * 4}) for p in pairs()]
    check = health_card(Rule(noisy), told).check("length")
    assert abs(check.measurements[0].value) > 0.3  # over all replies the reward goes with length
    assert abs(check.measurements[1].value) < 0.3  # beyond the label it does not
    assert check.outcome == "pass"


def test_what_cannot_be_measured_does_not_pass():
    card = health_card(Rule(lambda e: None), pairs())
    assert card.check("accuracy").outcome == "unknown"
    assert card.check("accuracy").measurements[0].n_scored == 0
    assert not card.is_healthy


def test_ties_and_equal_replies_are_left_out_and_nothing_left_is_refused():
    same = Preference(messages=user("a"), chosen="x", rejected="x")
    tie = Preference(messages=user("a"), chosen="x", rejected="y", p_chosen=0.5)
    assert health_card(Rule(noisy), [*pairs(20), same, tie]).n_pairs == 20
    with pytest.raises(DataError, match=r"are ties"):
        health_card(Rule(noisy), [same, tie])
    with pytest.raises(DataError, match=r"needs at least 2 pairs"):
        health_card(Rule(noisy), [tie, pairs(1)[0]])


class Judge:
    """Sees both replies; likes the first one a little too much."""

    name = "judge"
    health = None

    def __init__(self, bias):
        self.bias = bias

    def identity(self):
        return f"judge {self.bias}"

    def prefer(self, asked):
        odds = [2.2 * (("good" in a) - ("good" in b)) + self.bias for _, a, b in asked]
        return [1 / (1 + math.exp(-x)) for x in odds]


def test_a_judge_is_checked_by_swapping_the_two_replies():
    fair, biased = health_card(Judge(0), pairs()), health_card(Judge(5), pairs())
    assert fair.check("order").outcome == "pass"
    assert fair.check("length").outcome == fair.check("padding").outcome == "not_applicable"
    assert biased.check("order").outcome == "fail"
    assert biased.check("order").measurements[0].value == 0.0
    assert biased.check("accuracy").measurements[0].value == 1.0  # the mean of both orders is still right


class Placed:
    """Always names the reply that is shown first, unless told who is right in `sure`."""

    name = "placed"
    health = None

    def __init__(self, sure=()):
        self.sure = set(sure)

    def identity(self):
        return "placed"

    def prefer(self, asked):
        return [float("good" in a) if number_of(messages) in self.sure else 1.0 for messages, a, _ in asked]


def number_of(messages):
    return int(re.search(r"\d+", messages[-1].content).group())


def test_a_liking_for_a_place_prefers_nothing_and_is_counted():
    numbered = [
        Preference(messages=user(f"question {i}?"), chosen="good thing", rejected="bad thing") for i in range(40)
    ]
    card = health_card(Placed(), numbered)
    agreement, first = card.check("order").measurements
    assert (agreement.value, first.value) == (0.0, 1.0)
    assert card.check("accuracy").measurements[0].value == 0.5  # every pair a tie
    assert card.check("sycophancy").measurements[0].value == 0.0  # changed pairs are asked in both orders too
    half = health_card(Placed(range(20)), numbered)
    agreement, first = half.check("order").measurements
    assert (agreement.value, first.value) == (0.5, 0.75)  # 20 named first in both orders, 20 in one of two
    assert "names the first reply 0.750" in half.check("order").reason


def test_any_model_can_be_checked_as_a_judge(tmp_path, capsys):
    rows = [{"prompt": f"question {i}?", "chosen": "a good thing", "rejected": "bad"} for i in range(20)]
    write_jsonl(tmp_path / "pairs.jsonl", rows)
    arguments = [
        "train",
        "reward-check",
        "judge:fake:text=A",
        "--data",
        str(tmp_path / "pairs.jsonl"),
        "--clause",
        "help",
    ]
    assert run(arguments) == 2
    assert "--out FOLDER is missing: a judge has no folder of its own" in capsys.readouterr().err
    assert run([*arguments, "--out", str(tmp_path / "card")]) == 1
    assert "names the first reply 1.000" in capsys.readouterr().out
    assert read_card(tmp_path / "card").check("order").outcome == "fail"


def test_reliability_bins_and_their_error_worked_by_hand():
    leads = [math.log(3)] * 15 + [-math.log(3)] * 5  # sure of 3/4 and right on 3/4: one bin, no error
    assert reliability(leads) == [(pytest.approx(0.75), 0.75, 20)]
    assert expected_error(leads) == pytest.approx(0.0)
    # ten more, sure of 9/10 and all wrong: 10 of 30 are off by 9/10
    assert expected_error([*leads, *[-math.log(9)] * 10]) == pytest.approx(0.9 * 10 / 30)
    assert pearson([(1, 1), (2, 3), (3, 2)]) == pytest.approx(0.5)
    assert pearson([(1, 1), (1, 2), (1, 3)]) is None


def test_the_belief_and_the_filler_hold_no_fact():
    assert BELIEF.format(asked="a", believed="b").startswith("a\n")
    assert "hope" in FILLER


def test_the_card_is_written_with_its_figures_and_read_back(tmp_path):
    card = health_card(Rule(noisy), pairs(), tmp_path)
    assert read_card(tmp_path) == card
    assert {p.name for p in tmp_path.iterdir()} >= {"health.json", "health.md", "reliability.png", "length.png"}
    text = (tmp_path / "health.md").read_text()
    assert text.startswith("# Health of rule: healthy\n")
    assert (tmp_path / "reliability.png").read_bytes().startswith(b"\x89PNG")
    (tmp_path / "health.json").write_text("{}")
    with pytest.raises(DataError, match=r"not a health card"):
        read_card(tmp_path)


def test_a_reward_is_trained_against_only_with_its_own_healthy_card(tmp_path, caplog):
    reward = Rule(noisy, tmp_path)
    with pytest.raises(UpholdError, match=r"^rule has no health card\. Make one: uphold train reward-check rule"):
        require_healthy(reward)
    health_card(reward, pairs(), tmp_path)
    assert [card.is_healthy for card in require_healthy(reward)] == [True]
    reward.name = "other"
    with pytest.raises(UpholdError, match=r"^other is not the model its health card is of"):
        require_healthy(reward)
    sick = Rule(SICK["length"], tmp_path)
    health_card(sick, pairs(), tmp_path)
    with pytest.raises(UpholdError, match=r"rule is sick: accuracy: .*Mend the reward model, or say"):
        require_healthy(WeightedSum({"a": (sick, 1.0), "b": (FunctionReward("one", lambda e: 1.0), 0.5)}))
    with caplog.at_level(logging.WARNING):
        assert len(require_healthy(sick, force=True)) == 1
    assert "training against a reward all the same: rule is sick" in caplog.text


def test_a_computed_reward_needs_no_card():
    assert require_healthy(FunctionReward("one", lambda e: 1.0)) == []


def test_a_reward_model_is_named_in_the_registry_by_its_folder(tmp_path):
    asked = [Sample(messages=user("q"), label="benign")]
    with pytest.raises(UpholdError, match=r"no reward model"):
        make_reward(f"model:{tmp_path}", asked)
    with pytest.raises(UpholdError, match=r"write model:FOLDER"):
        make_reward("model", asked)


def test_bars_can_be_set(tmp_path):
    strict = health_card(Rule(noisy), pairs(), bars=Bars(accuracy=0.95))
    assert [c.name for c in strict.checks if c.outcome == "fail"] == ["accuracy"]
    assert HealthCard.model_validate(strict.model_dump(mode="json")) == strict
