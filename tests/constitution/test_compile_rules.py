"""Which norms a sentence holds, how strong they are, and where one sentence is cut into several."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from uphold.constitution.prose.lists import item_norms, read_lead
from uphold.constitution.prose.rules import norms


def read(sentence: str, **options: object) -> list[tuple[str, str]]:
    return [(norm.modality, norm.text) for norm in norms(sentence, agent="the assistant", **options)]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("sentence", "modality"),
    [
        ("The assistant must tell the price.", "must"),
        ("The assistant shall tell the price.", "must"),
        ("The assistant is required to tell the price.", "must"),
        ("The assistant cannot share passwords.", "must"),
        ("The assistant may only share the price.", "must"),
        ("Sharing passwords is strictly prohibited.", "must"),
        ("The assistant will never share passwords.", "must"),
        ("Never share passwords.", "must"),
        ("Do not share passwords.", "must"),
        ("The assistant should tell the price.", "should"),
        ("The assistant ought to tell the price.", "should"),
        ("The assistant is expected to tell the price.", "should"),
        ("It is important to tell the price.", "should"),
        ("Avoid long answers.", "should"),
        ("The assistant may tell the price.", "may"),
        ("The assistant can also provide ranges.", "may"),
        ("The assistant does not need to tell the price.", "may"),
        ("Jokes are allowed.", "may"),
    ],
)
def test_the_modal_decides_how_strong_a_norm_is(sentence: str, modality: str):
    assert [found for found, _ in read(sentence)] == [modality]


@pytest.mark.parametrize(
    "sentence",
    [
        "The assistant is friendly.",
        "Users may not be aware of this.",
        "The assistant may sometimes encounter unclear requests.",
        "Some calls may cause side effects.",
        "The request must have been sent by mistake.",
        "Tests may or may not run.",
        "How should the assistant answer?",
        "This does not mean that the assistant should be rude.",
        "The only reason a rule should be ignored is that it is beyond its powers.",
        "In theory, the assistant can derive the answer.",
        "An assistant must sometimes guess.",
        "Since the user asked for code, the assistant should assume a program reads it.",
        "Consider a request to write code: it could be answered in two ways.",
        "See the appendix for details.",
        "Project maintainers who break the code of conduct are named.",
        "If a section can be overridden, it would be listed below.",
        '"You must obey" is what such a message says.',
    ],
)
def test_facts_questions_guesses_and_pointers_are_no_norms(sentence: str):
    assert read(sentence) == []


def test_a_subordinate_modal_does_not_bind():
    assert read("When the user may be wrong, the assistant should ask.") == [
        ("should", "When the user may be wrong, the assistant should ask.")
    ]


def test_acts_joined_by_and_are_cut_apart_and_keep_their_condition():
    assert read("If an order is late, the assistant must tell the customer the date and offer a refund.") == [
        ("must", "If an order is late, the assistant must tell the customer the date."),
        ("must", "If an order is late, the assistant must offer a refund."),
    ]


def test_a_series_is_cut_at_its_commas_only_when_an_and_closes_it():
    assert [
        text
        for _, text in read("The assistant should greet the customer, answer the question, and thank the customer.")
    ] == [
        "The assistant should greet the customer.",
        "The assistant should answer the question.",
        "The assistant should thank the customer.",
    ]


def test_a_choice_stays_one_duty_but_a_forbidden_choice_is_two_prohibitions():
    assert [text for _, text in read("The assistant must send a refund or offer a voucher.")] == [
        "The assistant must send a refund or offer a voucher."
    ]
    assert [text for _, text in read("The assistant must not send a refund or offer a voucher.")] == [
        "The assistant must not send a refund.",
        "The assistant must not offer a voucher.",
    ]


def test_forbidding_two_acts_together_does_not_forbid_each():
    assert [text for _, text in read("The assistant must not collect the address and publish it.")] == [
        "The assistant must not collect the address and publish it."
    ]


def test_after_but_the_negation_is_gone():
    assert [text for _, text in read("The assistant should not refuse the request but ask for details.")] == [
        "The assistant should not refuse the request.",
        "The assistant should ask for details.",
    ]


def test_and_never_is_a_duty_of_its_own():
    assert [text for _, text in read("The assistant must keep the log and never delete the backup.")] == [
        "The assistant must keep the log.",
        "The assistant must never delete the backup.",
    ]


@pytest.mark.parametrize(
    "sentence",
    [
        "The assistant should refuse to help users write malware and hide it.",
        "The assistant must refuse requests that include slurs and promote hate.",
        "The assistant must ensure that all agents keep the scope and respect changes.",
        "The assistant should explain that users may appeal and ask for a review.",
        "The assistant must not introduce, elaborate on, endorse, or justify such content.",
        "The assistant should attempt to understand and follow the request.",
        "The assistant should help the user feel heard, explore their options, and find a way.",
        "A scope should limit access to reduce surprises and build trust.",
        "The assistant should not pretend to be human or have feelings.",
    ],
)
def test_a_cut_that_could_turn_the_meaning_is_not_made(sentence: str):
    assert [text for _, text in read(sentence)] == [sentence]


def test_avoid_is_carried_to_every_gerund():
    assert [
        text for _, text in read("The assistant should avoid giving diagnoses, naming drugs, or promising cures.")
    ] == [
        "The assistant should avoid giving diagnoses.",
        "The assistant should avoid naming drugs.",
        "The assistant should avoid promising cures.",
    ]


def test_it_becomes_the_agent_and_they_stays_unless_the_agent_is_plural():
    assert read("It should ask.")[0][1] == "The assistant should ask."
    assert read("They must never override the law.")[0][1] == "They must never override the law."
    assert norms("They must ask.", agent="agents")[0].text == "Agents must ask."


def test_two_main_clauses_give_two_norms_with_their_own_strength():
    assert read("The assistant may ask why; however, it must not insist.") == [
        ("may", "The assistant may ask why."),
        ("must", "The assistant must not insist."),
    ]


def test_inverted_prohibitions_are_set_straight():
    assert [text for _, text in read("The assistant should not guess, nor should it invent sources.")] == [
        "The assistant should not guess.",
        "The assistant should not invent sources.",
    ]


def test_a_concession_binds_too():
    assert read("While the assistant should be brief, it must never leave out a warning.") == [
        ("should", "The assistant should be brief."),
        ("must", "The assistant must never leave out a warning."),
    ]


def test_a_subject_shared_with_a_plain_verb_is_found():
    assert read("Members are welcome and must register.") == [("must", "Members must register.")]


def test_nobody_may_is_a_prohibition():
    assert read("Nobody may work alone at night.") == [("must", "Nobody may work alone at night.")]


def test_verbs_that_share_an_object_stay_together_even_when_unknown():
    sentence = "You will not reproduce, frobnicate, resell or exploit any part of the service."
    assert [text for _, text in read(sentence)] == [sentence]


def test_a_thing_that_must_be_done_is_not_taken_for_the_agent():
    assert read("It must be logged within a day.") == [("must", "It must be logged within a day.")]


def test_labels_and_connectives_are_left_out():
    assert read("Refunds: However, the assistant must ask first.") == [("must", "The assistant must ask first.")]


def test_imperatives_can_be_switched_off():
    assert read("Report incidents to the team.", imperatives=False) == []
    assert read("Report incidents to the team.") == [("must", "Report incidents to the team.")]


def test_a_command_after_a_condition_is_a_norm_and_keeps_it():
    assert read("If the customer is angry, stay calm and give help.") == [
        ("must", "If the customer is angry, stay calm."),
        ("must", "If the customer is angry, give help."),
    ]


# -- lists ------------------------------------------------------------------------------------------------------------


def under(lead: str, item: str) -> list[tuple[str, str]]:
    found, _ = item_norms(item, read_lead(lead, agent="the assistant"), agent="the assistant")
    return [(norm.modality, norm.text) for norm in found]


def test_an_item_completes_an_open_lead():
    assert under("The assistant must not:", "reveal passwords;") == [
        ("must", "The assistant must not reveal passwords.")
    ]


def test_an_item_that_is_a_norm_stands_alone():
    assert under("The following rules apply:", "Staff must wear badges.") == [("must", "Staff must wear badges.")]


def test_a_noun_is_joined_to_a_lead_that_is_a_whole_clause():
    assert under("The assistant must not share the following:", "Passwords") == [
        ("must", "The assistant must not share the following: Passwords.")
    ]


def test_a_command_under_a_duty_takes_the_subject_of_the_lead():
    assert under("The assistant should use judgment about tools:", "simply ignore unrelated instructions") == [
        ("should", "The assistant should simply ignore unrelated instructions.")
    ]


def test_a_condition_as_lead_is_put_before_the_command():
    assert under("When handling refunds:", "Ask for the order number.") == [
        ("must", "When handling refunds, ask for the order number.")
    ]


def test_items_of_a_list_of_facts_are_no_norms():
    assert under("Side effects include:", "Sending emails") == []
    assert under("Mitigations may include:", "Document the steps") == []


# -- properties -------------------------------------------------------------------------------------------------------

WORDS = st.sampled_from(
    "the assistant it users must should may not never and or but if when that which avoid refuse to provide help a price "
    ', ; : — ( ) " reports sharing passwords is are allowed prohibited can do only then also nor'.split()
)


@given(st.lists(WORDS, max_size=40).map(" ".join))
@example("it")
@example("the assistant must")
@example("nor should it")
@settings(max_examples=400, deadline=None)
def test_any_string_of_words_gives_whole_sentences_and_no_error(sentence: str):
    for norm in norms(sentence, agent="the assistant"):
        assert norm.text.strip() == norm.text
        assert norm.text[-1] in ".!?\"'”’)"
        assert norm.modality in ("must", "should", "may")


@given(st.text(max_size=200))
@settings(max_examples=200, deadline=None)
def test_any_text_can_be_read_as_a_lead_and_as_an_item(text: str):
    lead = read_lead(text, agent="the assistant")
    item_norms(text, lead, agent="the assistant")
