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

CHUNK = 64  # cuboids drawn at once
FIRST_CHUNKS = 7  # a few more than half of a volume takes with edges of up to .3
PLANES = 2**27  # numbers held at once where masks are painted as matrix products


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
    uniform over the multiples of a in (-edge, S), clipped at both borders [I GMML, MC-SSL]: every
    voxel lies in as many cuboids of an edge as any other, and is masked about as often.
    """
    target = masking.ratio * size**3
    voxels = np.zeros((size, size, size), dtype=bool)
    cuboids: list[tuple[Corner, Corner]] = []
    while True:
        start, stop = _chunk(generator, size, masking)
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


def _chunk(
    generator: np.random.Generator, size: int, masking: MaskingConfig
) -> tuple[np.ndarray, np.ndarray]:
    """The next cuboids: first and past-the-last voxels, [CHUNK, 3] each."""
    step, shape = masking.align, (CHUNK, 3)
    largest = max(int(masking.max_edge * size), step)
    edge = (generator.integers(step, largest + 1, size=shape) + step // 2) // step * step
    start = generator.integers(1 - edge // step, -(-size // step), size=shape) * step
    return np.maximum(start, 0), np.minimum(start + edge, size)


def draw_masks(
    generators: Sequence[np.random.Generator],
    size: int,
    masking: MaskingConfig,
    device: torch.device,
) -> Tensor:
    """The voxels of several views' masks, painted on the device: those of :func:`draw_mask`.

    A cuboid is the product of three intervals, so that a sum over cuboids is a matrix product
    [S, K] x [K, S²], positive where a voxel is covered, also when it is rounded to bf16. How many
    of the K are used is found by bisection, for all views at once.

    Args:
        generators: one of each view, as :func:`draw_mask` takes it.

    Returns:
        bool [n, S, S, S], True = replaced.
    """
    target, count = masking.ratio * size**3, len(generators)
    drawn = np.empty((2, count, 0, 3), dtype=np.int64)
    chunks = FIRST_CHUNKS
    while True:
        more = [[_chunk(one, size, masking) for _ in range(chunks)] for one in generators]
        rows = np.array(more).transpose(2, 0, 1, 3, 4).reshape(2, count, -1, 3)
        drawn = np.concatenate([drawn, rows], axis=2)
        cuboids = drawn.shape[2]
        at_once = max(1, PLANES // (cuboids * size**2))
        parts = [
            _painted(torch.from_numpy(drawn[:, i : i + at_once]).to(device), size, target)
            for i in range(0, count, at_once)
        ]
        masks = torch.cat(parts)
        if bool((masks.flatten(1).sum(1) >= target).all()):
            return masks
        chunks = cuboids // CHUNK  # twice as many in all


def _painted(drawn: Tensor, size: int, target: float) -> Tensor:
    """bool [n, S, S, S] of the first cuboids that reach the target, or of all when none do.

    Args:
        drawn: first and past-the-last voxels, [2, n, K, 3].
    """
    _, count, cuboids, _ = drawn.shape
    position = torch.arange(size, device=drawn.device)
    start, stop = drawn[..., None]
    inside = ((position >= start) & (position < stop)).bfloat16()  # [n, K, 3, S]
    planes = (inside[:, :, 1, :, None] * inside[:, :, 2, None, :]).flatten(2)
    lines = inside[:, :, 0].transpose(1, 2)
    order = torch.arange(cuboids, device=drawn.device)

    def union(used: Tensor) -> Tensor:
        return torch.bmm(lines * (order < used[:, None])[:, None], planes) > 0

    low = torch.zeros(count, dtype=torch.int64, device=drawn.device)  # too few
    high = torch.full_like(low, cuboids)
    for _ in range(cuboids.bit_length()):
        middle = (low + high) // 2
        reached = union(middle).sum((1, 2)) >= target
        low, high = torch.where(reached, low, middle), torch.where(reached, middle, high)
    painted: Tensor = union(high).unflatten(2, (size, size))
    return painted


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
