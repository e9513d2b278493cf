"""One resampling from the native grid straight to the prepared grid.

Linear interpolation after a Gaussian that removes what the coarser grid cannot hold. Where the two
grids are parallel this is three products with banded matrices, of which only the bands are
multiplied, a few planes at a time; where they are oblique, the Gaussian is three such products and
scipy interpolates.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
from scipy import ndimage
from threadpoolctl import ThreadpoolController

PARALLEL = 1e-4  # voxels by which a "parallel" grid may drift over the whole volume
PLANES, ROWS, COLUMNS = 2, 16, 32  # of a band's blocks: small enough for a core's cache
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
        result = apply_along_axes(data, matrices, offset=outside)
        result += np.float32(outside)
        return result
    smooth = data
    if any(sigmas):
        smooth = apply_along_axes(
            data, [_gaussian(n, s) for n, s in zip(data.shape, sigmas, strict=True)]
        )
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


def apply_along_axes(
    data: np.ndarray, matrices: Sequence[np.ndarray], offset: float = 0.0
) -> np.ndarray:
    """``matrices[a]`` [m_a, n_a] applied along axis a of ``data - offset`` [n_0, n_1, n_2].

    Meant for banded matrices: only the columns that a block of rows uses are multiplied, so the
    cost grows with the bands, and no copy of the volume is made. On one thread: the products are so
    small that several would mostly wait for each other.

    Returns:
        float32 [m_0, m_1, m_2].
    """
    first, second, third = (
        _blocks(m, rows) for m, rows in zip(matrices, (PLANES, ROWS, COLUMNS), strict=True)
    )
    n1, n2 = data.shape[1:]
    m0, m1, m2 = (len(m) for m in matrices)
    out = np.empty((m0, m1, m2), np.float32)
    rows = np.empty((PLANES, m1, n2), np.float32)
    with _blas().limit(limits=1, user_api="blas"):
        for to, used, weights in first:
            slab = data[used].reshape(-1, n1 * n2)
            if offset:
                slab = slab - np.float32(offset)
            planes = (weights @ slab).reshape(-1, n1, n2)
            part = rows[: len(planes)]
            for to1, used1, weights1 in second:
                np.matmul(weights1, planes[:, used1], out=part[:, to1])
            flat, target = part.reshape(-1, n2), out[to].reshape(-1, m2)
            for to2, used2, weights2 in third:
                target[:, to2] = flat[:, used2] @ weights2.T
    return out


@cache
def _blas() -> ThreadpoolController:
    return ThreadpoolController()


def _blocks(matrix: np.ndarray, size: int) -> list[tuple[slice, slice, np.ndarray]]:
    """Blocks of ``size`` rows: which rows, which columns hold their band, and the band."""
    found = []
    for start in range(0, len(matrix), size):
        rows = np.asarray(matrix[start : start + size], np.float32)
        used = np.flatnonzero(rows.any(axis=0))
        band = slice(int(used[0]), int(used[-1]) + 1) if used.size else slice(0, 0)
        block = np.ascontiguousarray(rows[:, band])
        found.append((slice(start, start + len(rows)), band, block))
    return found


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
        linear = linear @ _gaussian(n, sigma)
    return linear.astype(np.float32)


def _gaussian(n: int, sigma: float) -> np.ndarray:
    """Matrix [n, n] that blurs with a Gaussian of ``sigma`` voxels, edges repeated."""
    if not sigma:
        return np.eye(n)
    blurred: np.ndarray = ndimage.gaussian_filter1d(np.eye(n), sigma, axis=0, mode="nearest")
    return blurred
