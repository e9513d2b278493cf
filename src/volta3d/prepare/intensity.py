"""Intensities: not-finite voxels mended, then the range or the z-score of METHOD section 1."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from volta3d.prepare.checks import EXPORT
from volta3d.prepare.findings import Finding, Refused

FEW = 0.01  # the share of voxels that may be NaN or infinite
SPIKE = 10.0  # times the upper percentile


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

    Raises:
        Refused: a volume without contrast.
    """
    values = data[data != 0]
    if values.size == 0 or values.min() == values.max():
        raise Refused("constant", "All voxels are the same", EXPORT)
    top = float(values.max())
    low, high = (float(v) for v in np.percentile(values, percentiles, overwrite_input=True))
    if not high > low:
        raise Refused("constant", "Nearly all voxels are the same", EXPORT)
    findings = []
    if high > 0 and top > SPIKE * high:
        what = f"A spike of {top:.3g} above {high:.3g}, percentile {percentiles[1]}; clipped"
        findings.append(Finding("warning", "spike", what))
    return low, high, findings


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
