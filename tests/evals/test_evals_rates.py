"""Helpfulness and over-refusal: honest denominators, slices, paired differences."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import pytest

from uphold.core.errors import DataError, ModelError
from uphold.core.records import Sample
from uphold.evals import (
    Answer,
    answer,
    grade_answer,
    helpfulness,
    helpfulness_by_task,
    helpfulness_difference,
    is_correct,
    over_refusal,
    over_refusal_by_category,
    over_refusal_difference,
    partial_refusal,
)
from uphold.models.base import Completion, Conversation, Sampling

REFUSAL = "i am sorry, but i can not help with that."


class Clerk:
    """A Chat that answers with `reply(question)`."""

    spec = "fake:clerk"

    def __init__(self, reply: Callable[[str], Completion | str]) -> None:
        self.reply = reply
        self.batches: list[int] = []

    def identity(self) -> str:
        return "0" * 64

    def check(self) -> None:
        return None

    def generate(self, conversations: Sequence[Conversation], sampling: Sampling = Sampling()) -> list[Completion]:
        self.batches.append(len(conversations))
        found = [self.reply(turns[-1].content) for turns in conversations]
        return [Completion(text=reply) if isinstance(reply, str) else reply for reply in found]

    def stream(self, conversation: Conversation, sampling: Sampling = Sampling()) -> Iterator[str]:
        yield self.generate([conversation], sampling)[0].text or ""


def question(n: int, **fields: object) -> Sample:
    row = {"messages": [{"role": "user", "content": f"question {n}"}], "label": "benign", "expected": f"answer {n}"}
    return Sample.model_validate({**row, "group": f"g{n}", **fields})


def right(text: str) -> str:
    return text.replace("question", "answer")


SAMPLES = [
    question(n, category="compounds" if n < 4 else None, meta={"task": "a" if n < 6 else "b"}) for n in range(10)
]


def ask(reply: Callable[[str], Completion | str], samples: Sequence[Sample] = SAMPLES) -> list[Answer]:
    return list(answer(Clerk(reply), samples))


def test_exact_match_looks_past_white_space_only() -> None:
    assert is_correct("the price  is 4", " the price is\n4 ")
    assert not is_correct("the price is 4", "the price is 4.")
    assert not is_correct("the price is 4", "The price is 4")


def test_helpfulness_is_the_share_answered_exactly() -> None:
    found = helpfulness(ask(lambda text: right(text) if text != "question 3" else "no idea"), seeds=(0,))
    assert (found.metric, found.value, found.n_asked, found.n_scored) == ("helpfulness", 0.9, 10, 10)
    assert found.higher_is_better


def test_failed_calls_are_unscored_and_bound_both_rates() -> None:
    down = Completion(text=None, finish_reason="error", error="timeout")
    answers = ask(lambda text: down if text in ("question 0", "question 1") else right(text))
    helpful, refused = helpfulness(answers), over_refusal(answers)
    assert (helpful.value, helpful.worst, helpful.best, helpful.status) == (1.0, 0.8, 1.0, "partial")
    assert (refused.value, refused.worst, refused.best) == (0.0, 0.2, 0.0)


def test_blocked_is_wrong_and_refused() -> None:
    blocked = Completion(text="blocked.", finish_reason="blocked")
    answers = ask(lambda text: blocked)
    assert helpfulness(answers).value == 0.0
    assert over_refusal(answers).value == 1.0
    assert {found.blocked for found in answers} == {True}


def test_a_blocked_reply_without_text_is_scored_too() -> None:
    found = grade_answer(SAMPLES[0], Completion(text=None, finish_reason="blocked"))
    assert (found.correct, found.refused, found.error) == (False, True, None)


def test_over_refusal_counts_full_refusals_and_partial_ones_stand_apart() -> None:
    half = "i can not help with acid. wear gloves, add baking soda, wait five minutes and wipe it."

    def reply(text: str) -> str:
        return {"question 0": REFUSAL, "question 1": half}.get(text, right(text))

    answers = ask(reply)
    assert over_refusal(answers).value == 0.1
    assert partial_refusal(answers).value == 0.1
    assert not over_refusal(answers).higher_is_better


def test_a_harmful_sample_has_no_place_in_over_refusal() -> None:
    harmful = question(99, label="harmful", id="abc")
    with pytest.raises(DataError, match="sample abc is labelled harmful"):
        over_refusal(ask(right, [harmful]))


def test_samples_without_expected_reply_are_not_asked_about_helpfulness() -> None:
    answers = ask(right, [*SAMPLES, question(50, expected=None)])
    assert helpfulness(answers).n_asked == 10
    assert over_refusal(answers).n_asked == 11


def test_nothing_asked_is_unscored() -> None:
    assert helpfulness([]).status == "unscored"
    assert over_refusal([]).value is None


def test_slices_by_task_and_category() -> None:
    answers = ask(lambda text: REFUSAL if text == "question 1" else right(text))
    by_task = helpfulness_by_task(answers)
    assert (by_task["a"].value, by_task["b"].value) == (pytest.approx(5 / 6), 1.0)
    by_category = over_refusal_by_category(answers)
    assert set(by_category) == {"compounds"}
    assert by_category["compounds"].value == 0.25
    assert by_category["compounds"].by == {"category": "compounds"}


def test_differences_are_paired_on_the_same_samples() -> None:
    before = ask(right)
    after = ask(lambda text: REFUSAL if text in ("question 1", "question 2") else right(text), SAMPLES[:8])
    helpful = helpfulness_difference(before, after)
    refused = over_refusal_difference(before, after)
    assert helpful.value == pytest.approx(-0.25)  # 2 of the 8 that both were asked
    assert refused.value == pytest.approx(0.25)
    assert (refused.n_asked, refused.unit) == (8, "difference")
    assert "McNemar exact p = 0.5" in refused.note  # two discordant pairs, both one way: 2 x (1/2)^2


def test_samples_are_asked_in_batches_and_answered_in_order() -> None:
    clerk = Clerk(right)
    answers = list(answer(clerk, SAMPLES, batch=4))
    assert clerk.batches == [4, 4, 2]
    assert [found.sample.id for found in answers] == [sample.id for sample in SAMPLES]


def test_missing_replies_are_an_error() -> None:
    clerk = Clerk(right)
    clerk.generate = lambda conversations, sampling: []  # type: ignore[method-assign]
    with pytest.raises(ModelError, match="fake:clerk: 0 replies to 10 conversations"):
        list(answer(clerk, SAMPLES))


def test_a_row_holds_the_question_the_reply_and_the_grades() -> None:
    row = ask(right)[0].row()
    assert row["sample"]["messages"] == [{"role": "user", "content": "question 0"}]
    assert (row["completion"], row["correct"], row["refusal"], row["error"]) == ("answer 0", True, "none", None)
