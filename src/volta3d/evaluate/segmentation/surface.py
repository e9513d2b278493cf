"""Distances between the surfaces of two masks, in millimetres with the real spacing."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import ndimage


@dataclass(frozen=True)
class SurfaceDistances:
    """How far two surfaces lie apart, in mm; NaN when one of the masks is empty.

    Args:
        hd95: the larger of the two 95th percentiles of the distances from each surface's voxels to
            the nearest of the other, as MONAI's ``compute_hausdorff_distance(percentile=95)``.
        mean: the mean of all distances from both surfaces' voxels to the nearest of the other
            (average symmetric surface distance).
    """

    hd95: float
    mean: float


def surface_distances(
    first: np.ndarray, second: np.ndarray, spacing: tuple[float, float, float]
) -> SurfaceDistances:
    """HD95 and mean surface distance of two masks on one grid.

    The surface is made of a mask's voxels that have a face in common with the outside; beyond the
    grid all is outside. Both masks empty, or one of them: NaN, which the caller must count.

    Args:
        first, second: bool [I, J, K].
        spacing: mm along each axis.

    Raises:
        ValueError: masks of different shapes.
    """
    if first.shape != second.shape:
        raise ValueError(f"masks of {first.shape} and {second.shape} are on different grids")
    if not first.any() or not second.any():
        return SurfaceDistances(math.nan, math.nan)
    box = _box(first | second)
    one, other = surface(first[box]), surface(second[box])
    there = _distances(one, other, spacing)
    back = _distances(other, one, spacing)
    hd95 = max(float(np.percentile(there, 95)), float(np.percentile(back, 95)))
    return SurfaceDistances(hd95, float(np.concatenate([there, back]).mean()))


def surface(mask: np.ndarray) -> np.ndarray:
    """The voxels of a mask with a face towards the outside, bool like ``mask``."""
    found: np.ndarray = mask & ~ndimage.binary_erosion(mask, border_value=0)
    return found


def dice(first: np.ndarray, second: np.ndarray) -> float:
    """2 |A and B| / (|A| + |B|); NaN when both are empty."""
    total = int(first.sum()) + int(second.sum())
    return 2 * int((first & second).sum()) / total if total else math.nan


def _distances(
    here: np.ndarray, there: np.ndarray, spacing: tuple[float, float, float]
) -> np.ndarray:
    """From each voxel of ``here`` to the nearest of ``there``, in mm."""
    distance = ndimage.distance_transform_edt(~there, sampling=spacing)
    found: np.ndarray = np.asarray(distance)[here]
    return found


def _box(mask: np.ndarray) -> tuple[slice, ...]:
    """The box around a mask; a surface within it is the same as on the whole grid."""
    (found,) = ndimage.find_objects(mask.astype(np.uint8))
    return tuple(found)
