"""The model under training: copied so that the caller's stays as it was, optionally wrapped in LoRA, hashed, saved.

What is saved loads in plain transformers: `OUT/model` always holds whole weights and the tokenizer (LoRA merged in), and with
LoRA `OUT/adapter` holds the adapter alone. `OUT/train.json` is written last and names everything the run came from; a folder that
has it is finished. Left out: pushing to a hub, quantised weights.
"""

from __future__ import annotations

import contextlib
import copy
import fcntl
import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import Field

from uphold.core.errors import ConfigError, MissingExtra, StoreError
from uphold.core.files import read_json, store_error, sync_folder, write_json
from uphold.core.records import Record
from uphold.core.seeds import seed_everything
from uphold.train import parallel


class LoRA(Record):
    """Low-rank adapters (arXiv:2106.09685) on every linear layer. `alpha / rank` scales what they add."""

    rank: int = Field(default=16, ge=1, le=1024)
    alpha: int = Field(default=32, ge=1)
    dropout: float = Field(default=0.0, ge=0, lt=1)


@dataclass(frozen=True, slots=True)
class Trained:
    """A finished training run. path: folder that `transformers` (and `hf:PATH`) loads. summary: what train.json holds."""

    path: Path
    summary: dict[str, Any]
    reused: bool = False


def weights_digest(model: torch.nn.Module) -> str:
    """Hash of every parameter's name, shape, type and bytes; tied parameters once."""
    h = hashlib.sha256()
    for name, p in sorted(model.named_parameters()):
        h.update(f"{name} {tuple(p.shape)} {p.dtype}\n".encode())
        h.update(p.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return h.hexdigest()


def trainable(model: Any, lora: LoRA | None, seed: int, *, in_place: bool = False, task_type: str = "CAUSAL_LM") -> Any:
    """A float32 copy of `model` ready to train, wrapped in LoRA when asked; the caller's model is untouched unless `in_place`.

    The copy is of the weights in memory: nothing is read again from disk by name. task_type: peft's word for what the model gives.
    """
    policy = model if in_place else copy.deepcopy(model)
    policy = policy.float()  # half precision loses small updates
    policy.requires_grad_(True)
    if lora is None:
        return policy
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError:
        raise MissingExtra("peft", "train") from None
    seed_everything(seed)
    settings = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules="all-linear",
        task_type=task_type,
    )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # peft asks transformers by a name that is being retired
            return get_peft_model(policy, settings)
    except ValueError as error:
        raise ConfigError(f"LoRA cannot be put on this model: {error}") from error


def save_trained(policy: Any, tokenizer: Any, out: Path) -> str:
    """Write `out/model` (and `out/adapter` with LoRA), each whole or not at all; returns the hash of the whole weights.

    A LoRA policy is merged and must not be trained on afterwards.
    """
    with _no_bars():
        if hasattr(policy, "merge_and_unload"):
            _save_folder(out / "adapter", lambda folder: policy.save_pretrained(folder, save_embedding_layers=False))
            policy = policy.merge_and_unload()

        def write(folder: Path) -> None:
            policy.save_pretrained(folder)
            tokenizer.save_pretrained(folder)

        _save_folder(out / "model", write)
    return weights_digest(policy)


@contextlib.contextmanager
def _no_bars() -> Iterator[None]:
    """Keep transformers from drawing its own progress bars, for saving a folder."""
    from transformers.utils import logging

    was_on = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_on:
            logging.enable_progress_bar()


def _save_folder(final: Path, write: Callable[[Path], None]) -> None:
    work = final.with_name(f".{final.name}.part")
    try:
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        write(work)
        shutil.rmtree(final, ignore_errors=True)
        os.rename(work, final)
    except OSError as error:
        raise store_error(final, "write", error) from error
    sync_folder(final.parent)


@contextlib.contextmanager
def hold(out: Path) -> Iterator[None]:
    """The folder is ours while the block runs; StoreError when another run is training in it. Freed however this one ends.

    Of several processes of one launch the first holds it for all.
    """
    parallel.join()
    with contextlib.ExitStack() as locks:
        parallel.by_main(lambda: _lock(out, locks))
        yield


def _lock(out: Path, locks: contextlib.ExitStack) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock = locks.enter_context(open(out / ".lock", "w"))
    except OSError as error:
        raise store_error(out, "open the folder", error) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise StoreError(f"{out}: another process is training in this folder. Wait for it or stop it.") from None


def finished(out: Path, settings: Mapping[str, Any]) -> Trained | None:
    """The run that already ended in `out`, when it had the same settings; None when there is none. StoreError when they differ."""
    if not parallel.from_main((out / "train.json").exists()):
        return None
    summary = read_json(out / "train.json")
    refuse_other_settings(out, summary.get("settings", {}), settings)
    shutil.rmtree(out / "checkpoints", ignore_errors=True)  # left by a run killed at the very end
    return Trained(out / "model", summary, reused=True)


def finish(out: Path, policy: Any, tokenizer: Any, settings: Mapping[str, Any], results: Mapping[str, Any]) -> Trained:
    """Save the policy, then train.json, then drop the checkpoints. Of several processes the first does, the others get its summary."""
    if not parallel.is_main():
        return Trained(out / "model", parallel.from_main(None))
    digest = save_trained(policy, tokenizer, out)
    summary = {**results, "weights": digest, "settings": plain(settings)}
    write_json(out / "train.json", summary)
    shutil.rmtree(out / "checkpoints", ignore_errors=True)
    return Trained(out / "model", parallel.from_main(summary))


def plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings as JSON gives them back: what is compared must have been through the same door."""
    loaded: dict[str, Any] = json.loads(json.dumps(settings))
    return loaded


def refuse_other_settings(folder: Path, known: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """StoreError when a folder's run had other settings than the one asked for; names each that differs."""
    now = plain(now)
    differing = sorted(k for k in {*known, *now} if known.get(k) != now.get(k))
    if differing:
        what = ", ".join(f"{k} was {known.get(k)!r}, now {now.get(k)!r}" for k in differing)
        raise StoreError(
            f"{folder}: holds a run with other settings ({what}). Use another folder, or delete this one to start over."
        )
