"""Several processes training one model: what `accelerate launch` or `torchrun` starts of `-m uphold train ...`.

Every process holds the whole model and takes its share of a step's parts; gradients are added over all of them before the update, so
the step is the one a single process would take (equal up to the order of additions). The first process alone writes. With one process every
function here does nothing. What is asked, scored or written once is asked, scored and written by the first process (`by_main`). Left
out: weights split over devices (FSDP, DeepSpeed), folders that the processes do not share, and chains of stages with measurements
between them (`require_alone`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist

from uphold.core.errors import Unsupported, UpholdError

T = TypeVar("T")

# how long processes wait while the first alone asks a judge; one that dies is noticed at once all the same
PATIENCE = timedelta(days=1)


def join() -> None:
    """Join the other processes of a launch; nothing when this one was started alone or has joined."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not _is_on():
        from accelerate import PartialState

        PartialState(cpu=not torch.cuda.is_available(), timeout=PATIENCE)


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
    """Raise Unsupported when `what`, which does more than train, was launched as several processes."""
    n = max(world_size(), int(os.environ.get("WORLD_SIZE", "1")))
    if n > 1:
        raise Unsupported(
            f"{what} runs in one process, and {n} were launched: each would make a run of its own in the same folder. Start it alone. "
            "Several processes are taken by: sft, dpo, kto, reward, grpo, ppo, safe, rlaif, rlhf, and uphold.train.cai in Python."
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


def collect(work: Callable[[], T]) -> list[T]:
    """What `work` gives in every process, in their order, on all. An UpholdError of one is raised in every one."""
    if world_size() == 1:
        return [work()]
    value, failed = None, None
    try:
        value = work()
    except UpholdError as error:
        failed = error
    everywhere = gather((value, failed and (type(failed), str(failed))))
    if failed is not None:
        raise failed
    for _, told in everywhere:
        if told is not None:
            kind, message = told
            theirs = kind.__new__(kind)  # some make their message themselves
            theirs.args = (message,)
            raise theirs
    return [value for value, _ in everywhere]


def by_main(work: Callable[[], T]) -> T:
    """What `work` gives in the first process, which alone does it; on all. So is an UpholdError it raises."""
    return cast(T, collect(lambda: work() if is_main() else None)[0])


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
