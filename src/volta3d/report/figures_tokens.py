"""Principal components of patch tokens as colours over anatomy."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from volta3d.planes import PLANES, cut
from volta3d.report.evidence import Absent
from volta3d.report.figures_volumes import read_tensors
from volta3d.report.mosaic import Mosaic, window
from volta3d.report.style import picture

FOREGROUND = 0.15  # of the grey window, in the mean of a patch
COVER = 0.72  # of the colour over the anatomy


@dataclass(frozen=True)
class PatchTokens:
    """Volumes [n, S, S, S] and, of each patch, three components scaled to colours.

    Attributes:
        volume: float32.
        colours: float64 [n, g, g, g, 3] in [0, 1].
        foreground: bool [n, g, g, g], patches that hold head.
        explained: the shares of the foreground tokens' variance in the three components.
    """

    volume: np.ndarray
    colours: np.ndarray
    foreground: np.ndarray
    explained: np.ndarray


def read_patch_tokens(path: Path | None) -> PatchTokens | Absent:
    """Read and decompose; one decomposition for all scans, so that colours mean the same."""
    if path is None:
        return Absent("The run holds no patch tokens (pictures/patch-tokens.safetensors).")
    tensors = read_tensors(path)
    if isinstance(tensors, Absent):
        return tensors
    if not {"volume", "tokens"} <= set(tensors):
        return Absent(f"The picture file {path.name} does not hold the tensors expected.")
    volume = np.nan_to_num(tensors["volume"].astype(np.float32))
    tokens = np.nan_to_num(tensors["tokens"].astype(np.float64))
    if volume.ndim != 4 or tokens.ndim != 3 or len(volume) != len(tokens) or not volume.size:
        return Absent(f"The picture file {path.name} does not hold the tensors expected.")
    edge = round(tokens.shape[1] ** (1 / 3))
    if edge**3 != tokens.shape[1] or tokens.shape[2] < 3 or volume.shape[1] % edge:
        return Absent(f"The patch tokens of {path.name} do not form a cube over their volume.")
    foreground = _foreground(volume, edge)
    colours, explained = components(tokens, foreground.reshape(len(tokens), -1))
    return PatchTokens(
        volume, colours.reshape(len(tokens), edge, edge, edge, 3), foreground, explained
    )


def _foreground(volume: np.ndarray, edge: int) -> np.ndarray:
    """Patches brighter than background [n, g, g, g]; all of them if that leaves too few."""
    size = volume.shape[1] // edge
    blocks = volume.reshape(len(volume), edge, size, edge, size, edge, size).mean(axis=(2, 4, 6))
    low, high = window(volume)
    found: np.ndarray = blocks > low + FOREGROUND * (high - low)
    return found if found.sum() > 3 else np.ones_like(found)


def components(tokens: np.ndarray, use: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The three first principal components as colours, and the shares of variance they hold.

    Args:
        tokens: [n, T, W].
        use: bool [n, T], the tokens that decide the components and their scale.

    Returns:
        colours [n, T, 3] in [0, 1], 1st to 99th percentile of the used tokens; shares [3].
    """
    chosen = tokens[use]
    centre = chosen.mean(axis=0)
    _, singular, axes = np.linalg.svd(chosen - centre, full_matrices=False)
    axes = np.pad(axes, ((0, max(3 - len(axes), 0)), (0, 0)))[:3]
    strongest = np.abs(axes).argmax(axis=1)
    signs = np.sign(axes[np.arange(3), strongest])  # a component's sign is arbitrary: fix it
    values = (tokens - centre) @ (axes * np.where(signs == 0, 1, signs)[:, None]).T
    low, high = np.percentile(values[use], (1, 99), axis=0)
    scaled = (values - low) / np.where(high > low, high - low, 1.0)
    power = np.square(singular)
    shares = np.pad(power, (0, 3))[:3] / max(float(power.sum()), 1e-30)
    return np.clip(scaled, 0, 1), shares


def draw_tokens(path: Path, tokens: PatchTokens, scan: int) -> tuple[int, int]:
    """One scan: anatomy above, colours over it below; width and height in pixels."""
    volume = tokens.volume[scan]
    low, high = window(volume)
    grey = np.clip((volume - low) / (high - low), 0, 1)[..., None]
    size = volume.shape[0] // tokens.colours.shape[1]
    colours, head = tokens.colours[scan], tokens.foreground[scan]
    for axis in range(3):
        colours, head = np.repeat(colours, size, axis), np.repeat(head, size, axis)
    mixed = colours * (1 - COVER + COVER * grey) * COVER + grey * (1 - COVER)
    blend = np.where(head[..., None], mixed, 0.6 * grey)

    def draw(figure: Figure) -> None:
        grid = Mosaic(figure, 2, 3)
        for column, plane in enumerate(PLANES):
            anatomy = cut(volume, plane)
            grid.show(0, column, anatomy, cmap="gray", vmin=low, vmax=high)
            grid.show(1, column, cut(np.clip(blend, 0, 1), plane))
            grid.title(column, plane.capitalize(), 8.5)
            grid.mark(0, column, anatomy, plane)

    return picture(path, draw, size=(4.8, 3.4))
