"""A scan to move through: one page of its own, with every picture of the scan inside it.

The page works by keyboard and on a phone, follows light and dark, and asks nothing of any network.
A front page shows it in a frame that loads when it is unfolded.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image

from volta3d.files import write_text
from volta3d.planes import MIRRORED, PLANES, convention, edges, sentence
from volta3d.report.html import render_viewer
from volta3d.report.mosaic import LETTER, window

MOST_VOXELS = 128  # along an edge; larger volumes are thinned for the page
HEAT = "inferno"
Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Picture:
    """A grey volume of the scan [X, Y, Z], RAS+, e.g. the input or what was rebuilt of it."""

    name: str
    volume: np.ndarray


@dataclass(frozen=True)
class Overlay:
    """What can be laid over the scan, on its grid.

    Attributes:
        name: on its button.
        volume: [X, Y, Z]; whole numbers that ``labels`` names (0 shows nothing), or, without
            labels, values that 0 to ``top`` shade from dark to bright where they are above 0.
        labels: what each number means, and its colour.
        top: the value shown brightest.
    """

    name: str
    volume: np.ndarray
    labels: Mapping[int, tuple[str, Colour]] = field(default_factory=dict)
    top: float = 1.0


def write_viewer(
    path: Path,
    title: str,
    pictures: Sequence[Picture],
    overlays: Sequence[Overlay] = (),
    *,
    note: str = "",
    sides: bool = True,
    home: str = "../index.html",
) -> None:
    """Write the page of one scan.

    Args:
        path: the HTML file.
        title: of the scan, without anything personal.
        pictures: the first is shown first; all on one grid [X, Y, Z], RAS+.
        overlays: the first is shown first.
        note: how to read it.
        sides: whether left and right are known (see ``Mosaic.mark``).
        home: the address of the front page, relative to the file.

    Raises:
        ValueError: volumes on different grids.
    """
    volumes = [p.volume for p in pictures] + [o.volume for o in overlays]
    shapes = {volume.shape for volume in volumes}
    if len(shapes) != 1 or len(next(iter(shapes))) != 3:
        raise ValueError(f"the volumes of {title} are not on one grid: {sorted(shapes)}")
    step = -(-max(next(iter(shapes))) // MOST_VOXELS)
    low, high = window(np.nan_to_num(pictures[0].volume))
    thin = tuple(slice(None, None, step) for _ in range(3))
    shape = pictures[0].volume[thin].shape
    content = {
        "title": title,
        "note": f"{note} {sentence() if sides else MIRRORED}".strip(),
        "home": home,
        "pictures": [(p.name, _address(_grey(p.volume[thin], low, high))) for p in pictures],
        "overlays": [(o.name, _address(_colours(o.volume[thin], o)), _legend(o)) for o in overlays],
        "start": dict(zip("XYZ", _start(overlays, thin, shape), strict=True)),
        "parameters": json.dumps(_parameters(shape, sides=sides)),
        "shape": dict(zip("XYZ", shape, strict=True)),
        "step": step,
    }
    write_text(path, render_viewer(content))


def _parameters(shape: tuple[int, ...], *, sides: bool) -> dict[str, object]:
    """What ``templates/viewer.js`` is started with."""
    return {
        "slices": dict(zip("XYZ", shape, strict=True)),
        "radiological": convention() == "radiological",
        "colour": LETTER,
        "edges": _letters(sides),
    }


def _letters(sides: bool) -> list[list[str]]:
    """Left, right, top and bottom of each plane; empty where an augmentation may have mirrored."""
    shown = [(plane, edges(plane)) for plane in PLANES]
    return [
        [e.left, e.right, e.top, e.bottom]
        if sides or plane == "sagittal"
        else ["", "", e.top, e.bottom]
        for plane, e in shown
    ]


def _start(
    overlays: Sequence[Overlay], thin: tuple[slice, ...], shape: tuple[int, ...]
) -> list[int]:
    """The slices shown first: through the middle of the first overlay's labels, else of the scan.

    Counted as tiles of the sprite, whose first axis runs from the patient's right to the left.
    """
    middle = [n // 2 for n in shape]
    if overlays and overlays[0].labels:
        marked = np.argwhere(overlays[0].volume[thin] > 0)
        if len(marked):
            middle = marked[np.abs(marked - marked.mean(0)).sum(1).argmin()].tolist()
    return [shape[0] - 1 - middle[0], *middle[1:]]


def sprite(volume: np.ndarray) -> np.ndarray:
    """Sagittal slices side by side, from the patient's right to the left.

    Args:
        volume: [X, Y, Z] or [X, Y, Z, channels], RAS+.

    Returns:
        [rows · Z, columns · Y] with up at the top and the front on the right of each slice.
    """
    slices = np.swapaxes(volume[::-1], 1, 2)[:, ::-1]  # [X, Z from the top, Y, ...]
    count, height, width = slices.shape[:3]
    rows = int(np.ceil(np.sqrt(count)))
    columns = -(-count // rows)
    sheet = np.zeros((rows * columns, *slices.shape[1:]), volume.dtype)
    sheet[:count] = slices
    tiles = sheet.reshape(rows, columns, height, width, *slices.shape[3:])
    joined: np.ndarray = np.swapaxes(tiles, 1, 2)
    return joined.reshape(rows * height, columns * width, *slices.shape[3:])


def _grey(volume: np.ndarray, low: float, high: float) -> np.ndarray:
    share = np.clip((np.nan_to_num(volume) - low) / (high - low), 0, 1)
    shades: np.ndarray = (255 * share).round().astype(np.uint8)
    return shades


def _colours(volume: np.ndarray, overlay: Overlay) -> np.ndarray:
    """[X, Y, Z, 4] red, green, blue and opacity."""
    painted = np.zeros((*volume.shape, 4), np.uint8)
    if overlay.labels:
        for number, (_, colour) in overlay.labels.items():
            painted[volume == number] = (*colour, 255)
        return painted
    share = np.clip(np.nan_to_num(volume) / max(overlay.top, 1e-12), 0, 1)
    painted[:] = matplotlib.colormaps[HEAT](share, bytes=True)
    painted[share <= 0] = 0
    return painted


def _legend(overlay: Overlay) -> list[tuple[str, str]]:
    """Names and colours of the labels that are there."""
    there = {int(v) for v in np.unique(overlay.volume)} if overlay.labels else set()
    named = [label for number, label in overlay.labels.items() if number in there]
    return [(words, f"#{bytes(colour).hex()}") for words, colour in named]


def _address(volume: np.ndarray) -> str:
    """The sprite of a volume as an address that holds the picture itself."""
    buffer = io.BytesIO()
    Image.fromarray(sprite(volume)).save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
