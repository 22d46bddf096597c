"""`uphold train grpo|ppo|safe` on a tiny model, and completions drawn by a real server process."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
import train_launch
from train_fakes import benign
from train_tiny import read_lines, tiny_model, tiny_tokenizer

from uphold.cli.main import run
from uphold.core.errors import ConfigError
from uphold.core.files import write_jsonl
from uphold.models import load_weights
from uphold.models.tiny import write_tiny_llama
from uphold.train.rewards import FunctionReward
from uphold.train.rl import RLConfig, rl

SMALL = ["--steps", "2", "--prompts-per-step", "3", "--group-size", "2", "--max-new-tokens", "5", "--seed", "1"]


@pytest.fixture(scope="module")
def start(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("start")
    tiny_model().save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture
def prompts(tmp_path):
    """Options that name files of harmful and benign prompts, and a held-out one."""
    write_jsonl(tmp_path / "bad.jsonl", [{"prompt": c, "clause": "acid", "rubric": ["x"]} for c in "abc"])
    write_jsonl(tmp_path / "good.jsonl", [{"prompt": c, "expected": c} for c in "def"])
    write_jsonl(tmp_path / "test.jsonl", [{"prompt": c * 2, "clause": "acid", "rubric": ["x"]} for c in "abcdefghij"])
    return ["--harmful", str(tmp_path / "bad.jsonl"), "--benign", str(tmp_path / "good.jsonl")]


def result(capsys, *arguments):
    code = run(["train", *arguments, "--json"])
    shown = capsys.readouterr()
    assert shown.out, shown.err
    return code, json.loads(shown.out)


def test_grpo_takes_rewards_by_name_and_shows_first_and_last_steps(start, prompts, tmp_path, capsys):
    arguments = [
        "grpo",
        str(start),
        "--reward",
        "length:5",
        "--reward",
        "refusal=0.5",
        "--gold",
        "expected",
        *prompts,
        *SMALL,
    ]
    code, shown = result(capsys, *arguments, "--algorithm", "rloo", "--out", str(tmp_path / "out"))
    assert code == 0
    assert shown["n_completions"] == 12 == len(read_lines(tmp_path / "out" / "completions.jsonl"))
    assert set(read_lines(tmp_path / "out" / "completions.jsonl")[0]["rewards"]) == {"length", "refusal"}
    assert run(["train", *arguments, "--algorithm", "rloo", "--out", str(tmp_path / "out")]) == 0
    text = capsys.readouterr().out
    for word in ("first steps", "reward/length", "gold", "sampler_gap", "done before"):
        assert word in text


def test_ppo_makes_several_updates_a_step(start, prompts, tmp_path, capsys):
    out = str(tmp_path / "out")
    code, shown = result(
        capsys,
        "ppo",
        str(start),
        "--reward",
        "length:5",
        *prompts,
        *SMALL,
        "--epochs",
        "2",
        "--minibatches",
        "2",
        "--out",
        out,
    )
    assert code == 0
    assert "value_loss" in shown["last"]


def test_safe_tests_its_limits_on_held_out_prompts_and_exits_1_where_they_are_not_shown(
    start, prompts, tmp_path, capsys
):
    arguments = [
        "safe",
        str(start),
        "--reward",
        "length:5",
        *prompts,
        "--held-out",
        str(tmp_path / "test.jsonl"),
        *SMALL,
    ]
    code, shown = result(capsys, *arguments, "--cost", "acid=1", "--out", str(tmp_path / "loose"))
    assert code == 0
    assert shown["bounds"]["acid"]["n"] == 10
    code, shown = result(capsys, *arguments, "--cost", "acid=0", "--out", str(tmp_path / "strict"))
    assert code == 1  # no number of prompts shows that a rate is exactly 0
    assert shown["bounds"]["acid"]["held"] is False


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--group-size", "1"], "group_size must be at least 2"),
        (["--variant", "grqo"], "--variant"),
        (["--reward", "lenght"], "unknown reward 'lenght'. Did you mean 'length'?"),
    ],
)
def test_misuse_is_told_with_exit_code_2(start, prompts, tmp_path, capsys, extra, message):
    assert (
        run(["train", "grpo", str(start), "--reward", "length:5", *prompts, *extra, "--out", str(tmp_path / "o")]) == 2
    )
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("cost", ["acid", "acid=x", "acid=2"])
def test_a_cost_without_a_proper_limit_is_misuse(start, prompts, tmp_path, capsys, cost):
    code = run(
        ["train", "safe", str(start), "--reward", "length:5", *prompts, "--cost", cost, "--out", str(tmp_path / "o")]
    )
    assert code == 2
    assert f"--cost {cost!r}" in capsys.readouterr().err


@contextlib.contextmanager
def served(folder: Path):
    """`uphold models serve` in a process of its own; gives the spec that opens it."""
    main = "from uphold.cli.main import main; main()"
    command = [sys.executable, "-c", main, "models", "serve", str(folder), "--port", "0", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        yield json.loads(process.stdout.readline())["spec"]
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


def ask_server(spec: str, folder: Path, out: Path) -> None:
    weights = load_weights(f"hf:{folder}")
    samples = [benign(f"w{i} w{i + 1}") for i in range(6)]
    reward = FunctionReward("a", lambda e: float(len(e.completion)))
    config = RLConfig(sampler=spec, n_steps=2, prompts_per_step=3, group_size=4, max_new_tokens=6, lr=1e-3)
    rl(weights.model, weights.tokenizer, samples, reward, out, config)


def test_a_server_draws_the_completions_and_each_call_is_made_once(tmp_path):
    folder = write_tiny_llama(tmp_path / "tiny")
    with served(folder) as spec:
        ask_server(spec, folder, tmp_path / "out")
        train_launch.preload("test_train_rl_cli", "accelerate")
        assert train_launch.end(train_launch.start(ask_server, spec, folder, tmp_path / "two")) == [0, 0]
        other = write_tiny_llama(tmp_path / "other", seed=1)
        with pytest.raises(ConfigError, match="does not serve the model this run starts from"):
            ask_server(spec, other, tmp_path / "wrong")
    for out in (tmp_path / "out", tmp_path / "two"):  # of two processes the first asks for both
        log = read_lines(out / "log.jsonl")
        assert len(log) == 2
        assert "sampler_gap" not in log[0]  # a server does not tell what it drew with
        assert log[1]["kl"] > 0  # the policy moved; its second draws still come from the reference, and are weighed so
        assert len(read_lines(out / "journal.jsonl")) == 3 + 2 * 12  # the check, then every completion once
