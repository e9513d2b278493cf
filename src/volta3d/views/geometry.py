"""Crop, scale, flip and rotation of a view as ONE affine resampling (METHOD section 2).

Axes are those of the prepared volume: 0 left-right, 1 back-front, 2 down-up. Positions are in
normalised coordinates, -1 and 1 being the outer faces of the volume (``align_corners=False``).
Shape suffixes: B scans, V views of one size, S edge of the view.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from volta3d.config import ViewsConfig
from volta3d.views.head import Head
from volta3d.views.trilinear import sample_affine


@dataclass(frozen=True)
class Geometry:
    """Where a view lies in its volume. Tuples are in axis order (0, 1, 2).

    Args:
        scale: edge of the crop box as a fraction of the volume's edge; above 1 it reaches beyond.
        center: centre of the crop box, normalised.
        rotation: degrees about axes 0, 1, 2 through the view's centre.
        flip: the view is mirrored along axis 0.
    """

    scale: tuple[float, float, float] = (1.0, 1.0, 1.0)
    center: tuple[float, float, float] = (0.0, 0.0, 0.0)
    rotation: tuple[float, float, float] = (0.0, 0.0, 0.0)
    flip: bool = False


def draw_geometry(
    generator: np.random.Generator,
    views: ViewsConfig,
    scale_range: tuple[float, float],
    head: Head | None = None,
) -> Geometry:
    """Draw one view's geometry [C].

    Every number is drawn whether it is used or not, so that changing one setting leaves the
    draws of the others as they were.

    Args:
        scale_range: of the crop box, as a fraction of the volume's edge.
        head: the view is laid where at least half of it lies in this head's box, as far as the
            box is large enough; None lays it anywhere in the volume.
    """
    scale = generator.uniform(*scale_range, size=3)
    position = generator.uniform(-1.0, 1.0, size=3)
    angles = generator.uniform(-1.0, 1.0, size=3)
    mirrored = generator.uniform()
    if views.isotropic:
        scale[:] = scale[0]
    center = position * (1.0 - scale)
    if head is not None:
        low, high = _centers(scale, head)
        center = low + (position + 1.0) / 2.0 * (high - low)
    return Geometry(
        scale=_triple(scale),
        center=_triple(center),
        rotation=_triple(angles * views.rotation),
        flip=bool(mirrored < views.flip),
    )


IN_HEAD = 0.5 ** (1 / 3)  # along each axis: half of the volume


def _centers(scale: np.ndarray, head: Head) -> tuple[np.ndarray, np.ndarray]:
    """Where a view's centre may lie along each axis: first and last.

    Along each axis the view shares ``IN_HEAD`` with the head's box, of its own edge or of the box's
    where that is shorter. A view that fits the volume stays inside it.
    """
    inside = np.abs(1.0 - scale)
    start, stop = np.asarray(head.low), np.asarray(head.high)
    shared = IN_HEAD * np.minimum(2.0 * scale, stop - start)
    low = np.maximum(start + shared - scale, -inside)
    high = np.minimum(stop - shared + scale, inside)
    return low, np.maximum(low, high)


def centred_on(head: Head, scale: float) -> Geometry:
    """An upright view of the middle of a head's box, a fraction ``scale`` of the volume's edge."""
    center = (np.asarray(head.low) + np.asarray(head.high)) / 2.0
    return Geometry(scale=(scale, scale, scale), center=_triple(center))


def rotation_matrix(degrees: tuple[float, float, float]) -> np.ndarray:
    """R0 R1 R2 with Ri the right-handed rotation about axis i; float64 [3, 3], tensor axes."""
    matrix = np.eye(3)
    for axis, angle in enumerate(np.deg2rad(degrees)):
        first, second = (axis + 1) % 3, (axis + 2) % 3
        turn = np.eye(3)
        turn[first, first] = turn[second, second] = np.cos(angle)
        turn[first, second] = -np.sin(angle)
        turn[second, first] = np.sin(angle)
        matrix = matrix @ turn
    return matrix


def view_to_volume(geometry: Geometry, shape: tuple[int, int, int]) -> np.ndarray:
    """The affine from a view's normalised coordinates to its volume's, float64 [3, 4].

    Rows and columns are in axis order. The rotation acts in voxels, so that it stays a rotation
    when the volume is not a cube.
    """
    half = np.asarray(shape, dtype=np.float64) / 2.0
    mirror = np.array([-1.0 if geometry.flip else 1.0, 1.0, 1.0])
    to_voxels = np.diag(np.asarray(geometry.scale) * half * mirror)
    linear = np.diag(1.0 / half) @ rotation_matrix(geometry.rotation) @ to_voxels
    return np.concatenate([linear, np.asarray(geometry.center)[:, None]], axis=1)


def sampling_grid(affines: np.ndarray, size: int, device: torch.device) -> Tensor:
    """Where every voxel of every view is read, [B, V, S, S, S, 3] for ``grid_sample``.

    Args:
        affines: [B, V, 3, 4] from :func:`view_to_volume`.
        size: edge S of the views.

    The same grid as ``F.affine_grid`` (align_corners=False), as a sum of three broadcast terms
    instead of a matrix product: TF32 and autocast would round the product to a tenth of a voxel.
    The last dimension is reversed (axis 2 first), as ``grid_sample`` wants it.
    """
    theta = torch.from_numpy(np.ascontiguousarray(affines[:, :, ::-1, :], dtype=np.float32))
    theta = theta.to(device)
    steps = (torch.arange(size, device=device, dtype=torch.float32) * 2 + 1) / size - 1
    along = steps[:, None] * theta[..., None, :, :3].movedim(-1, 0)  # [axis, B, V, S, 3]
    first = along[0] + theta[..., None, :, 3]
    grid = first[:, :, :, None, None] + along[1][:, :, None, :, None]
    return grid + along[2][:, :, None, None, :]


def resample(
    volumes: Tensor, geometries: Sequence[Sequence[Geometry]], size: int, background: Tensor | None
) -> Tensor:
    """All views of one size of a batch in one resampling.

    Args:
        volumes: float32 [B, 1, D, H, W].
        geometries: for each scan its V geometries.
        size: edge S of the views.
        background: [B, 1, 1, 1, 1], the value outside the volume; None is 0.

    Returns:
        [V * B, 1, S, S, S], view-major: index = view * B + scan. Trilinear.
    """
    depth, height, width = volumes.shape[2:]
    edges = (depth, height, width)
    affines = np.stack([np.stack([view_to_volume(g, edges) for g in row]) for row in geometries])
    per_scan = affines.shape[1]
    if background is not None:
        volumes = volumes - background
    sampled = _sample(volumes, affines, size)
    if background is not None:
        sampled = sampled + background.repeat(per_scan, 1, 1, 1, 1)
    return sampled


def _sample(volumes: Tensor, affines: np.ndarray, size: int) -> Tensor:
    """[V * B, 1, S, S, S], zeros outside; on a CPU by the faster of two ways to the same values."""
    count, per_scan = affines.shape[:2]
    if volumes.device.type == "cpu":
        return sample_affine(volumes, torch.from_numpy(affines), size)
    # views stacked along the first axis: no volume is copied
    grid = sampling_grid(affines, size, volumes.device).flatten(1, 2)
    sampled = F.grid_sample(
        volumes, grid, mode="bilinear", padding_mode="zeros", align_corners=False
    )
    sampled = sampled.view(count, per_scan, 1, size, size, size)
    return sampled.transpose(0, 1).reshape(per_scan * count, 1, size, size, size)


def _triple(values: np.ndarray) -> tuple[float, float, float]:
    return float(values[0]), float(values[1]), float(values[2])
