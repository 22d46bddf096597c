"""How Markdown becomes blocks and sentences, each traced to its characters."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uphold.constitution.prose.markdown import MAX_DEPTH, parse_markdown
from uphold.constitution.prose.sentences import clean, sentences
from uphold.core.errors import DataError


def blocks(source: str) -> list[tuple[str, str, str]]:
    return [(block.kind, block.role, block.text(source)) for block in parse_markdown(source).blocks]


def test_paragraphs_items_and_headings():
    source = (
        "# Rules {#rules authority=root}\n\nFirst line\nsecond line.\n\n- one\n- two\n  goes on\n\n## Sub\n\nEnd.\n"
    )
    document = parse_markdown(source)
    assert [(b.kind, b.text(source)) for b in document.blocks] == [
        ("paragraph", "First line\nsecond line."),
        ("item", "one"),
        ("item", "two\ngoes on"),
        ("paragraph", "End."),
    ]
    assert document.headings[0].anchor == "rules"
    assert document.headings[0].attributes == (("authority", "root"),)
    assert [heading.title for heading in document.blocks[-1].path] == ["Rules", "Sub"]


def test_a_list_hangs_from_the_paragraph_that_ends_with_a_colon():
    source = "The assistant must not:\n\n- lie\n- steal:\n  - money\n\nEnd.\n\n- free\n"
    leads = [(block.text(source), block.lead) for block in parse_markdown(source).blocks]
    assert leads == [
        ("The assistant must not:", None),
        ("lie", 0),
        ("steal:", 0),
        ("money", 2),
        ("End.", None),
        ("free", None),
    ]


def test_code_comments_and_front_matter_are_passed_over_and_counted():
    source = (
        "---\ntitle: x\n---\n\nText.\n\n```\nYou must not.\n```\n\n~~~xml\n```\nYou must.\n~~~\n\n"
        "    indented must\n\n<!-- must\nmust -->\n\nEnd.\n"
    )
    document = parse_markdown(source)
    assert [block.text(source) for block in document.blocks] == ["Text.", "End."]
    assert document.skipped == {"front matter": 1, "code block": 2, "indented code": 1, "HTML comment": 1}


def test_a_fence_that_is_never_closed_is_warned_about_with_its_line():
    assert parse_markdown("Text.\n\n```\nrest\n", "p.md").warnings == [
        "p.md:3: code fence is never closed; the rest was read as code."
    ]


def test_quotes_examples_and_boxes_have_their_role():
    source = (
        "> Somebody said so.\n\n> [!WARNING]\n> Never do it.\n\n!!! note\n    Only a remark.\n\n!!! warning\n    Keep off.\n\n"
        "**Example**: do it like so.\n\n## Examples\n\nDo this.\n\n## Rationale\n\nBecause.\n"
    )
    assert [(role, text) for _, role, text in blocks(source)] == [
        ("quote", "Somebody said so."),
        ("body", "Never do it."),
        ("commentary", "Only a remark."),
        ("body", "Keep off."),
        ("example", "**Example**: do it like so."),
        ("example", "Do this."),
        ("commentary", "Because."),
    ]


def test_table_cells_know_their_column():
    source = "| Situation | Must not |\n|---|---|\n| Refund | promise a date \\| time |\n| Return | |\n"
    document = parse_markdown(source)
    assert [(b.column, b.case, b.text(source)) for b in document.blocks] == [
        ("Situation", "", "Refund"),
        ("Must not", "Refund", "promise a date \\| time"),
        ("Situation", "", "Return"),
    ]


def test_footnotes_are_blocks_and_their_marks_leave_the_text():
    assert blocks("Text[^a] here.\n\n[^a]: A note.\n") == [
        ("paragraph", "body", "Text[^a] here."),
        ("footnote", "body", "A note."),
    ]
    assert clean("Text[^a] here.") == "Text here."


def test_nesting_past_the_limit_is_refused_with_its_line():
    deepest = "\n".join(f"{'  ' * i}- level {i}" for i in range(MAX_DEPTH))
    assert len(parse_markdown(deepest).blocks) == MAX_DEPTH
    with pytest.raises(DataError) as caught:
        parse_markdown(">" * (MAX_DEPTH + 1) + " too deep", "p.md")
    assert str(caught.value) == "p.md:1: lists and quotes are nested more than 32 levels deep. Flatten them."


def test_sentences_are_not_cut_at_abbreviations_decimals_brackets_or_quotations():
    text = 'Use e.g. 3.5 kg (approx. Two. Or three.). He said "Go. Now." and left! Dr. Who? Yes.'
    assert [text[a:b] for a, b in sentences(text)] == [
        "Use e.g. 3.5 kg (approx. Two. Or three.).",
        'He said "Go. Now." and left!',
        "Dr. Who?",
        "Yes.",
    ]


def test_a_bracketed_sentence_is_one_of_its_own():
    text = "First. (This one too.) Last."
    assert [text[a:b] for a, b in sentences(text)] == ["First.", "(This one too.)", "Last."]


def test_clean_gives_plain_words():
    assert clean("**Never** use [the *tool*](x.md) `rm -rf __all__` ---  please &amp; thanks (see [here](#y)).") == (
        "Never use the tool rm -rf __all__ — please & thanks."
    )
    assert clean("As in [?](#a), ask.", {"a": "The rules"}) == "As in “The rules”, ask."


MARKS = [
    "# H\n",
    "- ",
    "  ",
    "> ",
    "\n",
    "\n\n",
    "```\n",
    "| a | b |\n",
    "|---|---|\n",
    "Text must go. ",
    "1. ",
    "!!! note\n",
    "    ",
]
MORE_MARKS = ["\t", "[^a]: ", "**Example**: ", "{#x}", "---\n", "It should not (e.g. so). ", "<!-- ", "-->"]
PIECES = st.lists(st.sampled_from(MARKS + MORE_MARKS), max_size=40).map("".join)


@given(st.one_of(PIECES, st.text(max_size=300)))
def test_every_character_of_every_block_can_be_found_again(source: str):
    for block in parse_markdown(source).blocks:
        text = block.text(source)
        for position, character in enumerate(text):
            if character != "\n":
                assert source[block.offset(position)] == character


@given(st.text(max_size=300))
def test_sentences_cover_all_that_is_not_blank_in_order(text: str):
    found = sentences(text)
    assert all(a < b for a, b in found)
    assert all(b <= c for (_, b), (c, _) in itertools.pairwise(found))
    kept = "".join(text[a:b] for a, b in found)
    assert "".join(kept.split()) == "".join(text.split())
