"""Several processes training one model: what `accelerate launch -m uphold train ...` starts.

Every process holds the whole model and takes its share of a step's parts; gradients are added over all of them before the update, so
the step is the one a single process would take (equal up to the order of additions). The first process alone writes. With one process every
function here does nothing. Left out: weights split over devices (FSDP, DeepSpeed), folders that the processes do not share, and
what samples while it trains (`require_alone`).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from uphold.core.errors import Unsupported

T = TypeVar("T")


def join() -> None:
    """Join the other processes of a launch; nothing when this one was started alone or has joined."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not _is_on():
        from accelerate import PartialState

        PartialState(cpu=not torch.cuda.is_available())


def _is_on() -> bool:
    return dist.is_available() and dist.is_initialized()


def world_size() -> int:
    return dist.get_world_size() if _is_on() else 1


def rank() -> int:
    return dist.get_rank() if _is_on() else 0


def is_main() -> bool:
    """Whether this is the process that writes and prints."""
    return rank() == 0


def require_alone(what: str) -> None:
    """Raise Unsupported when `what`, which samples while it trains, was launched as several processes."""
    n = max(world_size(), int(os.environ.get("WORLD_SIZE", "1")))
    if n > 1:
        raise Unsupported(
            f"{what} runs in one process, and {n} were launched: each would sample replies of its own and train another model. Start "
            "it without accelerate. sft, dpo, kto and reward take several processes; sampling gets faster with `sampler: "
            "openai:URL#NAME`, a server of the model on all devices."
        )


def share(items: Sequence[T]) -> list[T]:
    """This process's share of a step's work: every item belongs to exactly one process."""
    return list(items[rank() :: world_size()])


def gather(value: Any) -> list[Any]:
    """`value` of every process, in their order, on every process."""
    if world_size() == 1:
        return [value]
    found: list[Any] = [None] * world_size()
    dist.all_gather_object(found, value)
    return found


def from_main(value: Any) -> Any:
    """The first process's value, on all."""
    return gather(value)[0]


def add(tensor: torch.Tensor) -> torch.Tensor:
    """Sum over the processes, in place."""
    if world_size() > 1:
        dist.all_reduce(tensor)
    return tensor


def wait() -> None:
    """Until every process is here."""
    if world_size() > 1:
        dist.barrier()


def same_start(parameters: Sequence[torch.Tensor]) -> None:
    """Give every process the first one's parameters."""
    if world_size() > 1:
        with torch.no_grad():
            for p in parameters:
                dist.broadcast(p, 0)


def add_gradients(parameters: Sequence[torch.Tensor]) -> None:
    """Sum the gradients over the processes, in one message. A parameter that none of them reached keeps having none."""
    if world_size() == 1 or not parameters:
        return
    has_P = add(torch.tensor([float(p.grad is not None) for p in parameters], device=parameters[0].device)).tolist()
    reached = [p for p, n in zip(parameters, has_P, strict=True) if n]
    if not reached:
        return
    flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).reshape(-1) for p in reached])
    add(flat)
    for p, part in zip(reached, flat.split([p.numel() for p in reached]), strict=True):
        p.grad = part.view_as(p)
