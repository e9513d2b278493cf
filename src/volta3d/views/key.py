"""The key of one view: everything drawn for it is a pure function of these four values."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from volta3d.randomness import numpy_generator, torch_generator

GLOBALS = 2


@dataclass(frozen=True)
class ViewKey:
    """Names one view of one scan in one epoch.

    ``view`` counts from 0: the two globals are 0 and 1, local number i (from 0) is 2 + i.
    Two keys that differ in any field share no draws; equal keys always draw the same.
    """

    seed: int
    epoch: int
    scan_id: str
    view: int

    @property
    def name(self) -> str:
        """``global1``, ``global2``, ``local1``, ``local2``, ..."""
        number = self.view + 1
        return f"global{number}" if self.view < GLOBALS else f"local{number - GLOBALS}"

    def numbers(self, purpose: str) -> np.random.Generator:
        """A NumPy generator for a few parameters."""
        return numpy_generator(self.seed, self.epoch, self.scan_id, self.view, purpose)

    def voxels(self, purpose: str, device: torch.device) -> torch.Generator:
        """A torch generator for voxel noise, on the device of the volume.

        The noise is repeatable on one kind of device; CPU and CUDA draw different voxels.
        """
        keys = (self.seed, self.epoch, self.scan_id, self.view, purpose)
        return torch_generator(*keys, device=device)
