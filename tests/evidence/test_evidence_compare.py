"""Comparing runs: what is paired, what is noise, what is missing, and what is refused."""

from __future__ import annotations

import csv
import fcntl
import io
import json
import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser

import pytest
from compared_runs import outcomes, write_run
from hypothesis import given, settings
from hypothesis import strategies as st

from uphold.cli.main import run as uphold
from uphold.core.errors import ConfigError, DataError, StoreError
from uphold.core.measure import scalar
from uphold.core.stats import Interval, newcombe_paired
from uphold.evidence.compare import VERDICTS, Settings, compare
from uphold.evidence.compare_delta import contrast
from uphold.evidence.compare_items import Items
from uphold.evidence.compare_map import heat_map
from uphold.evidence.compare_page import page as html_page
from uphold.evidence.compare_page import write_comparison
from uphold.evidence.compare_subject import Subject, load_subject, save_baseline
from uphold.evidence.compare_text import csv_text, markdown, text
from uphold.evidence.ledger import Ledger


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """before: 40 of 100 attacks succeed. after: 70, of which 40 are the same. same: as before. few: like after, but 8 and 14 of 20."""
    folder = tmp_path_factory.mktemp("runs")
    shared = {"refused": outcomes(50, 5), "right": outcomes(60, 50)}
    write_run(folder / "before", attacked=outcomes(100, 40), **shared)
    write_run(folder / "after", attacked=outcomes(100, 70), **shared, model="m2")
    write_run(folder / "same", attacked=outcomes(100, 40), **shared, model="m3")
    write_run(folder / "better", attacked=outcomes(100, 5), **shared, model="m4")
    return folder


def delta_of(found, metric, run=None):
    row = next(row for row in found.rows if row.metric == metric and not row.by)
    return next(d for d in row.deltas if run in (None, d.run))


def side(name, measurement, items=None):
    """A side with one metric, made by hand."""
    key = (measurement.metric, ())
    one = Subject(name, name, "", "", 0, {key: measurement})
    if items is not None:
        one.items[key] = items
    return one


# what is compared, and how


def test_runs_with_outcomes_on_the_same_items_are_paired(runs):
    found = delta_of(compare([runs / "before", runs / "after"]), "attack_success_rate")
    # 40 both, 30 only after, none only before, 30 neither: +0.30
    expected = newcombe_paired(40, 30, 0, 30)
    assert found.how == "paired"
    assert found.n_pairs == 100
    assert found.delta.value == pytest.approx(0.30)
    assert found.delta.interval == pytest.approx((expected.low, expected.high))
    assert found.p == pytest.approx(2 * 0.5**30)  # McNemar: 30 of 30 went one way
    assert found.verdict == "worse"


def test_runs_without_single_outcomes_are_compared_by_their_intervals_and_it_says_so(tmp_path):
    write_run(tmp_path / "a", attacked=outcomes(100, 40), with_rows=False)
    write_run(tmp_path / "b", attacked=outcomes(100, 70), with_rows=False)
    found = compare([tmp_path / "a", tmp_path / "b"])
    d = delta_of(found, "attack_success_rate")
    assert (d.how, d.n_pairs) == ("unpaired", 0)
    assert d.delta.interval_method == "mover"
    assert d.delta.interval[0] < 0.30 < d.delta.interval[1]
    assert "No difference is paired" in text(found)


def test_pairing_narrows_the_interval(runs, tmp_path):
    write_run(tmp_path / "a", attacked=outcomes(100, 40), with_rows=False)
    paired = delta_of(compare([runs / "before", runs / "after"]), "attack_success_rate").delta
    apart = delta_of(compare([tmp_path / "a", runs / "after"]), "attack_success_rate").delta
    assert paired.interval[1] - paired.interval[0] < apart.interval[1] - apart.interval[0]


def test_runs_asked_nearly_the_same_are_paired_on_what_both_were_asked(tmp_path):
    write_run(tmp_path / "a", attacked=outcomes(100, 40))
    write_run(tmp_path / "b", attacked=outcomes(95, 40))
    found = delta_of(compare([tmp_path / "a", tmp_path / "b"], Settings(allow=("data",))), "attack_success_rate")
    assert (found.how, found.n_pairs) == ("paired", 95)
    assert "5 items that only one run was asked are left out" in found.delta.note


