"""A raw scan to the cube that a network was trained on, with MONAI, NumPy and torch alone.

A bundle carries this file, so that it runs where volta3d isn't installed. It does what ``volta3d
prepare`` does to a sound scan: axes to the right, front and top; values clipped to two percentiles
of the voxels that aren't zero; the head found; one linear resampling into the cube after a Gaussian
that removes what the cube can't hold; values scaled. It doesn't check scans as ``volta3d prepare``
does, and it neither strips skulls nor corrects a bias field.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config.type_definitions import KeysCollection
from monai.data.meta_tensor import MetaTensor
from monai.transforms.transform import MapTransform
from torch.nn.functional import avg_pool3d, grid_sample

COARSE_MM = 3.0  # the head is looked for on a grid of about this
LEVELS = 65535  # steps in which cohorts hold the range 0 to 1
FWHM = 2.3548200450309493  # full width at half maximum of a Gaussian whose sigma is 1


class PrepareScand(MapTransform):
    """Loaded scans [1, I, J, K] to prepared cubes [1, D, D, D] that know where they lie.

    Args:
        keys: entries that hold what ``LoadImaged`` with ``ensure_channel_first`` made.
        contract: how the network's scans were prepared, as in its config.json.
        allow_missing_keys: as in MONAI.

    Raises:
        ValueError: when called, on a scan without contrast or without a head, or one larger than
            the cube where the contract wants nothing cropped.
    """

    def __init__(
        self, keys: KeysCollection, contract: Mapping[str, Any], allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.contract = dict(contract)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The same entries with the named ones prepared, and ``KEY_meta_dict`` beside each."""
        prepared = dict(data)
        for key in self.key_iterator(prepared):
            scan = prepared[key]
            meta = {"filename_or_obj": str(scan.meta.get("filename_or_obj", ""))}
            affine = np.asarray(scan.affine, np.float64)
            volume, grid = prepare(np.asarray(scan[0], np.float32), affine, self.contract)
            prepared[key] = MetaTensor(
                torch.from_numpy(volume)[None], affine=torch.from_numpy(grid), meta=meta
            )
            prepared[f"{key}_meta_dict"] = meta
        return prepared


def prepare(
    data: np.ndarray, affine: np.ndarray, contract: Mapping[str, Any]
) -> tuple[np.ndarray, np.ndarray]:
    """One scan as the contract wants it.

    Args:
        data: float32 [I, J, K], axes in any order.
        affine: 4x4 from its voxels to world mm, to the right, front and top.
        contract: spacing, size, fit, margin, percentiles, scaling, skull_strip and the rest.

    Returns:
        The cube, float32 [D, D, D], and its affine, 4x4.

    Raises:
        ValueError: see :class:`PrepareScand`.
    """
    data, affine = to_ras(mend(data), affine)
    stripped = contract["skull_strip"] != "none"
    brain = data != 0 if stripped else None  # such scans have to come stripped
    inside = data if brain is None else data[brain]
    low, high = limits(inside, contract["percentiles"])
    data = np.clip(data, np.float32(low), np.float32(high))
    if brain is not None:
        data[~brain] = low
    mask, mask_affine = (brain, affine) if brain is not None else find_head(data, affine)
    grid = plan_grid(data.shape, affine, box_of(mask, mask_affine), contract)
    size = int(contract["size"])
    volume = resample(data, np.round(np.linalg.inv(affine) @ grid, 9), size, low)
    if contract["scaling"] == "zscore":
        scores = zscored(volume, nearest(mask, np.linalg.inv(mask_affine) @ grid, size))
        return scores.astype(np.float16).astype(np.float32), grid
    volume = np.clip((volume - np.float32(low)) / np.float32(high - low), 0, 1)
    if contract["scaling"] == "nyul":
        inside = nearest(mask, np.linalg.inv(mask_affine) @ grid, size)
        volume = standardised(volume, inside, contract["landmarks"])
    # cohorts are stored in steps of this size, and the network was trained on what they hold
    return np.rint(volume * np.float32(LEVELS)).astype(np.float32) / np.float32(LEVELS), grid


