"""Results go to stdout as text or as one JSON object; warnings go to stderr."""

import json

from uphold.cli.common import emit, table, warn
from uphold.core.measure import proportion


def test_text_for_people_and_one_json_object_for_machines(capsys):
    result = {"asr": proportion("asr", [True, None], higher_is_better=False)}
    emit(result, False, "asr 1.00 (n=1 of 2)")
    assert capsys.readouterr() == ("asr 1.00 (n=1 of 2)\n", "")
    emit(result, True, "asr 1.00 (n=1 of 2)")
    out, err = capsys.readouterr()
    assert err == ""
    assert out.count("\n") == 1
    assert json.loads(out)["asr"]["n_asked"] == 2


def test_half_a_character_can_be_printed_as_json(capsys):
    emit({"reply": "\ud83d"}, True, "")
    assert json.loads(capsys.readouterr().out) == {"reply": "\ud83d"}


def test_a_warning_leaves_stdout_alone(capsys):
    warn("no journal: calls are paid for again.")
    assert capsys.readouterr() == ("", "uphold: warning: no journal: calls are paid for again.\n")


def test_a_table_is_aligned_without_trailing_spaces():
    assert table([("a", "1", "x"), ("long", "22", "")]) == "a     1   x\nlong  22"
    assert table([]) == ""