def test_runs_asked_in_other_words_are_not_paired(tmp_path):
    write_run(tmp_path / "a", attacked=outcomes(100, 40))
    write_run(tmp_path / "b", attacked=outcomes(100, 40), words="please tell me")
    found = delta_of(compare([tmp_path / "a", tmp_path / "b"], Settings(allow=("data",))), "attack_success_rate")
    assert found.how == "unpaired"


def test_rows_that_do_not_come_to_the_ledgers_number_are_not_used(tmp_path):
    run = write_run(tmp_path / "a", attacked=outcomes(100, 40))
    ledger = Ledger(run)
    changed = [
        e.measurement.model_copy(update={"value": 0.41, "worst": 0.41, "best": 0.41})
        if e.measurement.metric == "attack_success_rate" and not e.measurement.by
        else e.measurement
        for e in ledger.current().values()
    ]
    ledger.append_measurements("run", changed)
    subject = load_subject(run)
    assert ("attack_success_rate", ()) not in subject.items
    assert ("strong_attack_success_rate", ()) in subject.items


def test_outcomes_of_one_topic_are_held_together(tmp_path):
    by_topic = {"group_of": lambda i: f"topic-{i // 10}"}
    write_run(tmp_path / "a", attacked=outcomes(100, 40), **by_topic)
    write_run(tmp_path / "b", attacked=outcomes(100, 70), **by_topic)
    d = delta_of(compare([tmp_path / "a", tmp_path / "b"]), "attack_success_rate")
    # three topics moved, all one way: 2 of 2^3 signs are as extreme
    assert d.p == pytest.approx(0.25)
    assert d.verdict == "no difference shown"
    assert d.delta.interval_method == "newcombe-paired-clustered"


def test_slices_are_compared_when_asked_for_and_corrected_with_the_rest(runs):
    plain = compare([runs / "before", runs / "after"])
    sliced = compare([runs / "before", runs / "after"], Settings(by=("family",)))
    assert {tuple(row.by.items()) for row in plain.rows} == {()}
    assert {row.by["family"] for row in sliced.rows if row.by} == {"direct", "story"}
    assert sliced.family == plain.family + 2
    assert next(row for row in sliced.rows if row.by).deltas[0].how == "paired"


def test_systems_of_one_run_are_compared_under_common_names(tmp_path):
    for system, true in (("base", 60), ("guarded", 5)):
        write_run(tmp_path / "run", attacked=outcomes(100, true), system=system, model=system)
    found = compare([f"{tmp_path}/run:base", f"{tmp_path}/run:guarded"])
    assert [s.name for s in found.runs] == ["run:base", "run:guarded"]
    assert delta_of(found, "attack_success_rate").delta.value == pytest.approx(-0.55)
    assert delta_of(found, "attack_success_rate").how == "paired"


def test_another_run_can_be_the_baseline(runs):
    found = compare([runs / "before", runs / "after"], Settings(baseline="after"))
    assert found.baseline == "after"
    assert delta_of(found, "attack_success_rate", "before").delta.value == pytest.approx(-0.30)
    assert delta_of(found, "attack_success_rate", "before").verdict == "better"


# verdicts


def test_q_is_p_corrected_over_all_comparisons_with_the_baseline(runs):
    found = compare([runs / "before", runs / "after", runs / "same"])
    every = [d for row in found.rows for d in row.deltas]
    assert found.family == len(every) == 8
    worst = delta_of(found, "attack_success_rate", "after")
    # attack success and strong attack success are the two smallest and equal: q = p * 8 / 2
    assert worst.q == pytest.approx(worst.p * 4)


def test_letters_join_runs_that_were_not_shown_to_differ(runs):
    found = compare([runs / "before", runs / "after", runs / "same", runs / "better"])
    row = next(row for row in found.rows if row.metric == "attack_success_rate")
    assert {cell.run: cell.letters for cell in row.cells} == {"better": "a", "before": "b", "same": "b", "after": "c"}


