"""Where a volume's background is when it is not the darkest of its values.

Background is the commonest constant value: 0 amid the values of a z-scored brain, -1024 or 1000
where an offset was added, NaN outside of a mask. Ordinary scans, dark outside, are left alone.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from volta3d.prepare.findings import Finding

CORNER = 4  # voxels of a corner's cube
CORNERS = 6  # of eight must hold the background and nothing else
LEAST = 0.15  # share of voxels that a background takes up
SAMPLE = 2**16
AMID = 0.1  # of the spread of the values: a background this far above the darkest is amid them


def odd_background(data: np.ndarray) -> tuple[np.ndarray, Finding] | None:
    """The voxels of a background that is neither 0 below all others nor noise; None if ordinary.

    Args:
        data: float32 [I, J, K].

    Returns:
        bool [I, J, K], and what is said about it.
    """
    value = _constant_corners(data)
    if value is None:
        return None
    sample = data.ravel()[:: max(1, data.size // SAMPLE)]
    if _same(sample, value).mean() < LEAST or (value == 0 and not _amid(sample)):
        return None
    outside = _joined_to_border(_same(data, value))
    if not outside.any() or outside.all():
        return None
    if np.isnan(value):
        what = "Outside of the head the values are NaN; they became background"
        return outside, Finding("info", "nan-background", what)
    what = f"The background is {value:g} throughout, which is not 0 below all other values"
    return outside, Finding("info", "background-value", what + "; it became the darkest")


def _constant_corners(data: np.ndarray) -> float | None:
    """The one value of most corners of a volume, NaN included; None if they have no such value."""
    found: list[float] = []
    for ends in np.ndindex(2, 2, 2):
        cut = [slice(-CORNER, None) if end else slice(CORNER) for end in ends]
        corner = data[tuple(cut)]
        if np.isnan(corner).all():
            found.append(np.nan)
        elif corner.min() == corner.max():
            found.append(float(corner.flat[0]))
    unknown = sum(np.isnan(v) for v in found)
    if unknown >= CORNERS:
        return float("nan")
    known = [v for v in found if not np.isnan(v)]
    best = max(set(known), key=known.count, default=None)
    return best if best is not None and known.count(best) >= CORNERS else None


def _same(data: np.ndarray, value: float) -> np.ndarray:
    found: np.ndarray = ~np.isfinite(data) if np.isnan(value) else data == np.float32(value)
    return found


def _amid(sample: np.ndarray) -> bool:
    """Whether a background of 0 lies well above the darkest of the other values."""
    others = sample[(sample != 0) & np.isfinite(sample)]
    if not others.size or others.min() >= 0:
        return False
    dark, bright = np.percentile(others, [5, 95])
    return bool(-dark > AMID * (bright - dark))


def _joined_to_border(mask: np.ndarray) -> np.ndarray:
    parts, count = ndimage.label(mask)
    outside = np.zeros(count + 1, bool)
    for axis in range(3):
        for end in (0, -1):
            outside[np.take(parts, end, axis=axis)] = True
    outside[0] = False
    found: np.ndarray = outside[parts]
    return found
