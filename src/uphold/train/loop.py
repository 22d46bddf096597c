"""The one training loop: AdamW, a schedule, a log, checkpoints, and a stop when the loss is no longer a number.

A recipe hands in a model and `step_loss(step)`, which yields the step's loss in one or more parts; everything a step needs must follow
from its number (see `batches.Plan`), so that a run killed at any point and started again with the same call ends with the same
weights, bit for bit on a CPU with the same number of threads. Gives back counts and first and last loss; curves go to a JSONL file.
Under `accelerate launch` every process yields its share of the parts (`parallel.share`) and the gradients are added (`parallel.py`).
Left out: evaluation (recipes do it in `on_log`).
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import torch

from uphold.core.errors import ConfigError, UpholdError
from uphold.core.files import finite, read_json, store_error, write_atomic, write_json
from uphold.core.progress import progress
from uphold.core.seeds import seed_everything
from uphold.train import parallel
from uphold.train.checkpoints import load_checkpoint, save_checkpoint, trained_parameters
from uphold.train.policy import plain, refuse_other_settings
from uphold.train.precision import Precision, forward_in, resolve_precision

Schedule = Literal["cosine", "linear", "constant"]


class Diverged(UpholdError, ArithmeticError):
    """The loss or the gradient stopped being a finite number; the last good checkpoint stands."""


class Kept(Protocol):
    """What a recipe wants in its checkpoints beside weights, optimiser and random generators: multipliers, coefficients, counts."""

    def state_dict(self) -> dict[str, Any]:
        """The state as plain JSON values."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up a state that `state_dict` gave."""
        ...


@dataclass(slots=True)
class Part:
    """A loss to step on, or one micro-batch's share of it: the parts of a step add up.

    loss: scalar with gradient; None for a part that only brings numbers. n_tokens: tokens that went through the model. metrics:
    numbers for the log, averaged over the parts that have them, by `weight` (such as how many items it is about). batch: what the
    batch was made of, in words; named in errors.
    update: the weights are updated after this part, and the step goes on with the next minibatch; after the last part with a loss
    they always are. The loss of a step with several updates is their mean. Of several processes each yields as many updates: one that
    has no share of a minibatch yields a part without loss that says `update`, and takes the update of the others.
    """

    loss: torch.Tensor | None
    n_tokens: int
    metrics: Mapping[str, float] = field(default_factory=dict)
    batch: str = ""
    update: bool = False
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class FitResult:
    """What a finished run was. Losses in nats (None when this call had no step left to run); tokens count this call's steps."""

    n_steps: int
    resumed_from: int
    first_loss: float | None
    last_loss: float | None
    n_tokens: int
    seconds: float

    @property
    def tokens_per_s(self) -> float | None:
        return self.n_tokens / self.seconds if self.n_tokens and self.seconds > 0 else None

    def report(self) -> dict[str, float | None]:
        """What goes into train.json. Rates and seconds are of the last call alone."""
        return {
            "n_steps": self.n_steps,
            "resumed_from": self.resumed_from,
            "first_loss_nats": self.first_loss,
            "last_loss_nats": self.last_loss,
            "tokens_per_s": self.tokens_per_s,
            "seconds": self.seconds,
        }


def learning_rate(step: int, n_steps: int, peak: float, warmup: float, schedule: Schedule) -> float:
    """Rate of step `step` (from 0): a linear rise over the first `warmup` share of steps, then `schedule` down to 0 at n_steps."""
    n_warm = round(warmup * n_steps)
    if step < n_warm:
        return peak * (step + 1) / n_warm
    if schedule == "constant":
        return peak
    done = (step - n_warm) / max(1, n_steps - n_warm)
    return peak * (1 - done) if schedule == "linear" else peak * 0.5 * (1 + math.cos(math.pi * done))


