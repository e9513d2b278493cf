"""Cutting volumes into planes as radiologists look at them.

Volumes are RAS+: axis 0 points to the patient's right, axis 1 to the front, axis 2 up. In the
coronal and axial planes the patient's right is on the left of the picture, in the sagittal plane
the front is; up is up, and the front is up in the axial plane.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

Plane = Literal["sagittal", "coronal", "axial"]
PLANES: tuple[Plane, ...] = ("sagittal", "coronal", "axial")
SIDES: dict[Plane, tuple[str, str]] = {
    "sagittal": ("A", "P"),
    "coronal": ("R", "L"),
    "axial": ("R", "L"),
}


def cut(volume: np.ndarray, plane: Plane, index: int | None = None) -> np.ndarray:
    """A plane of a volume as a picture.

    Args:
        volume: [D, H, W] or [D, H, W, channels], RAS+.
        plane: which way to cut.
        index: the position along the axis that is cut; the middle by default.

    Returns:
        [rows from the top, columns from the left], channels kept last.
    """
    axis = PLANES.index(plane)
    position = volume.shape[axis] // 2 if index is None else index
    part = np.take(volume, position, axis=axis)
    picture: np.ndarray = np.swapaxes(part, 0, 1)[::-1, ::-1]
    return picture


def window(volume: np.ndarray) -> tuple[float, float]:
    """The grey window of a volume: from its background to near its brightest, never empty."""
    low, high = np.percentile(volume, (0.5, 99.7))
    return float(low), float(high if high > low else low + 1.0)
