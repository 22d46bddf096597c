"""What the datasheet of the written corpus promises, checked on the rows that are committed."""

from collections import Counter, defaultdict
from pathlib import Path
from statistics import mean

import pytest

import uphold
from uphold.constitution import Constitution
from uphold.data import assistant
from uphold.data.datasheet import current
from uphold.data.report import describe

ROOT = Path(uphold.__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def rows():
    return assistant.load()


@pytest.fixture(scope="module")
def report(rows):
    return describe(rows, assistant.NAME)


def test_there_are_at_least_10000_rows(rows):
    assert len(rows) >= 10_000


def test_every_category_of_the_assistant_constitution_has_rows_of_both_labels(report):
    clauses = {clause.id for clause in Constitution.load("assistant").forbidden_categories().values()}
    ruled = [balance for balance in report.balance if balance.clause != "(none)"]
    assert {balance.clause for balance in ruled} == clauses
    for balance in ruled:
        assert balance.harmful + balance.benign >= 200, balance
        assert 0.4 <= balance.share_benign <= 0.6, balance


def test_half_the_rows_of_the_categories_are_benign(rows):
    ruled = [row.label == "benign" for row in rows if row.category]
    assert 0.48 <= mean(ruled) <= 0.55


def test_rows_of_no_category_are_everyday_instructions_and_all_benign(rows):
    others = [row for row in rows if not row.category]
    assert len(others) >= 1500
    assert {row.label for row in others} == {"benign"}
    assert {row.kind for row in others} <= {"ordinary", "twin", "near_miss", "text"}


def test_a_passage_stands_in_harmful_and_in_benign_rows(rows):
    groups = defaultdict(set)
    for row in rows:
        if row.file.startswith("passage-"):
            groups[row.group].add(row.label)
    assert len(groups) >= 60
    assert all(labels == {"harmful", "benign"} for labels in groups.values())


def test_five_languages_are_there_in_both_labels(rows):
    counts = Counter((row.lang, row.label) for row in rows)
    for lang in assistant.LANGUAGES:
        for label in ("harmful", "benign"):
            assert counts[lang, label] >= 150, (lang, label, counts[lang, label])


def test_at_most_one_row_in_a_hundred_nearly_repeats_another_but_for_requests_around_one_passage(rows):
    report = describe([row for row in rows if not row.file.startswith("passage-")], assistant.NAME)
    assert report.measured("near_duplicates").value <= 0.01, report.pairs


def test_no_row_is_filled_into_a_template(report):
    assert report.measured("template_rows").value == 0


def test_conversations_jailbreaks_twins_and_all_registers_are_there(rows, report):
    assert report.n_multi_turn >= 400
    kinds = report.counts["kind"]
    assert kinds["jailbreak"] >= 500
    assert kinds["twin"] >= 1000
    assert kinds["near_miss"] >= 1000
    assert set(report.counts["register"]) == set("plain formal casual terse typos long expert child emotional".split())
    assert all(row.reply and row.reply_label for row in rows if assistant.family_of(row) == "category")


def test_the_split_is_four_to_one_and_shares_no_opening(rows):
    assert 0.17 <= sum(row.split == "validation" for row in rows) / len(rows) <= 0.23
    openings = [
        {" ".join(row.messages[0].content.casefold().split()) for row in rows if row.split == s}
        for s in assistant.SHARES
    ]
    assert not openings[0] & openings[1]


def test_look_alikes_share_a_group_that_lies_in_one_split(rows):
    groups = defaultdict(list)
    for row in rows:
        groups[row.group].append(row)
    assert all(len({row.split for row in group}) == 1 for group in groups.values())
    contrasts = [g for g in groups.values() if g[0].file.startswith("contrast-") and len({r.label for r in g}) == 2]
    assert len(contrasts) >= 850
    assert {row.category for group in contrasts for row in group} == set(assistant.categories())


def test_texts_to_be_judged_are_there_in_both_labels_and_every_category(rows):
    texts = [row for row in rows if row.kind == "text"]
    assert len(texts) >= 1600
    ruled = {(row.category, row.label) for row in texts if row.category}
    assert len(ruled) == 2 * len(assistant.categories())
    assert not [row.place for row in texts if row.reply]


def test_the_length_of_look_alikes_and_texts_does_not_tell_their_label(rows):
    for kinds in (("twin", "near_miss", "request"), ("text",)):
        words = {label: [] for label in ("harmful", "benign")}
        for row in rows:
            if row.kind in kinds and row.file.startswith(("contrast-", "moderation-")):
                words[row.label].append(len(row.prompt.split()))
        assert mean(words["harmful"]) == pytest.approx(mean(words["benign"]), rel=0.05)


def test_nothing_is_copied_from_the_constitutions_own_examples(rows):
    constitution = Constitution.load("assistant")
    examples = {" ".join(text.casefold().split()) for c in constitution.clauses for text in (*c.harmful, *c.harmless)}
    assert not [row.place for row in rows if " ".join(row.prompt.casefold().split()) in examples]


def test_the_datasheet_shows_the_report_of_these_rows():
    page = ROOT / "docs" / "corpus.md"
    text = page.read_text(encoding="utf-8")
    assert current(text) == text, "run: python -m uphold.data.datasheet docs/corpus.md"
