"""What a run's curves are said to mean."""

from __future__ import annotations

import pytest

from uphold.train.explain import epoch_means, explain_preferences, explain_ratings, explain_sft


def steps(n=10, **curves):
    """Lines of a log whose named numbers move evenly from their first to their last value."""
    curves = {"grad_norm": (1.0, 1.0), **curves}
    return [{key: a + (b - a) * i / (n - 1) for key, (a, b) in curves.items()} for i in range(n)]


QUIET = {
    "margin": (0.0, 1.0),
    "accuracy": (0.5, 1.0),
    "logprob_chosen": (-9.0, -8.0),
    "logprob_rejected": (-9.0, -10.0),
}


def pairs(**curves):
    return steps(**{"loss": (0.69, 0.4), **QUIET, **curves})


def test_a_run_without_surprises_is_not_commented():
    assert explain_sft(steps(loss=(2.0, 0.5))) == []
    assert explain_preferences(pairs(), "sigmoid", 0.0) == []


def test_a_loss_of_0_from_the_start_means_nothing_to_learn():
    assert explain_sft(steps(loss=(0.001, 0.0)))[0].startswith(
        "The loss was 0.0010 from the start: the model already gives"
    )


def test_a_loss_that_falls_to_0_means_known_by_heart():
    assert explain_sft(steps(loss=(2.0, 0.001)))[0].startswith(
        "The loss fell to 0.0010: the replies are known by heart."
    )


def test_no_gradient_at_all_is_said():
    assert explain_sft(steps(loss=(2.0, 2.0), grad_norm=(0.0, 0.0)))[0].startswith("The gradient was 0 at every step")


def test_saturated_margins_are_said_for_losses_that_can_saturate():
    lines = pairs(loss=(0.69, 0.001), margin=(0.0, 8.0))
    assert explain_preferences(lines, "sigmoid", 0.0)[0].startswith(
        "The loss is about 0 (from 0.690) because the margins have saturated: at 8.0 nats"
    )
    assert explain_preferences(lines, "cdpo", 0.0) == []


def test_a_policy_that_stays_at_its_reference_is_said():
    lines = pairs(loss=(0.6931, 0.6930), margin=(0.0, 0.0002))
    assert explain_preferences(lines, "sigmoid", 0.0)[0].startswith(
        "The loss stayed at 0.693, which is log 2, what sigmoid gives where every margin is 0: the policy has hardly left"
    )


@pytest.mark.parametrize(
    ("loss", "start", "said"),
    [
        ("hinge", 1.0, "The loss stayed at 1.000, which is 1, what hinge gives"),  # max(0, 1 - 0)
        ("ipo", 25.0, "The loss stayed at 25.000, which is 1 / (4 beta^2), what ipo gives"),  # beta 0.1: (0 - 5)^2
    ],
)
def test_log_2_is_said_only_of_losses_that_start_there(loss, start, said):
    notes = explain_preferences(pairs(loss=(start, start), margin=(0.0, 0.0)), loss, 0.0)
    assert notes[0].startswith(said)
    assert not any("log 2" in note for note in notes)


def test_no_value_is_named_where_an_sft_term_is_in_the_loss_or_there_is_no_reference():
    lines = pairs(loss=(0.9, 0.9), margin=(0.0, 0.0))
    assert explain_preferences(lines, "sigmoid", 0.2)[0].startswith(
        "The loss stayed at 0.900: the policy has hardly left"
    )
    assert explain_preferences(lines, "simpo", 0.0) == []


def test_chosen_log_probs_that_fall_are_explained_with_their_mend():
    lines = pairs(logprob_chosen=(-9.0, -12.0), logprob_rejected=(-9.0, -20.0))
    assert explain_preferences(lines, "sigmoid", 0.0) == [
        "The log-probs of the chosen replies fell, from -9.00 to -12.00 nats, and those of the rejected fell further. These losses "
        "reward the difference alone, and lowering both widens it: the probability goes to replies that are in no pair. Raise "
        "sft_weight if that matters, or lower lr."
    ]
    assert "sft_weight is 0.2; raise it further" in explain_preferences(lines, "sigmoid", 0.2)[0]


def test_a_robust_loss_below_0_is_no_error():
    assert explain_preferences(pairs(loss=(0.69, -0.3)), "robust", 0.0)[0].startswith("The loss went below 0.")


def test_a_baseline_that_is_0_throughout_is_no_error():
    lines = steps(loss=(0.5, 0.4), kl=(0.0, 0.0), logprob_desirable=(-9.0, -8.0))
    assert explain_ratings(lines, 5, 5, 1.0, 1.0)[0].startswith("The KL baseline was 0 at every step.")


def test_epoch_means_are_over_the_first_and_the_last_steps_that_have_the_number():
    lines = [{"a": 1.0}, {"a": 3.0, "b": 7.0}, {"a": 5.0}]
    assert epoch_means(lines, 2, ("a", "b")) == {
        "first_epoch": {"a": 2.0, "b": 7.0},
        "last_epoch": {"a": 4.0, "b": 7.0},
    }
    assert epoch_means(lines, 9, ("a",))["last_epoch"]["a"] == pytest.approx(3.0)
