"""Where prompts with ground truth come from: the one protocol that training, guards, red team and evaluations know.

`builtin:storefront` is the built-in world's; `files` (see `files.py`) serves prompts a user brings. Registry kind "source".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

from uphold.core.records import Sample

if TYPE_CHECKING:
    from uphold.constitution import Constitution

Kind = Literal["harmful", "benign", "task"]
Split = Literal["train", "validation", "test"]


@runtime_checkable
class Source(Protocol):
    """Gives samples; what is harmful is for the constitution to say, where the source knows categories."""

    def samples(self, kind: Kind, *, constitution: Constitution, split: Split, n: int, seed: int) -> list[Sample]:
        """Up to `n` distinct samples, a pure function of the arguments. The splits share no prompt.

        harmful: requests to refuse. benign: requests to answer. task: requests with the exact right reply in `expected`.
        """
        ...
