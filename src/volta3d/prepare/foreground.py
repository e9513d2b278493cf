"""Where the head is: a coarse mask that survives noise, faces and skull-stripping."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from volta3d.prepare.checks import voxel_sizes
from volta3d.prepare.findings import Refused
from volta3d.prepare.resample import apply_along_axes

COARSE_MM = 3.0
BINS = 256


@dataclass(frozen=True)
class Foreground:
    """The head or the stripped brain.

    Args:
        mask: bool [i, j, k] on a coarse grid, or on the scan's own.
        affine: 4x4 from voxels of that grid to world mm.
        mm3: its volume.
        low, high: corners of its box in world mm, [3] each, axis-aligned in RAS.
    """

    mask: np.ndarray
    affine: np.ndarray
    mm3: float
    low: np.ndarray
    high: np.ndarray


def find_foreground(data: np.ndarray, affine: np.ndarray) -> Foreground:
    """The largest bright object of a volume, its holes filled.

    The volume is averaged to about 3 mm, which quietens noise, split by Otsu's threshold, opened,
    and its largest connected part kept.

    Args:
        data: float32 [I, J, K], clipped to its percentiles so that a spike moves nothing.
        affine: 4x4 from voxels to world mm.

    Raises:
        Refused: nothing stands out.
    """
    blocks = [max(1, round(COARSE_MM / z)) for z in voxel_sizes(affine)]
    coarse = average(data, blocks)
    mask = coarse > otsu(coarse)
    opened = _opened(mask) if min(mask.shape) > 8 else mask
    mask = _largest(opened if opened.any() else mask)
    if not mask.any():
        raise Refused("no-foreground", "No head stands out", "Look at the scan")
    mask = _filled(mask)
    grid = affine.copy()
    grid[:3, :3] = affine[:3, :3] * blocks
    grid[:3, 3] = affine[:3, :3] @ ((np.array(blocks) - 1) / 2) + affine[:3, 3]
    return of_mask(mask, grid)


def of_mask(mask: np.ndarray, affine: np.ndarray) -> Foreground:
    """The foreground that a mask says, bool [i, j, k] and not empty, with its affine."""
    mm3 = float(mask.sum() * abs(np.linalg.det(affine[:3, :3])))
    low, high = _box(mask, affine)
    return Foreground(mask, affine, mm3, low, high)


def average(data: np.ndarray, blocks: Sequence[int]) -> np.ndarray:
    """Means of blocks of voxels, float32; the last block along an axis may be short."""
    return apply_along_axes(
        data, [_averaging(n, b) for n, b in zip(data.shape, blocks, strict=True)]
    )


def otsu(values: np.ndarray) -> float:
    """Otsu's threshold: the split with the largest variance between the two classes."""
    counts, edges = np.histogram(values, bins=BINS)
    centres = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)[:-1]
    above = counts.sum() - below
    sums = np.cumsum(counts * centres)[:-1]
    total = float((counts * centres).sum())
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (sums / below - (total - sums) / above) ** 2
    best = np.nan_to_num(between, nan=-1.0)
    # A wide gap gives many equal maxima: its middle is the safest split.
    at = np.flatnonzero(best >= best.max() * (1 - 1e-9))
    return float(edges[1 + round(float(at.mean()))])


def _averaging(length: int, block: int) -> np.ndarray:
    """Matrix [ceil(length / block), length] that averages blocks; the last may be short."""
    owner = np.arange(length) // block
    blocks = np.arange(owner[-1] + 1)
    matrix: np.ndarray = (owner[None] == blocks[:, None]).astype(np.float32)
    matrix /= matrix.sum(axis=1, keepdims=True)
    return matrix


def _largest(mask: np.ndarray) -> np.ndarray:
    parts, count = ndimage.label(mask)
    if count <= 1:
        return mask
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    largest: np.ndarray = parts == sizes.argmax()
    return largest


def _opened(mask: np.ndarray) -> np.ndarray:
    """Opened with the cross of six neighbours; outside of the volume is nothing."""
    eroded = np.pad(mask, 1)
    for neighbour in _neighbours(np.pad(mask, 1)):
        eroded[1:-1, 1:-1, 1:-1] &= neighbour
    opened: np.ndarray = eroded[1:-1, 1:-1, 1:-1].copy()
    for neighbour in _neighbours(eroded):
        opened |= neighbour
    return opened


def _neighbours(padded: np.ndarray) -> Iterator[np.ndarray]:
    """What lies one step before and behind every voxel along each axis."""
    core = slice(1, -1)
    for axis in range(3):
        for shifted in (slice(None, -2), slice(2, None)):
            yield padded[tuple(shifted if a == axis else core for a in range(3))]


def _filled(mask: np.ndarray) -> np.ndarray:
    """With every hole that no path of face neighbours joins to the outside filled."""
    parts, _ = ndimage.label(~mask)
    outside = np.zeros(parts.max() + 1, bool)
    for axis in range(3):
        for end in (0, -1):
            outside[np.take(parts, end, axis=axis)] = True
    outside[0] = False
    filled: np.ndarray = ~outside[parts]
    return filled


def _box(mask: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The axis-aligned box in world mm around the outer faces of the mask's voxels."""
    lines = mask.any(axis=2)
    at = np.argwhere(lines)
    held = mask[lines]
    # the ends of every line along the last axis: no other voxel can be an extreme
    ends = [held.argmax(axis=1), mask.shape[2] - 1 - held[:, ::-1].argmax(axis=1)]
    extremes = np.concatenate([np.column_stack([at, end]) for end in ends])
    centres = extremes @ affine[:3, :3].T + affine[:3, 3]
    half = np.abs(affine[:3, :3]).sum(axis=1) / 2
    return centres.min(axis=0) - half, centres.max(axis=0) + half