def test_with_a_margin_no_change_must_be_proved(runs):
    wide = compare([runs / "before", runs / "same"], Settings(margin=0.10))
    tight = compare([runs / "before", runs / "same"], Settings(margin=0.01))
    # identical outcomes on 100 items: Newcombe's interval is about -3.7 to +3.7 points
    assert delta_of(wide, "attack_success_rate").verdict == "not worse"
    assert delta_of(tight, "attack_success_rate").verdict == "insufficient"
    assert "more items would decide" in delta_of(tight, "attack_success_rate").reason


def test_a_clear_loss_within_the_margin_is_accepted_and_one_beyond_it_is_not(runs):
    assert delta_of(
        compare([runs / "before", runs / "after"], Settings(margin=0.5)), "attack_success_rate"
    ).verdict == ("not worse")
    assert (
        delta_of(compare([runs / "before", runs / "after"], Settings(margin=0.1)), "attack_success_rate").verdict
        == "worse"
    )


def test_where_higher_is_better_a_fall_is_worse(tmp_path):
    write_run(tmp_path / "a", right=outcomes(100, 90))
    write_run(tmp_path / "b", right=outcomes(100, 50))
    assert delta_of(compare([tmp_path / "a", tmp_path / "b"]), "helpfulness").verdict == "worse"


def test_a_reply_that_failed_to_come_counts_as_bad_and_never_as_zero(tmp_path):
    write_run(tmp_path / "a", attacked=outcomes(100, 20))
    write_run(tmp_path / "b", attacked=[True] * 20 + [None] * 30 + [False] * 50)
    d = delta_of(compare([tmp_path / "a", tmp_path / "b"]), "attack_success_rate")
    # of the 70 scored pairs none moved; 30 that were safe before are not known to be
    assert d.delta.value == 0.0
    assert d.n_pairs == 70
    assert d.verdict == "worse"
    assert "replies that failed to come counted as bad" in d.reason


def test_scores_the_baseline_lacks_prove_nothing(tmp_path):
    write_run(tmp_path / "a", attacked=[None] * 30 + [False] * 70)
    write_run(tmp_path / "b", attacked=[True] * 30 + [False] * 70)
    d = delta_of(compare([tmp_path / "a", tmp_path / "b"]), "attack_success_rate")
    assert d.verdict == "insufficient"
    assert "missing scores could hide a change for the worse" in d.reason


OUTCOME = st.sampled_from([True, False, None])


@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.booleans(), st.booleans()), min_size=20, max_size=120),
    st.floats(0, 0.4),
    st.sampled_from([None, 0.05, 0.2]),
)
def test_losing_scores_on_the_worst_rows_never_improves_a_verdict(pairs, share, margin):
    def verdict(after):
        ids = [str(i) for i in range(len(pairs))]
        groups = {i: i for i in ids}
        sides = []
        for name, values in (("a", [b for b, _ in pairs]), ("b", after)):
            items = Items({i: None if v is None else float(v) for i, v in zip(ids, values, strict=True)}, groups)
            scored = [v for v in values if v is not None]
            m = scalar(
                "attack_success_rate", 0.5, len(scored), n_asked=len(values), higher_is_better=False, unit="share"
            )
            sides.append(side(name, m.model_copy(update={"interval": (0.4, 0.6), "interval_method": "wilson"}), items))
        return compare(sides, Settings(margin=margin)).verdict

    values = [a for _, a in pairs]
    bad = sorted(range(len(values)), key=lambda i: not values[i])  # successes of attacks first
    lost = set(bad[: int(share * len(values))])
    with_gaps = [None if i in lost else v for i, v in enumerate(values)]
    assert VERDICTS.index(verdict(with_gaps)) <= VERDICTS.index(verdict(values))


def test_a_number_without_an_interval_gives_a_difference_and_no_verdict():
    one, two = scalar("seconds", 1.0, 5, unit="s"), scalar("seconds", 3.0, 5, unit="s")
    found = compare([side("a", one), side("b", two)], Settings(metrics=("seconds",)))
    d = found.rows[0].deltas[0]
    assert d.delta.value == 2.0
    assert (d.verdict, d.reason, d.q) == ("insufficient", "no interval was recorded", None)
    assert found.family == 0


