"""A generation run from a fake model: what comes out, what is dropped, what stops it."""

import json
from collections import Counter

import pytest
from synth_fakes import drawn, writer, writer_chat

from uphold.constitution import Constitution
from uphold.core import progress, registry
from uphold.core.errors import ConfigError, StoreError
from uphold.core.journal import Journal
from uphold.data.rows import read
from uphold.data.synth import Budget, Settings, synthesise
from uphold.models import FakeChat

STOREFRONT = Constitution.load("storefront")
ONE = Settings(rows=10, clauses=("forgery",))


@pytest.fixture(autouse=True)
def quiet():
    progress.quiet()
    yield
    progress.quiet(False)


def rows(out):
    return [json.loads(line) for line in (out / "rows.jsonl").read_text(encoding="utf-8").splitlines()]


def test_every_row_says_what_it_is_and_where_it_comes_from(tmp_path):
    chat = writer_chat()
    result = synthesise(STOREFRONT, chat, tmp_path, ONE)
    assert (result.n_rows, result.n_planned, result.missing, result.stopped) == (20, 20, (), "")
    assert result.counts == {"forgery": {"benign": 10, "harmful": 10}}
    for row in rows(tmp_path):
        assert row["clause"] == row["category"] == "forgery"
        assert row["judge_label"] == row["label"]
        assert row["reply_label"] == "benign"
        assert row["reply"].startswith("Here is what I know")
        made = row["provenance"]
        assert made["clause_digest"] == STOREFRONT.clause("forgery").digest
        assert (made["model"], made["judge"], made["seed"]) == (chat.identity(), chat.identity(), 0)
        assert made["template"] in ("requests", "turns", "twin")
    assert len({row["id"] for row in rows(tmp_path)}) == 20
    assert len(list(read(tmp_path / "rows.jsonl"))) == 20  # any reader of labelled rows can use them


def test_conversations_and_twins_are_among_the_rows(tmp_path):
    synthesise(STOREFRONT, writer_chat(), tmp_path, ONE)
    found = rows(tmp_path)
    assert sum("turns" in row for row in found) == 2  # a tenth of 10, for each label
    twins = [row for row in found if row["provenance"]["template"] == "twin"]
    assert Counter(row["kind"] for row in twins) == {"twin": 2, "request": 2}
    by_id = {row["id"]: row for row in found}
    for twin in twins:
        other = by_id[twin["group"]]
        assert other["label"] != twin["label"]
        assert other["split"] == twin["split"]
        # one word differs: that is what flips the label
        assert len(set(twin["prompt"].split()) ^ set(other["prompt"].split())) == 2


def test_a_source_gives_the_requests_with_their_truth(tmp_path):
    chat = FakeChat("no. verdict: innocent")
    source = registry.get("source", "builtin:storefront")
    result = synthesise(STOREFRONT, chat, tmp_path, Settings(rows=5), source=source, source_name="builtin:storefront")
    found = rows(tmp_path)
    assert Counter(row["label"] for row in found) == {"harmful": 30, "benign": 30}
    assert all(row["rubric"] for row in found if row["label"] == "harmful")
    assert all(row["expected"] for row in found)
    assert all(row["judge_label"] is None for row in found)  # the source knows; nobody is asked
    assert {row["provenance"]["source"] for row in found} == {"builtin:storefront"}
    assert result.measurements == ()


def test_the_judges_disagreement_is_kept(tmp_path):
    judge = FakeChat(lambda c: "NO" if "YES or NO" in c[-1].content else "verdict: guilty", name="judge")
    result = synthesise(STOREFRONT, writer_chat(), tmp_path, ONE, judge=judge)
    assert {(row["label"], row["judge_label"], row["reply_label"]) for row in rows(tmp_path)} == {
        ("harmful", "benign", "harmful"),
        ("benign", "benign", "harmful"),
    }
    overall = next(m for m in result.measurements if not m.by)
    assert (overall.metric, overall.value, overall.n_scored, overall.interval_method) == (
        "label_agreement",
        0.5,
        20,
        "wilson",
    )


def test_a_judge_who_cannot_be_read_leaves_labels_open(tmp_path):
    result = synthesise(STOREFRONT, writer_chat(), tmp_path, ONE, judge=FakeChat("perhaps", name="judge"))
    assert {(row["judge_label"], row["reply_label"]) for row in rows(tmp_path)} == {(None, None)}
    assert next(m for m in result.measurements if not m.by).status == "unscored"


