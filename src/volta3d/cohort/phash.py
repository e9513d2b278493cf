"""A perceptual hash of a prepared volume: nearly the same picture, nearly the same bits.

The head is brought to a standard place and size, smoothed to 32^3, and the signs of the low
frequencies of its cosine transform are kept, for the head as it is and for six slight turns of it,
so that a second scan in another pose is close to one of them. Shape and anatomy decide the signs;
noise, blur, contrast and the preparation's grid hardly touch them. What changes the head's outline
does: a defaced or skull-stripped copy, or one with the neck cut off, is not recognised.
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
TURN = 4.0  # degrees about each axis, both ways
NEAR = 0.13  # share of bits; measured on real scans, see docs/RESULTS.md


def perceptual_hash(volume: np.ndarray) -> np.ndarray:
    """The bits [7, 597] of a volume: upright, then turned about each axis to and fro.

    Args:
        volume: [D, H, W] of any value range, axes to the right, front and top, cubic voxels.
    """
    frames = _standard(_smaller(np.asarray(volume, np.float32)))
    return np.stack([_bits(frame) for frame in frames])


def hash_distances(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The share of bits in which volumes differ in the pose that fits best, float32 [n, m].

    Different people lie between about .2 and .5.

    Args:
        first, second: hashes [n, 7, k] and [m, 7, k].
    """
    one_way = _unlike(first[:, 0], second)
    other_way = _unlike(second[:, 0], first).T
    best: np.ndarray = np.minimum(one_way, other_way)
    return best


def _unlike(upright: np.ndarray, turned: np.ndarray) -> np.ndarray:
    """[n, m] from upright [n, k] and all poses [m, 7, k], the best pose of each."""
    m, poses, k = turned.shape
    a, b = (np.where(bits, np.float32(1), np.float32(-1)) for bits in (upright, turned))
    agreement = (a @ b.reshape(m * poses, k).T).reshape(len(a), m, poses).max(axis=2)
    distances: np.ndarray = (1 - agreement / k) / 2
    return distances


def _bits(frame: np.ndarray) -> np.ndarray:
    spread = float(frame.std())
    if spread == 0:
        return np.zeros(int(_BAND.sum()), bool)
    waves = dctn((frame - frame.mean()) / spread, norm="ortho")
    bits: np.ndarray = waves[: HIGHEST + 1, : HIGHEST + 1, : HIGHEST + 1][_BAND] > 0
    return bits


def _turns() -> list[np.ndarray]:
    """The identity and six rotations."""
    cos, sin = np.cos(np.deg2rad(TURN)), np.sin(np.deg2rad(TURN))
    turns = [np.eye(3)]
    for i, j in ((0, 1), (0, 2), (1, 2)):
        turn = np.eye(3)
        turn[i, i] = turn[j, j] = cos
        turn[i, j], turn[j, i] = -sin, sin
        turns += [turn, turn.T]
    return turns


_TURNS = _turns()


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


def _standard(volume: np.ndarray) -> list[np.ndarray]:
    """Each pose of the head on [32, 32, 32], placed and scaled by its foreground."""
    smooth = ndimage.gaussian_filter(volume, 1.0)
    mask = smooth > FOREGROUND * np.percentile(smooth, 99)
    parts, count = ndimage.label(mask)
    if count > 1:
        mask = parts == np.bincount(parts.ravel())[1:].argmax() + 1
    if not mask.any():
        return [np.zeros((EDGE,) * 3, np.float32)] * len(_TURNS)
    places = np.argwhere(mask)
    centre, half = places.mean(axis=0), max(REACH * float(places.std(axis=0).mean()), 1.0)
    zoom = 2 * half / EDGE
    smooth = ndimage.gaussian_filter(volume, max(zoom / 2, 0.5))
    frames = []
    for turn in _TURNS:
        matrix = zoom * turn
        offset = centre - matrix @ np.full(3, (EDGE - 1) / 2)
        frames.append(
            ndimage.affine_transform(
                smooth, matrix, offset, output_shape=(EDGE,) * 3, order=1, mode="constant"
            )
        )
    return frames
