"""Text transforms: one registry for training data, augmentation, canonicalisation and attacks."""

from uphold.data.transforms import ciphers, framings, structure
from uphold.data.transforms.base import Transform, apply, compose, transform_names

__all__ = ["Transform", "apply", "ciphers", "compose", "framings", "structure", "transform_names"]
