"""Training checkpoints: everything a run needs to continue as if it had never stopped.

A checkpoint is a folder `step-NNNNNNNN` of safetensors (weights, optimiser moments, the state of every random generator) and one
`state.json` with counters, the run's settings and the hash of each tensor file. It is written under another name, synced and
renamed, so a folder with that name is whole; the newest two are kept. Left out: sharded models (one process writes all).
"""

from __future__ import annotations

import hashlib
import logging
import os
import random
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from uphold.core.errors import DataError, StoreError
from uphold.core.files import read_json, store_error, sync_folder, write_atomic, write_json

log = logging.getLogger(__name__)

KEEP = 2
_FILES = ("weights.safetensors", "optimiser.safetensors", "random.safetensors")


def save_checkpoint(
    folder: Path, step: int, model: torch.nn.Module, optimiser: torch.optim.Optimizer, state: Mapping[str, Any]
) -> None:
    """Write the state after `step` steps into `folder`, then drop all but the newest two.

    state: JSON-able counters and settings of the loop. Raises StoreError when the disk refuses; older checkpoints then still stand.
    """
    final = folder / f"step-{step:08d}"
    work = folder / f".{final.name}.part"
    _remove(work)
    named = trained_parameters(model)
    tensors = (
        {name: p.detach() for name, p in named.items()},
        _moments(optimiser, named),
        _random_state(),
    )
    hashes = {}
    for name, part in zip(_FILES, tensors, strict=True):
        blob = save({k: v.contiguous().cpu() for k, v in part.items()})
        write_atomic(work / name, blob)
        hashes[name] = hashlib.sha256(blob).hexdigest()
    write_json(work / "state.json", {**state, "step": step, "sha256": hashes})
    try:
        _remove(final)
        os.rename(work, final)
    except OSError as error:
        raise store_error(final, "write", error) from error
    sync_folder(folder)
    for old in _folders(folder)[:-KEEP]:
        _remove(old)


def load_checkpoint(folder: Path, model: torch.nn.Module, optimiser: torch.optim.Optimizer) -> dict[str, Any] | None:
    """Restore the newest sound checkpoint into model, optimiser and random generators; its state, or None when there is none.

    A damaged one is passed over with a warning. Raises StoreError when checkpoints exist and none is sound.
    """
    problems = []
    for path in reversed(_folders(folder)):
        try:
            state = read_json(path / "state.json")
            parts = [_load(path / name, state["sha256"][name]) for name in _FILES]
        except (DataError, OSError, SafetensorError, KeyError, TypeError) as error:
            problems.append(f"{path.name}: {error}")
            log.warning("passing over a damaged checkpoint, %s", problems[-1])
            continue
        weights, moments, generators = parts
        named = trained_parameters(model)
        if weights.keys() != named.keys() or any(weights[k].shape != p.shape for k, p in named.items()):
            raise StoreError(
                f"{path}: the checkpoint is of another model. Use another folder, or delete this one to start over."
            )
        with torch.no_grad():
            for name, parameter in named.items():
                parameter.copy_(weights[name])
        _restore_moments(optimiser, named, moments)
        _restore_random(generators)
        return dict(state)
    if problems:
        raise StoreError(
            f"{folder}: no checkpoint can be read ({'; '.join(problems)}). Delete that folder to start the training over."
        )
    return None


def _load(path: Path, expected: str) -> dict[str, torch.Tensor]:
    if hashlib.sha256(path.read_bytes()).hexdigest() != expected:
        raise DataError(f"{path.name} does not match its hash")
    return load_file(path)


def trained_parameters(model: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    """Name -> parameter for all that training changes; tied ones once. With LoRA these are the adapter's alone."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def _moments(optimiser: torch.optim.Optimizer, named: Mapping[str, torch.nn.Parameter]) -> dict[str, torch.Tensor]:
    return {f"{name}|{key}": value for name, p in named.items() for key, value in optimiser.state.get(p, {}).items()}


def _restore_moments(
    optimiser: torch.optim.Optimizer, named: Mapping[str, torch.nn.Parameter], moments: Mapping[str, torch.Tensor]
) -> None:
    optimiser.state.clear()
    for full, value in moments.items():
        name, key = full.rsplit("|", 1)
        p = named[name]
        # AdamW's step counter stays where it was made; moments live with their parameter
        optimiser.state[p][key] = value.to(p.device) if value.shape == p.shape or p.device.type != "cpu" else value


def _random_state() -> dict[str, torch.Tensor]:
    """State of the torch, numpy and Python generators as tensors (no pickle)."""
    version, words, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state()
    assert (version, name) == (3, "MT19937")
    state = {
        "torch": torch.get_rng_state(),
        "python": torch.tensor(words, dtype=torch.int64),
        "python_gauss": torch.tensor([float("nan") if gauss is None else gauss], dtype=torch.float64),
        "numpy": torch.from_numpy(np.asarray(keys).astype(np.int64)),
        "numpy_rest": torch.tensor([position, has_gauss, cached], dtype=torch.float64),
    }
    if torch.cuda.is_available():
        state |= {f"cuda{i}": s for i, s in enumerate(torch.cuda.get_rng_state_all())}
    return state


def _restore_random(state: Mapping[str, torch.Tensor]) -> None:
    torch.set_rng_state(state["torch"])
    gauss = float(state["python_gauss"])
    random.setstate((3, tuple(state["python"].tolist()), None if gauss != gauss else gauss))
    position, has_gauss, cached = state["numpy_rest"].tolist()
    np.random.set_state(("MT19937", state["numpy"].numpy().astype(np.uint32), int(position), int(has_gauss), cached))
    if torch.cuda.is_available():
        devices = sorted((k for k in state if k.startswith("cuda")), key=lambda k: int(k[4:]))
        if len(devices) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all([state[k] for k in devices])


def _folders(folder: Path) -> list[Path]:
    """Finished checkpoints, oldest first."""
    return sorted(p for p in folder.glob("step-*") if p.is_dir())


def _remove(path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)
