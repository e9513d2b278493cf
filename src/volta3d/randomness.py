"""Randomness as a pure function of named keys, so that resuming and reordering change nothing.

A draw depends on (seed, epoch, scan, view, purpose) and on nothing else: not on the number of
workers, the batch a scan fell into, or what was drawn before it.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

Key = int | str


def derived_seed(*keys: Key) -> int:
    """A 63-bit seed from an ordered list of integers and strings."""
    text = "\x1f".join(f"{type(key).__name__}:{key}" for key in keys)
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def numpy_generator(*keys: Key) -> np.random.Generator:
    """A NumPy generator that is a pure function of ``keys``."""
    return np.random.Generator(np.random.Philox(key=derived_seed(*keys)))


def torch_generator(*keys: Key, device: str | torch.device = "cpu") -> torch.Generator:
    """A torch generator on ``device`` that is a pure function of ``keys``."""
    import torch  # here: reports and statistics need draws and no tensors

    generator = torch.Generator(device=device)
    generator.manual_seed(derived_seed(*keys))
    return generator


def epoch_order(count: int, *, seed: int, epoch: int) -> np.ndarray:
    """The order in which the ``count`` scans of a cohort are visited in one epoch."""
    return numpy_generator(seed, "order", epoch).permutation(count)
