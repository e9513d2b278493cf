"""GMML: groups of neighbouring voxels are replaced (METHOD section 3)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from volta3d.config import MaskingConfig

Fill = Literal["zeros", "noise"]


Corner = tuple[int, int, int]


@dataclass(frozen=True)
class Mask:
    """One view's mask. Masks are equal when their cuboids are.

    Args:
        cuboids: first and past-the-last voxel of each cuboid, in the order they were drawn.
        voxels: bool [S, S, S], their union, True = replaced.
    """

    cuboids: tuple[tuple[Corner, Corner], ...]
    voxels: np.ndarray = field(compare=False, repr=False)


def draw_mask(generator: np.random.Generator, size: int, masking: MaskingConfig) -> Mask:
    """Add random cuboids until their union holds at least ``ratio`` of the S³ voxels.

    Edge per axis U{a … ⌊max_edge·S⌋} rounded to the nearest multiple of a (never below a), corner
    uniform over the multiples of a in the view, clipped at the border [I GMML, MC-SSL].
    """
    step = masking.align
    largest = max(int(masking.max_edge * size), step)
    corners = -(-size // step)
    target = masking.ratio * size**3
    voxels = np.zeros((size, size, size), dtype=bool)
    cuboids: list[tuple[Corner, Corner]] = []
    while True:
        edge = (generator.integers(step, largest + 1, size=(64, 3)) + step // 2) // step * step
        start = generator.integers(0, corners, size=(64, 3)) * step
        stop = np.minimum(start + edge, size)
        drawn = [
            (tuple(low), tuple(high))
            for low, high in zip(start.tolist(), stop.tolist(), strict=True)
        ]
        before = voxels.copy()
        for (a, b, c), (d, e, f) in drawn:
            voxels[a:d, b:e, c:f] = True
        if np.count_nonzero(voxels) >= target:
            cuboids += _until(before, drawn, target)
            return Mask(tuple(cuboids), before)
        cuboids += drawn


def _until(
    voxels: np.ndarray, drawn: list[tuple[Corner, Corner]], target: float
) -> list[tuple[Corner, Corner]]:
    """Add cuboids to ``voxels`` up to the first that brings it to ``target``; return those."""
    covered = np.count_nonzero(voxels)
    for used, ((a, b, c), (d, e, f)) in enumerate(drawn):
        block = voxels[a:d, b:e, c:f]
        covered += block.size - np.count_nonzero(block)
        block[...] = True
        if covered >= target:
            return drawn[: used + 1]
    raise AssertionError("called with cuboids that reach the target")


def draw_fill(generator: np.random.Generator, masking: MaskingConfig) -> Fill:
    """What replaces the masked voxels of one view, drawn once per view [S zeros/noise]."""
    noise = bool(generator.uniform() < 0.5)
    if masking.fill == "either":
        return "noise" if noise else "zeros"
    return masking.fill


def corrupt(
    views: Tensor,
    masks: Tensor,
    fills: Sequence[Fill],
    noise_generator: Callable[[int], torch.Generator],
    low: Tensor,
    high: Tensor,
) -> Tensor:
    """Replace the masked voxels; the others stay bitwise as they are.

    Args:
        views: [n, 1, S, S, S].
        masks: bool, the same shape.
        fills: n of them. ``zeros`` is black: the lower end of the range, which is 0 for cohorts
            scaled to [0, 1] and the volume's minimum for z-scored ones. ``noise`` is
            N(mean, std of the view), clipped to the range.
        noise_generator: the generator of view i's voxel noise, on the device of ``views``.
        low, high: the range, [n, 1, 1, 1, 1].
    """
    filling = low.expand_as(views)
    noisy = [i for i, fill in enumerate(fills) if fill == "noise"]
    if noisy:
        filling = filling.clone()
    for i in noisy:
        view = views[i]
        noise = filling[i].normal_(generator=noise_generator(i))
        noise.mul_(view.std()).add_(view.mean())
        torch.minimum(torch.maximum(noise, low[i]), high[i], out=noise)
    return torch.where(masks, filling, views)
