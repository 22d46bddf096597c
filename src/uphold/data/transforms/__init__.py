"""Text transforms: one registry for training data, augmentation, canonicalisation and attacks."""

from uphold.data.transforms import (
    ciphers,
    encodings,
    framings,
    obfuscation,
    paraphrases,
    settings,
    structure,
    wrappers,
)
from uphold.data.transforms.base import Transform, apply, compose, transform_names

__all__ = [
    "Transform",
    "apply",
    "ciphers",
    "compose",
    "encodings",
    "framings",
    "obfuscation",
    "paraphrases",
    "settings",
    "structure",
    "transform_names",
    "wrappers",
]
