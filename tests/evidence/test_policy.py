"""Policy files: what they say, and what is refused before anything is judged."""

from __future__ import annotations

from pathlib import Path

import pytest

from uphold.core.errors import ConfigError
from uphold.evidence.policy import Policy, difference_name, shipped


def load(tmp_path: Path, text: str) -> Policy:
    (tmp_path / "p.yaml").write_text(text)
    return Policy.load(tmp_path / "p.yaml")


def complaints(tmp_path: Path, text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    return str(caught.value).replace(f"{tmp_path}/", "").splitlines()


def test_a_policy_is_read_with_its_defaults(tmp_path: Path) -> None:
    policy = load(
        tmp_path,
        "name: mine\nrules:\n  - metric: asr.guarded\n    by: {split: held_out}\n    at_most: 0.08\n    reason: Rarely.\n",
    )
    rule = policy.rules[0]
    assert (policy.name, policy.version) == ("mine", 1)
    assert (rule.metric, rule.by, rule.at_most, rule.at_least) == ("asr.guarded", {"split": "held_out"}, 0.08, None)
    assert (rule.judge, rule.min_n, rule.measured) == ("worst_case", 1, "asr.guarded")


@pytest.mark.parametrize("name", ["storefront", "operator"])
def test_the_shipped_policies_load_by_name(name: str) -> None:
    assert name in shipped()
    assert Policy.load(name).name == name


@pytest.mark.parametrize(
    ("metric", "minus", "name"),
    [
        ("over_refusal.guarded", "over_refusal.base", "over_refusal.guarded_minus_base"),
        ("helpfulness", "tax", "helpfulness_minus_tax"),
        ("a.b.c", "a.d.c", "a.b.c_minus_d.c"),
        ("a.b", "a.b.c", "a.b_minus_b.c"),
    ],
)
def test_a_paired_difference_has_one_name(metric: str, minus: str, name: str) -> None:
    assert difference_name(metric, minus) == name


def test_every_problem_is_reported_at_once_with_its_line(tmp_path: Path) -> None:
    assert complaints(
        tmp_path,
        "name: mine\n"
        "rules:\n"
        "  - metric: asr\n"
        "    atmost: 0.1\n"
        "    at_most: 0.1\n"
        "    reason: R.\n"
        "  - metric: asr\n"
        "    at_most: few\n"
        "    judge: worst\n",
    ) == [
        "p.yaml:4: rules.0.atmost: unknown key. Did you mean 'at_most'?",
        "p.yaml:7: rules.1.reason: is missing. Add it.",
        "p.yaml:8: rules.1.at_most: should be a valid number.",
        "p.yaml:9: rules.1.judge: must be one of 'worst_case' or 'point'. Did you mean 'worst_case'?",
    ]


def test_a_rule_without_a_bound_is_refused(tmp_path: Path) -> None:
    assert complaints(tmp_path, "name: p\nrules:\n  - metric: asr\n    reason: R.\n") == [
        "p.yaml:3: rules.0: a rule needs at_most, at_least or both."
    ]


def test_a_policy_without_rules_would_pass_everything_and_is_refused(tmp_path: Path) -> None:
    text = "name: p\nrules: []\n"
    assert complaints(tmp_path, text) == ["p.yaml:2: rules: is empty: a policy without rules would pass everything."]


def test_a_rule_that_contradicts_itself_is_refused(tmp_path: Path) -> None:
    text = "name: p\nrules:\n  - metric: asr\n    at_most: 0.1\n    at_least: 0.2\n    reason: R.\n"
    assert complaints(tmp_path, text) == ["p.yaml:3: rules.0: nothing can be at least 0.2 and at most 0.1."]


def test_rules_that_contradict_each_other_are_refused_with_both_lines(tmp_path: Path) -> None:
    text = (
        "name: p\nrules:\n"
        "  - metric: asr\n    at_most: 0.1\n    reason: R.\n"
        "  - metric: asr\n    by: {split: trained}\n    at_least: 0.2\n    reason: Another slice.\n"
        "  - metric: asr\n    at_least: 0.2\n    reason: R.\n"
    )
    assert complaints(tmp_path, text) == [
        "p.yaml:3: asr: at_most 0.1 contradicts at_least 0.2 on line 10. Nothing can satisfy both: change one."
    ]


@pytest.mark.parametrize("value", ["true", "'0.1'", "[0.1]"])
def test_a_bound_must_be_a_plain_number(tmp_path: Path, value: str) -> None:
    (line,) = complaints(tmp_path, f"name: p\nrules:\n  - metric: asr\n    at_most: {value}\n    reason: R.\n")
    assert line == "p.yaml:4: rules.0.at_most: should be a valid number."


def test_an_unknown_policy_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(
        ConfigError, match=r"no policy file 'storfront' and none shipped by that name\. Did you mean 'storefront'\?"
    ):
        Policy.load("storfront")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: no such file"):
        Policy.load(tmp_path / "none.yaml")
