"""Process supervision: replies fall into steps, steps get labels, models learn them, and the best of several replies is chosen."""

from __future__ import annotations

import json
import random
import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st
from train_tiny import tiny_model, tiny_tokenizer, user

from uphold.cli.main import run
from uphold.cli.train.process import labelled_of
from uphold.core import registry
from uphold.core.errors import ConfigError, DataError, ModelError
from uphold.core.records import Exchange, Sample
from uphold.models.decode import Reply
from uphold.train.process.aggregate import aggregate
from uphold.train.process.choose import best_of, convincing, label_efficiency, majority
from uphold.train.process.labels import Labelled, agreed, judge_labels, read_labelled, rollout_labels
from uphold.train.process.model import ProcessConfig, ProcessReward, train_process
from uphold.train.process.steps import answer_of, is_right, prefixes, split_steps, step_ends
from uphold.train.reward_net import Base
from uphold.train.rewards import Reward, make_reward
from uphold.world.chains import HABITS, SLIPS, slipped
from uphold.world.knowledge import products


def sample(expected="a. 7."):
    return Sample(messages=user("q"), label="benign", expected=expected)


def labelled(text, labels, right=None):
    return Labelled(messages=user("q"), completion=text, labels=labels, right=right)


def base():
    return Base(tiny_model(width=32).model, tiny_tokenizer(), "causal", "tiny")


GOOD, BAD = "x. y.", "x. z."
LEARNT = [labelled(GOOD, (1, 1), 1.0), labelled(BAD, (1, 0), 0.0)] * 4
FAST = ProcessConfig(lr=1e-2, max_steps=30, epochs=30, batch_tokens=400, precision="float32")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    out = tmp_path_factory.mktemp("prm")
    return out, train_process(base(), LEARNT, out, FAST)


def test_a_reply_falls_into_sentences_and_lines():
    assert split_steps("2 x 3.5 = 7. so 7!\nyes") == ["2 x 3.5 = 7.", " so 7!", "\nyes"]
    assert split_steps("  ") == []


@given(st.text(alphabet="ab1. \n!?", max_size=40))
def test_steps_joined_are_the_reply(text):
    steps = split_steps(text)
    assert "".join(steps) == (text if text.strip() else "")
    assert all(s.strip() for s in steps)


def test_prefixes_grow_to_the_whole_reply():
    assert prefixes(["a.", " b."]) == ["a.", "a. b."]


def test_the_answer_is_the_last_number_of_the_last_step():
    assert answer_of("4 - 1 = 3. you get 3 coins.") == "3"
    assert answer_of("4 - 1 = 3. that is all.") is None
    assert answer_of("") is None


def test_a_question_without_a_numeric_answer_can_not_be_graded():
    assert is_right(sample(), "b. 7.")
    assert not is_right(sample(), "a. 8.")
    with pytest.raises(DataError, match="ends in no number"):
        is_right(sample("hello."), "7")


def test_steps_end_at_their_last_token():
    # one token per character: "x. y." ends its steps at characters 1 and 4
    assert step_ends(tiny_tokenizer(), [Exchange(messages=user("q"), completion=GOOD)]) == [[1, 4]]


@pytest.mark.parametrize(("how", "expected"), [("product", 0.2), ("min", 0.4), ("last", 0.5), ("mean", 0.2 ** (1 / 2))])
def test_aggregates_by_hand(how, expected):
    assert aggregate([0.4, 0.5], how) == pytest.approx(expected)


def test_the_mean_does_not_fall_with_length_and_the_product_does():
    assert aggregate([0.9] * 8, "mean") == pytest.approx(aggregate([0.9] * 2, "mean"))
    assert aggregate([0.9] * 8, "product") < aggregate([0.9] * 2, "product")
    assert aggregate([0.0, 1.0], "mean") == 0


def test_an_aggregate_of_nothing_or_of_no_probabilities_is_refused():
    for wrong in ([], [1.5], [float("nan")]):
        with pytest.raises(DataError):
            aggregate(wrong, "min")


def test_best_of_n_takes_the_first_of_equals_and_never_an_unscored_reply():
    assert best_of([None, 0.2, 0.9, 0.9], 4) == 2
    assert best_of([None, 0.2, 0.9], 2) == 1
    assert best_of([None], 1) is None
    with pytest.raises(ConfigError):
        best_of([0.1], 2)


def test_the_majority_is_the_most_frequent_answer():
    assert majority(["3", "4", None, "4"], 4) == 1
    assert majority(["3", "4"], 2) == 0
    assert majority([None], 1) is None


