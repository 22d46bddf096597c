"""Rows of labelled requests, and the written corpus read through them."""

import json

import pytest

from uphold.constitution import Constitution
from uphold.core import registry
from uphold.core.errors import ConfigError, DataError
from uphold.data import assistant
from uphold.data.rows import parse, read
from uphold.data.source import Source

FULL = {
    "prompt": "how do i shoot a portrait at night",
    "reply": "Use a wide aperture and a steady hand.",
    "label": "benign",
    "reply_label": "benign",
    "clause": "violence",
    "lang": "en",
    "kind": "twin",
    "register": "terse",
}
TURNS = [
    {"role": "user", "content": "hi"},
    {"role": "assistant", "content": "hello"},
    {"role": "user", "content": "bye"},
]


def constitution(**modality):
    clauses = [
        {"id": f"no-{c}", "text": "No.", "modality": m, "category": c, "harmful": ["x"]} for c, m in modality.items()
    ]
    return Constitution.model_validate({"name": "test", "clauses": clauses})


def test_a_row_becomes_a_sample_with_what_is_known_of_it():
    sample = parse(FULL, "f:1").sample("corpus")
    assert (sample.prompt, sample.label, sample.clause, sample.family) == (
        FULL["prompt"],
        "benign",
        "violence",
        "direct",
    )
    assert sample.meta == {"source": "corpus", "line": 0, "lang": "en", "kind": "twin", "register": "terse"}


def test_an_exchange_carries_the_label_of_its_reply_not_of_its_request():
    row = parse(FULL | {"label": "harmful", "reply": "I won't help with that."}, "f:1")
    exchange = row.exchange("corpus")
    assert (exchange.completion, exchange.meta["label"]) == ("I won't help with that.", "benign")
    assert parse({"prompt": "x y", "label": 1}, "f:1").exchange() is None


def test_a_jailbreak_is_a_family_of_its_own():
    assert parse(FULL | {"kind": "jailbreak"}, "f:1").sample().family == "jailbreak"


def test_a_conversation_is_known_by_all_its_user_turns():
    row = parse({"turns": TURNS, "label": "benign"}, "f:1")
    assert (row.prompt, row.asked, len(row.messages)) == ("bye", "hi\nbye", 3)


def test_other_files_are_read_as_far_as_they_go(tmp_path):
    file = tmp_path / "prompts.csv"
    file.write_text("prompt,label,completion\nhow are you,0,fine\n", encoding="utf-8")
    (row,) = read(file)
    assert (row.prompt, row.label, row.reply, row.lang, row.place) == (
        "how are you",
        "benign",
        "fine",
        "",
        "prompts.csv:2",
    )


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"text": "x"}, "f:3: no text under 'prompt' and no 'turns'. Columns found: text."),
        ({"prompt": " "}, "f:3: the prompt is blank. Put the request into 'prompt', or take the row out."),
        (
            {"prompt": "x", "label": "bad"},
            "f:3: label 'bad' is neither harmful nor benign. Write harmful or 1, benign or 0.",
        ),
        ({"turns": "x"}, "f:3: 'turns' is no list of objects with role and content."),
        ({"turns": [{"role": "robot", "content": "x"}]}, "f:3: a turn's role: Input should be "),
    ],
)
def test_a_row_that_cannot_be_used_says_why(row, message):
    with pytest.raises(DataError) as error:
        parse(row, "f:3")
    assert str(error.value).startswith(message)


def test_a_sample_needs_a_label():
    with pytest.raises(DataError, match="has no label"):
        parse({"prompt": "x y"}, "f:1").sample()


# ---------------------------------------------------------------- the corpus


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    """Three categories of three rows each, in place of the written ones."""
    assistant._rows.cache_clear()
    monkeypatch.setattr(assistant, "FOLDER", tmp_path)
    for category in ("fraud-and-scams", "malware", "violence"):
        rows = [FULL | {"prompt": f"{category} {i}", "label": "harmful" if i else "benign"} for i in range(20)]
        (tmp_path / f"{category}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    yield tmp_path
    assistant._rows.cache_clear()


def test_every_row_has_the_clause_that_rules_its_category(corpus):
    rows = assistant.load()
    assert len(rows) == 60
    forbidden = Constitution.load("assistant").forbidden_categories()
    assert all(row.clause == forbidden[row.category].id for row in rows)


def test_the_split_is_by_content_and_does_not_move_when_rows_are_added(corpus):
    before = {row.id: row.split for row in assistant.load()}
    assert set(before.values()) == {"train", "validation"}
    file = corpus / "malware.jsonl"
    file.write_text(json.dumps(FULL | {"prompt": "a new row"}) + "\n" + file.read_text(), encoding="utf-8")
    assistant._rows.cache_clear()
    assert before.items() <= {row.id: row.split for row in assistant.load()}.items()
    ids = [{row.id for row in assistant.load(split)} for split in ("train", "validation")]
    assert not ids[0] & ids[1]


def test_a_conversation_stays_with_the_prompt_it_opens_with():
    single = parse({"prompt": "Hi", "label": "benign"}, "f:1")
    assert assistant.split_of_row(single) == assistant.split_of_row(parse({"turns": TURNS, "label": "benign"}, "f:1"))


def test_the_corpus_is_a_source_in_which_the_constitution_says_what_is_harmful(corpus):
    source = registry.get("source", "builtin:assistant-corpus")
    assert isinstance(source, Source)
    rules = constitution(malware="must", violence="may")
    harmful = source.samples("harmful", constitution=rules, split="train", n=100, seed=0)
    assert {(s.category, s.clause) for s in harmful} == {("malware", "no-malware")}
    benign = source.samples("benign", constitution=rules, split="train", n=100, seed=0)
    assert {s.category for s in benign if s.prompt != f"{s.category} 0"} == {
        "violence"
    }  # allowed: nothing harmful in it
    assert {s.label for s in benign} == {"benign"}
    assert not {s.id for s in harmful} & {s.id for s in benign}


def test_the_source_draws_the_same_for_the_same_seed_and_says_what_it_has_not(corpus):
    source, rules = assistant.AssistantCorpus(), constitution(malware="must")
    draw = [source.samples("benign", constitution=rules, split="train", n=2, seed=seed) for seed in (0, 0, 1, 2, 3)]
    assert draw[0] == draw[1]
    assert any(other != draw[0] for other in draw[2:])
    assert source.samples("task", constitution=rules, split="train", n=5, seed=0) == []
    with pytest.raises(DataError, match="has no test split. Measure on prompts of another origin"):
        source.samples("benign", constitution=rules, split="test", n=5, seed=0)


def test_unknown_splits_and_categories_are_refused(corpus):
    with pytest.raises(ConfigError, match="no split 'trian'. Did you mean 'train'"):
        assistant.load("trian")
    with pytest.raises(ConfigError, match="no category 'malwar'. Did you mean 'malware'"):
        assistant.load(only=["malwar"])
    assert {row.category for row in assistant.load(only=["malware"])} == {"malware"}
    assert len(assistant.samples("train")) + len(assistant.samples("validation")) == len(assistant.exchanges()) == 60
