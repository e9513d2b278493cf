"""Reconstructions: input, corrupted, rebuilt and the error, in three planes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from safetensors import SafetensorError
from safetensors.numpy import load_file

from volta3d.planes import PLANES, Plane, cut
from volta3d.report.evidence import Absent
from volta3d.report.mosaic import Mosaic, window
from volta3d.report.style import number, picture

Item = TypeVar("Item")
NAMES = ("input", "corrupted", "rebuilt", "mask")
MOST_EPOCHS = 4  # columns of the film strip


@dataclass(frozen=True)
class Reconstruction:
    """Volumes of one monitor record, each float32 [n, S, S, S]; ``mask`` bool, True = replaced."""

    epoch: int
    input: np.ndarray
    corrupted: np.ndarray
    rebuilt: np.ndarray
    mask: np.ndarray

    def shows_same(self, other: Reconstruction) -> bool:
        """Whether both rebuilt the same corrupted volumes."""
        return np.array_equal(self.input, other.input) and np.array_equal(
            self.corrupted, other.corrupted
        )

    def error(self, scan: int) -> float:
        """The mean squared error over the masked voxels of a scan."""
        where = self.mask[scan]
        difference = (self.rebuilt[scan] - self.input[scan])[where]
        return float(np.square(difference).mean()) if difference.size else float("nan")


def read_reconstruction(epoch: int, path: Path) -> Reconstruction | Absent:
    """The volumes of a picture file."""
    tensors = read_tensors(path)
    if isinstance(tensors, Absent):
        return tensors
    missing = [name for name in NAMES if name not in tensors]
    shapes = {tensors[name].shape for name in NAMES if name in tensors}
    if missing or len(shapes) != 1 or len(next(iter(shapes))) != 4 or 0 in next(iter(shapes)):
        return Absent(f"The picture file {path.name} does not hold the volumes expected.")
    given, corrupted, rebuilt = (
        np.nan_to_num(tensors[name].astype(np.float32)) for name in NAMES[:3]
    )
    return Reconstruction(epoch, given, corrupted, rebuilt, tensors["mask"].astype(bool))


def read_tensors(path: Path) -> dict[str, np.ndarray] | Absent:
    """The tensors of a safetensors file."""
    try:
        return dict(load_file(path))
    except (OSError, SafetensorError, ValueError, TypeError, KeyError):
        return Absent(f"The picture file {path.name} is damaged or still being written.")


def draw_reconstruction(
    path: Path, volumes: Reconstruction, scan: int, *, sides: bool
) -> tuple[int, int]:
    """One scan as a picture of 3 planes by 4 columns; returns its width and height in pixels.

    Args:
        path: the PNG to write.
        volumes: what was rebuilt.
        scan: which of them.
        sides: whether left and right are known, see ``Mosaic.mark``.
    """
    given = volumes.input[scan]
    low, high = window(given)
    error = np.where(volumes.mask[scan], np.abs(volumes.rebuilt[scan] - given), 0.0)
    top = max(float(np.percentile(error[volumes.mask[scan]], 99.5)), 1e-6) if error.any() else 1.0
    grey = {"cmap": "gray", "vmin": low, "vmax": high}
    columns = (
        ("Input", given, grey),
        ("Corrupted", volumes.corrupted[scan], grey),
        ("Rebuilt", volumes.rebuilt[scan], grey),
        ("|Error| (masked)", error, {"cmap": "inferno", "vmin": 0.0, "vmax": top}),
    )

    def draw(figure: Figure) -> None:
        grid = Mosaic(figure, 3, 4, right=0.905)
        for row, plane in enumerate(PLANES):
            for column, (_, volume, look) in enumerate(columns):
                shown = grid.show(row, column, cut(volume, plane), **look)
            grid.mark(row, 0, cut(given, plane), plane, sides=sides)
        for column, (title, _, _) in enumerate(columns):
            grid.title(column, title, 8)
        bar = figure.add_axes((0.913, 0.25, 0.013, 0.45))
        figure.colorbar(shown, cax=bar)
        bar.tick_params(labelsize=6, length=2, width=0.5, pad=1.5)
        bar.spines[:].set_visible(False)
        bar.locator_params(nbins=4)
        bar.yaxis.set_major_formatter(FuncFormatter(lambda v, _: number(float(v), 2, trim=True)))

    return picture(path, draw, size=(4.8, 3.55))


def draw_film(
    path: Path, records: Sequence[Reconstruction], scan: int, *, sides: bool
) -> tuple[int, int]:
    """How one scan is rebuilt as training goes on; width and height of the picture in pixels."""
    chosen = spread(records, MOST_EPOCHS)
    low, high = window(chosen[-1].input[scan])
    columns = [("Input", chosen[-1].input[scan]), ("Corrupted", chosen[-1].corrupted[scan])]
    columns += [(f"Epoch {r.epoch}", r.rebuilt[scan]) for r in chosen]
    planes: tuple[Plane, ...] = ("coronal", "axial")

    def draw(figure: Figure) -> None:
        grid = Mosaic(figure, len(planes), len(columns), top=0.92)
        for row, plane in enumerate(planes):
            for column, (_, volume) in enumerate(columns):
                grid.show(row, column, cut(volume, plane), cmap="gray", vmin=low, vmax=high)
            grid.mark(row, 0, cut(columns[0][1], plane), plane, sides=sides)
        for column, (title, _) in enumerate(columns):
            grid.title(column, title, 7)

    width = 1.2 * len(columns)
    return picture(path, draw, size=(width, 2 * 1.2 / 0.92))


def spread(records: Sequence[Item], most: int) -> list[Item]:
    """At most ``most`` records, first and last included, evenly between."""
    if len(records) <= most:
        return list(records)
    kept = np.unique(np.linspace(0, len(records) - 1, most).round().astype(int))
    return [records[i] for i in kept]
