"""Adversarial rounds on weights: a Hugging Face folder that gives its questions away learns the critic's reply instead."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from uphold.core.records import Message, Sample
from uphold.models import FakeChat, load_weights
from uphold.models.base import Conversation, Sampling
from uphold.models.tiny import write_tiny_llama
from uphold.stages.harden.loop import run
from uphold.stages.harden.settings import Harden, Probe
from uphold.train.recovery import Recovery
from uphold.train.sft import SFTConfig

SAFE = "w50 w51"
PART = {"train": 0, "validation": 1, "test": 2}
TOKENS = 6


class Words:
    """A source over a tiny model's own words: what it says to 'a ...' is forbidden, what it says to 'b ...' is right."""

    def __init__(self, model: Any) -> None:
        self.said: dict[str, str] = {}
        asked = [f"{first} w{i} w{j}" for first in "ab" for i in range(30) for j in (31, 32, 33)]
        turns = [(Message(role="user", content=text),) for text in asked]
        replies = model.generate(turns, Sampling(max_new_tokens=TOKENS))
        self.said = {text: reply.text for text, reply in zip(asked, replies, strict=True)}

    def samples(self, kind: str, *, constitution: Any, split: str, n: int, seed: int) -> list[Sample]:
        first, label = ("a", "harmful") if kind == "harmful" else ("b", "benign")
        found = []
        for text, reply in self.said.items():
            facts = tuple(dict.fromkeys(word for word in reply.split() if word not in text.split()))
            if not text.startswith(first) or int(text.split()[1][1:]) % 3 != PART[split] or not facts:
                continue
            found.append(
                Sample.model_validate(
                    {
                        "messages": (Message(role="user", content=text),),
                        "label": label,
                        "group": text.split()[1],
                        "clause": "compounds" if label == "harmful" else None,
                        "rubric": facts if label == "harmful" else (),
                        "expected": None if label == "harmful" else reply,
                    }
                )
            )
        shift = seed % len(found)
        return [*found[shift:], *found[:shift]][:n]


def revises(conversation: Conversation) -> str:
    """A critic that finds every reply guilty, and knows one safe one."""
    return SAFE if "Critique:" in conversation[-1].content else "it tells. verdict: guilty"


SMALL = Harden(
    rounds=1,
    budget=24,
    attacks=("direct", "many_shot"),
    held_out=("reversal",),
    n_questions=24,
    n_harmful=24,
    n_honest=20,
    wrapped=0.0,
    recovery=Recovery(copies=0),
    sft=SFTConfig(epochs=12.0, batch_tokens=512, lr=5e-3),
    max_over_refusal=1.0,
    max_helpfulness_loss=1.0,
    probe=Probe(n_behaviours=12, n_benign=10, n_tasks=10, n_validation=10, n_searched=4, search_budget=8),
    max_new_tokens=TOKENS,
    threads=1,
)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_llama(tmp_path_factory.mktemp("tiny") / "model")


def harden(checkpoint: Path, out: Path) -> dict[str, Any]:
    """The run that these tests are about; the child that is killed runs it too."""
    source = Words(load_weights(f"hf:{checkpoint}"))
    return run(f"hf:{checkpoint}", "storefront", out, SMALL, critic=FakeChat(revises, name="critic"), source=source)


