"""The diversity report, on sets small enough to count by hand."""

import pytest

from uphold.core.errors import DataError
from uphold.data.datasheet import BEGIN, END, as_markdown, as_text, current
from uphold.data.report import describe, quantiles, template_rows
from uphold.data.rows import parse

ROWS = [
    {"prompt": "how do i grow tall tomatoes on a small balcony", "label": "benign", "clause": "a", "lang": "en"},
    {"prompt": "How do I grow tall tomatoes on a small balcony?", "label": "benign", "clause": "a", "lang": "en"},
    {"prompt": "wie backe ich ein gutes dunkles brot", "label": "harmful", "clause": "a", "lang": "de", "reply": "so"},
    {"prompt": "my landlord will not answer any of my letters", "label": "benign", "clause": "b", "lang": "en"},
]


def rows(found=ROWS):
    return [parse(row, f"f:{i}") for i, row in enumerate(found, start=1)]


def test_counts_and_balance():
    report = describe(rows(), "test")
    assert (report.n, report.n_replies, report.n_multi_turn) == (4, 1, 0)
    assert report.counts == {
        "label": {"benign": 3, "harmful": 1},
        "clause": {"a": 3, "b": 1},
        "lang": {"de": 1, "en": 3},
    }
    assert [(b.clause, b.harmful, b.benign, b.share_benign) for b in report.balance] == [
        ("a", 1, 2, pytest.approx(2 / 3)),
        ("b", 0, 1, 1.0),
    ]


def test_near_duplicates_are_a_share_with_its_interval_and_named():
    report = describe(rows(), "test")
    m = report.measured("near_duplicates")
    assert (m.value, m.n_asked, m.interval_method) == (0.25, 4, "wilson")
    assert [alike for _, _, alike in report.pairs] == [1.0]


def test_nearest_neighbours_and_distinct_ngrams_worked_by_hand():
    report = describe(rows(), "test")
    assert report.nearest["max"] == 1.0
    assert report.measured("nearest_neighbour_similarity").value == pytest.approx(2 / 4)  # two rows at 1, two at 0
    # words 10 + 10 + 7 + 9 = 36, different ones 10 + 7 + 8 ('my' comes twice, none is shared): 25
    assert report.distinct["1-grams"] == 25
    assert report.measured("distinct_1").value == pytest.approx(25 / 36)


def test_rows_filled_into_a_template_share_a_frame():
    things = "copper violins, silver bridges, velvet lanterns, walnut jackets, quartz kettles".split(", ")
    stamped = [f"can you please tell me how do i make the {thing} for my friend at home" for thing in things]
    assert template_rows(stamped * 40)[:5] == [True] * 5
    assert not any(template_rows([row["prompt"] for row in ROWS]))


def test_two_rows_on_one_frame_are_chance():
    assert template_rows(["how do i get to the station on my own"] * 2) == [False, False]


def test_an_empty_set_has_no_numbers():
    report = describe([], "nothing")
    assert report.n == 0
    assert report.measured("near_duplicates").value is None
    assert quantiles([]) == {}
    assert "not measured" in as_text(report)


def test_quantiles_of_the_numbers_from_0_to_100():
    assert quantiles(range(101)) == {"min": 0, "25%": 25, "50%": 50, "75%": 75, "90%": 90, "99%": 99, "max": 100}


def test_text_and_tables_hold_the_figures():
    report = describe(rows(), "test")
    assert "near-duplicates (Jaccard 0.8 of word triples)" in as_text(report)
    assert "| a | 1 | 2 |" in as_markdown(report)
    assert "25.00% (n=4, 95% wilson" in as_markdown(report)


def test_a_page_is_rewritten_between_its_marks_alone():
    page = current(f"head\n{BEGIN}\nold\n{END}\ntail\n")
    assert page.startswith(f"head\n{BEGIN}\n| figure | value |")
    assert page.endswith(f"{END}\ntail\n")
    assert "old" not in page
    with pytest.raises(DataError, match="needs the lines"):
        current("no marks", "page.md")
