"""One resampling from the native grid straight to the prepared grid.

Linear interpolation after a Gaussian that removes what the coarser grid cannot hold. Where the two
grids are parallel this is three matrix products; where they are oblique, scipy does the same thing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

PARALLEL = 1e-4  # voxels by which a "parallel" grid may drift over the whole volume
FWHM = 2.3548200450309493  # full width at half maximum of a Gaussian with sigma 1


def resample(
    data: np.ndarray, mapping: np.ndarray, shape: tuple[int, int, int], outside: float
) -> np.ndarray:
    """Linear resampling with anti-aliasing.

    Args:
        data: float32 [I, J, K], C-contiguous for speed.
        mapping: 4x4 from output voxels to voxels of ``data``.
        shape: of the output.
        outside: the value beyond the edge of ``data``.

    Returns:
        float32 of ``shape``.
    """
    sigmas = blur(mapping)
    if _parallel(mapping, shape):
        matrices = [
            _weights(n, mapping[a, a], mapping[a, 3], m, sigmas[a])
            for a, (n, m) in enumerate(zip(data.shape, shape, strict=True))
        ]
        result = apply_along_axes(data - np.float32(outside), matrices)
        result += np.float32(outside)
        return result
    smooth = ndimage.gaussian_filter(data, sigmas, mode="nearest") if any(sigmas) else data
    moved: np.ndarray = ndimage.affine_transform(
        smooth, mapping, output_shape=shape, order=1, mode="grid-constant", cval=outside
    )
    return moved


def resample_nearest(
    labels: np.ndarray, mapping: np.ndarray, shape: tuple[int, int, int]
) -> np.ndarray:
    """Nearest-neighbour resampling; 0 beyond the edge. Ties go to the higher index."""
    if not _parallel(mapping, shape):
        out: np.ndarray = ndimage.affine_transform(
            labels, mapping, output_shape=shape, order=0, mode="grid-constant", cval=0
        )
        return out
    for axis, (n, m) in enumerate(zip(labels.shape, shape, strict=True)):
        at = np.floor(mapping[axis, axis] * np.arange(m) + mapping[axis, 3] + 0.5).astype(int)
        taken = np.take(labels, at.clip(0, n - 1), axis=axis)
        beyond = np.flatnonzero((at < 0) | (at >= n))
        np.moveaxis(taken, axis, 0)[beyond] = 0
        labels = taken
    return labels


def blur(mapping: np.ndarray) -> list[float]:
    """Sigma per input axis in input voxels: none where the output is as fine as the input.

    A voxel is taken to blur like a Gaussian as wide at half maximum as its edge, so going from an
    edge of 1 to an edge of r needs a width of sqrt(r^2 - 1).
    """
    # How many input voxels along each input axis one output voxel spans.
    ratios = np.linalg.norm(mapping[:3, :3], axis=1)
    return [float(np.sqrt(max(r * r - 1.0, 0.0)) / FWHM) if r > 1.001 else 0.0 for r in ratios]


def apply_along_axes(data: np.ndarray, matrices: Sequence[np.ndarray]) -> np.ndarray:
    """``matrices[a]`` [m_a, n_a] applied along axis a of ``data`` [n_0, n_1, n_2]."""
    first, second, third = (np.ascontiguousarray(m, np.float32) for m in matrices)
    n0, n1, n2 = data.shape
    out = (first @ data.reshape(n0, n1 * n2)).reshape(-1, n1, n2)
    out = np.matmul(second, out)
    result: np.ndarray = out.reshape(-1, n2) @ third.T
    return result.reshape(out.shape[0], out.shape[1], -1)


def _parallel(mapping: np.ndarray, shape: tuple[int, int, int]) -> bool:
    off = mapping[:3, :3] - np.diag(np.diag(mapping[:3, :3]))
    return bool((np.abs(off) @ np.array(shape)).max() < PARALLEL)


def _weights(n: int, step: float, start: float, m: int, sigma: float) -> np.ndarray:
    """Matrix [m, n]: Gaussian of ``sigma`` (edges repeated), then linear interpolation."""
    at = start + step * np.arange(m)
    left = np.floor(at).astype(int)
    part = at - left
    linear = np.zeros((m, n))
    rows = np.arange(m)
    for column, weight in ((left, 1 - part), (left + 1, part)):
        inside = (column >= 0) & (column < n)
        linear[rows[inside], column[inside]] += weight[inside]
    if sigma:
        linear = linear @ ndimage.gaussian_filter1d(np.eye(n), sigma, axis=0, mode="nearest")
    return linear.astype(np.float32)
