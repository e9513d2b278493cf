"""A perceptual hash of a prepared volume: nearly the same picture, nearly the same bits.

The head is brought to a standard place and size, smoothed to 32^3, and the signs of the low
frequencies of its cosine transform are kept. Shape and anatomy decide the signs; noise, blur,
contrast and the preparation's grid hardly touch them. What changes the head's outline does: a
defaced or skull-stripped copy, or one with the neck cut off, is not recognised.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from scipy.fft import dctn

EDGE = 32
LOWEST, HIGHEST = 4, 10  # radius in the cosine transform: below lies what all heads share
WORKING = 64  # larger cubes are pooled to about this edge first
FOREGROUND = 0.15  # of the 99th percentile
REACH = 2.2  # half the standard frame, in standard deviations of the foreground's positions
NEAR = 0.15  # share of bits; measured on real scans, see docs/RESULTS.md


def perceptual_hash(volume: np.ndarray) -> np.ndarray:
    """The bits [597] of a volume.

    Args:
        volume: [D, H, W] of any value range, axes to the right, front and top, cubic voxels.
    """
    small = _smaller(np.asarray(volume, np.float32))
    frame = _standard(small)
    spread = float(frame.std())
    if spread == 0:
        return np.zeros(int(_BAND.sum()), bool)
    waves = dctn((frame - frame.mean()) / spread, norm="ortho")
    bits: np.ndarray = waves[: HIGHEST + 1, : HIGHEST + 1, : HIGHEST + 1][_BAND] > 0
    return bits


def hash_distances(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The share of bits in which volumes differ, [n, m]; unlike brains lie between .2 and .5.

    Args:
        first, second: bits [n, k] and [m, k].
    """
    a, b = (np.where(bits, 1, -1).astype(np.float32) for bits in (first, second))
    distances: np.ndarray = (1 - a @ b.T / a.shape[1]) / 2
    return distances


def _band() -> np.ndarray:
    axis = np.arange(HIGHEST + 1) ** 2
    squared = axis[:, None, None] + axis[:, None] + axis
    band: np.ndarray = (squared >= LOWEST**2) & (squared <= HIGHEST**2)
    return band


_BAND = _band()


def _smaller(volume: np.ndarray) -> np.ndarray:
    """Averaged over blocks until the edge is about ``WORKING``, and lifted to a minimum of 0."""
    step = max(1, round(min(volume.shape) / WORKING))
    kept = volume[tuple(slice(0, n - n % step) for n in volume.shape)]
    d, h, w = (n // step for n in kept.shape)
    pooled = kept.reshape(d, step, h, step, w, step).mean(axis=(1, 3, 5))
    lifted: np.ndarray = pooled - pooled.min()
    return lifted


def _standard(volume: np.ndarray) -> np.ndarray:
    """The head on [32, 32, 32]: centred on its foreground, scaled by the foreground's spread."""
    smooth = ndimage.gaussian_filter(volume, 1.0)
    mask = smooth > FOREGROUND * np.percentile(smooth, 99)
    parts, count = ndimage.label(mask)
    if count > 1:
        mask = parts == np.bincount(parts.ravel())[1:].argmax() + 1
    if not mask.any():
        return np.zeros((EDGE,) * 3, np.float32)
    places = np.argwhere(mask)
    centre, half = places.mean(axis=0), max(REACH * float(places.std(axis=0).mean()), 1.0)
    zoom = 2 * half / EDGE
    smooth = ndimage.gaussian_filter(volume, max(zoom / 2, 0.5))
    offset = centre - half + zoom / 2
    framed: np.ndarray = ndimage.affine_transform(
        smooth, np.full(3, zoom), offset, output_shape=(EDGE,) * 3, order=1, mode="constant"
    )
    return framed
