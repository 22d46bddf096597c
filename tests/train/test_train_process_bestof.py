"""Best of n: which reply each method picks, how methods compare on the same questions, and the figure and command that tell it."""

from __future__ import annotations

import csv
import json

import pytest
from train_tiny import user

from uphold.cli.main import run
from uphold.core.errors import DataError
from uphold.core.records import Sample
from uphold.train.process.bestof import ANY, VOTE, Drawn, compared, joined, outcomes
from uphold.train.process.choose import efficiency_interval
from uphold.train.process.figure import asked, draw_best_of
from uphold.train.rewards import FunctionReward

RIGHT, WRONG, ODD = "a. 7.", "b. 8.", "c. 9."
SAMPLES = [Sample(messages=user(f"q{i}"), label="benign", expected=RIGHT) for i in range(2)]
# the vote on three replies: question 0 has the right answer twice, question 1 a shared error twice
DRAWN = Drawn(SAMPLES, [[WRONG, RIGHT, RIGHT], [WRONG, WRONG, RIGHT]])


def test_a_vote_loses_where_the_error_is_shared_and_a_good_reward_does_not():
    good = DRAWN.scores(FunctionReward("good", lambda e: float(e.completion == RIGHT)))
    blind = DRAWN.scores(FunctionReward("blind", lambda e: None))
    found = outcomes(DRAWN, {"good": good, "blind": blind}, [1, 3])
    assert found[1] == {"good": [False, False], "blind": [False, False], VOTE: [False, False], ANY: [False, False]}
    assert found[3] == {"good": [True, True], "blind": [False, False], VOTE: [True, False], ANY: [True, True]}


def test_a_reply_drawn_twice_is_scored_once():
    asked = []

    def score(exchange):
        asked.append((exchange.messages[-1].content, exchange.completion))
        return 1.0

    assert DRAWN.scores(FunctionReward("f", score)) == [[1.0, 1.0, 1.0], [1.0, 1.0, 1.0]]
    assert sorted(asked) == [("q0", RIGHT), ("q0", WRONG), ("q1", RIGHT), ("q1", WRONG)]


def test_differences_are_paired_on_the_same_questions():
    # prm right on 3 of 4 questions, orm on 2 of them, the vote on 1: each difference is one question in four
    found = {4: {"prm": [True, True, True, False], "orm": [True, True, False, False],
                 VOTE: [True, False, False, False], ANY: [True] * 4}}  # fmt: skip
    told = compared(found, seeds=[5])[4]
    assert told["prm"].value == 0.75
    assert told["prm"].seeds == (5,)
    assert told["prm"].by == {"n": "4"}
    assert told["prm - orm"].value == told[f"orm - {VOTE}"].value == 0.25
    assert told[f"prm - {VOTE}"].value == 0.5
    assert not any(ANY in name for name in told if "-" in name)
    low, high = told[f"prm - {VOTE}"].interval
    assert low < 0.5 < high


def test_runs_are_joined_question_by_question():
    one, two = {1: {"prm": [True], VOTE: [False]}}, {1: {"prm": [False], VOTE: [True]}}
    assert joined([one, two]) == {1: {"prm": [True, False], VOTE: [False, True]}}


@pytest.mark.parametrize("replies", [[[RIGHT]], [[RIGHT], [RIGHT, WRONG]], [[], []]])
def test_unequal_numbers_of_replies_are_refused(replies):
    with pytest.raises(DataError, match="equally many replies"):
        Drawn(SAMPLES, replies)


def test_the_interval_of_label_efficiency_draws_seeds_and_questions():
    # 20 questions, 2 alike seeds: uniform answers 4, 8 and 12 of them; active is one doubling ahead
    def hits(k):
        return [[i < k for i in range(20)]] * 2

    uniform = {10: hits(4), 20: hits(8), 40: hits(12)}
    active = {10: hits(8), 20: hits(12), 40: hits(16)}
    ratio, interval, defined = efficiency_interval(active, uniform, n_boot=300)
    assert ratio == pytest.approx(2.0)
    assert 1 <= interval.low < 2 < interval.high
    assert defined == 1.0
    flat = {10: hits(4), 20: hits(4), 40: hits(4)}
    assert efficiency_interval(active, flat, n_boot=50)[::2] == (None, 0.0)
    with pytest.raises(DataError, match="same seeds and questions"):
        efficiency_interval({10: hits(4), 20: [[True]]}, uniform, n_boot=2)


def test_the_figure_counts_questions_and_not_the_picks_of_every_seed():
    picks = {"prm": [True] * 6, VOTE: [False] * 6, ANY: [True] * 6}
    of = compared({1: picks}, [0, 1] * 3, seeds=[0, 1, 2])[1]
    assert asked(of["prm"]) == "2 questions, 3 seeds"
    assert asked(compared({1: picks})[1]["prm"]) == "6 questions"


def test_the_figure_stands_beside_its_numbers(tmp_path):
    hits = {"prm": [True, True], "orm": [True, False], VOTE: [False, False], ANY: [True, True]}
    curve = compared({1: hits, 2: hits})
    assert draw_best_of(tmp_path, {"shared": curve, "scattered": curve}).read_bytes()[:4] == b"\x89PNG"
    with (tmp_path / "best_of_n.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 2 * (4 + 3)  # panels, n, shares and differences
    assert {(r["method"], float(r["right"])) for r in rows} >= {("prm", 1.0), ("orm", 0.5), ("prm - orm", 0.5)}


def test_the_command_tells_shares_and_differences(capsys):
    command = ["train", "best-of", "builtin:clerk", "--reward", "expected", "--questions", "3", "--n", "3"]
    assert run([*command, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert list(said["by_n"]) == ["1", "2", "3"]
    assert said["by_n"]["3"]["expected"]["n_asked"] == 3
    assert f"expected - {VOTE}" in said["by_n"]["3"]
    assert run(command) == 0
    out = capsys.readouterr().out
    assert "share right of 3 questions" in out
    assert f"expected - {VOTE} at n = 3" in out
