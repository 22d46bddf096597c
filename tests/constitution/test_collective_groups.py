"""Opinion groups, consensus of every group, bridging scores: hand cases, reference values, and populations whose groups are known."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import betainc
from sklearn.metrics import adjusted_rand_score, silhouette_score

from uphold.cli.main import run
from uphold.constitution import Constitution
from uphold.constitution.collective import analyse
from uphold.constitution.opinions.bridging import FACTOR_RIDGE, INTERCEPT_RIDGE, measure_bridging
from uphold.constitution.opinions.factors import fit, shuffled
from uphold.constitution.opinions.groups import adjusted_rand, find_groups, k_means, silhouette
from uphold.constitution.opinions.support import distinctive, measure_support
from uphold.constitution.opinions.votes import Statement, Votes


def population(people: int, statements: int, groups: int, missing: float, seed: int) -> tuple[Votes, np.ndarray]:
    """Votes of people in known groups. Half the statements divide the groups (agreement Beta(0.6, 0.6) in each), half do not
    (Beta(3, 1.5)); one vote in ten is a pass."""
    rng = np.random.default_rng(seed)
    group_P = rng.integers(groups, size=people)
    divides_S = np.arange(statements) % 2 == 0
    agree_GS = np.where(divides_S, rng.beta(0.6, 0.6, (groups, statements)), rng.beta(3, 1.5, statements))
    row_V, column_V = np.nonzero(rng.random((people, statements)) >= missing)
    agrees_V = rng.random(len(row_V)) < agree_GS[group_P[row_V], column_V]
    value_V = np.where(rng.random(len(row_V)) < 0.1, 0.0, np.where(agrees_V, 1.0, -1.0))
    names = tuple(f"p{i}" for i in range(people))
    texts = tuple(Statement(str(j), f"The AI should do thing number {j}.") for j in range(statements))
    return Votes(names, texts, row_V, column_V, value_V), group_P


def matrix(rows: list[list[int | None]]) -> Votes:
    """Votes from rows of people; None is missing."""
    cells = [(i, j, v) for i, row in enumerate(rows) for j, v in enumerate(row) if v is not None]
    row_V, column_V, value_V = (np.array(part) for part in zip(*cells, strict=True))
    texts = tuple(Statement(str(j), f"The AI should do thing number {j}.") for j in range(len(rows[0])))
    return Votes(tuple(f"p{i}" for i in range(len(rows))), texts, row_V, column_V, value_V.astype(float))


# -- groups -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("groups", "seed"), [(2, 0), (2, 1), (3, 2), (3, 3), (4, 4), (5, 5)])
def test_known_groups_are_recovered_with_thirty_percent_missing(groups: int, seed: int):
    votes, truth_P = population(300, 120, groups, 0.3, seed)
    found = find_groups(votes)
    assert found.n == groups
    assert adjusted_rand(truth_P, found.group_P) >= 0.9


@pytest.mark.parametrize("seed", range(4))
def test_people_of_one_mind_are_not_parted(seed: int):
    votes, _ = population(200, 60, 1, 0.3, seed)
    found = find_groups(votes)
    assert found.n == 1
    assert found.sizes == [200]
    assert found.stability is None


def test_people_with_few_votes_are_not_placed_and_groups_are_numbered_by_size():
    votes, _ = population(120, 40, 2, 0.3, 0)
    keep_V = (votes.row_V != 7) | (votes.column_V < 4)
    fewer = Votes(
        votes.participants, votes.statements, votes.row_V[keep_V], votes.column_V[keep_V], votes.value_V[keep_V]
    )
    found = find_groups(fewer)
    assert found.group_P[7] == -1
    assert found.sizes == sorted(found.sizes, reverse=True)
    assert sum(found.sizes) == 119


def test_the_same_seed_gives_the_same_groups():
    votes, _ = population(100, 30, 2, 0.5, 0)
    np.testing.assert_array_equal(find_groups(votes, seed=3).group_P, find_groups(votes, seed=3).group_P)


def test_adjusted_rand_by_hand():
    # pairs together in both 1, in a 2, in b 1, of 6; expected 2 * 1 / 6; (1 - 1/3) / (3/2 - 1/3) = 4/7
    assert adjusted_rand(np.array([0, 0, 1, 1]), np.array([0, 0, 1, 2])) == pytest.approx(4 / 7)
    assert adjusted_rand(np.array([0, 0, 1]), np.array([5, 5, 2])) == 1.0


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=2, max_size=30))
def test_adjusted_rand_agrees_with_scikit_learn(pairs: list[tuple[int, int]]):
    a, b = np.array(pairs).T
    assert adjusted_rand(a, b) == pytest.approx(adjusted_rand_score(a, b))


def test_silhouette_agrees_with_scikit_learn_and_k_means_finds_clear_clusters():
    rng = np.random.default_rng(0)
    points = np.concatenate([rng.normal(centre, 0.3, (40, 2)) for centre in (0, 3, 6)])
    labels = k_means(points, 3, seed=0)
    assert adjusted_rand(labels, np.repeat([0, 1, 2], 40)) == 1.0
    assert silhouette(points, labels) == pytest.approx(silhouette_score(points, labels))


# -- components ---------------------------------------------------------------------------------------------------------


def test_a_planted_component_is_found_with_most_votes_missing():
    rng = np.random.default_rng(0)
    lean_P, load_S = rng.normal(size=400), rng.normal(size=100)
    row_V, column_V = np.nonzero(rng.random((400, 100)) < 0.2)
    value_V = lean_P[row_V] * load_S[column_V] + rng.normal(scale=0.3, size=len(row_V))
    factors = fit(row_V, column_V, value_V, (400, 100), 1, seed=0)
    assert abs(np.corrcoef(factors.coordinates_PD[:, 0], lean_P)[0, 1]) > 0.95
    assert np.linalg.norm(factors.loadings_SD[:, 0]) == pytest.approx(1)


def test_a_complete_matrix_gives_the_directions_of_ordinary_principal_components():
    rng = np.random.default_rng(1)
    full_PS = rng.normal(size=(60, 2)) @ rng.normal(size=(2, 12)) * 3 + rng.normal(scale=0.1, size=(60, 12))
    row_V, column_V = np.nonzero(np.ones_like(full_PS))
    found = fit(row_V, column_V, full_PS[row_V, column_V], full_PS.shape, 2, seed=0).loadings_SD
    expected = np.linalg.svd(full_PS - full_PS.sum(axis=0) / 62, full_matrices=False)[2][:2].T
    overlap = np.linalg.svd(found.T @ expected)[1]  # cosines of the angles between the two planes
    assert overlap == pytest.approx([1, 1], abs=1e-3)


def test_shuffling_keeps_each_statements_result():
    votes, _ = population(50, 10, 2, 0.4, 0)
    dealt_V = shuffled(votes.column_V, votes.value_V, seed=0)
    for s in range(10):
        mine = votes.column_V == s
        assert sorted(dealt_V[mine]) == sorted(votes.value_V[mine])
    assert (dealt_V != votes.value_V).any()


# -- support --------------------------------------------------------------------------------------------------------------


def test_support_by_hand():
    votes = matrix([[1, 1], [1, -1], [1, 0], [-1, None], [1, 1], [1, -1]])
    support = measure_support(votes, np.array([0, 0, 0, 0, 1, 1]), 2)
    # statement 0: group 0 has 3 of 4 agreeing, so Beta(4, 2), mean 4/6; group 1 2 of 2, Beta(3, 1), mean 3/4
    assert support.p_agree_GS[:, 0] == pytest.approx([4 / 6, 3 / 4])
    assert support.consensus_S[0] == pytest.approx(4 / 6 * 3 / 4)
    # P(share > 1/2) under Beta(4, 2): 1 - I_0.5(4, 2) = 1 - (C(5,4) + C(5,5)) / 32 = 26/32; under Beta(3, 1): 1 - 1/8
    assert support.majority_GS[:, 0] == pytest.approx([26 / 32, 7 / 8])
    low, high = support.interval_GS2[0, 0]
    assert betainc(4, 2, [low, high]) == pytest.approx([0.025, 0.975])
    # statement 1, group 0: one agrees, one disagrees, one passes: a pass counts among the votes
    assert support.p_agree_GS[0, 1] == pytest.approx(2 / 5)
    assert support.p_disagree_GS[0, 1] == pytest.approx(2 / 5)


def test_consensus_needs_every_group_whatever_its_size():
    rows: list[list[int | None]] = [[1, 1]] * 40 + [[-1, 1]] * 5
    support = measure_support(matrix(rows), np.repeat([0, 1], [40, 5]), 2)
    assert support.consensus_S[0] < 0.2 < 0.8 < support.consensus_S[1]
    assert support.consensus_interval_S2[1, 0] < support.consensus_S[1] < support.consensus_interval_S2[1, 1]


def test_distinctive_statements_name_the_side_and_stay_out_where_groups_agree():
    rows: list[list[int | None]] = [[1, 1, -1]] * 15 + [[1, -1, 1]] * 15
    support = measure_support(matrix(rows), np.repeat([0, 1], 15), 2)
    found = distinctive(support, 0)
    assert [(one.statement, one.direction) for one in found] == [(1, "agree"), (2, "disagree")]
    assert (found[0].share_in, found[0].share_out) == (1.0, 0.0)
    assert all(one.p_value < 0.01 for one in found)
    assert distinctive(measure_support(matrix(rows), np.zeros(30, dtype=int), 1), 0) == []


# -- bridging -------------------------------------------------------------------------------------------------------------


def test_what_both_sides_like_bridges_more_than_what_a_larger_side_loves():
    # statement 0 pleases 2 of 3 on either side; statement 1 all of the larger side and nobody else; 2 and 3 are the divide itself
    large: list[list[int | None]] = [[1 if i % 3 else -1, 1, 1, -1] for i in range(60)]
    small: list[list[int | None]] = [[1 if i % 3 else -1, -1, -1, 1] for i in range(30)]
    bridging = measure_bridging(matrix(large + small))
    assert bridging.score_S[0] > bridging.score_S[1] + 0.02
    assert abs(bridging.leaning_S[0]) < abs(bridging.leaning_S[1]) / 5
    assert (bridging.interval_S2[:, 0] <= bridging.score_S).all()
    assert (bridging.score_S <= bridging.interval_S2[:, 1]).all()


def test_no_small_step_lowers_the_published_loss():
    votes, _ = population(60, 20, 2, 0.4, 0)
    from uphold.constitution.opinions.bridging import _Fitter, _Model

    start = _Model(0.5, np.zeros((60, 2)), np.random.default_rng(0).normal(scale=0.1, size=(20, 2)))
    model = _Fitter(votes).fit(start, np.ones(60), 2000)

    def loss(mean: float, people_P2: np.ndarray, statements_S2: np.ndarray) -> float:
        error_V = (votes.value_V + 1) / 2 - mean - people_P2[votes.row_V, 0] - statements_S2[votes.column_V, 0]
        error_V = error_V - people_P2[votes.row_V, 1] * statements_S2[votes.column_V, 1]
        ridge = INTERCEPT_RIDGE * (mean**2 + (people_P2[:, 0] ** 2).mean() + (statements_S2[:, 0] ** 2).mean())
        return float(
            (error_V**2).mean()
            + ridge
            + FACTOR_RIDGE * ((people_P2[:, 1] ** 2).mean() + (statements_S2[:, 1] ** 2).mean())
        )

    at = loss(model.mean, model.person_P2, model.statement_S2)
    rng = np.random.default_rng(1)
    for _ in range(50):
        step = loss(
            model.mean + 1e-3 * rng.normal(),
            model.person_P2 + 1e-3 * rng.normal(size=(60, 2)),
            model.statement_S2 + 1e-3 * rng.normal(size=(20, 2)),
        )
        assert step > at


# -- proposals ------------------------------------------------------------------------------------------------------------


def consultation(texts: list[str], votes: list[list[int | None]]) -> Votes:
    found = matrix(votes)
    return Votes(
        found.participants,
        tuple(Statement(str(j), t) for j, t in enumerate(texts)),
        found.row_V,
        found.column_V,
        found.value_V,
    )


def test_near_duplicates_are_merged_and_opposites_are_not():
    texts = [
        "The AI should share user data.",
        "AI should always share user data!",
        "The AI should not share user data.",
        "The AI must be polite.",
    ]
    opinions = analyse(consultation(texts, [[1, 1, 1, 1]] * 30), n_boot=10)
    assert [(p.statement, p.merged, p.modality) for p in opinions.proposals] == [
        ("0", ("1",), "should"),
        ("2", (), "should"),
        ("3", (), "must"),
    ]


def test_only_what_every_group_supports_is_proposed():
    votes = [[1, 1, -1, 1, -1, 1, 1, -1]] * 40 + [[1, -1, 1, -1, 1, -1, -1, 1]] * 20  # type: ignore[list-item]
    opinions = analyse(
        consultation([f"The AI should do thing number {word}." for word in "abcdefgh"], votes), n_boot=10
    )  # type: ignore[arg-type]
    assert opinions.groups.n == 2
    assert [p.statement for p in opinions.proposals] == ["0"]
    assert opinions.proposals[0].groups[1].agree == 20


# -- the command --------------------------------------------------------------------------------------------------------


def written(folder: Path, votes: Votes) -> tuple[str, str]:
    rows = zip(votes.row_V, votes.column_V, votes.value_V, strict=True)
    lines = [
        "voter-id,comment-id,vote",
        *(f"{votes.participants[r]},{votes.statements[c].id},{int(v)}" for r, c, v in rows),
    ]
    (folder / "votes.csv").write_text("\n".join(lines))
    (folder / "comments.csv").write_text(
        "\n".join(["comment-id,comment-body", *(f"{s.id},{s.text}" for s in votes.statements)])
    )
    return str(folder / "votes.csv"), str(folder / "comments.csv")


def test_the_command_recovers_groups_and_writes_proposals_and_map(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    votes, truth_P = population(150, 60, 2, 0.3, 1)
    file, statements = written(tmp_path, votes)
    out, picture = tmp_path / "proposals.yaml", tmp_path / "map.svg"
    assert (
        run(
            [
                "constitution",
                "opinions",
                file,
                "--statements",
                statements,
                "--out",
                str(out),
                "--figure",
                str(picture),
                "--json",
            ]
        )
        == 0
    )
    result = json.loads(capsys.readouterr().out)
    members = result["groups"]["members"]
    found_P = np.array([ord(members[name]) for name in votes.participants])
    assert adjusted_rand(truth_P, found_P) >= 0.9
    assert result["n_votes"] == votes.n
    first = result["statements"][0]
    assert {"consensus", "consensus_interval", "bridging", "bridging_interval", "groups"} <= set(first)
    loaded = Constitution.load(out)
    assert [clause.id for clause in loaded.clauses] == [proposal["id"] for proposal in result["proposals"]]
    assert loaded.clauses[0].source.startswith("votes.csv, statement ")
    assert picture.read_bytes().startswith(b"<?xml")
    assert (tmp_path / "map.csv").read_text().splitlines()[0] == "participant,group,x,y,n_votes"


def test_wrong_options_are_refused_before_anything_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    file, statements = written(tmp_path, population(20, 8, 1, 0.0, 0)[0])
    for options, message in (
        (
            ["--figure", str(tmp_path / "map.bmp")],
            f"uphold: --figure {tmp_path}/map.bmp: unknown format '.bmp'. Write .svg, .png, .pdf.\n",
        ),
        (
            ["--confidence", "1.5"],
            "uphold: --confidence 1.5: give a probability from 0.5 up to, but not including, 1.\n",
        ),
        (["--groups", "50"], "uphold: --groups 50: give a number from 1 to 20, the number of participants.\n"),
        (["--revotes", "lest"], "uphold: --revotes lest: unknown choice. Did you mean 'last'?\n"),
    ):
        assert run(["constitution", "opinions", file, "--statements", statements, *options]) == 2
        assert capsys.readouterr().err == message
    assert sorted(path.name for path in tmp_path.iterdir()) == ["comments.csv", "votes.csv"]


def test_a_consultation_without_agreement_exits_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    file, statements = written(tmp_path, matrix([[-1, -1]] * 12))
    assert run(["constitution", "opinions", file, "--statements", statements, "--out", str(tmp_path / "o.yaml")]) == 1
    assert capsys.readouterr().out.splitlines()[-1] == (
        "no statement has the support of every group. Lower --confidence, or gather more votes"
    )
    assert not (tmp_path / "o.yaml").exists()


def test_statements_nobody_voted_on_have_no_scores(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    file, statements = written(tmp_path, matrix([[1, None]] * 8))
    run(["constitution", "opinions", file, "--statements", statements, "--json"])
    unvoted = json.loads(capsys.readouterr().out)["statements"][1]
    assert (unvoted["n"], unvoted["consensus"], unvoted["bridging"], unvoted["bridging_interval"]) == (
        0,
        None,
        None,
        None,
    )


@given(st.lists(st.lists(st.sampled_from([-1, 0, 1, None]), min_size=3, max_size=3), min_size=2, max_size=8))
def test_any_small_consultation_is_analysed_without_error(rows: list[list[int | None]]):
    if sum(any(v is not None for v in row) for row in rows) < 2:
        return
    rows = [row for row in rows if any(v is not None for v in row)]
    opinions = analyse(matrix(rows), n_boot=10)
    for result in opinions.statements:
        for group in result.groups:
            assert 0 < group.interval[0] < group.p_agree < group.interval[1] < 1
        assert result.bridging is None or math.isfinite(result.bridging)
