"""Quality control pictures: three planes per scan, labels outlined."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from volta3d.cohort.contract import Contract

ZSCORE_WINDOW = (-2.0, 4.0)
# Twenty colours that are told apart on grey, each hue strong and pale; a label's value picks one.
PALETTE = np.array(
    [
        [31, 119, 180], [174, 199, 232], [255, 127, 14], [255, 187, 120], [44, 160, 44],
        [152, 223, 138], [214, 39, 40], [255, 152, 150], [148, 103, 189], [197, 176, 213],
        [140, 86, 75], [196, 156, 148], [227, 119, 194], [247, 182, 210], [127, 127, 127],
        [199, 199, 199], [188, 189, 34], [219, 219, 141], [23, 190, 207], [158, 218, 229],
    ],
    np.uint8,
)  # fmt: skip


def mosaic(volume: np.ndarray, label: np.ndarray | None, contract: Contract) -> np.ndarray:
    """A sagittal, coronal and axial plane side by side, uint8 [size or 2 size, 3 size, 3].

    Front and the patient's right are on the right-hand side, up is up. With a label map the planes
    are those with most labelled voxels, and a second row shows its outlines.
    """
    low, high = contract.value_range or ZSCORE_WINDOW
    at = [n // 2 for n in volume.shape]
    if label is not None and label.any():
        others = [tuple(a for a in range(3) if a != axis) for axis in range(3)]
        at = [int(np.count_nonzero(label, axis=o).argmax()) for o in others]
    grey = np.clip((_planes(volume, at) - low) / (high - low), 0, 1)
    picture = np.repeat(np.rint(255 * grey).astype(np.uint8)[..., None], 3, axis=2)
    if label is None:
        return picture
    cut, outlined = _planes(label, at), picture.copy()
    edge = outline(cut)
    outlined[edge] = PALETTE[cut[edge] % len(PALETTE)]
    return np.concatenate([picture, outlined])


def outline(labels: np.ndarray) -> np.ndarray:
    """Pixels of a label that touch another label, bool like ``labels`` [H, W]."""
    edge = np.zeros(labels.shape, bool)
    for axis in (0, 1):
        for step in (-1, 1):
            edge |= np.roll(labels, step, axis=axis) != labels
    found: np.ndarray = edge & (labels > 0)
    return found


def write_png(path: Path, picture: np.ndarray) -> None:
    """Write uint8 [H, W, 3] as PNG."""
    Image.fromarray(picture).save(path, format="png")


def _planes(volume: np.ndarray, at: Sequence[int]) -> np.ndarray:
    """One plane across each axis side by side, the last axis drawn upwards."""
    cuts = [np.take(volume, index, axis=axis).T[::-1] for axis, index in enumerate(at)]
    return np.concatenate(cuts, axis=1)