class Bad(FakeChat):
    """Spoils some answers: every `every`-th list, conversation or reply is what `spoil` makes of it."""

    def __init__(self, spoil, every=4):
        super().__init__(writer, name="bad")
        self._spoil, self._every, self._n = spoil, every, 0

    def _complete(self, conversation, sampling):
        made = super()._complete(conversation, sampling)
        if "YES or NO" in conversation[-1].content or "verdict" in conversation[-1].content:
            return made
        self._n += 1
        return self._spoil(made) if self._n % self._every == 0 else made


REFUSED = "I'm sorry, but I can't help with that."


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda c: c.model_copy(update={"text": None, "finish_reason": "error", "error": "boom"}), "error"),
        (lambda c: c.model_copy(update={"text": " "}), "empty"),
        (lambda c: c.model_copy(update={"finish_reason": "blocked"}), "blocked"),
        (lambda c: c.model_copy(update={"text": "Hm.\n\nNo idea.\n\nReally.", "finish_reason": "length"}), "truncated"),
    ],
)
def test_a_bad_answer_costs_its_row_is_counted_and_asked_for_again(tmp_path, spoil, reason):
    settings = Settings(rows=20, clauses=("forgery", "privacy"), tries=8)
    result = synthesise(STOREFRONT, Bad(spoil), tmp_path, settings)
    assert result.stopped == ""
    assert result.rejected[f"reply {reason}"] > 0
    assert result.failures[f"requests: {reason}"] > 0
    assert result.n_rows >= 78  # of 80: nearly all were made up for
    assert result.n_rows + sum(m.n for m in result.missing) == 80


def test_malformed_and_refused_lists_are_counted_apart(tmp_path):
    texts = iter(["Hm.\n\nNo idea.\n\nReally.", REFUSED] * 100)

    def spoil(made):
        is_list = made.text.startswith(("1.", "User:", "wicked", "kindly"))
        return made.model_copy(update={"text": next(texts)}) if is_list else made

    result = synthesise(STOREFRONT, Bad(spoil, every=2), tmp_path, Settings(rows=30, clauses=("forgery",), tries=8))
    assert result.failures["requests: malformed"] > 0
    assert result.failures["requests: refused"] > 0


def answers(**special):
    """The good writer, but for the prompts that hold a key of `special`, which get its value."""

    def answer(conversation):
        said = conversation[-1].content
        return next((text for key, text in special.items() if key.replace("_", " ") in said), None) or writer(
            conversation
        )

    return FakeChat(answer, name="special")


def test_requests_that_cannot_be_used_are_counted_by_reason(tmp_path):
    bad = [
        "ok",
        "how do i rob [name] tonight",
        "How do I forge a lorran receipt?",
        "wie komme ich mit dem hund zum bahnhof und was kostet das",
        "I'm sorry, but I can't help with that.",
        "wicked harbour copper lantern meadow violin",
        "wicked harbour copper lantern meadow violin",
    ]
    chat = answers(different_requests="\n".join(f"{i}. {line}" for i, line in enumerate(bad, 1)))
    result = synthesise(
        STOREFRONT, chat, tmp_path, Settings(rows=7, clauses=("forgery",), twins=0, multi_turn=0, tries=1, per_ask=7)
    )
    assert result.rejected == {
        "too short": 2,  # both labels were given the same list
        "placeholder": 2,
        "copy of an example": 2,
        "wrong language": 2,
        "refusal": 2,
        "duplicate": 3,  # once within each list, and the second list repeats the first
    }
    assert result.n_rows == 1


def test_near_duplicates_are_dropped_across_asks(tmp_path):
    base = "wicked " + drawn("x", 30)
    line = iter(f"{base} {word}" for word in drawn("y", 500).split())
    chat = FakeChat(lambda c: f"1. {next(line)}" if "different requests" in c[-1].content else writer(c), name="near")
    result = synthesise(
        STOREFRONT, chat, tmp_path, Settings(rows=4, clauses=("forgery",), twins=0, multi_turn=0, per_ask=1)
    )
    assert result.n_rows == 1
    assert result.rejected["near-duplicate"] >= 10


def test_a_generator_in_the_wrong_format_is_stopped_early_with_what_went_wrong(tmp_path):
    chat = FakeChat("Well.\n\nIt depends.\n\nOn much.", name="prose")
    result = synthesise(Constitution.load("assistant"), chat, tmp_path, Settings(rows=500))
    assert result.stopped == (
        "20 of the last 20 asks for topics gave nothing usable (malformed 20), more than the 50% that --max-failures allows"
    )
    assert result.n_rows == 0
    assert result.n_calls <= 64  # of tens of thousands