def fit(
    model: torch.nn.Module,
    step_loss: Callable[[int], Iterable[Part]],
    n_steps: int,
    *,
    lr: float,
    warmup: float = 0.05,
    schedule: Schedule = "cosine",
    weight_decay: float = 0.0,
    grad_clip: float | None = 1.0,
    betas: tuple[float, float] = (0.9, 0.98),
    precision: Precision = "auto",
    seed: int = 0,
    checkpoint_dir: str | Path | None = None,
    checkpoint_every: int = 200,
    settings: Mapping[str, Any] | None = None,
    label: str = "",
    log_path: str | Path | None = None,
    on_log: Callable[[dict[str, float]], None] | None = None,
    kept: Kept | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> FitResult:
    """Train `model` in place for `n_steps` and leave it in eval mode.

    lr: peak rate. warmup: share of steps, in [0, 1). weight_decay: on matrices only. grad_clip: largest gradient norm, None for
    no clipping. precision: of the forward passes; weights and updates keep their own type.
    checkpoint_dir: where to keep (and look for) checkpoints; None keeps none. settings: what else determines the run (hashes of
    data, model, recipe); a folder whose run had others is refused with StoreError, naming what differs.
    log_path: JSONL, one line a step: step, loss (nats), lr, grad_norm, tokens_per_s and the recipe's metrics; cut back to the
    checkpoint on resume. on_log gets the same dictionary. label: name of the progress bar; none is shown without one.
    kept: more state to put into checkpoints and take back. should_stop: asked before every step; what it says must follow from
    `kept`, so that a run killed after it stopped does not go on.
    Raises Diverged when the loss or gradient is not finite, ConfigError on settings that cannot be run.
    """
    _check(n_steps, lr, warmup, schedule, grad_clip, checkpoint_every)
    device = next(model.parameters()).device
    resolved = resolve_precision(precision, device)
    own = {
        "n_steps": n_steps,
        "lr": lr,
        "warmup": warmup,
        "schedule": schedule,
        "weight_decay": weight_decay,
        "grad_clip": grad_clip,
        "betas": list(betas),
        "precision": resolved,
        "seed": seed,
    }
    run = plain({**(settings or {}), **own})
    seed_everything(seed)
    optimiser = _adamw(model, lr, betas, weight_decay)
    folder = Path(checkpoint_dir) if checkpoint_dir is not None else None
    start = _resume(folder, model, optimiser, run, kept) if folder is not None else 0
    parallel.same_start([p for group in optimiser.param_groups for p in group["params"]])
    journal = StepLog(Path(log_path) if log_path is not None and parallel.is_main() else None, start)
    done = start
    first = last = None
    n_tokens = 0
    began = time.monotonic()
    model.train()
    try:
        is_shown = label and parallel.is_main()
        with progress(label, n_steps, unit="steps") if is_shown else contextlib.nullcontext() as bar:
            if bar is not None:
                bar.skip(start)
            for step in range(start, n_steps):
                if should_stop is not None and should_stop():
                    break
                began_step = time.monotonic()
                rate = learning_rate(step, n_steps, lr, warmup, schedule)
                line, step_tokens = _one_step(
                    step_loss, step, optimiser, rate, grad_clip, folder, forward_in(resolved, device)
                )
                line["tokens_per_s"] = round(step_tokens / max(1e-9, time.monotonic() - began_step), 1)
                n_tokens += step_tokens
                first, last = line["loss"] if first is None else first, line["loss"]
                journal.write(line)
                if bar is not None:
                    bar.advance(1, note=f"loss {last:.3f}")
                if on_log is not None:
                    on_log(line)
                done = step + 1
                is_last = done == n_steps or (should_stop is not None and should_stop())
                if folder is not None and (done % checkpoint_every == 0 or is_last):
                    journal.sync()
                    state = {"settings": run} | ({"kept": kept.state_dict()} if kept is not None else {})
                    if parallel.is_main():
                        save_checkpoint(folder, done, model, optimiser, state)
    finally:
        model.eval()
        journal.close()
    return FitResult(done, start, first, last, n_tokens, time.monotonic() - began)


def _one_step(
    step_loss: Callable[[int], Iterable[Part]],
    step: int,
    optimiser: torch.optim.Optimizer,
    rate: float,
    grad_clip: float | None,
    folder: Path | None,
    forward: torch.autocast,
) -> tuple[dict[str, float], int]:
    """Gradient of all parts, clip, update. Nothing is updated when a number is not finite."""
    loss, n_tokens, batches, norms = 0.0, 0, [], []
    sums: Sums = {}
    for group in optimiser.param_groups:
        group["lr"] = rate
    parts = iter(step_loss(step))
    is_pending = False
    while True:
        with forward:  # the forward pass alone: it is run when the part is drawn
            part = next(parts, None)
        if part is None:
            break
        n_tokens += part.n_tokens
        sums = _added(sums, {key: (part.weight * value, part.weight) for key, value in part.metrics.items()})
        if part.loss is not None:
            value = part.loss.item()
            batches.append(part.batch)
            if not math.isfinite(value):
                _update(optimiser, grad_clip, step, batches, folder, failed=value)
            part.loss.backward()
            loss += value
            is_pending = not part.update
        if part.update:
            norms.append(_update(optimiser, grad_clip, step, batches, folder))
    if is_pending or not norms:
        norms.append(_update(optimiser, grad_clip, step, batches, folder))
    shares = parallel.gather((loss, n_tokens, sums))
    loss, n_tokens = sum(share[0] for share in shares), sum(share[1] for share in shares)
    means = {key: total / n for key, (total, n) in functools.reduce(_added, (share[2] for share in shares)).items()}
    norm = sum(norms) / len(norms)
    return {"step": step, "loss": loss / len(norms), "lr": rate, "grad_norm": norm, **means}, n_tokens


Sums = dict[str, tuple[float, float]]


def _added(first: Sums, second: Sums) -> Sums:
    """Weighted sums and weights of two parts together; a key may be in one of them alone."""
    none = (0.0, 0.0)
    return {
        key: (first.get(key, none)[0] + second.get(key, none)[0], first.get(key, none)[1] + second.get(key, none)[1])
        for key in {**first, **second}
    }


def _update(
    optimiser: torch.optim.Optimizer,
    grad_clip: float | None,
    step: int,
    batches: list[str],
    folder: Path | None,
    failed: float | None = None,
) -> float:
    """Add up what all processes have gathered, clip, update, and forget the gradients; the norm before clipping.

    failed: the loss of the last batch here, when it was not finite: every process then stops with the same message.
    """
    everywhere = parallel.gather((failed, batches))
    for value, names in everywhere:
        if value is not None:
            raise _diverged("loss", value, step, names[-1], folder)
    if len(everywhere) > 1 and batches and everywhere[0] == everywhere[1]:
        raise ConfigError("every process computed the same parts of a step. Yield parallel.share(parts) of them.")
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    parallel.add_gradients(parameters)
    norm = torch.nn.utils.clip_grad_norm_(parameters, math.inf if grad_clip is None else grad_clip).item()
    if not math.isfinite(norm):
        raise _diverged("gradient norm", norm, step, "; ".join(b for _, names in everywhere for b in names), folder)
    optimiser.step()
    # the fused kernel writes without counting, and `models.live.stamp` (a sampler's cue to take the new weights) goes by the count
    torch.autograd.graph.increment_version(parameters)
    optimiser.zero_grad(set_to_none=True)
    batches.clear()
    return norm


def _diverged(what: str, value: float, step: int, batch: str, folder: Path | None) -> Diverged:
    kept = f" The last good checkpoint is in {folder}." if folder is not None and any(folder.glob("step-*")) else ""
    return Diverged(
        f"training stopped at step {step}: the {what} is {value} on the batch of {batch or 'this step'}.{kept} "
        "Look at that batch, or start in another folder with a lower lr."
    )


def _check(
    n_steps: int, lr: float, warmup: float, schedule: str, grad_clip: float | None, checkpoint_every: int
) -> None:
    if n_steps < 1 or checkpoint_every < 1:
        raise ConfigError(f"n_steps and checkpoint_every must be at least 1, not {n_steps} and {checkpoint_every}.")
    if not (lr > 0 and math.isfinite(lr)):
        raise ConfigError(f"lr must be a positive number, not {lr}.")
    if not 0 <= warmup < 1:
        raise ConfigError(f"warmup is a share of the steps, in [0, 1), not {warmup}.")
    if schedule not in ("cosine", "linear", "constant"):
        raise ConfigError(f"unknown schedule {schedule!r}. Known: constant, cosine, linear.")
    if grad_clip is not None and not grad_clip > 0:
        raise ConfigError(f"grad_clip must be positive, or None for no clipping, not {grad_clip}.")


def _adamw(model: torch.nn.Module, lr: float, betas: tuple[float, float], weight_decay: float) -> torch.optim.Optimizer:
    named = trained_parameters(model)
    if not named:
        raise ConfigError("the model has no parameter that requires a gradient; nothing can be trained.")
    matrices = [p for p in named.values() if p.ndim >= 2]
    vectors = [p for p in named.values() if p.ndim < 2]  # norms and biases: decay would only pull them off their scale
    is_fused = all(p.device.type in ("cpu", "cuda") for p in named.values())
    groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=lr, betas=betas, fused=is_fused)