def to_ras(data: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Axes permuted and flipped to the nearest right-front-top order: (view, its affine)."""
    columns = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    order, left = [-1, -1, -1], np.abs(columns)
    for _ in range(3):  # the best match first, each world axis and each voxel axis once
        world, axis = np.unravel_index(int(left.argmax()), (3, 3))
        order[int(world)] = int(axis)
        left[world, :] = -1
        left[:, axis] = -1
    turned, moved = np.transpose(data, order), affine[:, [*order, 3]].copy()
    for side in range(3):
        if moved[side, side] < 0:
            turned = np.flip(turned, side)
            moved[:3, 3] += moved[:3, side] * (turned.shape[side] - 1)
            moved[:3, side] *= -1
    return np.ascontiguousarray(turned), moved


def mend(data: np.ndarray) -> np.ndarray:
    """Voxels that are NaN or infinite take the mean of their finite neighbours."""
    finite = np.isfinite(data)
    if finite.all():
        return data
    known = torch.from_numpy(np.where(finite, data, 0).astype(np.float32))[None, None]
    total = avg_pool3d(known, 3, 1, 1)
    share = avg_pool3d(torch.from_numpy(finite.astype(np.float32))[None, None], 3, 1, 1)
    mean = torch.where(share > 1e-3, total / share.clamp_min(1e-6), 0.0)[0, 0].numpy()
    return np.where(finite, data, mean).astype(np.float32)


def limits(data: np.ndarray, percentiles: Any) -> tuple[float, float]:
    """Two percentiles of the voxels that aren't zero.

    Raises:
        ValueError: there is no contrast.
    """
    values = data[data != 0]
    if values.size:
        low, high = (float(np.percentile(values, p)) for p in percentiles)
        if high > low:
            return low, high
    raise ValueError("The scan has no contrast: nearly all of its voxels are the same")


def find_head(data: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The largest bright object with its holes filled, on a coarse grid: (mask, its affine).

    Raises:
        ValueError: nothing stands out.
    """
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    blocks = [max(1, round(COARSE_MM / float(size))) for size in sizes]
    coarse = averaged(data, blocks)
    mask = coarse > otsu(coarse)
    opened = _opened(mask) if min(mask.shape) > 8 else mask
    mask = _largest(opened if opened.any() else mask)
    if not mask.any():
        raise ValueError("No head stands out in the scan")
    grid = affine.copy()
    grid[:3, :3] = affine[:3, :3] * blocks
    grid[:3, 3] = affine[:3, :3] @ ((np.array(blocks) - 1) / 2) + affine[:3, 3]
    return ~_joined(~mask, _border(mask.shape)), grid


def averaged(data: np.ndarray, blocks: list[int]) -> np.ndarray:
    """Means of blocks of voxels; the last block along an axis may be short."""
    for axis, block in enumerate(blocks):
        starts = np.arange(0, data.shape[axis], block)
        counts = np.diff([*starts, data.shape[axis]])
        shape = [-1 if a == axis else 1 for a in range(3)]
        sums = np.add.reduceat(data.astype(np.float64), starts, axis=axis)
        data = sums / counts.reshape(shape)
    return data.astype(np.float32)


def otsu(values: np.ndarray, bins: int = 256) -> float:
    """Otsu's threshold; of many equal ones the middle."""
    counts, edges = np.histogram(values, bins=bins)
    centres = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)[:-1]
    above = counts.sum() - below
    sums = np.cumsum(counts * centres)[:-1]
    total = float((counts * centres).sum())
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (sums / below - (total - sums) / above) ** 2
    best = np.nan_to_num(between, nan=-1.0)
    at = np.flatnonzero(best >= best.max() * (1 - 1e-9))
    return float(edges[1 + round(float(at.mean()))])


def _opened(mask: np.ndarray) -> np.ndarray:
    """Opened with the cross of six neighbours; outside of the volume is nothing."""
    eroded = ~_grown(~np.pad(mask, 1))[1:-1, 1:-1, 1:-1]
    return _grown(eroded)


def _grown(mask: np.ndarray) -> np.ndarray:
    grown = mask.copy()
    for axis in range(3):
        ahead, behind = [slice(None)] * 3, [slice(None)] * 3
        ahead[axis], behind[axis] = slice(1, None), slice(None, -1)
        grown[tuple(ahead)] |= mask[tuple(behind)]
        grown[tuple(behind)] |= mask[tuple(ahead)]
    return grown


def _border(shape: tuple[int, ...]) -> np.ndarray:
    border = np.ones(shape, bool)
    border[1:-1, 1:-1, 1:-1] = False
    return border