def test_convincing_wrong_answers_come_first():
    # wrong replies are 0, 2 and 3; the most convincing two of them are 3 and 0
    chosen = convincing([0.8, 0.99, 0.1, 0.9, 0.5], [False, True, False, False, True], 2, share=1.0)
    assert chosen == [3, 0]
    mixed = convincing([0.8, 0.99, 0.1, 0.9, 0.5], [False, True, False, False, True], 4, share=0.5)
    assert mixed[:2] == [3, 0]
    assert len(set(mixed)) == 4


def test_label_efficiency_is_a_ratio_of_labels_at_equal_accuracy():
    # uniform gains 0.1 per doubling; active is 0.1 above it everywhere: it needs half the labels
    uniform = [(10, 0.5), (20, 0.6), (40, 0.7)]
    assert label_efficiency([(n, a + 0.1) for n, a in uniform], uniform) == pytest.approx(2.0)
    assert label_efficiency(uniform, [(10, 0.5), (20, 0.5)]) is None
    with pytest.raises(DataError):
        label_efficiency([(10, 0.5)], uniform)


class Scripted:
    """Continues a prefix with what is written for it, in turn."""

    def __init__(self, said):
        self.said, self.asked = said, 0

    def encode(self, messages):
        return [1]

    def reply_tokens(self, text, *, with_end):
        return [*text.encode()]

    def sample(self, rows, sampling):
        self.asked += len(rows)
        texts = [self.said[bytes(r.prompt[1:]).decode()] for r in rows]
        counts = {}
        found = []
        for options in texts:
            k = counts[id(options)] = counts.get(id(options), -1) + 1
            found.append(Reply([*options[k].encode()], "stop"))
        return found

    def text(self, ids):
        return bytes(ids).decode()


def test_a_steps_label_is_the_share_of_continuations_that_end_right():
    local = Scripted({"a.": [" 7.", " 8.", " 7.", " 7."], "b.": [" 8."] * 4})
    pairs = [(sample(), "a. 8."), (sample(), "b. 7."), (sample(), "a. 7."), (sample(), "")]
    assert rollout_labels(local, pairs, n=4) == [(0.75, 0.0), (0.0, 1.0), (0.75, 1.0), ()]
    assert local.asked == 8  # the prefix that two replies share was continued once


def test_both_kinds_of_labels_must_agree():
    assert agreed((0.5, 0.0, 1.0, None), (1.0, 1.0, None, 0.0)) == (1.0, None, None, None)
    assert agreed((0.0,), (0.0,)) == (0.0,)
    with pytest.raises(DataError):
        agreed((1.0,), ())


def test_a_judge_answers_for_every_step():
    assert judge_labels(lambda s, steps: [True, None], [(sample(), GOOD)]) == [(1.0, None)]
    with pytest.raises(DataError, match="1 labels for 2 steps"):
        judge_labels(lambda s, steps: [True], [(sample(), GOOD)])


def test_a_labelled_file_is_read_and_a_bad_line_named(tmp_path):
    path = tmp_path / "steps.jsonl"
    path.write_text(json.dumps({"prompt": "q", "completion": BAD, "labels": [1, None], "right": 0}) + "\n")
    assert read_labelled(path) == [labelled(BAD, (1, None), 0)]
    for labels, message in (([1], "1 labels for 2 steps"), ([1, 2], r"lie in \[0, 1\]")):
        path.write_text(json.dumps({"prompt": "q", "completion": BAD, "labels": labels}) + "\n")
        with pytest.raises(DataError, match=message):
            read_labelled(path)


def test_a_process_model_learns_which_step_is_wrong(trained):
    reward = ProcessReward.load(trained[0])
    good, bad, empty = reward.steps([Exchange(messages=user("q"), completion=c) for c in (GOOD, BAD, "")])
    assert good[1] > 0.9 > 0.1 > bad[1]
    assert empty is None
    assert good[0] == pytest.approx(bad[0], abs=1e-5)  # the first step knows nothing of the second


def test_a_process_model_is_a_reward_and_is_found_by_name(trained):
    reward = make_reward(f"process:{trained[0]}", [])
    assert isinstance(reward, Reward)
    exchanges = [Exchange(messages=user("q"), completion=c) for c in (GOOD, BAD, "")]
    good, bad, empty = reward.score(exchanges)
    assert good > 0.8 > 0.2 > bad
    assert empty is None
    steps = ProcessReward.load(trained[0]).steps(exchanges)[0]
    least = ProcessReward.load(trained[0], how="min")
    assert least.score(exchanges)[0] == min(steps)
    assert least.identity() != reward.identity()


