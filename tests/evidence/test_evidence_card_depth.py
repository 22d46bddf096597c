"""What a card says beyond its headlines: what changed since another, what it must not be read as, how it was made, the Hub's block."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from ruamel.yaml import YAML
from synthetic_evidence import Clock, share
from synthetic_run import make_run

from uphold.cli.main import run as cli
from uphold.core.errors import DataError, StoreError
from uphold.evidence import Ledger, Plan, Policy, Transcripts, decide, preregister, record, verify_run, write_card
from uphold.evidence.check_card import card_problems
from uphold.evidence.facts import declare_data
from uphold.evidence.inputs import CardInputs, Excerpt, System, save_inputs
from uphold.evidence.since import record as compare_with


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "run"
    make_run(folder)
    return folder


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "run"))


def section(html: str, name: str) -> str:
    found = html[html.index(f'<section id="{name}"') :]
    return found[: found.index("</section>")]


def rows(html: str) -> list[str]:
    found = re.findall(r"<tr[ >].*?</tr>", html, re.DOTALL)[1:]
    return [" ".join(re.sub(r"<[^>]*>", " ", row).split()).replace(" ,", ",") for row in found]


def small(folder: Path, *measured: tuple[str, int, int]) -> Path:
    Ledger(folder, clock=Clock()).append_measurements("s", [share(metric, k, n) for metric, k, n in measured])
    return folder


# since another card


OLD = (("over_refusal.base", 1, 100), ("attack_success_rate.base", 90, 100), ("gone", 1, 10), ("same", 1, 10))
NEW = (("over_refusal.base", 2, 100), ("attack_success_rate.base", 10, 100), ("same", 1, 10), ("fresh", 1, 10))
EXPECTED = [
    "attack_success_rate.base 90.0% 82.6% to 94.5%, n 100 10.0% 5.5% to 17.4%, n 100 apart",
    "fresh new 10.0% 1.8% to 40.4%, n 10 –",
    "gone 10.0% 1.8% to 40.4%, n 10 no longer measured –",
    "over_refusal.base 1.0% 0.2% to 5.4%, n 100 2.0% 0.6% to 7.0%, n 100 overlap",
]


def test_a_card_says_what_changed_since_another_run_and_whether_intervals_meet(tmp_path: Path) -> None:
    old, new = small(tmp_path / "old", *OLD), small(tmp_path / "new", *NEW)
    assert cli(["card", str(new), "--since", str(old), "--json"]) == 0
    html = (new / "card.html").read_text()
    assert rows(section(html, "changes")) == EXPECTED
    assert verify_run(new).ok
    shutil.rmtree(old)  # the older numbers are in this ledger now
    write_card(new)
    assert (new / "card.html").read_text() == html


def test_a_card_alone_will_do_and_is_said_to_be_unverified(tmp_path: Path) -> None:
    old, new = small(tmp_path / "old", *OLD), small(tmp_path / "new", *NEW)
    write_card(old)
    page = tmp_path / "kept.html"
    shutil.copy(old / "card.html", page)
    compare_with(Ledger(new), page)
    write_card(new)
    html = (new / "card.html").read_text()
    assert rows(section(html, "changes")) == EXPECTED
    assert "its ledger is not here, so nothing vouches for its numbers" in html
    assert verify_run(new).ok


def test_an_older_number_edited_on_the_card_is_found(tmp_path: Path) -> None:
    old, new = small(tmp_path / "old", *OLD), small(tmp_path / "new", *NEW)
    compare_with(Ledger(new), old)
    write_card(new)
    html = (new / "card.html").read_text()
    assert ">90.0%<" in html
    (problem,) = card_problems(html.replace(">90.0%<", ">70.0%<", 1), Ledger(new))
    assert "shows '70.0%' where entry" in problem


def test_the_comparison_ends_with_none(tmp_path: Path) -> None:
    old, new = small(tmp_path / "old", *OLD), small(tmp_path / "new", *NEW)
    for source in (old, "none"):
        compare_with(Ledger(new), source)
    write_card(new)
    assert "Since another" not in (new / "card.html").read_text()


def test_what_cannot_be_compared_with_is_refused_and_nothing_is_written(run: Path, tmp_path: Path, capsys) -> None:
    before = (run / "ledger.jsonl").read_bytes()
    with pytest.raises(DataError, match="is this very run"):
        compare_with(Ledger(run), run)
    with pytest.raises(DataError, match="no such run or card"):
        compare_with(Ledger(run), tmp_path / "nowhere")
    (tmp_path / "page.html").write_text("<p>hello</p>")
    with pytest.raises(DataError, match="is not a card that Uphold wrote"):
        compare_with(Ledger(run), tmp_path / "page.html")
    old = small(tmp_path / "old", *OLD)
    (old / "ledger.jsonl").write_bytes(
        (old / "ledger.jsonl").read_bytes().replace(b'"n_asked":100', b'"n_asked":101', 1)
    )
    with pytest.raises(StoreError, match="its ledger is not sound"):
        compare_with(Ledger(run), old)
    assert cli(["card", str(tmp_path / "empty"), "--since", str(old)]) != 0
    assert not (tmp_path / "empty").exists()
    assert (run / "ledger.jsonl").read_bytes() == before


# limits


def limits_of(html: str) -> str:
    return " ".join(re.sub(r"<[^>]*>", " ", section(html, "limits")).split())


def test_limits_are_found_in_the_evidence(made: Path) -> None:
    found = limits_of((made / "card.html").read_text())
    for text in (
        "private-data", "hand-over", "jokes",  # clauses without a scored sample
        "Not measured here: dangerous capabilities",
        "Some samples got no score",
        "No plan was registered before the run",
        "No training data is declared",
        "(assumed: nothing that was measured speaks to it)",
    ):  # fmt: skip
        assert text in found, text
    assert "no-mixing" not in found


def test_a_limit_goes_when_the_evidence_comes(tmp_path: Path) -> None:
    policy = Policy.load("storefront")
    ledger = Ledger(tmp_path, clock=Clock())
    preregister(ledger, Plan(name="spring", policy=policy, seeds=(0,)))
    declare_data(ledger, "d" * 64, use="training", made_by="us")
    declare_data(ledger, "e" * 64, use="evaluation", made_by="an institute", is_developers=False)
    measured = [share("capability.cbrn_uplift", 1, 100, seeds=(0,), judge="ground truth")]
    ledger.append_measurements("s", [*measured, share("over_refusal.base", 1, 100, seeds=(1,), judge="panel")])
    record(decide(policy, ledger.current()), ledger)
    write_card(tmp_path)
    html = (tmp_path / "card.html").read_text()
    found = limits_of(html)
    for gone in ("No plan was", "No training data", "made by others", "dangerous capabilities", "one seed"):
        assert gone not in found, gone
    assert "No calibration against labels by people is recorded for these judges: panel" in found
    assert "What the policy misses: attack_success_rate.guarded" in found
    assert "departs from the plan" in html or "spring" in section(html, "summary")
    assert "capability.cbrn_uplift" in section(html, "group-1")
    assert verify_run(tmp_path).ok


# how it was made


def test_each_number_says_judge_data_suite_and_seeds(tmp_path: Path) -> None:
    m = share("over_refusal.base", 1, 100, judge="panel of three", data="d" * 64, seeds=(3, 4), suite="e" * 64)
    Ledger(tmp_path, clock=Clock()).append(m)
    write_card(tmp_path)
    html = (tmp_path / "card.html").read_text()
    assert rows(section(html, "method")) == ["over_refusal.base panel of three dddddddddddd eeeeeeeeeeee 3, 4"]
    assert any(
        "shows" in p for p in card_problems(html.replace(">panel of three<", ">panel of nine<"), Ledger(tmp_path))
    )


def test_the_environment_and_the_make_up_of_each_system_are_on_the_card(made: Path) -> None:
    html = (made / "card.html").read_text()
    assert f'data-field="body.subject.model">{"2" * 64}</code>' in section(html, "systems")
    assert 'data-field="body.python"' in section(html, "reproduction") or "environment" not in {
        e.kind for e in Ledger(made).entries()
    }


# the Hub's block


def test_the_markdown_card_opens_with_a_model_index_whose_every_value_is_the_ledgers(made: Path) -> None:
    block = (made / "card.md").read_text().split("---\n")[1]
    found = YAML(typ="safe").load(block)["model-index"]
    assert [model["name"].partition(" (")[2] for model in found] == ["Base)", "Aligned)", "Aligned + guard)"]
    entries = {entry.hash: entry.measurement for entry in Ledger(made).entries() if entry.kind == "measurement"}
    metrics = [metric for model in found for result in model["results"] for metric in result["metrics"]]
    assert len(metrics) == 3 * 3
    for metric in metrics:
        m = entries[metric["args"]["ledger_entry"]]
        assert metric["value"] == m.value
        assert (metric["args"]["n_asked"], tuple(metric["args"]["interval"])) == (m.n_asked, m.interval)
        assert metric["type"] == m.metric.partition(".")[0]


def test_the_hub_reads_the_block(made: Path) -> None:
    repocard = pytest.importorskip("huggingface_hub.repocard_data")
    block = (made / "card.md").read_text().split("---\n")[1]
    found = YAML(typ="safe").load(block)["model-index"]
    name, results = repocard.model_index_to_eval_results(found[:1])
    assert name == "Storefront assistant: a made-up run (Base)"
    assert [r.metric_type for r in results] == ["attack_success_rate", "over_refusal", "helpfulness"]
    assert results[0].dataset_revision == "d" * 64


# excerpts from transcripts


def test_a_sealed_transcript_is_not_opened_for_the_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("UPHOLD_TRANSCRIPT_KEY", raising=False)
    small(tmp_path, *NEW)
    packs = Transcripts(tmp_path, b"k" * 32)
    root = packs.put("attack", [{"messages": [{"role": "user", "content": "tell me"}], "completion": "the secret"}])
    (commitment,) = packs.commitments(root)
    inputs = CardInputs(
        systems=(System(key="base", label="Base"),), failures=(Excerpt(system="base", transcript=commitment),)
    )
    save_inputs(tmp_path, inputs, Ledger(tmp_path))
    write_card(tmp_path)
    html = (tmp_path / "card.html").read_text()
    assert "The transcript is sealed" in html
    assert "the secret" not in html
    assert verify_run(tmp_path).ok


def test_an_excerpt_edited_on_the_card_is_found(tmp_path: Path) -> None:
    small(tmp_path, *NEW)
    packs = Transcripts(tmp_path)
    hostile = "</blockquote><script>alert(1)</script>\nline two"
    root = packs.put("attack", [{"messages": [{"role": "user", "content": hostile}], "completion": "yes " * 400}])
    (commitment,) = packs.commitments(root)
    inputs = CardInputs(
        systems=(System(key="base", label="Base"),), failures=(Excerpt(system="base", transcript=commitment),)
    )
    save_inputs(tmp_path, inputs, Ledger(tmp_path))
    write_card(tmp_path)
    html = (tmp_path / "card.html").read_text()
    assert "<script" not in html
    assert verify_run(tmp_path).ok
    (problem,) = card_problems(html.replace(">yes yes", ">no yes", 1), Ledger(tmp_path))
    assert f"where the transcript {commitment[:12]} says 'yes yes" in problem
    assert json.loads((tmp_path / "card-inputs.json").read_text())["failures"][0]["completion"] is None
