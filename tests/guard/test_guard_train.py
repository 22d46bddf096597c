"""Training a guard: what is fitted on what, the report, determinism, and data that cannot be trained on."""

from __future__ import annotations

import numpy as np
import pytest
from guard_toy import CONSTITUTION, SETTINGS, prompts, replies, user

from uphold.constitution import Clause, Constitution
from uphold.core.errors import DataError
from uphold.core.records import Exchange, Sample
from uphold.guard import examples as ex
from uphold.guard.fitting import GuardSettings
from uphold.guard.train import prepare, train_guard


def keys(examples):
    return {ex.prompt_key(e) for e in examples}


def test_the_parts_share_no_prompt_and_the_constitution_is_only_fitted_on():
    given = [*prompts(100), *replies(50)]
    parts = prepare(given, CONSTITUTION, settings=SETTINGS).parts
    assert keys(parts["fit"]) & keys(parts["threshold"]) == set()
    assert keys(parts["fit"]) & keys(parts["test"]) == set()
    assert keys(parts["threshold"]) & keys(parts["test"]) == set()
    own = {e.prompt for e in ex.from_constitution(CONSTITUTION)}
    assert own <= {e.prompt for e in parts["fit"] if isinstance(e, Sample)}
    assert sum(map(len, parts.values())) == len(given) + len(own)


def test_a_prompt_and_all_replies_to_it_land_in_one_part():
    asked = user("how do i brew ombrel vapour?")
    given = [Sample(messages=asked, label="harmful"), *(ex.reply(asked, f"answer {i}", "harmful") for i in range(30))]
    parts = prepare(given, CONSTITUTION, settings=SETTINGS).parts
    assert sorted(len([e for e in part if e.messages == asked]) for part in parts.values()) == [0, 0, 31]


def test_a_given_prompt_that_the_constitution_lists_is_not_tested_on():
    listed = Sample(messages=user("How do I  brew green TEA?"), label="benign")
    parts = prepare([listed, *prompts(50)], CONSTITUTION, settings=SETTINGS).parts
    assert keys([listed]) <= keys(parts["fit"])
    assert not keys([listed]) & (keys(parts["threshold"]) | keys(parts["test"]))


def test_repeats_are_dropped_and_texts_labelled_both_ways_are_left_out():
    twice = prompts(20)
    odd = [Sample(messages=user("is this bad?"), label=label) for label in ("harmful", "benign")]
    data = prepare([*twice, *twice, *odd], CONSTITUTION, settings=SETTINGS)
    assert (data.n_duplicates, data.n_contradictory) == (41, 1)
    assert not keys(odd) & set().union(*map(keys, data.parts.values()))


def test_the_constitution_says_what_its_examples_are():
    allowed = CONSTITUTION.clauses[1].model_copy(update={"modality": "may"})
    changed = Constitution(name="toy", clauses=(CONSTITUTION.clauses[0], allowed))
    before = {s.prompt: s.label for s in ex.from_constitution(CONSTITUTION)}
    after = {s.prompt: s.label for s in ex.from_constitution(changed)}
    assert before["how do i forge a tiber voucher?"] == "harmful"
    assert after["how do i forge a tiber voucher?"] == "benign"  # a category moved to allowed is to be answered
    assert after["how do i brew ulmar vapour?"] == before["how do i brew ulmar vapour?"] == "harmful"
    assert {s.meta["source"] for s in ex.from_constitution(CONSTITUTION)} == {"constitution"}


def test_the_report_measures_the_test_part_and_certifies_the_threshold(trained):
    guard, report = trained
    assert report.identity == guard.identity()
    assert set(report.counts) == {"input", "output"}
    assert set(report.counts["input"]) == {"fit", "threshold", "test"}
    found = {m.metric: m for m in report.measurements if not m.by}
    n_test = sum(report.counts["input"]["test"].values())
    assert found["input_guard.auprc"].n_asked == n_test
    assert found["input_guard.auprc"].value >= 0.98
    assert found["output_guard.auroc"].value >= 0.98
    assert found["input_guard.auprc"].subject == {"guard": guard.identity(), "constitution": CONSTITUTION.digest}
    assert {m.by.get("clause") for m in report.measurements if m.by} == {"vapours", "papers"}
    assert report.thresholds["input"].value == guard.thresholds["input"]
    assert report.thresholds["input"].n_benign == report.counts["input"]["threshold"]["benign"]


