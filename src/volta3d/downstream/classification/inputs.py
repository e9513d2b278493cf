"""What goes into a network: cubes at the edge it takes, and what its frozen part makes of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import psutil
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from volta3d.config import AugmentConfig
from volta3d.downstream.classification.augment import augment
from volta3d.files import atomic_file
from volta3d.pretrain.data import Scans
from volta3d.pretrain.monitor import whole

CHUNK = 8  # scans at once where nothing is trained
SHARE = 0.3  # of the memory available that stored tokens may take


class Cubes:
    """The scans of a cohort as cubes of one edge, held in memory where they fit.

    Args:
        scans: average-pooled as the network wants them.
        size: edge of the cube.
        augment: how training scans are varied.
        seed: of the variations.
    """

    def __init__(self, scans: Scans, size: int, augment: AugmentConfig, seed: int) -> None:
        self.scans, self.size, self.config, self.seed = scans, size, augment, seed

    def plain(self, rows: Sequence[int] | np.ndarray) -> Tensor:
        """[B, 1, S, S, S] on the device, the whole cube of each scan."""
        return whole(self.scans.batch(rows), self.size)

    def varied(self, rows: Sequence[int] | np.ndarray, epoch: int) -> Tensor:
        """The same, augmented with the draws of an epoch."""
        return augment(
            self.scans.batch(rows),
            [self.scans.scan_ids[int(row)] for row in rows],
            size=self.size,
            epoch=epoch,
            seed=self.seed,
            config=self.config,
            value_range=self.scans.contract.value_range,
        )


def stemmed(
    cubes: Cubes,
    stem: Callable[[Tensor], Tensor],
    rows: np.ndarray,
    file: Path | None,
) -> Tensor | None:
    """What a frozen stem makes of every scan, [n, ...], in fp32 on the cubes' device.

    Read from ``file`` if it is there and fits, else computed and written there. None if it would
    not fit into memory.

    Args:
        cubes: the scans.
        stem: the frozen part.
        rows: [n] which scans.
        file: its name holds a hash of all that the result depends on; None keeps nothing.
    """
    first = stem(cubes.plain(rows[:1]))
    shape = (len(rows), *first.shape[1:])
    needed = int(np.prod(shape)) * 4
    device = cubes.scans.device
    free = psutil.virtual_memory().available
    if device.type == "cuda":
        free = torch.cuda.mem_get_info(device)[0]
    if needed > SHARE * free:
        return None
    stored = _read(file, shape)
    if stored is not None:
        return stored.to(device)
    parts = [stem(cubes.plain(rows[i : i + CHUNK])) for i in range(0, len(rows), CHUNK)]
    made = torch.cat(parts).float()
    if file is not None:
        with atomic_file(file) as temporary:
            save_file({"stemmed": made.cpu().contiguous()}, temporary)
    return made


def _read(file: Path | None, shape: tuple[int, ...]) -> Tensor | None:
    if file is None or not file.is_file():
        return None
    try:
        stored = load_file(file).get("stemmed")
    except (OSError, SafetensorError):
        return None  # computed again
    return stored if stored is not None and tuple(stored.shape) == shape else None
