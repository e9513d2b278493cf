"""A grid of planes on one pair of axes: axes of their own take matplotlib ten times as long."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from volta3d.planes import Plane, edges

GAP = 0.02  # between pictures, in their width and height
PAD = 4 / 72  # below a title, in inches
LETTER = "#ffd866"
Box = tuple[float, float, float, float]


class Mosaic:
    """Pictures in rows and columns, with titles above and sides at their edges.

    Args:
        figure: all of it is taken, in inches.
        rows, columns: of the grid.
        left, right, bottom, top: its edges, as shares of the figure.
    """

    def __init__(
        self,
        figure: Figure,
        rows: int,
        columns: int,
        *,
        left: float = 0.005,
        right: float = 0.995,
        bottom: float = 0.005,
        top: float = 0.935,
    ) -> None:
        across, up = (float(v) for v in figure.get_size_inches())
        self.axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
        self.axes.set_axis_off()
        self.axes.set_xlim(0, across)
        self.axes.set_ylim(0, up)
        self.axes.autoscale(False)
        self._corner = left * across, top * up
        self._cell = (
            (right - left) * across / (columns + GAP * (columns - 1)),
            (top - bottom) * up / (rows + GAP * (rows - 1)),
        )

    def show(self, row: int, column: int, image: np.ndarray, **look: Any) -> AxesImage:
        """Put a picture [rows, columns] or [rows, columns, 3] in its place, voxels square."""
        return self.axes.imshow(
            image,
            interpolation="nearest",
            aspect="auto",
            extent=self._box(row, column, image.shape[1] / image.shape[0]),
            **look,
        )

    def title(self, column: int, text: str, size: float) -> None:
        """Write above a column, in points."""
        x0, x1, _, _ = self._box(0, column, None)
        self.axes.text(
            (x0 + x1) / 2, self._corner[1] + PAD, text, fontsize=size, ha="center", va="baseline"
        )

    def mark(
        self,
        row: int,
        column: int,
        image: np.ndarray,
        plane: Plane,
        *,
        sides: bool = True,
        size: float = 7.0,
    ) -> None:
        """Write R, L, A, P, S and I at a picture's edges.

        Args:
            row, column: its place.
            image: what is shown there.
            plane: which one it shows.
            sides: False for views that an augmentation may have mirrored: then R and L are unknown.
            size: of the letters, in points.
        """
        x0, x1, y0, y1 = self._box(row, column, image.shape[1] / image.shape[0])
        letters = edges(plane)
        middle = (x0 + x1) / 2, (y0 + y1) / 2
        inset = 0.02 * (x1 - x0)
        look: dict[str, Any] = {"fontsize": size, "color": LETTER}
        if sides or plane == "sagittal":
            self.axes.text(x0 + inset, middle[1], letters.left, ha="left", va="center", **look)
            self.axes.text(x1 - inset, middle[1], letters.right, ha="right", va="center", **look)
        self.axes.text(middle[0], y1 - inset, letters.top, ha="center", va="top", **look)
        self.axes.text(middle[0], y0 + inset, letters.bottom, ha="center", va="bottom", **look)

    def _box(self, row: int, column: int, shape: float | None) -> Box:
        """Left, right, bottom and top of a place, or of what a picture fills of it."""
        width, height = self._cell
        x = self._corner[0] + column * (1 + GAP) * width + width / 2
        y = self._corner[1] - row * (1 + GAP) * height - height / 2
        if shape is not None:
            width, height = min(width, height * shape), min(height, width / shape)
        return x - width / 2, x + width / 2, y - height / 2, y + height / 2


def window(volume: np.ndarray) -> tuple[float, float]:
    """The grey window of a volume: from its background to near its brightest, never empty."""
    low, high = np.percentile(volume, (0.5, 99.7))
    return float(low), float(high if high > low else low + 1.0)
