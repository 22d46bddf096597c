"""A training run as tests kill it: `run(method, out, pause_s)` in a process of its own.

With a pause it sleeps after each step, so that the test can strike wherever it likes.
"""

from __future__ import annotations

import time
from pathlib import Path

import torch
from train_tiny import capitals, tiny_model, tiny_tokenizer

from uphold.core.records import Preference
from uphold.train.dpo import DPOConfig, dpo
from uphold.train.policy import LoRA
from uphold.train.sft import SFTConfig, sft


def run(method: str, out: Path, pause_s: float = 0.0) -> str:
    """Train and return the hash of the final weights."""
    torch.set_num_threads(1)
    rest = {"checkpoint_every": 3, "batch_tokens": 20, "epochs": 3}

    def on_log(line: dict[str, float]) -> None:
        time.sleep(pause_s)

    if method == "dpo":
        pairs = [Preference(messages=e.messages, chosen=e.completion, rejected="no", p_chosen=0.9) for e in capitals()]
        done = dpo(tiny_model(), tiny_tokenizer(), pairs, out, DPOConfig(lr=1e-3, **rest), on_log=on_log)
    else:
        lora = LoRA(rank=2, dropout=0.1) if method == "lora" else None
        model = tiny_model(attention_dropout=0.2)  # dropout: the state of the random generators matters
        done = sft(model, tiny_tokenizer(), capitals(), out, SFTConfig(lr=1e-2, lora=lora, **rest), on_log=on_log)
    return done.summary["weights"]
