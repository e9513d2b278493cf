"""Quality control pictures: three planes per scan with their letters, labels outlined."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont, PngImagePlugin

from volta3d.cohort.contract import Contract
from volta3d.planes import PLANES, convention, cut, edges

ZSCORE_WINDOW = (-2.0, 4.0)
PANEL = 256  # the least edge of a plane in pixels; voxels are repeated, outlines are not
LETTER = (255, 216, 102)
RECORD = "Convention"  # the PNG's own text says which way it was drawn
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
    """A sagittal, coronal and axial plane side by side, uint8 [edge or 2 edge, 3 edge, 3].

    Drawn under the convention of ``volta3d.planes``, with R, L, A, P, S and I at the edges; the
    edge of a plane is the smallest multiple of the cube's that reaches ``PANEL``. With a label map
    the planes are those with most labelled voxels, and a second row shows its outlines.
    """
    low, high = contract.value_range or ZSCORE_WINDOW
    at = [n // 2 for n in volume.shape]
    if label is not None and label.any():
        others = [tuple(a for a in range(3) if a != axis) for axis in range(3)]
        at = [int(np.count_nonzero(label, axis=o).argmax()) for o in others]
    grey = np.clip((_planes(volume, at) - low) / (high - low), 0, 1)
    picture = np.repeat(np.rint(255 * grey).astype(np.uint8)[..., None], 3, axis=2)
    if label is None:
        return _lettered(picture)
    shown, outlined = _planes(label, at), picture.copy()
    edge = outline(shown)
    outlined[edge] = PALETTE[shown[edge] % len(PALETTE)]
    return np.concatenate([_lettered(picture), _lettered(outlined)])


def outline(labels: np.ndarray) -> np.ndarray:
    """Pixels of a label that touch another label, bool like ``labels`` [H, W]."""
    edge = np.zeros(labels.shape, bool)
    for axis in (0, 1):
        for step in (-1, 1):
            edge |= np.roll(labels, step, axis=axis) != labels
    found: np.ndarray = edge & (labels > 0)
    return found


def write_png(path: Path, picture: np.ndarray) -> None:
    """Write uint8 [H, W, 3] as PNG, with the convention that it was drawn under."""
    record = PngImagePlugin.PngInfo()
    record.add_text(RECORD, convention())
    Image.fromarray(picture).save(path, format="png", pnginfo=record)


def drawn_under(path: Path) -> str:
    """The convention of a picture that ``write_png`` wrote; empty for what is older or broken."""
    try:
        with Image.open(path) as picture:
            return str(picture.info.get(RECORD, ""))
    except OSError:
        return ""


def _planes(volume: np.ndarray, at: Sequence[int]) -> np.ndarray:
    """One plane across each axis side by side, each voxel so many pixels."""
    times = -(-PANEL // volume.shape[0])
    cuts = [cut(volume, plane, index) for plane, index in zip(PLANES, at, strict=True)]
    row: np.ndarray = np.concatenate(cuts, axis=1).repeat(times, axis=0).repeat(times, axis=1)
    return row


def _lettered(picture: np.ndarray) -> np.ndarray:
    """A row of planes [edge, 3 edge, 3] with the letters at the edges of each."""
    image = Image.fromarray(picture)
    pen, edge = ImageDraw.Draw(image), picture.shape[0]
    font = ImageFont.load_default(size=max(edge // 12, 10))
    for place, plane in enumerate(PLANES):
        letters, left = edges(plane), place * edge
        for text, x, y, anchor in (
            (letters.left, left + 4, edge / 2, "lm"),
            (letters.right, left + edge - 4, edge / 2, "rm"),
            (letters.top, left + edge / 2, 4, "mt"),
            (letters.bottom, left + edge / 2, edge - 4, "mb"),
        ):
            pen.text((x, y), text, fill=LETTER, font=font, anchor=anchor)
    return np.asarray(image)
