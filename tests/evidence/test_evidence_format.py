"""How numbers are written for people."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthetic_evidence import share

from uphold.core.measure import scalar
from uphold.evidence.format import FIELDS, describe, field_text, number


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.9412, "share", "94.1%"),
        (0.0, "share", "0.0%"),
        (1.0, "share", "100.0%"),
        (-0.0004, "share", "0.0%"),
        (0.012, "difference", "+1.2 pp"),
        (-0.012, "difference", "−1.2 pp"),
        (0.0001, "difference", "0.0 pp"),
        (241.37, "s", "241.4 s"),
        (1804.0, "MB", "1,804 MB"),
        (29428.4, "entries/s", "29,428.4 entries/s"),
        (0.81234, "", "0.8123"),
        (-3.5, "nats", "−3.5 nats"),
        (0.00001234, "", "1.234e−05"),
        (None, "share", "not measured"),
    ],
)
def test_a_number_is_written_with_its_unit(value: float | None, unit: str, text: str) -> None:
    assert number(value, unit) == text


def test_one_line_says_n_and_the_interval_with_its_method() -> None:
    assert describe(share("m", 188, 200)) == "94.0% (n=200, 95% Wilson 89.8% to 96.5%)"
    assert describe(share("m", 9, 10, unscored=2)) == "90.0% (n=10 of 12 scored, 95% Wilson 59.6% to 98.2%)"
    assert describe(scalar("wall_s", 212.0, 1, unit="s")) == "212 s (n=1)"
    assert describe(share("m", 0, 0, unscored=4)) == "not measured (n=0 of 4 scored)"


def test_every_field_can_be_written_of_a_measurement_with_nothing_in_it() -> None:
    for field in FIELDS:
        assert field_text(share("m", 0, 0, unscored=3), field)


@given(st.floats(allow_nan=False, allow_infinity=False), st.sampled_from(["share", "difference", "s", ""]))
def test_any_finite_number_can_be_written_and_no_zero_has_a_sign(value: float, unit: str) -> None:
    text = number(value, unit)
    assert not text.startswith(("−0.0%", "−0.0 pp", "+0.0 pp", "-"))