def _joined(mask: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    """What of a mask is joined to seeds by faces."""
    joined: np.ndarray = mask & seeds
    while True:
        grown = _grown(joined) & mask
        if (grown == joined).all():
            return joined
        joined = grown


def _largest(mask: np.ndarray) -> np.ndarray:
    """The largest part whose voxels are joined by faces."""
    best, left = np.zeros_like(mask), mask.copy()
    while left.sum() > best.sum():
        seed = np.zeros_like(mask)
        seed[tuple(np.argwhere(left)[0])] = True
        part = _joined(left, seed)
        left &= ~part
        if part.sum() > best.sum():
            best = part
    return best


def box_of(mask: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Corners in world mm of the box around the outer faces of a mask's voxels."""
    centres = np.argwhere(mask) @ affine[:3, :3].T + affine[:3, 3]
    half = np.abs(affine[:3, :3]).sum(axis=1) / 2
    return centres.min(axis=0) - half, centres.max(axis=0) + half


def plan_grid(
    shape: tuple[int, ...],
    affine: np.ndarray,
    box: tuple[np.ndarray, np.ndarray],
    contract: Mapping[str, Any],
) -> np.ndarray:
    """The affine of the cube around the head, 4x4.

    Raises:
        ValueError: with ``fit: none``, a field of view larger than the cube.
    """
    size, spacing, (low, high) = int(contract["size"]), float(contract["spacing"]), box
    if contract["fit"] == "none":
        corners = np.array(list(np.ndindex(2, 2, 2))) * np.array(shape) - 0.5
        world = corners @ affine[:3, :3].T + affine[:3, 3]
        low, high = world.min(axis=0), world.max(axis=0)
        if int(np.ceil((high - low).max() / spacing - 1e-3)) > size:
            raise ValueError(f"The field of view doesn't fit a cube of {size} voxels")
    if contract["fit"] == "resize":
        room = max(1, size - 2 * int(contract["margin"]))
        spacing = max(spacing, float((high - low).max()) / room)
    origin = (low + high) / 2 - spacing * (size - 1) / 2
    if contract["fit"] != "resize":  # centres of voxels onto those of the scan
        steps = (affine[:3, 3] - origin) / spacing
        origin = origin + (steps - np.round(steps)) * spacing
    grid = np.diag([spacing, spacing, spacing, 1.0])
    grid[:3, 3] = origin
    return grid


def resample(data: np.ndarray, mapping: np.ndarray, size: int, outside: float) -> np.ndarray:
    """Linear resampling after a Gaussian where the cube is coarser.

    Args:
        data: float32 [I, J, K].
        mapping: 4x4 from voxels of the cube to voxels of ``data``.
        size: edge of the cube.
        outside: the value beyond the edge of ``data``.

    Returns:
        float32 [size, size, size].
    """
    ratios = np.linalg.norm(mapping[:3, :3], axis=1)
    smooth = data.astype(np.float64)
    for axis, ratio in enumerate(ratios):
        if ratio > 1.001:
            matrix = _gaussian(data.shape[axis], float(np.sqrt(ratio**2 - 1.0)) / FWHM)
            smooth = np.moveaxis(np.tensordot(matrix, smooth, axes=(1, axis)), 0, axis)
    steps = np.arange(size)
    places = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), -1) @ mapping[:3, :3].T
    places += mapping[:3, 3]
    edges = np.maximum(np.array(data.shape) - 1, 1)
    lattice = torch.from_numpy((places / edges * 2 - 1)[..., ::-1].copy())[None]
    source = torch.from_numpy(smooth - outside)[None, None]
    moved = grid_sample(source, lattice, mode="bilinear", padding_mode="zeros", align_corners=True)
    return (moved[0, 0].numpy() + outside).astype(np.float32)


def _gaussian(length: int, sigma: float) -> np.ndarray:
    """Matrix [n, n] that blurs with a Gaussian of four sigma, edges repeated."""
    radius = int(4 * sigma + 0.5)
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    weights /= weights.sum()
    matrix = np.zeros((length, length))
    rows = np.arange(length)
    for offset, weight in zip(range(-radius, radius + 1), weights, strict=True):
        np.add.at(matrix, (rows, np.clip(rows + offset, 0, length - 1)), weight)
    return matrix


def nearest(mask: np.ndarray, mapping: np.ndarray, size: int) -> np.ndarray:
    """A mask in the cube: the nearest voxel, false beyond the edge."""
    steps = np.arange(size)
    places = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), -1) @ mapping[:3, :3].T
    at = np.floor(np.round(places + mapping[:3, 3], 9) + 0.5).astype(int)
    inside = ((at >= 0) & (at < np.array(mask.shape))).all(-1)
    at = np.clip(at, 0, np.array(mask.shape) - 1)
    taken: np.ndarray = mask[at[..., 0], at[..., 1], at[..., 2]] & inside
    return taken


def zscored(volume: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Mean 0 and standard deviation 1 within a mask.

    Raises:
        ValueError: no spread there.
    """
    values = volume[inside].astype(np.float64)
    if not values.size or not values.std() > 0:
        raise ValueError("The head has no contrast")
    scores = (volume - np.float32(values.mean())) / np.float32(values.std())
    return scores.astype(np.float32)


def standardised(volume: np.ndarray, inside: np.ndarray, standard: Any) -> np.ndarray:
    """Deciles within a mask moved onto a standard's, linear between them.

    Args:
        volume: float32 in 0 to 1.
        inside: bool of the same shape.
        standard: eleven numbers from 0 to 1.
    """
    own = [0.0, *np.percentile(volume[inside], range(10, 100, 10)), 1.0]
    kept = [0]
    for index in range(1, len(own)):
        if own[index] - own[kept[-1]] > 1e-4:
            kept.append(index)
    kept[-1] = len(own) - 1
    moved: np.ndarray = np.interp(
        volume, np.asarray(own)[kept], np.asarray(standard, np.float64)[kept]
    )
    return np.asarray(np.clip(moved, 0, 1), np.float32)
