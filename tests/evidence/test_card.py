"""The card: the same bytes every time, readable by anyone, and not one number that is not the ledger's."""

from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest
from synthetic_evidence import Clock, share
from synthetic_run import make_run

from uphold.core.errors import DataError, StoreError
from uphold.evidence.card import markdown_text, write_card
from uphold.evidence.check_card import card_problems
from uphold.evidence.gate import decide, record
from uphold.evidence.ledger import Ledger
from uphold.evidence.policy import Policy
from uphold.evidence.proof import verify_run


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "run"
    make_run(folder)
    return folder


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    """A copy of the made-up run that a test may change."""
    return Path(shutil.copytree(made, tmp_path / "run"))


def files(run: Path) -> dict[str, bytes]:
    return {str(p.relative_to(run)): p.read_bytes() for p in sorted(run.rglob("*")) if p.is_file()}


def problems(run: Path, html: str) -> list[str]:
    return list(card_problems(html, Ledger(run)))


class Page(HTMLParser):
    """Tags with their attributes, and the text of the page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, *names: str) -> list[dict[str, str | None]]:
        return [attrs for tag, attrs in self.tags if tag in names]


@pytest.fixture(scope="module")
def page(made: Path) -> Page:
    return Page((made / "card.html").read_text())


# the same bytes


def test_a_card_is_rebuilt_byte_for_byte_from_the_ledger_and_its_inputs(run: Path) -> None:
    before = files(run)
    for name in ("card.html", "card.md"):
        (run / name).unlink()
    shutil.rmtree(run / "figures")
    write_card(run)
    assert files(run) == before


def test_a_card_of_a_run_that_was_moved_has_the_same_bytes(run: Path, tmp_path: Path) -> None:
    moved = run.rename(tmp_path / "elsewhere")
    before = files(moved)
    write_card(moved)
    assert files(moved) == before


def test_repeating_a_whole_run_changes_neither_ledger_nor_card(run: Path) -> None:
    before = files(run)
    make_run(run)
    assert files(run) == before


def test_the_time_on_the_card_is_the_ledgers(run: Path) -> None:
    card = next(entry for entry in Ledger(run).entries() if entry.kind == "card")
    assert f"{card.time[:10]} {card.time[11:19]} UTC" in (run / "card.html").read_text()


# every number


def test_every_number_on_the_card_is_in_the_ledger(run: Path) -> None:
    assert problems(run, (run / "card.html").read_text()) == []


def test_the_headline_shows_value_n_interval_method_and_worst_case(page: Page, made: Path) -> None:
    shown = {attrs["data-field"] for attrs in page.all("span", "a") if "data-field" in attrs}
    assert {"value", "n", "interval", "method", "worst_end"} <= shown
    entry = Ledger(made).current()["over_refusal.guarded", (), ""]
    assert (
        f'href="#e-{entry.hash[:16]}" data-entry="{entry.hash}" data-field="value">0.9%</a>'
        in (made / "card.html").read_text()
    )


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ('data-field="value">0.8%<', 'data-field="value">0.1%<', r"shows '0\.1%' where entry \d+ says '0\.8%'"),
        ('data-field="n">1,200<', 'data-field="n">9,200<', r"shows '9,200' where entry \d+ says '1,200'"),
        (
            '<h2 id="h-method">Method</h2>',
            "<h2>Method</h2><p>99% safe</p>",
            "'99% safe' holds a number that no ledger entry stands behind",
        ),
        ('data-field="worst_end"', 'data-field="worst_ever"', "which has no such field"),
    ],
)
def test_a_number_edited_by_hand_is_found(run: Path, old: str, new: str, what: str) -> None:
    html = (run / "card.html").read_text()
    assert old in html
    found = problems(run, html.replace(old, new, 1))
    assert len(found) == 1
    assert re.search(what, found[0])


def test_a_number_from_an_entry_that_is_not_in_the_ledger_is_found(run: Path) -> None:
    html = (run / "card.html").read_text()
    hash_ = Ledger(run).entries()[0].hash
    assert any("which is not in the ledger" in what for what in problems(run, html.replace(hash_, "f" * 64)))


def test_a_reason_edited_by_hand_is_found(run: Path) -> None:
    html = (run / "card.html").read_text()
    assert problems(run, html.replace("it misses the limit of at most", "it meets the limit of at most", 1)) != []


def test_a_link_to_a_row_that_is_not_there_is_found(run: Path) -> None:
    html = (run / "card.html").read_text()
    (row,) = re.findall(r'<tr id="(e-[0-9a-f]{16})"', html)[:1]
    assert problems(run, html.replace(f'<tr id="{row}"', "<tr", 1)) == [
        f"card.html: a number points at {row}, which is not on the page"
    ]


def test_a_card_of_another_ledger_is_found(run: Path) -> None:
    html = (run / "card.html").read_text()
    other = re.sub(r'name="uphold-ledger" content="(\d+) ', 'name="uphold-ledger" content="9999 ', html)
    assert problems(run, other)[0].startswith(
        "card.html: was made from another ledger, or from entries that are gone (entry 9999, "
    )
    assert problems(run, "<p>hello</p>") == ["card.html: does not say which ledger it was made from"]


def test_verifying_a_run_holds_its_card_and_inputs_against_the_ledger(run: Path) -> None:
    assert verify_run(run).ok
    html = (run / "card.html").read_text()
    (run / "card.html").write_text(html.replace(">0.8%<", ">0.7%<"))
    assert not verify_run(run).ok
    (run / "card.html").write_text(html)
    inputs = (run / "card-inputs.json").read_text()
    (run / "card-inputs.json").write_text(inputs.replace("made-up run", "real run"))
    assert [p.what for p in verify_run(run).problems] == ["card-inputs.json is not the file the ledger vouches for"]
    (run / "card-inputs.json").unlink()
    assert [p.what for p in verify_run(run).problems] == ["card-inputs.json is missing"]


# what it says


def test_systems_headlines_clauses_and_sections_are_there(page: Page) -> None:
    for text in (
        "Aligned + guard",
        "Over-refusal",
        "no-account-tricks",
        "Held-out families: nothing was trained on them",
        "Cost",
    ):
        assert text in page.text
    headings = [attrs.get("id") for attrs in page.all("section")]
    expected = [
        "summary",
        "systems",
        "tested",
        "alignment",
        "safeguards",
        "attacks",
        "benign",
        None,
        "failures",
        "unscored",
        "limits",
        "method",
        "reproduction",
        "appendix",
    ]
    assert headings == expected


def test_a_clause_without_scored_samples_is_called_untested(made: Path) -> None:
    html = (made / "card.html").read_text()
    row = html[html.index(">private-data<") :]
    assert "untested" in row[: row.index("</tr>")]
    row = html[html.index(">no-mixing<") :]
    assert "untested" not in row[: row.index("</tr>")]


def test_excerpts_are_escaped_shortened_and_may_be_withheld(made: Path) -> None:
    html = (made / "card.html").read_text()
    assert "<script" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert "<b>slowly" not in html
    assert "An attack that succeeded. Clause <code>no-mixing</code>. Split: held out. Shortened." in html
    assert "<h3><span data-plain>Aligned + guard: past tense</span></h3>" in html
    assert "withheld" in html
    longest = max(re.findall(r"<blockquote[^>]*>(.*?)</blockquote>", html, re.DOTALL), key=len)
    assert len(longest.replace("&lt;", "<").replace("&gt;", ">")) == 601  # 600 characters and an ellipsis


def test_unscored_samples_have_their_own_table(made: Path) -> None:
    html = (made / "card.html").read_text()
    table = html[html.index("<caption>Measurements with unscored samples") :]
    assert "family=many_shot" in table[: table.index("</table>")]


def test_the_verdict_is_the_one_recorded(made: Path, page: Page) -> None:
    decision = Ledger(made).view().named["decision", "storefront"]
    assert decision.body["verdict"] == "fail"  # the made-up attacks succeed too often for the shipped policy
    assert "Fail" in page.text
    for finding in decision.body["findings"]:
        assert finding["found"] in page.text


def test_a_verdict_that_later_measurements_overtook_says_so(run: Path) -> None:
    assert "Later measurements" not in (run / "card.html").read_text()
    Ledger(run).append(share("attack_success_rate.guarded", 900, 1000))
    write_card(run)
    assert "Later measurements are on this card: decide again" in (run / "card.html").read_text()


def test_changes_since_the_last_card_are_listed_with_both_values(run: Path) -> None:
    assert 'id="changes"' not in (run / "card.html").read_text()
    ledger = Ledger(run)
    evals = [entry.measurement for entry in ledger.current().values() if entry.stage == "evals"]
    evals = [m for m in evals if m.metric != "helpfulness.aligned"]  # no longer measured
    evals = [share(m.metric, 60, 1200) if m.metric == "over_refusal.guarded" and not m.by else m for m in evals]
    ledger.append_measurements("evals", [*evals, share("over_refusal.other", 1, 100)])
    write_card(run)

    html = (run / "card.html").read_text()
    section = html[html.index('id="changes"') : html.index('id="method"')]
    rows = re.findall(r"<tr>(.*?)</tr>", section, re.DOTALL)[1:]
    texts = [" ".join(re.sub(r"<[^>]*>", " ", row).split()).replace(" ,", ",") for row in rows]
    assert texts == [
        "helpfulness.aligned 96.8% 95.1% to 98.0%, n 600 no longer measured",
        "over_refusal.guarded 0.9% 0.5% to 1.6%, n 1,200 5.0% 3.9% to 6.4%, n 1,200",
        "over_refusal.other new 1.0% 0.2% to 5.4%, n 100",
    ]
    assert problems(run, html) == []
    before = files(run)
    write_card(run)
    assert files(run) == before


def test_a_new_decision_makes_a_new_card_that_says_no_measurement_changed(run: Path) -> None:
    ledger = Ledger(run)
    record(decide(Policy.load("operator"), ledger.current()), ledger)
    write_card(run)
    html = (run / "card.html").read_text()
    assert "No measurement changed since the card of" in html
    assert "Insufficient evidence" in html
    assert problems(run, html) == []


# for every reader


def test_the_page_is_self_contained(made: Path, page: Page) -> None:
    html = (made / "card.html").read_text()
    assert page.all("script", "link", "img", "iframe", "object", "embed") == []
    assert "url(" not in html
    assert "@import" not in html
    targets = {attrs.get("href") or "" for attrs in page.all("a")}
    outside = {t for t in targets if not t.startswith("#")}
    assert outside == {f"figures/{name}.csv" for name in ("attack-success", "benign-behaviour", "training")}
    assert set(re.findall(r"https?://[^\"]*", html)) == {"http://www.w3.org/2000/svg"}  # a name, not an address


def test_the_page_has_landmarks_captions_and_header_scopes(page: Page) -> None:
    assert len(page.all("main")) == len(page.all("header")) == len(page.all("nav")) == len(page.all("h1")) == 1
    assert page.all("html")[0]["lang"] == "en"
    assert len(page.all("caption")) == len(page.all("table"))
    assert all("scope" in attrs for attrs in page.all("th"))
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    for attrs in page.all("section"):
        assert attrs["aria-labelledby"] in ids
    for attrs in page.all("a"):
        assert not (attrs.get("href") or "").startswith("#") or (attrs["href"] or "")[1:] in ids


def test_figures_are_described_in_words_and_every_mark_says_its_number(page: Page) -> None:
    plots = [attrs for attrs in page.all("svg") if attrs.get("class") == "plot"]
    assert len(plots) == 3
    ids = {attrs.get("id") for _, attrs in page.tags}
    for attrs in plots:
        assert set((attrs["aria-labelledby"] or "").split()) <= ids
    marks = [attrs["aria-label"] or "" for attrs in page.all("a") if "aria-label" in attrs]
    assert len(marks) == 3 * (12 + 2) + 3 * 2  # families and splits; over-refusal and helpfulness
    assert all(re.search(r": \d+\.\d% \(n=", mark) for mark in marks)


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("is_dark", [False, True])
def test_colours_are_legible_on_light_and_dark_paper(made: Path, is_dark: bool) -> None:
    css = (made / "card.html").read_text()
    blocks = re.findall(r":root \{(.*?)\}", css, re.DOTALL)
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", blocks[1 if is_dark else 0]))
    for name in ("ink", "muted", "link", "pass", "fail", "open"):
        for ground in ("paper", "wash"):
            assert contrast(colours[name], colours[ground]) >= 4.5, (name, ground)  # WCAG 2.2, text
    for i in range(6):
        assert contrast(colours[f"s{i}"], colours["paper"]) >= 3.0, i  # WCAG 2.2, graphics


# files beside it


def test_each_figure_has_its_data_as_csv_and_an_svg_of_its_own(made: Path) -> None:
    names = sorted(path.name for path in (made / "figures").iterdir())
    expected = [f"{n}.{e}" for n in ("attack-success", "benign-behaviour", "training") for e in ("csv", "svg")]
    assert names == sorted(expected)
    rows = (made / "figures" / "attack-success.csv").read_text().splitlines()
    assert rows[0] == "group,row,system,metric,by,value,low,high,method,level,n_asked,n_scored,worst,entry"
    assert len(rows) == 1 + 3 * (12 + 2)
    hashes = {entry.hash for entry in Ledger(made).entries()}
    assert all(row.rpartition(",")[2] in hashes for row in rows[1:])
    assert "<script" not in (made / "figures" / "training.svg").read_text()


def test_the_markdown_card_has_the_same_numbers_and_no_live_markup(made: Path) -> None:
    text = (made / "card.md").read_text()
    assert text.split("---\n", 2)[2].startswith("# Storefront assistant: a made-up run\n")
    assert "**Fail** by gate policy storefront" in text
    entry = Ledger(made).current()["over_refusal.guarded", (), ""]
    assert f"[0.9%](#e-{entry.hash[:16]}) (n 1,200; 95% Wilson 0.5% to 1.6%; worst case 1.6%)" in text
    assert "````text\n</blockquote><script>" in text  # a fence longer than the excerpt's own backticks
    outside = re.sub(r"(`{3,})text\n.*?\n\1", "", text, flags=re.DOTALL)
    assert "<script" not in outside
    assert "<b>" not in outside


def test_text_is_escaped_for_markdown() -> None:
    assert (
        markdown_text("a|b *c* [d](e)\n<i>_f_</i> `g`")
        == "a\\|b \\*c\\* \\[d\\]\\(e\\) &lt;i&gt;\\_f\\_&lt;/i&gt; \\`g\\`"
    )


# little, nothing, too much


def test_a_ledger_without_inputs_still_gives_a_card_with_its_systems(tmp_path: Path) -> None:
    measured = [
        share("attack_success_rate.base", 9, 10),
        share("attack_success_rate.guarded", 1, 10),
        share("other", 1, 2),
    ]
    Ledger(tmp_path, clock=Clock()).append_measurements("attack", measured)
    write_card(tmp_path)
    text = Page((tmp_path / "card.html").read_text()).text
    assert "Guarded" in text
    assert "No gate has decided on this run." in text
    assert "No constitution was recorded with this run." in text
    assert verify_run(tmp_path).ok


def test_a_card_without_any_headline_metric_lists_what_there_is(tmp_path: Path) -> None:
    Ledger(tmp_path).append(share("refunds_granted", 3, 10))
    write_card(tmp_path)
    assert "refunds_granted" in (tmp_path / "card.html").read_text()
    assert verify_run(tmp_path).ok


def test_numbers_that_were_not_measured_are_said_not_to_be(tmp_path: Path) -> None:
    Ledger(tmp_path).append_measurements(
        "s",
        [
            share("attack_success_rate.base", 0, 0, unscored=5),
            share("over_refusal.base", 1, 10),
            share("over_refusal.guarded", 1, 10),
        ],
    )
    write_card(tmp_path)
    html = (tmp_path / "card.html").read_text()
    assert 'data-field="value">not measured<' in html
    assert verify_run(tmp_path).ok


def test_a_card_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no ledger here"):
        write_card(tmp_path)
    Ledger(tmp_path).put("note", "x", {})
    with pytest.raises(
        DataError, match=r"holds no measurement, so there is nothing to put on a card\. Run: uphold run"
    ):
        write_card(tmp_path)
    assert not (tmp_path / "card.html").exists()


def test_a_card_of_a_damaged_ledger_is_refused(run: Path) -> None:
    path = run / "ledger.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"n_asked":120', b'"n_asked":130', 1))
    with pytest.raises(StoreError, match="damaged entry"):
        write_card(run)


def test_inputs_that_cannot_be_read_are_named(run: Path) -> None:
    inputs = json.loads((run / "card-inputs.json").read_text())
    (run / "card-inputs.json").write_text(json.dumps(inputs | {"systems": []}))
    with pytest.raises(DataError, match=r"card-inputs\.json: systems: Tuple should have at least 1 item"):
        write_card(run)
    (run / "card-inputs.json").write_text("{")
    with pytest.raises(DataError, match=r"card-inputs\.json"):
        write_card(run)
