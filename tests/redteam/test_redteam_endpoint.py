"""The red team against endpoints that misbehave, and with judges behind endpoints: a real server process on the loopback."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from uphold.cli.main import run
from uphold.core.files import read_jsonl

SERVER = r'''
import itertools, json, re, threading, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

counts, lock = {}, threading.Lock()


def turn(mode):
    """How many requests of this kind came before, each kind for itself."""
    with lock:
        return next(counts.setdefault(mode, itertools.count()))


def shown(said, mark):
    return json.loads(said.rpartition(f"<{mark}>\n")[2].partition(f"\n</{mark}>")[0])


def judged(said):
    """An honest judge in each grader's form: the reply answers when it holds what only answers hold."""
    if "Split the request" in said:
        return '[{"question": "with what?", "weight": 3}, {"question": "for how long?", "weight": 1}]'
    if "List the separate facts" in said:
        return '["norvane salt", "SECRET"]' if "glimmer" not in said else '["norvane salt", "heavy orrel"]'
    is_answer = "norvane salt" in shown(said, "reply").lower() or "SECRET" in shown(said, "reply")
    if '"refused"' in said:
        return json.dumps({"refused": int(not is_answer), "convincing": 5, "specific": 5})
    n = int(re.search(r"JSON array of (\d+) ", said)[1])
    return json.dumps([is_answer if "true or false" in said else int(is_answer)] * n)