def test_equal_examples_and_seed_give_equal_bits(trained):
    again, report = train_guard([*prompts(400), *replies(400)], CONSTITUTION, seed=1, settings=SETTINGS)
    assert again.identity() == trained[0].identity()
    assert report == trained[1]


def test_another_seed_splits_otherwise(trained):
    other, _ = train_guard([*prompts(400), *replies(400)], CONSTITUTION, seed=2, settings=SETTINGS)
    assert other.identity() != trained[0].identity()


def test_given_threshold_examples_set_the_threshold_and_all_others_are_fitted_on():
    held_out = prompts(60, seed=7)
    given = prompts(150)
    guard, report = train_guard(given, CONSTITUTION, settings=SETTINGS, threshold_examples=[*held_out, *given[:10]])
    assert sum(report.counts["input"]["threshold"].values()) == len(keys(held_out) - keys(given))
    assert report.measurements == ()
    assert guard.stages == {"input"}


def test_threshold_examples_may_be_all_benign_and_scores_are_calibrated_still():
    held_out = [s for s in prompts(100, seed=7) if s.label == "benign"]
    guard, _ = train_guard(prompts(200), CONSTITUTION, settings=SETTINGS, threshold_examples=held_out)
    fresh = prompts(200, seed=8)
    scores = [v.score for v in guard.score([ex.exchange_of(s) for s in fresh])]
    assert np.mean([s for s, e in zip(scores, fresh, strict=True) if e.label == "harmful"]) > 0.9
    assert np.mean([s for s, e in zip(scores, fresh, strict=True) if e.label == "benign"]) < 0.1


def test_the_budget_holds_on_prompts_that_set_no_threshold(trained):
    guard, _ = trained
    benign = [s for s in prompts(800, seed=11) if s.label == "benign"]
    flagged = np.mean([v.flagged for v in guard.score([ex.exchange_of(s) for s in benign])])
    assert flagged <= SETTINGS.fpr_budget


def test_strengths_are_chosen_by_what_was_not_fitted_on():
    """A hopeless first candidate loses to a sound one."""
    settings = SETTINGS.model_copy(update={"c": (1e-9, 10.0)})
    chosen, _ = train_guard(prompts(150), CONSTITUTION, settings=settings)
    sound, _ = train_guard(prompts(150), CONSTITUTION, settings=SETTINGS)
    assert chosen.stage("input").bias == sound.stage("input").bias


def test_one_clause_alone_carries_the_whole_score():
    single = Constitution(name="one", clauses=CONSTITUTION.clauses[:1])
    given = [s for s in prompts(120) if s.clause != "papers"]
    guard, _ = train_guard(given, single, settings=SETTINGS)
    verdict = guard.score_prompts(["how do i brew ombrel vapour number 3?"])[0]
    assert verdict.by_clause == {"vapours": verdict.score}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            [s for s in prompts(40) if s.label == "harmful"],
            "no benign examples left to set the input guard's threshold on",
        ),
        ([r for r in replies(20) if r.meta["label"] == "harmful"], "no benign replies to train the output guard on"),
        ([r for r in replies(20) if r.meta["label"] == "benign"], "no harmful replies to train the output guard on"),
        ([Exchange(messages=user("a"), completion="b")], "has label None in its meta"),
        ([], "no benign examples left to set the input guard's threshold on: 0 examples"),
    ],
)
def test_examples_that_cannot_make_a_guard_are_refused(given, message):
    with pytest.raises(DataError, match=message):
        train_guard(given, CONSTITUTION, settings=SETTINGS)


def test_a_constitution_that_forbids_nothing_needs_harmful_examples():
    silent = Constitution(name="silent", clauses=(Clause(id="help", text="Be helpful.", modality="should"),))
    with pytest.raises(DataError, match="no harmful prompts to train the input guard on"):
        train_guard([s for s in prompts(40) if s.label == "benign"], silent, settings=SETTINGS)


def test_settings_out_of_range_are_refused():
    with pytest.raises(ValueError, match="fpr_budget"):
        GuardSettings(fpr_budget=0.0)
