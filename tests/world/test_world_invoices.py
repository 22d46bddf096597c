"""Invoice chains: twelve steps, each product right or wrong on its own, and wrong steps that come out right at the end."""

from __future__ import annotations

import random

import pytest

from uphold.core import registry
from uphold.core.records import Message, Sample
from uphold.core.seeds import split_of
from uphold.train.process.steps import answer_of, is_right, split_steps
from uphold.world.chains import SHARES
from uphold.world.invoices import Item, chain, items_of
from uphold.world.knowledge import products

BY_NAME = {p.name: p for p in products()}
# fees: tools 5, kitchen 2, clothes 1 coins
DRILLS, PANS, HATS = Item(BY_NAME["drill"], 20, 4, 3), Item(BY_NAME["pan"], 5, 3, 2), Item(BY_NAME["hat"], 6, 4, 4)
RIGHT = (
    "for drills 3 x 20 = 60. 60 - 5 = 55. 55 at max 50 = 50. for pans 2 x 5 = 10. 10 - 2 = 8. 8 at max 50 = 8. "
    "for hats 4 x 6 = 24. 24 - 1 = 23. 23 at max 50 = 23. 50 + 8 = 58. 58 + 23 = 81. your refund is 81 coins."
)
ASKED = Sample(
    messages=(Message(role="user", content="?"),),
    label="benign",
    expected=RIGHT,
    meta={"most": 50, "items": [["drill", 20, 4, 3], ["pan", 5, 3, 2], ["hat", 6, 4, 4]]},
)
CHAINS = registry.get("chains", "builtin:invoice")
OK, BAD = True, False


def written(*slips, most=50):
    return chain((DRILLS, PANS, HATS), most, slips, random.Random(0))


def test_the_right_chain_by_hand():
    assert written(None, None, None) == RIGHT
    assert items_of(ASKED) == [DRILLS, PANS, HATS]
    assert CHAINS.check(ASKED, split_steps(RIGHT)) == [True] * 12


@pytest.mark.parametrize(
    ("slips", "answer", "labels"),
    [
        # the bought count (4 x 20 - 5 = 75) is cut to the same 50 coins: three wrong steps, a right end
        (("count", None, None), "81", [BAD, BAD, BAD, OK, OK, OK, OK, OK, OK, OK, OK, OK]),
        # a fee for each pan: 10 - 4 = 6; the sums that hold it are wrong too, the hats are right
        ((None, "fee each", None), "79", [OK, OK, OK, OK, BAD, BAD, OK, OK, OK, BAD, BAD, BAD]),
        # two errors: two coins too few for pans, one too many for hats
        ((None, "fee each", "no fee"), "80", [OK, OK, OK, OK, BAD, BAD, OK, BAD, BAD, BAD, BAD, BAD]),
    ],
)
def test_the_steps_of_a_slip_by_hand(slips, answer, labels):
    said = written(*slips)
    assert answer_of(said) == answer
    assert CHAINS.check(ASKED, split_steps(said)) == labels


def test_a_wrong_count_of_all_pieces_comes_out_right():
    assert written(None, None, "count") == RIGHT


def test_an_amount_is_never_below_zero_and_never_above_the_limit():
    cheap = Item(BY_NAME["drill"], 5, 2, 1)
    steps = split_steps(chain((cheap, PANS, HATS), 20, (None, None, None), random.Random(0)))
    assert [s.strip() for s in steps[1:3]] == ["5 - 5 = 0.", "0 at max 20 = 0."]
    assert steps[8].strip() == "23 at max 20 = 20."


def test_a_reply_of_other_steps_is_wrong_from_there():
    assert CHAINS.check(ASKED, split_steps(RIGHT + " thank you.")) == [True] * 12 + [False]
    assert CHAINS.check(ASKED, ["your refund is 81 coins."]) == [False]


def test_solvers_of_either_kind_err_in_about_half_of_the_chains_and_wrong_steps_often_end_right():
    rng = random.Random(0)
    asked = CHAINS.samples("train", 300, 0)
    share = {}
    for name in ("invoice", "invoice-scattered"):
        chains = registry.get("chains", f"builtin:{name}")
        said = [(s, chains.slip(s, rng)) for s in asked]
        ends = [is_right(s, c) for s, c in said]
        share[name] = sum(ends) / len(ends)
        masked = [end and not all(chains.check(s, split_steps(c))) for end, (s, c) in zip(ends, said, strict=True)]
        assert 0.05 < sum(masked) / len(masked) < 0.3
    assert 0.35 < share["invoice"] < 0.6
    assert 0.25 < share["invoice-scattered"] < 0.6


def test_a_digit_slip_is_always_seen_in_its_product():
    for seed in range(20):
        said = chain((DRILLS, PANS, HATS), 50, (None, "digit", None), random.Random(seed))
        assert CHAINS.check(ASKED, split_steps(said))[:4] == [OK, OK, OK, BAD]


def test_questions_are_distinct_and_those_of_two_splits_do_not_meet():
    train, test = ({s.id for s in CHAINS.samples(split, 60, 0)} for split in ("train", "test"))
    assert len(train) == len(test) == 60
    assert not train & test
    assert CHAINS.samples("test", 3, 0) == CHAINS.samples("test", 3, 0)
    assert CHAINS.samples("test", 3, 0) != CHAINS.samples("test", 3, 1)


@pytest.mark.parametrize(("name", "salt"), [("builtin:invoice", "invoices"), ("builtin:refund", "chains")])
def test_a_question_is_of_the_split_that_its_words_say(name, salt):
    for split in SHARES:
        drawn = registry.get("chains", name).samples(split, 40, 1)
        assert len({s.id for s in drawn}) == 40
        assert {split_of(s.prompt, SHARES, salt) for s in drawn} == {split}
