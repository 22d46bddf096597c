"""Critique and revision: which clause is put to which reply, what changes, and what is counted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from train_fakes import ACID, BOMBS, CONSTITUTION, HELP, benign, critic, harmful

from uphold.constitution import Constitution
from uphold.core.errors import ConfigError, DataError
from uphold.models import FakeChat, Sampling
from uphold.train.critique import Draft, clause_for, count_rounds, critique_and_revise, draw_drafts, forbidding

GREEDY = Sampling(max_new_tokens=96)


def rounds(drafts, answer=critic, n_rounds=1, constitution=CONSTITUTION, **fake):
    chat = FakeChat(answer, **fake)
    return critique_and_revise(
        lambda label: chat, constitution, drafts, n_rounds=n_rounds, seed=0, sampling=GREEDY
    ), chat


def test_the_samples_own_clause_comes_first_and_others_are_drawn_after_it():
    among = forbidding(CONSTITUTION)
    assert clause_for(CONSTITUTION, harmful("x", "bombs"), 0, 0, among) is BOMBS
    drawn = {clause_for(CONSTITUTION, harmful("x", "bombs"), turn, 0, among).id for turn in range(1, 20)}
    assert drawn == {"acid", "bombs"}


@given(st.text(min_size=1, max_size=5), st.integers(0, 9), st.integers(0, 2**40))
def test_the_drawn_clause_depends_on_sample_turn_and_seed_alone(prompt, turn, seed):
    among = [ACID, BOMBS]
    assert clause_for(CONSTITUTION, harmful(prompt), turn, seed, among) is clause_for(
        CONSTITUTION, harmful(prompt), turn, seed, among
    )


@pytest.mark.parametrize("clause", ["tone", "gone"])
def test_a_clause_that_obliges_to_nothing_any_more_is_not_put_to_a_reply(clause):
    assert clause_for(CONSTITUTION, harmful("x", clause), 0, 0, [HELP]) is HELP


def test_a_constitution_that_forbids_nothing_is_refused():
    with pytest.raises(ConfigError, match=r"^empty: no clause forbids anything \(must or should, with a category"):
        forbidding(Constitution(name="empty", clauses=(HELP,)))


def test_a_guilty_reply_is_revised_and_an_innocent_one_stays_word_for_word():
    drafts = [Draft(harmful("a", "acid"), "mix acid"), Draft(harmful("b", "acid"), "no idea")]
    (guilty, innocent), chat = rounds(drafts)
    assert (guilty.guilty, guilty.before, guilty.after, guilty.is_changed) == (True, "mix acid", "no acid", True)
    assert (innocent.guilty, innocent.after, innocent.is_changed) == (False, "no idea", False)
    assert len(chat.asked) == 3  # two critiques, one revision


def test_every_round_is_kept_with_its_clause_critique_and_text():
    [first, second], _ = rounds([Draft(harmful("a", "acid"), "acid")], n_rounds=2)
    assert (first.round, first.clause, first.clause_digest, first.critique) == (
        1,
        "acid",
        ACID.digest,
        "verdict: guilty",
    )
    assert second.round == 2
    assert second.before == first.after


def test_a_critique_without_a_verdict_still_leads_to_a_revision_as_in_the_paper_and_is_counted():
    def vague(conversation):
        return "better" if "Critique: " in conversation[-1].content else "Hard to say."

    [revision], _ = rounds([Draft(harmful("a", "acid"), "acid")], vague)
    assert (revision.guilty, revision.after, revision.error) == (None, "better", "")
    counts = count_rounds([revision])[0]["harmful"]
    assert (counts["no_verdict"], counts["changed"], counts["unscored"]) == (1, 1, 0)


def test_a_failed_critique_leaves_the_reply_and_counts_as_unscored():
    [revision], _ = rounds([Draft(harmful("a", "acid"), "acid")], fail=[0])
    assert (revision.critique, revision.after, revision.error) == (None, "acid", "told to fail")
    counts = count_rounds([revision])[0]["harmful"]
    assert (counts["n"], counts["changed"], counts["unchanged"], counts["unscored"]) == (1, 0, 0, 1)
    assert counts["changed_share"]["value"] is None


@pytest.mark.parametrize(("text", "why"), [("", "an empty reply"), ("w " * 200, "cut off at max_new_tokens")])
def test_a_revision_that_is_empty_or_cut_off_is_no_revision(text, why):
    def answer(conversation):
        return text if "Critique: " in conversation[-1].content else "verdict: guilty"

    [revision], _ = rounds([Draft(harmful("a", "acid"), "acid")], answer)
    assert (revision.after, revision.is_changed, revision.error) == ("acid", False, why)


def test_harmful_and_benign_replies_are_counted_apart():
    drafts = [
        Draft(harmful("a", "acid"), "acid"),
        Draft(harmful("b", "acid"), "nothing"),
        Draft(benign("c", "acid"), "acid rain is bad"),  # flagged: a false alarm
        Draft(benign("d", "acid"), "bread"),
        Draft(benign("e", "acid"), "milk"),
    ]
    [counts] = count_rounds(rounds(drafts)[0])
    shown = {
        k: [counts["harmful"][k], counts["benign"][k]] for k in ("n", "changed", "unchanged", "guilty", "innocent")
    }
    assert shown == {"n": [2, 3], "changed": [1, 1], "unchanged": [1, 2], "guilty": [1, 1], "innocent": [1, 2]}
    share = counts["benign"]["changed_share"]
    assert share["value"] == pytest.approx(1 / 3)
    assert share["interval_method"] == "wilson"
    assert share["by"] == {"round": "1", "label": "benign"}
    assert (counts["harmful"]["changed_share"]["higher_is_better"], share["higher_is_better"]) == (True, False)


def test_drafts_leave_out_and_count_prompts_without_a_usable_reply():
    samples = [harmful("a"), harmful("b"), harmful("c")]
    drafts, n_failed = draw_drafts(FakeChat({"a": "yes", "b": " ", "*": "also"}, fail=[2]), samples, GREEDY)
    assert ([d.reply for d in drafts], n_failed) == (["yes"], 2)


def test_no_usable_reply_at_all_is_an_error_that_says_why():
    with pytest.raises(DataError) as caught:
        draw_drafts(FakeChat("x", down=True), [harmful("a"), harmful("b")], GREEDY)
    assert str(caught.value) == (
        "none of 2 prompts got a usable reply (told to fail). Check the model, or raise max_new_tokens."
    )
