"""Crosswalks: which obligation each piece of evidence serves, and what is missing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from synthetic_evidence import Clock, share

from uphold.cli.main import run as uphold
from uphold.core.errors import ConfigError
from uphold.evidence.crosswalk import Crosswalk, Need, Obligation, Served, map_evidence, text
from uphold.evidence.facts import declare_data, declare_report
from uphold.evidence.gate import decide_run
from uphold.evidence.ledger import Ledger

POLICY = "name: p\nrules: [{metric: attack_success_rate.guarded, at_most: 0.1, max_age_days: 90, reason: R.}]\n"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "policy.yaml").write_text(POLICY)
    ledger = Ledger(tmp_path, Clock())
    sliced = [share("attack_success_rate.guarded", 1, 100, by={"family": name}) for name in ("a", "b")]
    ledger.append_measurements("run", [share("attack_success_rate.guarded", 10, 1000, data="d" * 64), *sliced])
    return tmp_path


def mapped(run: Path, *needs: Need, today: str = "2026-01-05") -> Served:
    from datetime import date

    obligation = Obligation(id="O", ref="r", text="Do it.", needs=needs)
    walk = Crosswalk(name="w", title="W", version="1", reference="", obligations=(obligation,))
    decision = decide_run(run, run / "policy.yaml", today=date.fromisoformat(today))
    return map_evidence(run, decision, walk)[0]


def test_a_metric_serves_by_its_name_with_the_verdict_on_it_and_whole_before_slices(run: Path) -> None:
    found = mapped(run, Need(says="attacks", metrics=("attack_success_rate.*",)))
    assert found.status == "served"
    assert [(e.what, e.verdict) for e in found.evidence] == [("attack_success_rate.guarded", "pass")]
    assert found.evidence[0].entry == Ledger(run).entries()[0].hash


def test_what_is_not_there_is_missing_and_some_of_it_is_partly(run: Path) -> None:
    attacks, report = Need(says="attacks", metrics=("attack*",)), Need(says="the report", report="risk-report")
    assert mapped(run, report).status == "missing"
    found = mapped(run, attacks, report)
    assert (found.status, found.missing) == ("partly", ("the report (report risk-report)",))
    (run / "r.txt").write_text("Risks.")
    declare_report(Ledger(run), "risk-report", run / "r.txt", "us")
    assert mapped(run, attacks, report).status == "served"


def test_unscored_numbers_serve_nothing(run: Path) -> None:
    Ledger(run).append(share("bias.gap", 0, 0, unscored=10))
    assert mapped(run, Need(says="bias", metrics=("bias.*",))).status == "missing"


def test_ages_serve_only_when_they_were_judged_and_kept(run: Path) -> None:
    assert mapped(run, Need(says="fresh", kind="fresh")).status == "served"
    assert mapped(run, Need(says="fresh", kind="fresh"), today="2026-09-01").status == "missing"
    (run / "policy.yaml").write_text(POLICY.replace("max_age_days: 90, ", ""))
    assert mapped(run, Need(says="fresh", kind="fresh")).status == "missing"


def test_evidence_on_data_of_others_is_independent(run: Path) -> None:
    need = Need(says="outside", kind="independent")
    assert mapped(run, need).status == "missing"
    declare_data(Ledger(run), "d" * 64, use="evaluation", made_by="an institute", is_developers=False)
    assert [e.what for e in mapped(run, need).evidence] == ["attack_success_rate.guarded"]


def test_only_a_pass_serves_the_decision_to_go_on(run: Path) -> None:
    need = Need(says="passed", kind="passed")
    assert mapped(run, need).status == "served"
    assert mapped(run, need, today="2026-09-01").status == "missing"


@pytest.mark.parametrize("name", ["eu-gpai", "nist"])
def test_the_shipped_crosswalks_load_and_every_obligation_can_be_missing(name: str, tmp_path: Path) -> None:
    walk = Crosswalk.load(name)
    assert walk.reference.startswith("https://")
    assert len({one.id for one in walk.obligations}) == len(walk.obligations)
    Ledger(tmp_path).put("note", "nothing", {})
    served = map_evidence(tmp_path, decide_run(tmp_path, "operator"), walk)
    without_decision = [one for one in served if not any("policy" in e.what for e in one.evidence)]
    assert all(one.status == "missing" for one in without_decision)
    assert "not legal advice" in text(walk, served)


def test_an_unknown_crosswalk_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ConfigError) as caught:
        Crosswalk.load("nits")
    assert str(caught.value) == "no crosswalk file 'nits' and none shipped by that name. Did you mean 'nist'?"


def test_the_command_lists_obligations_in_json(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [
        "gate",
        str(run),
        "--policy",
        str(run / "policy.yaml"),
        "--today",
        "2026-01-05",
        "--crosswalk",
        "eu-gpai",
    ]
    assert uphold([*arguments, "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)["crosswalk"]
    assert shown["name"] == "eu-gpai"
    assert {"id", "ref", "text", "status", "checked", "evidence", "missing"} == shown["obligations"][0].keys()
    assert uphold(arguments) == 0
    assert "[partly] Commitment 5" in capsys.readouterr().out


def test_obligations_not_held_against_the_frameworks_text_are_marked(run: Path) -> None:
    unchecked = mapped(run, Need(says="attacks", metrics=("attack*",)))
    walk = Crosswalk.load("nist")
    shown = text(walk, [unchecked, unchecked.model_copy(update={"id": "P", "checked": True})])
    assert "1 of 2 not held against the framework's own text, and marked so" in shown
    assert "[served] O: Do it. (not checked against the text)" in shown
    assert "[served] P: Do it.\n" in shown
    assert "not held against" not in text(walk, [unchecked.model_copy(update={"checked": True})])


def test_shipped_crosswalks_say_of_every_obligation_whether_it_was_checked() -> None:
    for name in ("eu-gpai", "nist"):
        assert all("checked" in obligation.model_fields_set for obligation in Crosswalk.load(name).obligations)