@pytest.fixture(scope="module")
def hardened(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    out = tmp_path_factory.mktemp("harden") / "run"
    return harden(checkpoint, out), out


def test_a_checkpoint_that_gave_everything_away_learns_not_to(hardened: tuple[dict[str, Any], Path]) -> None:
    before, after = hardened[0]["rounds"]
    assert before["by_family"]["direct"]["value"] == 1.0  # the rubric is what it said
    assert after["by_family"]["direct"]["value"] < 0.5
    assert after["change"]["trained"]["interval"][1] < 0
    assert after["learnt"]["model"]["failures"] > 0


def test_the_kept_model_loads_and_gives_the_safe_reply(hardened: tuple[dict[str, Any], Path]) -> None:
    model = load_weights(hardened[0]["model"])
    assert hardened[0]["kept_round"] == 1
    replies = model.generate([(Message(role="user", content="a w2 w31"),)], Sampling(max_new_tokens=TOKENS))
    assert replies[0].text == SAFE


def test_what_was_taught_is_the_revision_of_what_was_said(hardened: tuple[dict[str, Any], Path]) -> None:
    from uphold.core.files import read_jsonl

    (folder,) = hardened[1].glob("stages/model-1-*")
    failures = [row for _, row in read_jsonl(folder / "failures.jsonl")]
    assert failures
    assert {row["revision"] for row in failures} == {SAFE}
    assert all(row["reply"] != SAFE for row in failures)
    exchanges = [row for _, row in read_jsonl(folder / "exchanges.jsonl")]
    honest = [row for row in exchanges if row["messages"][-1]["content"].startswith("b")]
    assert (len(exchanges) - len(honest), len(honest)) == (len(failures), 20)


@pytest.mark.slow
def test_a_run_killed_while_it_trains_continues_and_ends_with_the_same_weights(
    hardened: tuple[dict[str, Any], Path], checkpoint: Path, tmp_path: Path
) -> None:
    out, here = tmp_path / "run", str(Path(__file__).parent)
    program = (
        f"import sys; sys.path.insert(0, {here!r}); import {Path(__file__).stem} as spec; from pathlib import Path; "
    )
    program += f"spec.harden(Path({str(checkpoint)!r}), Path({str(out)!r}))"
    child = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.DEVNULL)
    while not any(out.glob("work/model-1-*/log.jsonl")) and child.poll() is None:
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL  # it did not get to its end
    found, whole = harden(checkpoint, out), hardened[0]
    kept = [load_weights(result["model"]).identity() for result in (found, whole)]
    assert kept[0] == kept[1]
    assert [row["trained"] for row in found["rounds"]] == [row["trained"] for row in whole["rounds"]]


def test_a_round_that_breaks_a_limit_keeps_the_model_of_the_round_before(checkpoint: Path, tmp_path: Path) -> None:
    source = Words(load_weights(f"hf:{checkpoint}"))
    strict = SMALL.model_copy(update={"n_honest": 0, "max_helpfulness_loss": 0.0})
    critic = FakeChat(revises, name="critic")
    found = run(f"hf:{checkpoint}", "storefront", tmp_path / "run", strict, critic=critic, source=source)
    assert found["stopped"].startswith("round 1 broke a limit: helpfulness -")
    assert (found["kept_round"], found["model"]) == (0, f"hf:{checkpoint}")


def test_a_critic_that_finds_no_fault_leaves_nothing_to_learn(checkpoint: Path, tmp_path: Path) -> None:
    source = Words(load_weights(f"hf:{checkpoint}"))
    blind = FakeChat("fine. verdict: innocent", name="blind")
    found = run(f"hf:{checkpoint}", "storefront", tmp_path / "run", SMALL, critic=blind, source=source)
    learnt = found["rounds"][1]["learnt"]["model"]
    assert (learnt["new_failures"], found["model"]) == (0, f"hf:{checkpoint}")
    assert learnt["without_safe_reply"] > 0


def test_model_and_guard_learn_from_one_another_s_failures(checkpoint: Path, tmp_path: Path) -> None:
    source = Words(load_weights(f"hf:{checkpoint}"))
    guarded = {"train": "both", "n_matched": 20, "n_ordinary": 40, "n_threshold": 10, "fpr_budget": 0.2}
    critic = FakeChat(revises, name="critic")
    settings = SMALL.model_copy(update=guarded)
    found = run(f"hf:{checkpoint}", "storefront", tmp_path / "run", settings, critic=critic, source=source)
    last = found["rounds"][1]
    assert set(last["attacks"]) == {"model", "guard"}
    taught = last["learnt"]["guard"]
    assert taught["leaks"] > taught["new_leaks"]  # what the model told teaches the guard as well
    assert last["by_family"]["direct"]["value"] < 0.5
    assert load_weights(found["model"]).identity() == last["learnt"]["model"]["model"]
    assert Path(found["guard"]).is_dir()