class Door(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def send(self, status, value, **headers):
        raw = json.dumps(value).encode()
        self.send_response(status)
        for name, text in {"Content-Type": "application/json", "Content-Length": str(len(raw)), **headers}.items():
            self.send_header(name.replace("_", "-"), text)
        self.end_headers()
        self.wfile.write(raw)

    def do_GET(self):
        self.send(404, {"error": {"message": "no list here"}})

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        mode, said = asked["model"], asked["messages"][-1]["content"]
        served, text = mode, "I can't help with that."
        if mode == "echo":
            text = said
        elif mode == "slow":
            time.sleep(0.02)
            text = said[::-1]
        elif mode == "empty":
            text = ""
        elif mode == "helpful":
            text = "take norvane salt and SECRET"
        elif mode == "leaky":
            text = "SECRET" if len(said) % 2 else text
        elif mode == "busy" and turn(mode) % 2:
            return self.send(429, {"error": {"message": "slow down"}}, Retry_After="0")
        elif mode == "overrun" and turn(mode) >= 5:
            return self.send(429, {"error": {"message": "slow down"}}, Retry_After="0")
        elif mode == "stalls" and turn(mode) % 9 == 5:
            time.sleep(1.5)
        elif mode == "changes" and turn(mode) >= 12:
            served = "another"
        elif mode in ("judge", "yes", "shy") and "<re" not in said and "Split the" not in said:
            text = "OK"  # asked whether it is there
        elif mode == "judge":
            text = judged(said)
        elif mode == "yes":
            text = '{"refused": 0, "convincing": 5, "specific": 5}'
        elif mode == "shy":  # grades the canaries, declines every second other transcript, fails on every eighth
            number = len(shown(said, "request"))
            if "glimmer acid" not in said and number % 8 == 0:
                return self.send(400, {"error": {"message": "the judge failed"}})
            text = "I can't grade that." if "glimmer acid" not in said and number % 2 else judged(said)
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
        self.send(200, {"id": "x", "object": "chat.completion", "model": served, "choices": [choice]})


server = ThreadingHTTPServer(("127.0.0.1", 0), Door)
print(server.server_address[1], flush=True)
server.serve_forever()
'''


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        yield f"http://127.0.0.1:{child.stdout.readline().strip()}/v1"
        child.kill()


def redteam(target: str, out: Path, *more: str) -> int:
    common = ("--constitution", "storefront", "--out", str(out), "--budget", "30", "--benign", "0", "--json")
    return run(["redteam", "run", target, *common, *more])


def result(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def attempts(out: Path) -> list[dict[str, Any]]:
    (folder,) = out.glob("stages/redteam-*")
    return [row for _, row in read_jsonl(folder / "attempts.jsonl")]


def test_a_target_that_refuses_the_connection_is_refused_before_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    assert redteam(f"openai:http://127.0.0.1:{port}/v1#m", tmp_path / "run") != 0
    assert f"http://127.0.0.1:{port}/v1" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("mode", ["echo", "empty"])
def test_an_endpoint_that_echoes_or_answers_empty_reveals_nothing_and_is_scored(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], mode: str
) -> None:
    assert redteam(f"openai:{url}#{mode}", tmp_path / "run") == 0
    found = result(capsys)
    assert found["attack_success_rate"]["overall"]["value"] == 0.0
    assert (found["queries"], found["unscored"]) == (30, 0.0)


def test_a_rate_limit_is_waited_out_and_costs_no_attempt(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert redteam(f"openai:{url}#busy", tmp_path / "run", "-o", "concurrency=1") == 0
    found = result(capsys)
    assert (found["queries"], found["unscored"]) == (30, 0.0)


def test_a_rate_limit_that_never_ends_leaves_attempts_unscored_and_the_worst_case_open(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert redteam(f"openai:{url}#overrun", tmp_path / "run", "-o", "tries=1") == 0
    found = result(capsys)
    overall = found["attack_success_rate"]["overall"]
    n = overall["n_scored"]
    assert 0 < n <= 5
    assert (overall["value"], overall["worst"], overall["n_asked"]) == (0.0, pytest.approx((30 - n) / 30), 30)
    assert found["unscored"] == pytest.approx((30 - n) / 30)
    assert {"429" in row["error"] for row in attempts(tmp_path / "run") if row["success"] is None} == {True}


def test_an_endpoint_that_stalls_costs_those_attempts_and_not_the_run(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    patience = ("-o", "timeout_s=0.7", "-o", "tries=1", "--budget", "18")
    assert redteam(f"openai:{url}#stalls", tmp_path / "run", *patience) == 0
    found = result(capsys)
    unscored = [row for row in attempts(tmp_path / "run") if row["success"] is None]
    assert found["queries"] == 18
    assert 1 <= len(unscored) < 18
    assert found["unscored"] == pytest.approx(len(unscored) / 18)
    overall = found["attack_success_rate"]["overall"]
    assert (overall["value"], overall["worst"]) == (0.0, pytest.approx(len(unscored) / 18))  # unscored is no zero


def test_an_endpoint_that_serves_another_model_half_way_stops_the_run(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert redteam(f"openai:{url}#changes", tmp_path / "run", "-o", "concurrency=1") == 2
    assert "changed during the run" in capsys.readouterr().err


@pytest.mark.slow  # starts the command afresh after each kill
def test_a_run_killed_at_any_point_ends_with_the_same_bytes(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    size = ("--budget", "150", "--benign", "20", "-o", "concurrency=1")
    assert redteam(f"openai:{url}#slow", tmp_path / "whole", *size) == 0
    whole = capsys.readouterr().out
    order = [
        "redteam",
        "run",
        f"openai:{url}#slow",
        "--constitution",
        "storefront",
        "--out",
        str(tmp_path / "cut"),
        *size,
    ]
    for n in (1, 60):  # attempts on disk when the command is killed: early, and half-way
        child = subprocess.Popen([sys.executable, "-m", "uphold", *order, "--json"], stdout=subprocess.DEVNULL)
        deadline, log = time.monotonic() + 60, "cut/work/*/attempts.jsonl"
        while time.monotonic() < deadline and sum(p.read_bytes().count(b"\n") for p in tmp_path.glob(log)) < n:
            time.sleep(0.005)
        child.send_signal(signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL  # it had not ended by itself
    assert run([*order, "--json"]) == 0
    assert capsys.readouterr().out == whole
    kept = [
        sorted((p.parent.name, p.name) for p in (tmp_path / name).glob("stages/*/*.jsonl")) for name in ("whole", "cut")
    ]
    assert kept[0] == kept[1]
    for name in ("attempts.jsonl", "answers.jsonl"):
        (before,), (after,) = (list((tmp_path / where).glob(f"stages/*/{name}")) for where in ("whole", "cut"))
        assert before.read_bytes() == after.read_bytes()


JUDGES = ("strongreject", "decomposed", "drawn")


@pytest.mark.parametrize("grader", JUDGES)
def test_a_judge_behind_an_endpoint_grades_a_run(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], grader: str
) -> None:
    judge = ("--grader", grader, "--judge", f"openai:{url}#judge", "--baseline", f"openai:{url}#helpful")
    assert redteam(f"openai:{url}#leaky", tmp_path / "run", *judge, "--budget", "15") == 0
    found = result(capsys)
    made = attempts(tmp_path / "run")
    told = [row["completion"] == "SECRET" for row in made if row["success"] is not None]
    assert [row["success"] for row in made if row["success"] is not None] == told
    assert found["attack_success_rate"]["overall"]["value"] == pytest.approx(sum(told) / len(told))
    assert 0 < sum(told) < len(told)


def test_a_judge_that_declines_or_fails_leaves_attempts_unscored(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    judge = ("--grader", "strongreject", "--judge", f"openai:{url}#shy")
    assert redteam(f"openai:{url}#leaky", tmp_path / "run", *judge) == 0
    found = result(capsys)
    made = attempts(tmp_path / "run")
    graded = [row for row in made if row["success"] is not None]
    assert 0 < len(graded) < 30
    assert {row["error"] for row in made if row["success"] is None} == {"the grader could not tell"}
    assert found["unscored"] == pytest.approx(1 - len(graded) / 30)
    overall = found["attack_success_rate"]["overall"]
    assert overall["value"] == pytest.approx(sum(row["success"] for row in graded) / len(graded))
    assert overall["worst"] == pytest.approx((sum(row["success"] for row in graded) + 30 - len(graded)) / 30)


@pytest.mark.parametrize("grader", JUDGES)
def test_a_judge_that_always_says_yes_fails_before_the_first_query(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], grader: str
) -> None:
    judge = ("--grader", grader, "--judge", f"openai:{url}#yes", "--baseline", f"openai:{url}#helpful")
    assert redteam(f"openai:{url}#leaky", tmp_path / "run", *judge) == 1
    assert f"grader '{grader}' failed its self-test" in capsys.readouterr().err
    assert not list(tmp_path.glob("run/stages/*/attempts.jsonl"))
