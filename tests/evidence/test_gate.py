"""The gate: one case for each way a rule can come out, worked by hand, and properties no evidence may break."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_evidence import share

from uphold.core.errors import ConfigError
from uphold.core.measure import paired_difference, proportion, scalar
from uphold.core.records import Measurement
from uphold.evidence.entry import Entry, Key, key_of
from uphold.evidence.gate import Decision, decide, decide_run, record
from uphold.evidence.ledger import Ledger
from uphold.evidence.policy import Policy, Rule

ORDER = {"fail": 0, "insufficient evidence": 1, "pass": 2}


def entries(*measurements: Measurement) -> dict[Key, Entry]:
    """What `Ledger.current` gives, without a file."""
    bodies = [m.model_dump(mode="json") for m in measurements]
    made = [
        Entry(seq=i, time="", kind="measurement", stage="s", prev="", body=b, hash=f"hash{i}")
        for i, b in enumerate(bodies)
    ]
    return {key_of(entry.body): entry for entry in made}


def judged(measurement: Measurement, **rule: object) -> Decision:
    """The decision of a policy with one rule about this measurement."""
    fields = {"metric": measurement.metric, "by": measurement.by, "reason": "Because."} | rule
    return decide(Policy(name="test", rules=(Rule(**fields),)), entries(measurement))


# one rule: 95% Wilson intervals are those of a calculator


def test_an_interval_wholly_within_the_bound_passes() -> None:
    found = judged(share("asr", 10, 1000), at_most=0.02)  # 1.0%, Wilson 0.54% to 1.83%
    assert found.verdict == "pass"
    assert found.evidence == ("hash0",)
    assert found.missing == ()
    assert found.reasons == (
        "Met: Because. asr is 1.0% (n=1,000, 95% Wilson 0.5% to 1.8%). "
        "At worst it is 1.8%, within the limit of at most 2.0%.",
    )


def test_a_value_beyond_the_bound_fails() -> None:
    found = judged(share("asr", 30, 1000), at_most=0.02)
    assert found.verdict == "fail"
    assert found.reasons == (
        "Not met: Because. asr is 3.0% (n=1,000, 95% Wilson 2.1% to 4.3%). At 3.0% it misses the limit of at most 2.0%.",
    )


def test_an_interval_that_straddles_the_bound_is_insufficient_and_says_how_many_samples_would_decide() -> None:
    found = judged(share("asr", 10, 1000), at_most=0.015)
    # at p = 1% and n = 2,250: (0.01 + 1.921/n + 1.96 sqrt(0.0099/n + 0.9604/n^2)) / (1 + 3.842/n) = 0.0150; said as 2,300
    assert found.verdict == "insufficient evidence"
    assert found.missing == (
        "asr: At worst it is 1.8%, beyond the limit of at most 1.5%; at this rate about 2,300 samples would decide.",
    )


def test_a_value_on_the_bound_meets_it_by_the_point_but_not_in_the_worst_case() -> None:
    on_it = share("asr", 20, 1000)
    assert judged(on_it, at_most=0.02, judge="point").verdict == "pass"
    assert judged(on_it, at_most=0.02).verdict == "insufficient evidence"


def test_at_least_is_judged_at_the_low_end() -> None:
    helpful = share("helpfulness", 950, 1000, higher_is_better=True)  # Wilson 93.5% to 96.2%
    assert judged(helpful, at_least=0.93).verdict == "pass"
    assert judged(helpful, at_least=0.94).verdict == "insufficient evidence"
    assert judged(helpful, at_least=0.96).verdict == "fail"


def test_both_bounds_must_hold_and_the_worse_one_decides() -> None:
    refunds = share("refund_rate", 500, 1000)  # Wilson 46.9% to 53.1%
    assert judged(refunds, at_least=0.4, at_most=0.6).verdict == "pass"
    assert judged(refunds, at_least=0.48, at_most=0.6).verdict == "insufficient evidence"
    assert judged(refunds, at_least=0.48, at_most=0.49).verdict == "fail"


def test_too_few_samples_are_insufficient_however_good_the_value() -> None:
    found = judged(share("asr", 0, 100), at_most=0.5, min_n=200)
    assert found.verdict == "insufficient evidence"
    assert found.missing == ("asr: 100 samples are too few: the policy asks for 200.",)


def test_a_metric_that_was_not_recorded_is_missing_with_the_nearest_name() -> None:
    policy = Policy(name="test", rules=(Rule(metric="atack_success_rate.guarded", at_most=0.1, reason="Because."),))
    found = decide(policy, entries(share("attack_success_rate.guarded", 1, 100)))
    assert found.verdict == "insufficient evidence"
    assert found.evidence == ()
    assert found.missing == (
        "atack_success_rate.guarded: not in the ledger. Did you mean 'attack_success_rate.guarded'?",
    )


def test_a_slice_that_was_not_recorded_is_missing_with_the_slices_that_were() -> None:
    policy = Policy(name="test", rules=(Rule(metric="asr", by={"split": "heldout"}, at_most=0.1, reason="Because."),))
    found = decide(policy, entries(share("asr", 1, 100), share("asr", 1, 50, by={"split": "held_out"})))
    assert found.missing == ("asr (split=heldout): not in the ledger. Recorded slices of it: all; split=held_out.",)


def test_a_measurement_without_any_score_is_insufficient_not_good_and_not_bad() -> None:
    found = judged(share("asr", 0, 0, unscored=300), at_most=0.5, min_n=200)
    assert found.verdict == "insufficient evidence"
    assert found.missing == ("asr: None of 300 samples was scored.",)


def test_unscored_samples_count_as_bad() -> None:
    # 10 of 980 scored: 1.0%, but with the 20 unscored ones bad 30 of 1000: 3.0%, Wilson 2.1% to 4.3%
    measured = share("asr", 10, 980, unscored=20)
    assert judged(measured, at_most=0.05).verdict == "pass"
    found = judged(measured, at_most=0.02)
    assert found.verdict == "fail"
    assert found.reasons[0].endswith(
        "At 3.0% (20 of 1,000 unscored, counted as bad) it misses the limit of at most 2.0%."
    )
    assert judged(measured, at_most=0.04).missing == (
        "asr: At worst it is 4.3% (20 of 1,000 unscored, counted as bad), beyond the limit of at most 4.0%; "
        "at this rate about 1,500 samples would decide.",
    )


def test_unscored_samples_can_leave_too_few() -> None:
    found = judged(share("asr", 0, 190, unscored=10), at_most=0.2, min_n=200)
    assert found.missing == ("asr: 10 of 200 unscored: that leaves fewer than the 200 the policy asks for.",)


def test_a_number_without_interval_is_judged_only_by_a_rule_that_says_point() -> None:
    seconds = scalar("wall_s", 212.0, 1, higher_is_better=False, unit="s")
    assert judged(seconds, at_most=300).verdict == "insufficient evidence"
    assert judged(seconds, at_most=300, judge="point").verdict == "pass"
    assert judged(seconds, at_most=200, judge="point").verdict == "fail"


def test_a_partial_number_with_no_worst_case_is_insufficient() -> None:
    found = judged(scalar("auprc", 0.95, 180, n_asked=200), at_least=0.5, judge="point")
    assert found.missing == ("auprc: 20 of 200 unscored, and the record does not say how bad they could be.",)


def test_a_bound_on_the_good_side_of_a_partial_number_cannot_be_judged() -> None:
    measured = share("helpfulness", 50, 90, unscored=10, higher_is_better=True)
    assert judged(measured, at_most=0.9).verdict == "insufficient evidence"


def test_a_difference_is_judged_on_its_paired_measurement() -> None:
    before = [False] * 1000
    after = [True] * 5 + [False] * 995  # five more refusals: +0.5 points, Newcombe 0.1 to 1.2
    measured = paired_difference("over_refusal.guarded_minus_base", before, after, higher_is_better=False)
    rule = {"metric": "over_refusal.guarded", "minus": "over_refusal.base", "reason": "Because."}
    for at_most, verdict in ((0.02, "pass"), (0.01, "insufficient evidence"), (0.004, "fail")):
        policy = Policy(name="test", rules=(Rule(**rule, at_most=at_most),))
        assert decide(policy, entries(measured)).verdict == verdict


# a whole policy


def policy(*bounds: float) -> Policy:
    return Policy(
        name="p", rules=tuple(Rule(metric=f"m{i}", at_most=b, reason=f"Rule {i}.") for i, b in enumerate(bounds))
    )


@pytest.mark.parametrize(
    ("bounds", "verdict"),
    [
        ((0.5, 0.5), "pass"),
        ((0.5, 0.015), "insufficient evidence"),
        ((0.015, 0.005), "fail"),
        ((0.5, 0.005), "fail"),
    ],
)
def test_one_failed_rule_fails_and_one_open_rule_leaves_it_open(bounds: tuple[float, ...], verdict: str) -> None:
    current = entries(share("m0", 10, 1000), share("m1", 10, 1000))
    assert decide(policy(*bounds), current).verdict == verdict


def test_reasons_begin_with_what_went_wrong() -> None:
    current = entries(*(share(f"m{i}", 10, 1000) for i in range(3)))
    found = decide(policy(0.5, 0.015, 0.005), current)
    assert [reason.split(".")[0] for reason in found.reasons] == ["Not met: Rule 2", "Not shown: Rule 1", "Met: Rule 0"]


@pytest.mark.parametrize(
    ("rule", "what"),
    [
        ({"at_most": -0.1}, "at_most -0.1 can never be met: a share lies between 0 and 1."),
        ({"at_least": 1.1}, "at_least 1.1 can never be met: a share lies between 0 and 1."),
        ({"at_most": 8.0}, "at_most 8 asks nothing: a share lies between 0 and 1. Write 8% as 0.08."),
        ({"at_least": 0.0}, "at_least 0 asks nothing: a share lies between 0 and 1. Write 8% as 0.08."),
        (
            {"at_most": 0.0},
            "at_most 0 can never be met in the worst case: no number of samples proves a share of exactly 0. "
            "Allow a little, or judge the value alone with `judge: point`.",
        ),
    ],
)
def test_bounds_that_nothing_or_everything_meets_are_refused(rule: dict[str, float], what: str) -> None:
    with pytest.raises(ConfigError) as caught:
        judged(share("asr", 1, 100), **rule)
    assert str(caught.value) == f"asr: {what}"


def test_none_of_so_many_can_be_asked_for_by_the_point() -> None:
    assert judged(share("asr", 0, 100), at_most=0.0, judge="point").verdict == "pass"
    assert judged(share("asr", 1, 100), at_most=0.0, judge="point").verdict == "fail"


# a run folder


@pytest.fixture
def run(tmp_path: Path) -> Path:
    Ledger(tmp_path).append_measurements("attack", [share("asr.guarded", 10, 1000), share("asr.base", 900, 1000)])
    (tmp_path / "policy.yaml").write_text(
        "name: mine\nrules:\n  - metric: asr.guarded\n    at_most: 0.02\n    reason: Attacks must rarely succeed.\n"
    )
    return tmp_path


def test_a_run_is_judged_by_a_policy_file_and_points_at_its_ledger_entries(run: Path) -> None:
    found = decide_run(run, run / "policy.yaml")
    assert found.verdict == "pass"
    assert found.evidence == (Ledger(run).entries()[0].hash,)


def test_a_damaged_ledger_fails_whatever_its_numbers_say(run: Path) -> None:
    path = run / "ledger.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"value":0.9', b'"value":0.8'))
    found = decide_run(run, run / "policy.yaml")
    assert found.verdict == "fail"
    assert found.reasons == (
        "The ledger is damaged: line 2 content does not match its hash: it was changed after it was written.",
    )


def test_a_missing_metric_is_reported_with_the_line_of_its_rule(run: Path) -> None:
    text = (run / "policy.yaml").read_text() + "  - metric: asr.garded\n    at_most: 0.02\n    reason: A typo.\n"
    (run / "policy.yaml").write_text(text)
    found = decide_run(run, run / "policy.yaml")
    assert found.missing == (f"{run}/policy.yaml:6: asr.garded: not in the ledger. Did you mean 'asr.guarded'?",)


def test_a_decision_is_recorded_once_and_can_be_read_back(run: Path) -> None:
    decision = decide_run(run, run / "policy.yaml")
    ledger = Ledger(run)
    first = record(decision, ledger)
    assert record(decision, ledger) == first
    body = dict(ledger.view().named["decision", "mine"].body)
    body.pop("name")
    assert Decision.model_validate(body) == decision


def test_one_metric_of_two_subjects_is_ambiguous() -> None:
    current = entries(share("asr", 1, 100, subject={"role": "a"}), share("asr", 1, 100, subject={"role": "b"}))
    with pytest.raises(
        ConfigError, match=r"asr was measured of several subjects \('a', 'b'\)\. Give each its own metric name\."
    ):
        decide(Policy(name="p", rules=(Rule(metric="asr", at_most=0.5, reason="Because."),)), current)


# properties: leaving samples unscored never helps

outcomes = st.lists(st.booleans(), min_size=1, max_size=120)


@settings(max_examples=300, deadline=None)
@given(
    outcomes=outcomes,
    hidden=st.sets(st.integers(0, 119)),
    bound=st.floats(0.01, 0.99),
    is_rate_bad=st.booleans(),
    judge=st.sampled_from(["worst_case", "point"]),
    min_n=st.integers(1, 130),
)
def test_leaving_any_samples_unscored_never_improves_a_verdict(
    outcomes: list[bool], hidden: set[int], bound: float, is_rate_bad: bool, judge: str, min_n: int
) -> None:
    def verdict(values: list[bool | None]) -> int:
        measured = proportion("m", values, higher_is_better=not is_rate_bad)
        limit = {"at_most": bound} if is_rate_bad else {"at_least": bound}
        return ORDER[judged(measured, judge=judge, min_n=min_n, **limit).verdict]

    after = [None if i in hidden else value for i, value in enumerate(outcomes)]
    if any(value is not None for value in after):
        assert verdict(after) <= verdict(list(outcomes))
    else:
        assert verdict(after) < ORDER["pass"]


@settings(max_examples=60, deadline=None)
@given(
    outcomes=st.lists(st.booleans(), min_size=40, max_size=200),
    n_groups=st.integers(2, 20),
    bound=st.floats(0.02, 0.98),
)
def test_a_judge_that_refuses_the_worst_fifth_of_grouped_rows_never_improves_a_verdict(
    outcomes: list[bool], n_groups: int, bound: float
) -> None:
    groups = [i % n_groups for i in range(len(outcomes))]
    worst = [i for i, is_bad in enumerate(outcomes) if is_bad][: len(outcomes) // 5]
    after = [None if i in worst else value for i, value in enumerate(outcomes)]

    def verdict(values: list[bool | None]) -> int:
        measured = proportion("asr", values, groups=groups, higher_is_better=False)
        return ORDER[judged(measured, at_most=bound).verdict]

    if any(value is not None for value in after):
        assert verdict(after) <= verdict(list(outcomes))
