"""Progress tells what, how fast and how long, on stderr only, and can be silenced."""

import io

import pytest

from uphold.core import progress as module
from uphold.core.progress import Bar, clock, progress, quiet


@pytest.fixture
def time(monkeypatch):
    """A clock that stands still until it is set forward."""

    class Clock:
        now = 100.0

        def monotonic(self):
            return self.now

    stopped = Clock()
    monkeypatch.setattr(module, "time", stopped)
    return stopped


@pytest.fixture(autouse=True)
def loud():
    quiet(False)
    yield
    quiet(False)


def test_a_line_tells_share_rate_and_time_left(time):
    bar = Bar("label", 800, "prompts")
    assert bar.line() == "label 0/800 prompts"
    time.now += 10
    bar.advance(100, note="loss 0.41")
    assert bar.line() == "label 100/800 prompts, 10.0/s, 1:10 left, loss 0.41"


def test_slow_work_is_told_in_seconds_each_and_unknown_totals_have_no_time_left(time):
    bar = Bar("train", None, "steps")
    time.now += 30
    bar.advance(10)
    assert bar.line() == "train 10 steps, 3.0 s each"


def test_what_an_earlier_run_did_counts_to_the_total_but_not_to_the_rate(time):
    bar = Bar("label", 100, "prompts")
    bar.skip(80)
    time.now += 10
    bar.advance(10)
    assert bar.line() == "label 90/100 prompts, 1.0/s, 0:10 left"


def test_plain_lines_come_every_five_seconds_and_one_at_the_end(time, capsys):
    with progress("label", 30, unit="prompts") as bar:
        for _ in range(3):
            time.now += 4
            bar.advance(10)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == ["label 20/30 prompts, 2.5/s, 0:04 left", "label 30 prompts in 0:12"]


def test_quiet_says_nothing_and_still_counts(time, capsys):
    quiet()
    with progress("label", 2) as bar:
        time.now += 60
        bar.advance(2)
    assert bar.done == 2
    assert capsys.readouterr() == ("", "")


def test_work_that_fails_is_not_reported_as_finished(time, capsys):
    with pytest.raises(RuntimeError), progress("label", 2) as bar:
        bar.advance(1)
        raise RuntimeError
    assert capsys.readouterr().err == ""


def test_on_a_terminal_nested_work_shares_one_display(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr(module.sys, "stderr", terminal)
    with progress("outer", 2, unit="stages") as outer, progress("inner", 4, unit="steps") as inner:
        inner.advance(4)
        outer.advance(1)
    shown = terminal.getvalue()
    assert "outer" in shown
    assert "inner" in shown
    assert "4/4" in shown
    with progress("again", 1) as bar:
        bar.advance(1)
    assert "again" in terminal.getvalue()


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (59.4, "0:59"), (59.6, "1:00"), (3661, "1:01:01")])
def test_clock_reads_like_one(seconds, text):
    assert clock(seconds) == text
