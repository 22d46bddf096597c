"""Randomness that is an argument.

`derive` gives every use of chance its own seed from one root seed and a path of names, so adding a stage never shifts the draws of
another. `split_of` assigns by content hash, so a prompt keeps its split whatever order or file it arrives in.
"""

from __future__ import annotations

import hashlib
import random
import sys
from collections.abc import Mapping


def _hash63(*parts: str) -> int:
    """Stable 63-bit hash of a sequence of strings; lengths are hashed too, so ("ab", "c") differs from ("a", "bc")."""
    state = hashlib.sha256()
    for part in parts:
        raw = part.encode("utf-8", "surrogatepass")
        state.update(len(raw).to_bytes(8, "big"))
        state.update(raw)
    return int.from_bytes(state.digest()[:8], "big") >> 1


def derive(seed: int, *names: str | int) -> int:
    """A seed in [0, 2**63) for the use of chance called `names` under the root `seed`. The same on every machine and version."""
    return _hash63(f"i{seed}", *(f"{'i' if isinstance(name, int) else 's'}{name}" for name in names))


def uniform(key: str, salt: str = "") -> float:
    """A number in [0, 1) that is a hash of (`salt`, `key`): the same key always lands in the same place."""
    return _hash63(salt, key) / 2**63


def split_of(key: str, shares: Mapping[str, float], salt: str = "") -> str:
    """The split `key` belongs to, by content hash. `shares` are positive weights in a fixed order, normalised here.

    Growing the last share leaves every key that stays below its boundary where it was. Raises ValueError on empty or negative shares.
    """
    total = sum(shares.values())
    if not shares or total <= 0 or any(share < 0 for share in shares.values()):
        raise ValueError("shares must be non-negative, with a positive sum")
    point, edge = uniform(key, salt) * total, 0.0
    for name, share in shares.items():
        edge += share
        if point < edge:
            return name
    return next(name for name, share in reversed(list(shares.items())) if share > 0)  # rounding at the very end


def seed_everything(seed: int) -> None:
    """Seed `random`, and numpy and torch where they are already imported. For libraries that draw from global state."""
    random.seed(seed)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(seed % 2**32)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(seed)
