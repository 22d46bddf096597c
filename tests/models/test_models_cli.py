"""`uphold models check|chat|serve` as a user meets them."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys

import pytest

from uphold.cli.main import run
from uphold.cli.models import parse_options
from uphold.core.errors import ConfigError
from uphold.models import load


def test_check_says_what_a_model_is(tiny, capsys):
    assert run(["models", "check", str(tiny)]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0] == f"hf:{tiny} answers (weights are here, context 128 tokens)"
    assert out[1].startswith("identity ")
    assert out[2].startswith("ready in ")


def test_check_as_json_is_one_object(capsys):
    assert run(["models", "check", "fake:echo", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["spec"], result["has_weights"], result["n_context"], result["reply_tokens"]) == (
        "fake:echo",
        False,
        None,
        1,
    )


def test_check_of_a_model_that_cannot_answer_is_misuse_with_one_line(capsys):
    assert run(["models", "check", "fake:fail"]) == 2
    assert capsys.readouterr().err == "uphold: fake:fail: told to be down. Use another model.\n"


def test_chat_prints_the_reply(capsys):
    assert run(["models", "chat", "fake:echo", "good  morning"]) == 0
    assert capsys.readouterr().out == "good  morning\n"


def test_chat_reads_standard_input_and_prints_json(capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("from a pipe"))
    assert run(["models", "chat", "fake:echo", "-", "--json", "--max-new-tokens", "2"]) == 0
    reply = json.loads(capsys.readouterr().out)
    assert (reply["text"], reply["finish_reason"]) == ("from a", "length")


def test_chat_streams_the_same_reply_that_json_shows(tiny, capsys):
    words = [
        "models",
        "chat",
        str(tiny),
        "w1 w2",
        "--system",
        "w3",
        "--temperature",
        "1",
        "--seed",
        "3",
        "--max-new-tokens",
        "9",
    ]
    assert run(words) == 0
    streamed = capsys.readouterr().out
    assert run([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["text"] + "\n" == streamed


def test_nothing_to_ask_and_a_failing_model_are_said(capsys):
    assert run(["models", "chat", "fake:echo", " "]) == 2
    assert (
        capsys.readouterr().err == "uphold: nothing to ask. Write the text after the model, or pipe it in and write -\n"
    )
    for extra in ([], ["--json"]):
        assert run(["models", "chat", "fake:fail", "x", *extra]) == 2
        assert capsys.readouterr().err == "uphold: fake:fail: told to fail\n"


def test_options_are_read_as_json_where_they_are_json():
    assert parse_options(["tries=3", "timeout_s=1.5", "device=cpu", "chat_template=a=b"]) == {
        "tries": 3,
        "timeout_s": 1.5,
        "device": "cpu",
        "chat_template": "a=b",
    }
    assert parse_options(None) == {}
    with pytest.raises(ConfigError, match=r"^--option 'tries': write NAME=VALUE$"):
        parse_options(["tries"])


def test_options_reach_the_backend(capsys):
    assert run(["models", "check", "fake:echo", "-o", "latency=3"]) == 2
    assert capsys.readouterr().err == "uphold: model 'fake:echo': unknown option 'latency'. Did you mean 'latency_s'?\n"


def test_serving_says_where_and_stops_on_an_interrupt():
    command = [
        sys.executable,
        "-c",
        "from uphold.cli.main import main; main()",
        "models",
        "serve",
        "fake:echo",
        "--port",
        "0",
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        line = process.stdout.readline()
        assert line.startswith("serving fake:echo as openai:http://127.0.0.1:")
        spec = line.split(" as ")[1].strip()
        assert spec.endswith("/v1#echo")
        load(spec).check()  # waits until it listens
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
        assert process.returncode == 130
        assert "Traceback" not in err
    finally:
        process.kill()
        process.communicate()


def test_serving_a_model_that_cannot_answer_ends_at_once(capsys):
    assert run(["models", "serve", "fake:fail", "--port", "0"]) == 2
    assert capsys.readouterr().err == "uphold: fake:fail: told to be down. Use another model.\n"
