"""A training run as tests kill it: `run(method, out, pause_s)` in a process of its own.

With a pause it sleeps after each step, so that the test can strike wherever it likes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import torch
from train_fakes import CONSTITUTION, Actor, benign, critic, harmful
from train_tiny import capitals, tiny_model, tiny_tokenizer

from uphold.core.records import Preference, Rating
from uphold.models import FakeChat
from uphold.train.cai import CAIConfig, cai
from uphold.train.dpo import DPOConfig, dpo
from uphold.train.kto import KTOConfig, kto
from uphold.train.policy import LoRA
from uphold.train.rlaif import RLAIFConfig, rlaif
from uphold.train.sft import SFTConfig, sft


def run(method: str, out: Path, pause_s: float = 0.0) -> str:
    """Train and return the hash of the final weights."""
    torch.set_num_threads(1)
    rest = {"checkpoint_every": 3, "batch_tokens": 20, "epochs": 3}

    def on_log(line: dict[str, float]) -> None:
        time.sleep(pause_s)

    if method in ("cai", "rlaif"):
        return recipe(method, out, pause_s, on_log)
    if method == "dpo":
        pairs = [Preference(messages=e.messages, chosen=e.completion, rejected="no", p_chosen=0.9) for e in capitals()]
        done = dpo(tiny_model(), tiny_tokenizer(), pairs, out, DPOConfig(lr=1e-3, **rest), on_log=on_log)
    elif method == "beta":  # keeps a running mean beside the weights
        pairs = [Preference(messages=e.messages, chosen=e.completion, rejected="no") for e in capitals()]
        done = dpo(tiny_model(), tiny_tokenizer(), pairs, out, DPOConfig(loss="beta", lr=1e-3, **rest), on_log=on_log)
    elif method == "kto":
        given = [
            Rating(messages=e.messages, completion=e.completion, label=i % 2 == 0) for i, e in enumerate(capitals())
        ]
        done = kto(tiny_model(), tiny_tokenizer(), given, out, KTOConfig(lr=1e-3, **rest), on_log=on_log)
    else:
        lora = LoRA(rank=2, dropout=0.1) if method == "lora" else None
        model = tiny_model(attention_dropout=0.2)  # dropout: the state of the random generators matters
        done = sft(model, tiny_tokenizer(), capitals(), out, SFTConfig(lr=1e-2, lora=lora, **rest), on_log=on_log)
    return done.summary["weights"]


def recipe(
    method: str, out: Path, pause_s: float, on_log: Callable[[dict[str, float]], None], **settings: object
) -> str:
    """Critique and revision, or AI labels, with models that take their time. settings: more of the training's."""
    samples = [harmful(f"acid {i}?", "acid") for i in range(80)]
    rest = {"checkpoint_every": 3, "batch_tokens": 600, "epochs": 8, **settings}
    if method == "cai":
        model = Actor("use acid", name="actor", latency_s=pause_s)
        slow = FakeChat(critic, name="critic", latency_s=pause_s)
        config = CAIConfig(sft=SFTConfig(max_steps=8, **rest))
        done = cai(model, CONSTITUTION, samples, [benign("bread?")], out, config, critic=slow, on_log=on_log)
    else:
        model = Actor(lambda c: "short", name="short", latency_s=pause_s)
        model.generate = two_kinds(model.generate)
        slow = FakeChat(lambda c: "A" if "Reply A: short" in c[-1].content else "B", name="judge", latency_s=pause_s)
        config = RLAIFConfig(dpo=DPOConfig(max_steps=8, lr=1e-3, **rest))
        done = rlaif(model, CONSTITUTION, samples, out, config, judge=slow, on_log=on_log)
    return done.summary["weights"]


def two_kinds(generate: Callable) -> Callable:
    """Another answer under another seed, as a real model gives when it draws."""

    def drawn(conversations, sampling):
        replies = generate(conversations, sampling)
        return replies if sampling.seed % 2 else [r.model_copy(update={"text": "longer reply"}) for r in replies]

    return drawn
