"""Figures: scales with round ticks, marks where the numbers are, logs thinned without losing their mean."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthetic_evidence import share

from uphold.core.errors import DataError
from uphold.core.records import Measurement
from uphold.evidence.entry import Entry
from uphold.evidence.figures import Group, curves, intervals, marker, panels, scale, share_scale, short
from uphold.evidence.inputs import MAX_POINTS, Curve, read_curve, thinned
from uphold.evidence.numbers import Number


def of(measurement: Measurement) -> Number:
    body = measurement.model_dump(mode="json")
    return Number(Entry(seq=0, time="", kind="measurement", stage="", prev="", body=body, hash="h" * 64))


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0.0, 1.9, (0.0, 0.5, 1.0, 1.5, 2.0)),
        (0.0, 97.0, (0.0, 25.0, 50.0, 75.0, 100.0)),
        (-3.4, 2.1, (-4.0, -2.0, 0.0, 2.0, 4.0)),
        (1, 239, (0.0, 100.0, 200.0, 300.0)),
    ],
)
def test_a_scale_has_round_ticks_around_its_data(low: float, high: float, ticks: tuple[float, ...]) -> None:
    assert scale(low, high, 0, 100).ticks == ticks


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))
def test_a_scale_covers_its_data_with_few_ticks(one: float, other: float) -> None:
    low, high = sorted((one, other))
    found = scale(low, high, 0, 100)
    slack = 1e-6 * max(1.0, abs(low), abs(high))
    assert found.low <= low + slack
    assert found.high >= high - slack
    assert 2 <= len(found.ticks) <= 12
    assert all(0 <= found(tick) <= 100 for tick in found.ticks)


def test_shares_get_an_axis_from_zero_unless_all_are_large() -> None:
    small, large = of(share("m", 2, 100)), of(share("m", 96, 100))
    assert share_scale([small], 0, 1).low == 0
    assert share_scale([small, large], 0, 1).low == 0
    found = share_scale([large], 0, 1)
    assert found.low >= 80
    assert found.high == 100


def test_an_interval_figure_places_each_value_on_its_axis_in_the_order_of_the_systems() -> None:
    cells = (of(share("asr.base", 100, 100)), None, of(share("asr.guarded", 0, 100)))
    figure = intervals(
        "n", "t", "a", [Group("Held out", (("Story", cells),))], ["Base", "Aligned", "Guarded"], "per cent"
    )
    assert [mark.label for mark in figure.marks] == ["Story, Base", "Story, Guarded"]
    assert [mark.style for mark in figure.marks] == ["s0", "s2"]  # a system keeps its marker when another is missing
    right, left = (float(mark.whisker.partition("H")[2].partition("M")[0]) for mark in figure.marks)
    assert right == 736  # 100% at the right end of the axis
    assert 190 < left < 230  # 3.7%, the high end of 0 of 100, near the left end
    assert [row[:4] for row in figure.rows] == [
        ["group", "row", "system", "metric"],
        ["Held out", "Story", "Base", "asr.base"],
        ["Held out", "Story", "Guarded", "asr.guarded"],
    ]


def test_panels_draw_the_baselines_value_as_a_line() -> None:
    cells = (of(share("over_refusal.base", 5, 100)), of(share("over_refusal.guarded", 9, 100)))
    figure = panels("n", "t", "a", [("Over-refusal", cells)], ["Base", "Guarded"])
    (line,) = [line for line in figure.lines if line.style == "baseline"]
    assert line.x1 == line.x2
    assert f"M{line.x1 - 4.5:.1f}" in figure.marks[0].d  # the line runs through the baseline's circle


def test_a_value_without_interval_has_no_whisker() -> None:
    plain = of(Measurement(metric="m", value=0.5, n_asked=1, n_scored=1))
    figure = intervals("n", "t", "a", [Group("", (("Row", (plain,)),))], ["Base"], "per cent")
    assert figure.marks[0].whisker == ""
    assert figure.methods() == []


def test_markers_of_six_systems_all_differ() -> None:
    assert len({marker(i) for i in range(6)}) == 6


def test_a_long_label_is_cut_to_fit() -> None:
    assert short("Refusal suppression") == "Refusal suppression"
    assert short("A very long family name that goes on") == "A very long family name th…"


def test_curves_of_one_panel_share_its_axes_and_have_a_key() -> None:
    made = [
        Curve(panel="Reward", name=name, y_label="nats", points=((1, 0.0), (2, sign * 3.0)))
        for name, sign in (("chosen", 1), ("rejected", -1))
    ]
    figure = curves("training", "Training", "a", made)
    assert {text.text for text in figure.texts} >= {"Reward", "nats", "chosen", "rejected", "step", "−2"}
    assert len(figure.rows) == 1 + 4


def test_one_point_is_a_curve_too() -> None:
    figure = curves("training", "Training", "a", [Curve(panel="p", name="n", y_label="y", points=((3, 0.5),))])
    assert not any(math.isnan(text.x) or math.isnan(text.y) for text in figure.texts)


def test_a_log_becomes_a_curve_of_the_lines_that_have_both_fields(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "accuracy": 0.5}\n{"step": 3, "loss": 1.5}\n')
    curve = read_curve(path, "step", "loss", panel="SFT", name="loss", y_label="loss, nats")
    assert curve.points == ((1.0, 2.0), (3.0, 1.5))
    with pytest.raises(DataError, match=r"log\.jsonl: no line has both 'step' and 'reward'\."):
        read_curve(path, "step", "reward", panel="p", name="n", y_label="y")


@given(st.lists(st.tuples(st.floats(0, 1e3), st.floats(-1e3, 1e3)), min_size=1, max_size=1000))
def test_thinning_keeps_short_logs_and_the_order_of_long_ones(points: list[tuple[float, float]]) -> None:
    points = sorted(points)
    found = thinned(points)
    assert len(found) == min(len(points), MAX_POINTS)
    assert found == points or [x for x, _ in found] == pytest.approx(sorted(x for x, _ in found))


def test_thinning_averages_stretches() -> None:
    assert thinned([(1, 2.0), (2, 4.0), (3, 10.0), (4, 20.0)], most=2) == [(1.5, 3.0), (3.5, 15.0)]