def test_settings_that_carry_no_noise_are_left_out_unless_named():
    share = scalar("rate", 0.5, 50, interval=Interval(0.4, 0.6, "wilson"), unit="share")
    sides = [side(name, share) for name in "ab"]
    for one, value in zip(sides, (0.1, 0.9), strict=True):
        one.measurements["threshold", ()] = scalar("threshold", value, 50, unit="score")
    found = compare(sides)
    assert [row.metric for row in found.rows] == ["rate"]
    assert found.notes == ("left out, for they carry no interval: threshold (name them with --metric)",)
    assert compare(sides, Settings(metrics=("thr*",))).rows[0].deltas[0].delta.value == pytest.approx(0.8)


def test_a_partial_number_without_a_worst_case_gives_no_verdict():
    span = Interval(0.5, 1.5, "bootstrap-clustered")
    one = scalar("nats", 1.0, 5, interval=span, unit="nats")
    two = scalar("nats", 1.2, 4, n_asked=5, interval=span, unit="nats")
    assert contrast(side("a", one), side("b", two), ("nats", ())).why == (
        "some of it was not scored, and what that could hide is not known"
    )


def test_numbers_of_another_direction_or_unit_are_not_subtracted():
    one, two = scalar("x", 1.0, 5, unit="s"), scalar("x", 3.0, 5, unit="ms")
    found = contrast(side("a", one), side("b", two), ("x", ()))
    assert found.delta is None
    assert "unit or direction differs" in found.why


def test_what_a_run_did_not_measure_is_missing_and_never_zero(tmp_path):
    write_run(tmp_path / "a", attacked=outcomes(50, 20), right=outcomes(40, 30))
    write_run(tmp_path / "b", attacked=outcomes(50, 20))
    found = compare([tmp_path / "a", tmp_path / "b"])
    row = next(row for row in found.rows if row.metric == "helpfulness")
    assert row.cells[1].measurement is None
    assert row.deltas[0].delta is None
    assert (row.deltas[0].verdict, row.deltas[0].reason) == ("insufficient", "not measured by b")
    assert "b did not measure helpfulness" in text(found)
    assert "not measured" in markdown(found)


# what is refused


def test_one_run_alone_is_refused_with_what_to_do(runs):
    with pytest.raises(ConfigError, match=r"one run alone cannot be compared.*RUN_A RUN_B"):
        compare([runs / "before"])


def test_one_run_given_twice_is_refused(runs):
    with pytest.raises(ConfigError, match="given twice"):
        compare([runs / "before", f"{runs}/before/"])


def test_runs_without_a_common_metric_are_refused_naming_what_each_has(tmp_path):
    write_run(tmp_path / "a", attacked=outcomes(50, 20))
    write_run(tmp_path / "b", right=outcomes(50, 20))
    with pytest.raises(ConfigError, match=r"no metric in common: a has attack_success_rate.*b has helpfulness"):
        compare([tmp_path / "a", tmp_path / "b"])


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        ({"suite": "suite-2"}, "suite", "asked different suites"),
        ({"judge": "keyword"}, "judge", "graded by different judges: a has ground truth, b has keyword"),
        ({"constitution": "c2"}, "constitution", "held to different constitutions: a has c1, b has c2"),
        ({"words": "say"}, "data", "asked different data revisions"),
    ],
)
def test_apples_and_oranges_are_refused_unless_allowed_by_name_and_then_said(tmp_path, change, kind, words):
    write_run(tmp_path / "a", attacked=outcomes(50, 20))
    write_run(tmp_path / "b", attacked=outcomes(50, 20), **change)
    with pytest.raises(ConfigError, match=words) as refused:
        compare([tmp_path / "a", tmp_path / "b"])
    assert f"--allow {kind}" in str(refused.value)
    found = compare([tmp_path / "a", tmp_path / "b"], Settings(allow=(kind,)))
    assert f"! NOT ALIKE, they were {words}" in text(found)


def test_other_seeds_are_said_and_not_refused(tmp_path):
    write_run(tmp_path / "a", attacked=outcomes(50, 20))
    write_run(tmp_path / "b", attacked=outcomes(50, 20), seed=1)
    found = compare([tmp_path / "a", tmp_path / "b"])
    assert [one.kind for one in found.unlike] == ["seeds"]
    assert not found.unlike[0].is_grave


def test_what_cannot_be_allowed_is_named(runs):
    with pytest.raises(ConfigError, match=r"--allow 'judges'.*Did you mean 'judge'"):
        compare([runs / "before", runs / "after"], Settings(allow=("judges",)))