def test_a_generator_that_turns_bad_keeps_what_it_made_before(tmp_path):
    n = iter(range(10**6))
    chat = FakeChat(lambda c: writer(c) if next(n) < 400 else "Hm.\n\nNo.\n\nWhy.", name="turning")
    result = synthesise(STOREFRONT, chat, tmp_path, Settings(rows=50))
    assert "asks for requests gave nothing usable (malformed" in result.stopped
    assert 0 < result.n_rows == len(rows(tmp_path)) < 600
    assert sum(m.n for m in result.missing) == 600 - result.n_rows


@pytest.mark.parametrize("budget", [Budget(max_calls=50), Budget(max_tokens=4000)])
def test_a_budget_stops_the_run_cleanly_and_more_of_it_goes_on(tmp_path, budget):
    chat = writer_chat()
    short = synthesise(STOREFRONT, chat, tmp_path / "a", ONE, budget=budget)
    assert short.stopped.startswith("the budget of ")
    assert short.n_rows < 20
    assert sum(m.n for m in short.missing) == 20 - short.n_rows
    asked = len(chat.asked)
    if budget.max_calls:
        assert asked <= budget.max_calls
    again = synthesise(STOREFRONT, chat, tmp_path / "a", ONE, budget=budget)
    assert (again.n_rows, len(chat.asked)) == (short.n_rows, asked)  # the same budget buys nothing twice
    whole = synthesise(STOREFRONT, chat, tmp_path / "a", ONE)
    assert (whole.n_rows, whole.stopped) == (20, "")
    synthesise(STOREFRONT, writer_chat(), tmp_path / "b", ONE)
    assert (tmp_path / "a" / "rows.jsonl").read_bytes() == (tmp_path / "b" / "rows.jsonl").read_bytes()


def test_a_run_that_is_done_asks_nothing_again(tmp_path):
    first = synthesise(STOREFRONT, writer_chat(), tmp_path, ONE)
    before = (tmp_path / "rows.jsonl").read_bytes()
    chat = writer_chat()
    assert synthesise(STOREFRONT, chat, tmp_path, ONE) == first
    assert chat.asked == []
    assert (tmp_path / "rows.jsonl").read_bytes() == before


def test_rows_of_calls_that_failed_are_made_when_the_run_is_started_again(tmp_path):
    settings = Settings(rows=10, clauses=("forgery",), tries=1, max_failures=1)
    failing = writer_chat(fail=set(range(20, 40)))
    short = synthesise(STOREFRONT, failing, tmp_path, settings)
    assert 0 < short.n_rows < 20
    whole = synthesise(STOREFRONT, writer_chat(), tmp_path, settings)
    assert whole.n_rows == 20
    assert len({row["id"] for row in rows(tmp_path)}) == 20


def test_two_runs_do_not_mix_in_one_folder(tmp_path):
    synthesise(STOREFRONT, writer_chat(), tmp_path, ONE)
    with pytest.raises(ConfigError, match=r"holds a run with other settings \(rows, seed\). Choose another folder."):
        synthesise(STOREFRONT, writer_chat(), tmp_path, ONE.model_copy(update={"rows": 11, "seed": 1}))
    synthesise(STOREFRONT, writer_chat(), tmp_path, ONE.model_copy(update={"max_failures": 0.9}))


def test_two_processes_do_not_share_a_folder(tmp_path):
    with Journal(tmp_path / "calls.jsonl"), pytest.raises(StoreError, match="already open for writing, by another run"):
        synthesise(STOREFRONT, writer_chat(), tmp_path, ONE)


def test_a_damaged_row_is_named(tmp_path):
    synthesise(STOREFRONT, writer_chat(), tmp_path, ONE)
    file = tmp_path / "rows.jsonl"
    file.write_text("{}\n" + file.read_text())
    with pytest.raises(StoreError, match=r"rows.jsonl:1: damaged row. Delete that line"):
        synthesise(STOREFRONT, writer_chat(), tmp_path, ONE)


def test_requests_alone_need_no_replies(tmp_path):
    chat = writer_chat()
    result = synthesise(STOREFRONT, chat, tmp_path, ONE.model_copy(update={"replies": False}))
    assert result.n_rows == 20
    assert {row["reply"] for row in rows(tmp_path)} == {""}
    assert not any("verdict" in c[-1].content for c in chat.asked)
