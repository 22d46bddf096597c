"""Vote files in both layouts that public consultation tools export, and every way in which they can be wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from uphold.constitution.opinions.votes import read_votes
from uphold.core.errors import DataError

COMMENTS = (
    "timestamp,datetime,comment-id,author-id,agrees,disagrees,moderated,comment-body\n"
    "1,x,0,9,2,1,1,Be honest.\n2,x,1,9,1,1,0,Be kind.\n3,x,2,9,0,0,-1,Spam!\n"
)
LONG = "timestamp,datetime,comment-id,voter-id,vote\n10,x,0,a,1\n11,x,0,b,-1\n12,x,1,a,0\n13,x,2,a,1\n"
WIDE = "participant,group-id,n-comments,n-votes,n-agree,n-disagree,0,1,2\na,0,0,3,2,0,1,0,1\nb,,0,1,0,1,-1,,\n"


def files(folder: Path, votes: str, statements: str = COMMENTS) -> tuple[Path, Path]:
    (folder / "votes.csv").write_text(votes, encoding="utf-8")
    (folder / "comments.csv").write_text(statements, encoding="utf-8")
    return folder / "votes.csv", folder / "comments.csv"


@pytest.mark.parametrize(("layout", "text"), [("long", LONG), ("wide", WIDE)])
def test_both_layouts_give_the_same_votes_and_leave_out_moderated_statements(tmp_path: Path, layout: str, text: str):
    votes = read_votes(*files(tmp_path, text))
    assert votes.layout == layout
    assert votes.participants == ("a", "b")
    assert [tuple(s) for s in votes.statements] == [("0", "Be honest."), ("1", "Be kind.")]
    found = {
        (votes.participants[r], votes.statements[c].id): v
        for r, c, v in zip(votes.row_V, votes.column_V, votes.value_V, strict=True)
    }
    assert found == {("a", "0"): 1.0, ("b", "0"): -1.0, ("a", "1"): 0.0}
    assert votes.n_moderated == 1
    assert votes.missing == 0.25


def test_plain_names_semicolons_and_floats_are_read(tmp_path: Path):
    votes = read_votes(*files(tmp_path, "Participant;Statement;Vote\na;s1;1.0\nb;s1;-1\n", "id;text\ns1;Be fair.\n"))
    assert votes.value_V.tolist() == [1.0, -1.0]


def test_a_text_that_spans_lines_keeps_later_line_numbers_right(tmp_path: Path):
    statements = 'statement-id,statement\ns1,"Be\nfair."\ns1,Again.\n'
    with pytest.raises(DataError) as caught:
        read_votes(*files(tmp_path, LONG, statements))
    assert str(caught.value) == f"{tmp_path}/comments.csv:4: statement 's1' is listed twice, first on line 2. Keep one."


def test_equal_votes_given_twice_count_once_and_are_counted(tmp_path: Path):
    votes = read_votes(*files(tmp_path, LONG + "14,x,0,a,1\n15,x,0,a,1\n"))
    assert votes.n == 3
    assert votes.n_duplicates == 2


def test_contradicting_votes_are_an_error_that_lists_their_lines(tmp_path: Path):
    with pytest.raises(DataError) as caught:
        read_votes(*files(tmp_path, LONG + "14,x,0,a,-1\n"))
    assert str(caught.value) == (
        f"{tmp_path}/votes.csv:6: participant 'a' voted twice on statement '0': +1 on line 2, -1 on line 6.\n"
        "Remove one of each, or keep the later vote with --revotes last."
    )


def test_the_later_vote_can_be_kept_by_its_time_or_else_its_place(tmp_path: Path):
    by_time = read_votes(*files(tmp_path, LONG + "5,x,0,a,-1\n"), revotes="last")
    assert (by_time.value_V[0], by_time.n_revised) == (1.0, 1)  # the row added last was cast first
    untimed = "participant,statement-id,vote\na,0,1\nb,0,1\na,0,-1\n"
    assert read_votes(*files(tmp_path, untimed), revotes="last").value_V[0] == -1.0


@pytest.mark.parametrize(
    ("votes", "message"),
    [
        ("", "votes.csv: is empty. It needs a header and at least one row."),
        ("participant,0,1\n", "votes.csv: no vote was cast: every cell is empty. Export the votes again."),
        ("participant,0,1\na,,\nb,,\n", "votes.csv: no vote was cast: every cell is empty. Export the votes again."),
        ("participant,0,1\na,1,1\n", "votes.csv: only one participant ('a') voted. Opinion groups need at least two."),
        (
            "participant,0\na,2\nb,yes\n",
            "votes.csv:2: vote '2' on statement '0' is not -1, 0 or 1.\nvotes.csv:3: vote 'yes' on statement '0' is not -1, 0 or 1.",
        ),
        ("voter,comment-id,vote\na,0,0.5\n", "votes.csv:2: vote '0.5' is not -1, 0 or 1."),
        ("voter,comment-id,vote\na,0,nan\n", "votes.csv:2: vote 'nan' is not -1, 0 or 1."),
        ("voter,comment-id,vote\n,0,1\n", "votes.csv:2: a vote without a participant."),
        ("voter,comment-id\na,0\n", "votes.csv:1: one row per vote needs a column vote; found: voter, comment-id."),
        (
            "comment-id,vote\n0,1\n",
            "votes.csv:1: needs a column that names the participant (participant or voter-id); found: comment-id, vote.",
        ),
        ("participant,0,0\na,1,1\n", "votes.csv:1: column '0' appears twice. Keep one."),
        ("participant,0\na,1,1\n", "votes.csv:2: has 3 cells, but the header has 2."),
        ("participant,0\n,1\n", "votes.csv:2: a row without a participant."),
        (
            "participant,0,77\na,1,1\n",
            "votes.csv:1: statement '77' is not in comments.csv.\nExport votes and statements together.",
        ),
        (
            "voter,comment-id,vote\na,0,1\nb,00,1\n",
            "votes.csv:3: statement '00' is not in comments.csv.\nDid you mean '0'?",
        ),
    ],
)
def test_votes_that_cannot_be_used_are_refused_with_their_line(tmp_path: Path, votes: str, message: str):
    with pytest.raises(DataError) as caught:
        read_votes(*files(tmp_path, votes))
    assert str(caught.value).replace(f"{tmp_path}/", "") == message


@pytest.mark.parametrize(
    ("statements", "message"),
    [
        ("", "comments.csv: is empty. It needs a header and at least one row."),
        ("comment-id,comment-body\n", "comments.csv: holds no statement. Add at least one row."),
        ("comment-id,comment-body\n,Be kind.\n", "comments.csv:2: a statement without an id."),
        ("comment-id,comment-body\n0,\n", "comments.csv:2: statement '0' has no text."),
        (
            "number,words\n0,Be kind.\n",
            "comments.csv:1: needs a column of ids (statement-id or comment-id) and one of texts (statement, text or comment-body); "
            "found: number, words.",
        ),
    ],
)
def test_statements_that_cannot_be_used_are_refused(tmp_path: Path, statements: str, message: str):
    with pytest.raises(DataError) as caught:
        read_votes(*files(tmp_path, LONG, statements))
    assert str(caught.value).replace(f"{tmp_path}/", "") == message


def test_many_problems_are_shown_ten_at_a_time(tmp_path: Path):
    rows = "".join(f"p{i},0,5\n" for i in range(40))
    with pytest.raises(DataError) as caught:
        read_votes(*files(tmp_path, "voter,comment-id,vote\n" + rows))
    assert len(str(caught.value).splitlines()) == 11
    assert str(caught.value).endswith("... and 30 more.")


@given(st.dictionaries(st.tuples(st.integers(0, 5), st.integers(0, 4)), st.sampled_from([-1, 0, 1]), min_size=2))
def test_long_and_wide_files_of_the_same_votes_agree(
    tmp_path_factory: pytest.TempPathFactory, cells: dict[tuple[int, int], int]
):
    people = list(dict.fromkeys(p for p, _ in cells))
    if len(people) < 2:
        return
    folder = tmp_path_factory.mktemp("votes")
    statements = "statement-id,text\n" + "".join(f"s{j},Text {j}.\n" for j in range(5))
    long = "participant,statement-id,vote\n" + "".join(f"p{i},s{j},{v}\n" for (i, j), v in cells.items())
    wide = "participant," + ",".join(f"s{j}" for j in range(5)) + "\n"
    wide += "".join(f"p{i}," + ",".join(str(cells.get((i, j), "")) for j in range(5)) + "\n" for i in people)

    def table(text: str) -> np.ndarray:
        votes = read_votes(*files(folder, text, statements))
        full = np.full((len(votes.participants), 5), np.nan)
        full[votes.row_V, votes.column_V] = votes.value_V
        return full[np.argsort(votes.participants)]

    np.testing.assert_array_equal(table(long), table(wide))