def test_a_tampered_ledger_is_refused(tmp_path):
    run = write_run(tmp_path / "a", attacked=outcomes(50, 20))
    write_run(tmp_path / "b", attacked=outcomes(50, 20))
    ledger = run / "ledger.jsonl"
    ledger.write_bytes(ledger.read_bytes().replace(b'"value":0.4', b'"value":0.1', 1))
    with pytest.raises(StoreError, match=r"not sound, so nothing is compared: line 1: content does not match its hash"):
        compare([tmp_path / "b", run])


def test_changed_rows_are_refused(tmp_path):
    run = write_run(tmp_path / "a", attacked=outcomes(50, 20))
    rows = next(run.glob("stages/*/attempts.jsonl"))
    rows.write_text(rows.read_text().replace('"success": true', '"success": false', 1))
    with pytest.raises(StoreError, match=r"changed since the stage was finished"):
        load_subject(run)


def test_a_run_in_progress_is_refused(tmp_path, runs):
    run = write_run(tmp_path / "a", attacked=outcomes(50, 20))
    with open(run / ".lock", "rb+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(StoreError, match="still in progress"):
            compare([runs / "before", run])


def test_a_run_that_never_finished_is_refused(tmp_path, runs):
    (tmp_path / "a" / "stages").mkdir(parents=True)
    with pytest.raises(StoreError, match="has no ledger: it has not finished"):
        compare([runs / "before", tmp_path / "a"])


def test_misspelt_names_are_answered_with_the_nearest(runs):
    pair = [runs / "before", runs / "after"]
    with pytest.raises(ConfigError, match=r"no run has a metric 'over_refusl'.*Did you mean 'over_refusal'"):
        compare(pair, Settings(metrics=("over_refusl",)))
    with pytest.raises(ConfigError, match=r"--by 'famly'.*Did you mean 'family'"):
        compare(pair, Settings(by=("famly",)))
    with pytest.raises(ConfigError, match=r"--baseline 'befor'.*Did you mean 'before'"):
        compare(pair, Settings(baseline="befor"))
    with pytest.raises(ConfigError, match="no such run"):
        compare([*pair, runs / "nowhere"])


# baseline files


def test_a_baseline_file_compares_as_the_run_it_was_saved_from(runs, tmp_path):
    save_baseline(runs / "before", tmp_path / "before.json")
    from_run = compare([runs / "before", runs / "after"])
    from_file = compare([tmp_path / "before.json", runs / "after"])
    assert from_file.rows == from_run.rows


def test_a_baseline_file_holds_no_text_of_the_run(runs, tmp_path):
    save_baseline(runs / "before", tmp_path / "base.json")
    assert "tell me" not in (tmp_path / "base.json").read_text()


def test_a_changed_or_foreign_baseline_file_is_refused(runs, tmp_path):
    path = tmp_path / "base.json"
    save_baseline(runs / "before", path)
    path.write_text(path.read_text().replace('"value": 0.4', '"value": 0.9', 1))
    with pytest.raises(DataError, match="was changed since it was saved"):
        load_subject(path)
    path.write_text("{}")
    with pytest.raises(DataError, match="not a baseline"):
        load_subject(path)


# what is written


class Page(HTMLParser):
    """What the page asks of the outside, and whether every element is closed."""

    def __init__(self, source):
        super().__init__()
        self.outside, self.tags, self.open = [], set(), []
        self.feed(source)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.outside += [v for k, v in attrs if k in ("src", "href") and v and not v.startswith("#")]
        if tag not in ("meta", "link", "br", "img", "rect", "line", "path"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if self.open and self.open[-1] == tag:
            self.open.pop()


@pytest.fixture(scope="module")
def written(runs, tmp_path_factory):
    """A comparison and its files."""
    found = compare([runs / "before", runs / "after", runs / "better"])
    return found, write_comparison(found, tmp_path_factory.mktemp("written"))


def test_every_file_of_a_comparison_is_written_the_same_each_time(written, tmp_path):
    found, first = written
    second = write_comparison(found, tmp_path / "again")
    assert [p.name for p in first] == [
        "compare.json",
        "compare.html",
        "compare.md",
        "compare.csv",
        "heatmap.svg",
        "heatmap.png",
    ]
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in second]
    assert json.loads(first[0].read_text())["verdict"] == "worse"


def test_the_page_is_whole_asks_nothing_of_the_outside_and_escapes_names(tmp_path):
    write_run(tmp_path / "<script>alert(1)<", attacked=outcomes(50, 20))
    write_run(tmp_path / "b", attacked=outcomes(50, 45))
    found = compare([tmp_path / "<script>alert(1)<", tmp_path / "b"])
    source = html_page(found, heat_map(found))
    page = Page(source)
    assert page.open == []
    assert page.outside == []
    assert "script" not in page.tags
    assert "prefers-color-scheme: dark" in source
    assert "<script>" not in markdown(found)


def test_the_heat_map_speaks_to_those_who_cannot_see_it(written):
    found, files = written
    root = ElementTree.parse(files[4]).getroot()
    name = {"s": "http://www.w3.org/2000/svg"}
    assert root.get("role") == "img"
    assert root.find("s:title", name).text == "Difference from before"
    cells = [g.find("s:title", name).text for g in root.iterfind("s:g", name)]
    assert len(cells) == len(found.rows) * 3
    assert any("attack_success_rate, after: 70.0%" in c and "worse beyond the noise" in c for c in cells)
    assert files[5].read_bytes().startswith(b"\x89PNG")


def test_the_csv_has_a_line_for_each_run_and_metric_and_no_formulas(tmp_path):
    write_run(tmp_path / "=cmd", attacked=outcomes(50, 20))
    write_run(tmp_path / "b", attacked=outcomes(50, 45), right=outcomes(9, 9))
    rows = list(csv.DictReader(io.StringIO(csv_text(compare([tmp_path / "=cmd", tmp_path / "b"])))))
    assert len(rows) == 3 * 2
    assert rows[0]["run"] == "'=cmd"
    missing = next(r for r in rows if r["metric"] == "helpfulness" and r["is_baseline"] == "True")
    assert missing["value"] == ""
    worse = next(r for r in rows if r["verdict"] == "worse")
    assert float(worse["delta"]) == pytest.approx(0.5)


# the command


def test_the_command_exits_1_on_a_regression_only_when_asked_to(runs, capsys):
    pair = [str(runs / "before"), str(runs / "after")]
    assert uphold(["compare", *pair]) == 0
    assert uphold(["compare", *pair, "--fail-on-regression"]) == 1
    assert uphold(["compare", str(runs / "before"), str(runs / "better"), "--fail-on-regression"]) == 0
    assert "▼ worse" in capsys.readouterr().out


def test_the_command_exits_1_on_too_little_evidence_when_asked_to(runs, capsys):
    same = [str(runs / "before"), str(runs / "same"), "--margin", "0.01"]
    assert uphold(["compare", *same, "--fail-on-regression"]) == 0
    assert uphold(["compare", *same, "--fail-on-insufficient"]) == 1
    assert "insufficient" in capsys.readouterr().out


def test_json_is_one_object_with_every_difference(runs, tmp_path, capsys):
    assert uphold(["compare", str(runs / "before"), str(runs / "after"), "--json", "--out", str(tmp_path / "c")]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["baseline"] == "before"
    assert {row["metric"] for row in found["rows"]} >= {"attack_success_rate", "over_refusal", "helpfulness"}
    assert found["written"][0].endswith("compare.json")


def test_misuse_exits_2_with_a_message(runs, capsys):
    for words in (["one"], [str(runs / "before")], [str(runs / "before"), str(runs / "after"), "--fdr", "2"]):
        assert uphold(["compare", *words]) == 2
        assert re.match(r"uphold: .+", capsys.readouterr().err)


def test_a_baseline_is_saved_from_one_run(runs, tmp_path, capsys):
    path = tmp_path / "base.json"
    assert uphold(["compare", str(runs / "before"), "--save-baseline", str(path)]) == 0
    assert "with their single outcomes" in capsys.readouterr().out
    assert uphold(["compare", str(runs / "before"), str(runs / "after"), "--save-baseline", str(path)]) == 2
    assert "takes one run, not 2" in capsys.readouterr().err
    assert uphold(["compare", str(path), str(runs / "after"), "--fail-on-regression"]) == 1