def _resume(
    folder: Path,
    model: torch.nn.Module,
    optimiser: torch.optim.Optimizer,
    run: Mapping[str, Any],
    kept: Kept | None,
) -> int:
    """Steps already done in `folder`, after restoring them; refuses the folder of another run."""
    settings_path = folder / "settings.json"
    if parallel.from_main(settings_path.exists()):
        refuse_other_settings(folder, read_json(settings_path), run)
    elif parallel.is_main():
        write_json(settings_path, run)
    state = load_checkpoint(folder, model, optimiser)
    if state is None:
        return 0
    if kept is not None:
        kept.load_state_dict(state["kept"])
    return int(state["step"])


class StepLog:
    """JSONL of steps, only ever added to; on resume, lines of steps that will be run again are cut off first. Path None: no log."""

    def __init__(self, path: Path | None, start: int) -> None:
        self._path = path
        self._file = None
        if path is None:
            return
        with self._explained("open"):
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
            write_atomic(
                path, "".join(f"{line}\n" for line in itertools.takewhile(lambda line: _step_of(line) < start, lines))
            )
            self._file = open(path, "a", encoding="utf-8")

    @contextlib.contextmanager
    def _explained(self, doing: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise store_error(Path(self._path or ""), f"{doing} the log", error) from error

    def write(self, *lines: Mapping[str, Any]) -> None:
        """Add lines, each with its "step"; numbers that are not finite become null."""
        if self._file is not None:
            with self._explained("write"):
                self._file.write("".join(json.dumps(_finite(line)) + "\n" for line in lines))
                self._file.flush()

    def sync(self) -> None:
        if self._file is not None:
            with self._explained("write"):
                os.fsync(self._file.fileno())

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def _finite(line: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: _finite(value) if isinstance(value, Mapping) else finite(value) if isinstance(value, float) else value
        for key, value in line.items()
    }


def _step_of(line: str) -> float:
    """The step a log line is about; infinity for a line torn by a crash, so that it and what follows are cut."""
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return math.inf