def test_a_finished_run_is_taken_up_and_a_changed_model_refused(trained, tmp_path):
    out, first = trained
    again = train_process(base(), LEARNT, out, FAST)
    assert again.reused
    assert again.summary["weights"] == first.summary["weights"]
    shutil.copytree(out / "model", tmp_path / "model")
    (tmp_path / "model" / "process.json").write_text('{"reads": "reply", "aggregate": "last"}')
    with pytest.raises(ModelError, match="was changed"):
        ProcessReward.load(tmp_path)


def test_an_outcome_model_reads_the_reply_alone(tmp_path):
    config = FAST.model_copy(update={"reads": "reply"})
    done = train_process(base(), LEARNT, tmp_path, config)
    assert done.summary["n_labels"] == 8  # one a reply
    good, bad = ProcessReward.load(tmp_path).steps([Exchange(messages=user("q"), completion=c) for c in (GOOD, BAD)])
    assert len(good) == len(bad) == 1
    assert good[0] > 0.9 > 0.1 > bad[0]


@pytest.mark.parametrize(
    ("rows", "message"),
    [([labelled(GOOD, (1, 1))], "one class"), ([labelled(GOOD, (None, None))], "no step is labelled")],
)
def test_labels_that_teach_nothing_are_refused(tmp_path, rows, message):
    with pytest.raises(DataError, match=message):
        train_process(base(), rows, tmp_path, FAST)


def test_an_encoder_and_packing_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="causal"):
        train_process(Base(None, None, "encoder", "e"), LEARNT, tmp_path)
    with pytest.raises(ConfigError, match="packed"):
        train_process(base(), LEARNT, tmp_path, FAST.model_copy(update={"packed": True}))


def test_refund_chains_know_which_step_is_wrong():
    chains = registry.get("chains", "builtin:refund")
    for s in chains.samples("train", 30, 0):
        assert chains.check(s, split_steps(s.expected)) == [True] * 4
        for slip in SLIPS:
            found = chains.check(s, split_steps(slipped(s, slip, random.Random(0))))
            assert found[0]
            if slip in ("no fee", "digit"):  # the other two come out right where one piece or all pieces were returned
                assert found == [True, slip == "no fee", False, False]
            assert found[3] == all(found)  # an error is carried through to the end


def test_a_false_rule_is_shared_within_a_department_or_slips_are_scattered():
    shared, scattered = (registry.get("chains", f"builtin:{name}") for name in ("refund", "refund-scattered"))
    asked = shared.samples("train", 400, 0)
    wrong = {}
    for name, chains in (("shared", shared), ("scattered", scattered)):
        rng = random.Random(1)
        wrong[name] = [chains.slip(s, rng) != s.expected for s in asked]
    departments = [next(p.department for p in products() if p.name == s.meta["product"]) for s in asked]
    habitual = [w for w, d in zip(wrong["shared"], departments, strict=True) if d in HABITS]
    assert not any(w for w, d in zip(wrong["shared"], departments, strict=True) if d not in HABITS)
    assert 0.4 < sum(habitual) / len(habitual) < 0.75  # three in four, less those that come out right
    assert abs(sum(wrong["shared"]) - sum(wrong["scattered"])) < 0.1 * len(asked)


def test_chains_of_two_splits_share_no_question():
    chains = registry.get("chains", "builtin:refund")
    train, test = ({s.id for s in chains.samples(split, 60, 0)} for split in ("train", "test"))
    assert len(train) == len(test) == 60
    assert not train & test


def test_the_command_trains_from_a_file(tmp_path, capsys):
    rows = labelled_of("builtin:refund", "judge", None, 4, 12, 0)
    path = tmp_path / "steps.jsonl"
    path.write_text("\n".join(r.model_dump_json() for r in rows))
    out = str(tmp_path / "o")
    assert run(["train", "prm", "builtin:clerk", "--data", str(path), "--max-steps", "1", "--out", out, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["n_labels"] == 48
    assert said["reads"] == "steps"


def test_invoice_chains_give_twelve_labels_a_reply_and_one_for_its_end():
    rows = labelled_of("builtin:invoice", "judge", None, 4, 40, 0)
    assert {len(r.labels) for r in rows} == {12}
    assert {r.right for r in rows} == {0.0, 1.0}
    assert any(r.right == 1 and 0 in r.labels for r in rows)  # a wrong step that the end does not show


def test_labels_by_rollout_need_a_solver():
    with pytest.raises(ConfigError, match="--solver"):
        labelled_of("builtin:refund", "rollout", None, 4, 12, 0)
    with pytest.raises(ConfigError, match="choose rollout"):
        labelled_of("builtin:refund", "guess", None, 4, 12, 0)
