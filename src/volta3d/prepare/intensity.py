"""Intensities: not-finite voxels mended, then the range or the z-score of METHOD section 1."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import ndimage

from volta3d.prepare.checks import EXPORT
from volta3d.prepare.findings import Finding, Refused

FEW = 0.01  # the share of voxels that may be NaN or infinite
SPIKE = 10.0  # times the upper percentile
SAMPLE, BLOCK = 2**17, 2**20  # voxels


def mend(data: np.ndarray) -> tuple[np.ndarray, list[Finding]]:
    """Replace the few voxels that are NaN or infinite by the mean of their neighbours.

    Raises:
        Refused: more than one voxel in a hundred.
    """
    finite = np.isfinite(data)
    if finite.all():
        return data, []
    count = int(data.size - finite.sum())
    if count > FEW * data.size:
        what = f"{100 * count / data.size:.0f} % of the voxels are NaN or infinite"
        raise Refused("not-finite", what, "Replace them by 0 outside of the head")
    known = np.where(finite, data, 0).astype(np.float32)
    total = ndimage.uniform_filter(known, 3, mode="constant")
    share = ndimage.uniform_filter(finite.astype(np.float32), 3, mode="constant")
    mean = np.divide(total, share, out=np.zeros_like(total), where=share > 1e-3)
    what = f"{count} voxels were NaN or infinite and took the mean of their neighbours"
    return np.where(finite, known, mean), [Finding("warning", "not-finite-voxels", what)]


def limits(
    data: np.ndarray, percentiles: tuple[float, float]
) -> tuple[float, float, list[Finding]]:
    """The two percentiles of the non-zero voxels, between which intensities are kept.

    Args:
        data: finite numbers of any type and shape, in any order.
        percentiles: both in 0 to 100.

    Raises:
        Refused: a volume without contrast.
    """
    flat = data.ravel(order="K")
    count = int(np.count_nonzero(flat))
    if not count:
        raise Refused("constant", "All voxels are the same", EXPORT)
    bottom, top = _tails(flat, count, percentiles)
    if bottom[0] == top[-1]:
        raise Refused("constant", "All voxels are the same", EXPORT)
    low = _between(bottom, percentiles[0] / 100 * (count - 1))
    high = _between(top, percentiles[1] / 100 * (count - 1) - (count - len(top)))
    if not high > low:
        raise Refused("constant", "Nearly all voxels are the same", EXPORT)
    findings = []
    if high > 0 and float(top[-1]) > SPIKE * high:
        what = f"A spike of {top[-1]:.3g} above {high:.3g}, percentile {percentiles[1]}; clipped"
        findings.append(Finding("warning", "spike", what))
    return low, high, findings


def _tails(
    flat: np.ndarray, count: int, percentiles: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray]:
    """The smallest and the largest of the ``count`` non-zero values, sorted, as float32.

    Enough of each to hold their percentile. A sample says where to cut; only what lies beyond is
    collected and sorted, which costs a tenth of ordering all values and holds a small part of them.
    """
    sample = np.sort(flat[:: max(1, flat.size // SAMPLE)])
    sample = sample[sample != 0]
    ranks = [p / 100 * (count - 1) for p in percentiles]
    if len(sample):
        spare = 2 * np.sqrt(len(sample)) + 2  # four standard deviations of a rank, at most
        at = [p / 100 * (len(sample) - 1) for p in percentiles]
        lowest = sample[int(min(at[0] + spare, len(sample) - 1))]
        highest = sample[int(max(at[1] - spare, 0))]
        bottom = np.sort(_collect(flat, lambda block: block <= lowest))
        top = np.sort(_collect(flat, lambda block: block >= highest))
        if len(bottom) > ranks[0] + 1 and count - len(top) <= ranks[1]:
            return bottom, top
    whole = np.sort(_collect(flat, lambda block: np.ones(block.shape, bool)))
    return whole, whole


def _collect(flat: np.ndarray, wanted: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """The non-zero values that are wanted, float32."""
    found = []
    for start in range(0, flat.size, BLOCK):
        block = flat[start : start + BLOCK]
        chosen = block[wanted(block)]
        found.append(chosen[chosen != 0].astype(np.float32))
    return np.concatenate(found)


def _between(ordered: np.ndarray, rank: float) -> float:
    """The value at a rank that may lie between two."""
    below = min(int(rank), len(ordered) - 1)
    above = min(below + 1, len(ordered) - 1)
    part, step = rank - below, float(ordered[above] - ordered[below])
    if part < 0.5:  # from the nearer end, as NumPy does it
        return float(ordered[below]) + step * part
    return float(ordered[above]) - step * (1 - part)


def to_range(volume: np.ndarray, low: float, high: float) -> np.ndarray:
    """Linear from [low, high] to [0, 1], clipped."""
    scaled = (volume - np.float32(low)) / np.float32(high - low)
    return np.clip(scaled, 0, 1, out=scaled)


def to_zscore(volume: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Mean 0 and standard deviation 1 over ``mask``.

    Raises:
        Refused: no spread within the mask.
    """
    inside = volume[mask].astype(np.float64)
    spread = float(inside.std()) if inside.size else 0.0
    if not spread > 0:
        raise Refused("constant", "The foreground has no contrast", "Look at the scan")
    scores: np.ndarray = (volume - np.float32(inside.mean())) / np.float32(spread)
    return scores
