"""Reinforcement learning in two processes takes the steps of one: same draws, same scores, same weights up to rounding."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import pytest
import torch
import train_child
from safetensors.torch import load_file
from test_train_rlhf import FAST, PROMPTS, RL, votes
from test_train_rlhf import start as two_models
from train_launch import end, preload, start
from train_tiny import read_lines, tiny_model, tiny_tokenizer, user

from uphold.core.errors import DataError
from uphold.core.records import Sample
from uphold.models.live import pick_device
from uphold.train import parallel
from uphold.train.constraints import Constraint
from uphold.train.policy import LoRA
from uphold.train.rewards import FunctionReward
from uphold.train.rl import RLConfig, rl
from uphold.train.rlhf import RLHFConfig, rlhf

SAMPLES = [Sample(messages=user(c), label="benign") for c in "abcdefg"]
SMALL = {"n_steps": 3, "prompts_per_step": 3, "group_size": 3, "max_new_tokens": 6, "lr": 3e-3, "precision": "float32"}
KINDS = {
    "grpo": {},
    "last-alone": {"algorithm": "rloo", "n_minibatches": 5},  # 9 completions: the last minibatch is of one, for one process
    "one-prompt": {"algorithm": "reinforce++", "prompts_per_step": 1, "kl_target": 0.5, "micro_tokens": 20},
    "ppo": {"algorithm": "ppo", "n_epochs": 2, "n_minibatches": 2, "kl": 0.1, "kl_target": 0.5},
    "lora": {"lora": LoRA(rank=2), "n_minibatches": 2},
    "safe": {"algorithm": "ppo", "n_minibatches": 2},
    "screened": {"n_minibatches": 2, "kl": 0.1},
}  # fmt: skip


def train(kind: str, out: Path, pause_s: float = 0.0) -> str:
    """A run whose listener, scores and probe tell which process they were asked in."""
    seen = []

    def letters(exchange) -> float:
        seen.append(exchange)
        return sum(c.islower() for c in exchange.completion) / 6

    cost = FunctionReward("digits", lambda e: float(any(c.isdigit() for c in e.completion)))
    costs = {"digits": (cost, Constraint(limit=0.0, delay=1))} if kind == "safe" else {}
    config = RLConfig(**SMALL | KINDS[kind] | ({"n_steps": 6, "checkpoint_every": 2} if pause_s else {}))

    def on_log(line):
        time.sleep(pause_s)
        with open(out / "heard.txt", "a") as file:
            file.write(f"{line['step']} {parallel.rank()}\n")
        return "enough" if kind == "grpo" and line["step"] == 1 else None

    def on_batch(found):
        """Nobody screened, then all but one, then all: the end."""
        return [total if i < (9, 1, 0)[found.step] else None for i, total in enumerate(found.total)]

    done = rl(
        tiny_model(), tiny_tokenizer(), SAMPLES, FunctionReward("letters", letters), out, config, gold=cost,
        probe=SAMPLES[:1], costs=costs, on_log=on_log, on_batch=on_batch if kind == "screened" else None,
    )  # fmt: skip
    assert bool(seen) == (parallel.is_main() and not done.reused)
    return str(done.summary["weights"])


RECIPES = ("cai", "rlaif", "rlhf")


def recipe(kind: str, out: Path) -> None:
    """What is built on the trainings: the first process asks the models, all train."""
    if kind == "rlhf":
        policy, base = two_models()
        config = RLHFConfig(members=2, force=True, held_out=0.3, reward=FAST, rl=RL)
        rlhf(policy, base, votes(), PROMPTS, out, config)
    else:
        train_child.recipe(kind, out, 0.0, lambda line: None, precision="float32")


def all_kinds(out: Path) -> None:
    for kind in KINDS:
        train(kind, out / kind)
    for kind in RECIPES:
        recipe(kind, out / kind)


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    preload("test_train_rl_parallel", "accelerate")
    out = tmp_path_factory.mktemp("two")
    assert end(start(all_kinds, out)) == [0, 0]
    return out


@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_take_the_steps_of_one(two, tmp_path, kind):
    train(kind, tmp_path / kind)
    assert_same(tmp_path / kind, two / kind)


@pytest.mark.parametrize("kind", RECIPES)
def test_a_recipe_in_two_processes_asks_once_and_trains_together(two, tmp_path, kind):
    recipe(kind, tmp_path / kind)
    inner = "rl" if kind == "rlhf" else "."
    folders = [out / kind / inner for out in (tmp_path, two)]
    assert_close(*(folder / "model" / "model.safetensors" for folder in folders))
    for name in {"cai": ("cai.json", "exchanges.jsonl"), "rlaif": ("rlaif.json", "preferences.jsonl")}.get(kind, ()):
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes()
    if kind == "rlhf":
        assert_same(*folders)
        kept = [json.loads((folder.parent / "rlhf.json").read_text()) for folder in folders]
        assert kept[0]["agreement"] == kept[1]["agreement"]
        assert [c["outcome"] for c in kept[0]["card"]["checks"]] == [c["outcome"] for c in kept[1]["card"]["checks"]]


def assert_same(one: Path, two: Path) -> None:
    texts = [[c["completion"] for c in read_lines(folder / "completions.jsonl")] for folder in (one, two)]
    assert texts[0] == texts[1]
    logs = [read_lines(folder / "log.jsonl") for folder in (one, two)]
    assert len(logs[0]) == len(logs[1]) > 1
    for a, b in zip(*logs, strict=True):
        assert a.keys() == b.keys()
        for key in a.keys() - {"tokens_per_s"}:
            assert b[key] == pytest.approx(a[key], rel=1e-5, abs=1e-5), key
    assert_close(*(folder / "model" / "model.safetensors" for folder in (one, two)))
    summaries = [json.loads((folder / "train.json").read_text()) for folder in (one, two)]
    for key in ("n_steps", "n_completions", "stopped"):
        assert summaries[0][key] == summaries[1][key]


def assert_close(one: Path, two: Path) -> None:
    expected, found = load_file(one), load_file(two)
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-5)


def test_a_step_of_which_nothing_was_scored_ends_all(two):
    told = json.loads((two / "screened" / "train.json").read_text())
    assert (told["n_steps"], told["stopped"]) == (3, "step 2: none of 9 completions could be scored")


def test_the_first_process_alone_is_listened_to_and_its_word_stops_all(two):
    assert (two / "grpo" / "heard.txt").read_text() == "0 0\n1 0\n"
    assert json.loads((two / "grpo" / "train.json").read_text())["stopped"] == "enough"


def test_a_run_of_two_killed_and_started_again_ends_as_one_that_never_was(two, tmp_path):
    out = tmp_path / "safe"
    processes = start(train, "safe", out, 0.3)
    deadline = time.monotonic() + 120
    while not ((out / "log.jsonl").exists() and (out / "log.jsonl").read_text().count("\n") >= 3):
        assert all(p.is_alive() for p in processes), "the run ended too early"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert end(processes, kill=True) == [-9, -9]
    shutil.copytree(out, by_one := tmp_path / "by one")
    assert end(start(train, "safe", out, 0.001)) == [0, 0]
    train("safe", by_one, 0.001)  # the number of processes is no part of a run
    train("safe", tmp_path / "whole", 0.001)
    for folder in (out, by_one):
        assert json.loads((folder / "train.json").read_text())["resumed_from"] in (2, 4)
        assert_same(tmp_path / "whole", folder)


def no_number(out: Path) -> None:
    """Say where, and how it ended."""
    reward = FunctionReward("broken", lambda e: float("nan"))
    try:
        rl(tiny_model(), tiny_tokenizer(), SAMPLES, reward, out, RLConfig(**SMALL))
    except DataError as error:
        (out / f"said-{parallel.rank()}.txt").write_text(str(error))


def test_what_the_first_process_cannot_score_ends_all_with_the_same_words(two, tmp_path):
    assert end(start(no_number, tmp_path)) == [0, 0]
    said = {(tmp_path / f"said-{rank}.txt").read_text() for rank in (0, 1)}
    assert len(said) == 1
    assert said.pop().startswith("step 0: 'broken' scored a completion of sample")


def test_each_process_of_a_launch_takes_a_gpu_of_its_own(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert pick_device("auto") == torch.device("cuda", 0)
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert pick_device("auto") == torch.device("cuda", 3)
    monkeypatch.setenv("LOCAL_RANK", "5")  # more processes than devices
    assert pick_device("auto") == torch.device("cuda", 1)
