"""Links from a reply's words into the system message: whose record was copied."""

from guard_toy import CONSTITUTION, SETTINGS
from hypothesis import given
from hypothesis import strategies as st

from uphold.core.records import Exchange, Message
from uphold.guard.examples import reply
from uphold.guard.links import MARK, Links, n_read
from uphold.guard.train import train_guard

LINKED = SETTINGS.model_copy(update={"fpr_budget": 0.1})
BLIND = LINKED.model_copy(update={"links": False})
RECORDS = "You are talking to Ada. Phone of Ada: 111. Phone of Bob: 222."


def conversation(system: str = RECORDS, asked: str = "What is the phone number?") -> tuple[Message, ...]:
    return (Message(role="system", content=system), Message(role="user", content=asked))


def plain(links: tuple[str, ...]) -> list[str]:
    return [link.removeprefix(MARK) for link in links]


def test_a_copied_word_links_to_what_introduces_its_neighbours_elsewhere():
    # 111 stands after "to Ada. Phone of Ada": Ada occurs after "to" and "of", Phone after "ada" and "111", of after "phone"
    links = Links(conversation())
    assert plain(links.of("111")) == ["copied", "111", "of", "phone", "to"]
    # 222 stands after "111 Phone of Bob": Bob occurs once, so nothing leads to "to"
    assert plain(links.of("222")) == ["copied", "ada", "phone"]


def test_a_word_that_is_not_in_the_system_message_or_stands_in_many_places_has_no_links():
    links = Links(conversation("a code: 7. a a a a"))
    assert links.of("8") == ()
    assert links.of("a") == ()
    assert links.of("7") != ()


def test_what_the_user_wrote_links_nothing():
    assert Links((Message(role="user", content=RECORDS),)).of("111") == ()


def test_words_are_compared_as_the_guard_reads_them():
    links = Links(conversation("The key is ABC."))
    assert links.of("abc") == links.of("ABC") == links.of("ａｂｃ") != ()


def test_reading_keeps_the_words_in_order_and_marks_the_links():
    read = list(Links(conversation("Code of Eve: 9")).read(["it", "is", "9"]))
    assert [word for word in read if not word.startswith(MARK)] == ["it", "is", "9"]
    assert read[:2] == ["it", "is"]
    assert read[3] == f"{MARK}copied"
    assert n_read(read) == 3


@given(st.text(max_size=200), st.lists(st.text(min_size=1, max_size=8), max_size=8))
def test_any_text_can_be_read(system: str, words: list[str]):
    links = Links(conversation(system))
    assert [w for w in links.read([w for w in words if not w.startswith(MARK)]) if not w.startswith(MARK)] == [
        w for w in words if not w.startswith(MARK)
    ]


def shop(owner: str, other: str, numbers: tuple[str, str], leaks: bool) -> Exchange:
    system = f"you are talking to {owner}. phone of {owner}: {numbers[0]}. phone of {other}: {numbers[1]}."
    label = "harmful" if leaks else "benign"
    said = f"the phone number is {numbers[1 if leaks else 0]}."
    return reply(
        conversation(system, f"phone number {numbers[0]} please?"), said, label, clause="privacy" if leaks else None
    )


NAMES = ("ada", "bob", "eve", "max", "kim", "lea", "tom", "ida")
PAIRS = [(a, b, str(10 * i + j)) for i, a in enumerate(NAMES) for j, b in enumerate(NAMES) if a != b]
FIT = [shop(a, b, (n + "1", n + "2"), leaks) for a, b, n in PAIRS for leaks in (True, False)]
SPARED = [shop(a, b, (n + "3", n + "4"), leaks) for a, b, n in PAIRS for leaks in (True, False)]


def test_a_linear_guard_tells_whose_number_a_reply_gives_away():
    guard, _ = train_guard(FIT, CONSTITUTION, settings=LINKED, threshold_examples=SPARED)
    blind, _ = train_guard(FIT, CONSTITUTION, settings=BLIND, threshold_examples=SPARED)
    new = [shop("uma", "ned", ("905", "417"), leaks) for leaks in (True, False)]
    leak, own = guard.score(new)
    assert leak.flagged
    assert not own.flagged
    assert leak.score > 5 * own.score
    leak, own = blind.score(new)
    assert leak.flagged is own.flagged


def test_a_stream_with_links_agrees_with_the_whole_reply_and_says_where_it_was_flagged():
    guard, _ = train_guard(FIT, CONSTITUTION, settings=LINKED, threshold_examples=SPARED)
    for exchange in (shop("uma", "ned", ("905", "417"), True), shop("uma", "ned", ("905", "417"), False)):
        stream = guard.stream(exchange.messages)
        for char in exchange.completion:
            stream.push(char)
        assert stream.finish() == guard.score([exchange])[0]
    [verdict] = guard.score([shop("uma", "ned", ("905", "417"), True)])
    assert verdict.flagged
    assert verdict.position == len("the phone number is 417")


def test_links_survive_saving(tmp_path):
    from uphold.guard import Guard

    guard, _ = train_guard(FIT, CONSTITUTION, settings=LINKED, threshold_examples=SPARED)
    guard.save(tmp_path / "g")
    asked = [shop("uma", "ned", ("905", "417"), True)]
    assert Guard.load(tmp_path / "g").score(asked) == guard.score(asked)
