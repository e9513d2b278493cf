"""Hippocampi and lateral ventricles of the template, drawn by this code as curved tubes.

The centre lines are our own: a few points in MNI mm, set by eye on the template's grey-matter and
T1 maps. Grey matter then cuts the hippocampi to shape, fluid the ventricles, so that both borders
are the template's. The template is symmetric; one side is drawn, the other is its mirror image.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from scipy.interpolate import make_interp_spline
from scipy.spatial import KDTree

from volta3d.phantom.warp import Grid

# Rows of x (of the right side), y, z, half width along x, half height across the line, in mm.
HIPPOCAMPUS = (
    (20.5, -7.5, -22.0, 6.5, 4.0),  # head, behind the amygdala
    (23.5, -11.0, -20.5, 8.0, 5.5),
    (26.5, -15.5, -18.0, 8.5, 5.0),
    (28.5, -21.0, -14.5, 7.5, 4.5),
    (29.0, -26.5, -11.0, 7.0, 4.0),  # body
    (27.5, -31.5, -6.5, 6.0, 3.5),
    (24.5, -35.5, -1.5, 5.5, 3.5),
    (20.5, -38.5, 3.0, 4.5, 3.0),  # tail, below the splenium
)
VENTRICLE = (
    (14.0, 34.0, 1.0, 9.0, 9.0),  # frontal horn
    (11.0, 22.0, 8.0, 10.0, 11.0),
    (9.0, 8.0, 15.0, 10.0, 11.0),
    (9.0, -6.0, 20.0, 11.0, 9.0),  # body
    (13.0, -20.0, 22.0, 12.0, 9.0),
    (21.0, -33.0, 16.0, 12.0, 11.0),
    (27.0, -41.0, 7.0, 11.0, 11.0),  # atrium
    (33.0, -35.0, -5.0, 9.0, 7.0),
    (37.0, -25.0, -12.0, 7.0, 7.0),  # inferior horn
    (36.0, -15.0, -18.0, 7.0, 6.0),
    (31.0, -8.0, -22.0, 7.0, 5.0),
)
OCCIPITAL_HORN = (
    (27.0, -41.0, 8.0, 11.0, 11.0),
    (28.0, -56.0, 9.0, 10.0, 10.0),
    (26.0, -70.0, 7.0, 9.0, 8.0),
    (22.0, -80.0, 5.0, 7.0, 6.0),
)
STEP = 1.0  # mm along a centre line


def draw_structures(
    grey: np.ndarray, fluid: np.ndarray, grid: Grid
) -> tuple[np.ndarray, np.ndarray]:
    """Hippocampi (right minus left) and lateral ventricles as probabilities, float32 [X, Y, Z].

    Args:
        grey, fluid: the template's probabilities on ``grid``.
    """
    points = grid.points().numpy()
    right = points[..., 0] > 0
    points[..., 0] = np.abs(points[..., 0])
    shape = np.clip(1.6 * grey - 0.3, 0, 1) * np.clip(1.5 - 2 * fluid, 0, 1)
    hippocampus = _tube(points, shape > 0, HIPPOCAMPUS) * shape
    wet = fluid > 0.02
    near = np.maximum(_tube(points, wet, VENTRICLE), _tube(points, wet, OCCIPITAL_HORN))
    ventricle = _largest(near * fluid) * np.clip(1 - 2 * hippocampus, 0, 1)
    signed = np.where(right, hippocampus, -hippocampus)
    return signed.astype(np.float32), ventricle.astype(np.float32)


def _tube(points: np.ndarray, where: np.ndarray, line: tuple[tuple[float, ...], ...]) -> np.ndarray:
    """1 inside a tube of elliptic section along a smooth ``line``, falling to 0 over 1 mm.

    Only ``where`` [X, Y, Z] is looked at, elsewhere it is 0.
    """
    rows = np.array(line)
    length = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(rows[:, :3], axis=0), axis=1))])
    at = np.arange(0, length[-1] + STEP, STEP)
    dense = make_interp_spline(length, rows, k=3)(np.minimum(at, length[-1]))
    reach = dense[:, 3:].max() + 1
    box = where & np.all(
        (points > dense[:, :3].min(axis=0) - reach) & (points < dense[:, :3].max(axis=0) + reach),
        axis=-1,
    )
    inside = points[box]
    nearest = KDTree(dense[:, :3]).query(inside)[1]
    centre, width, height = dense[nearest, :3], dense[nearest, 3], dense[nearest, 4]
    offset = inside - centre
    across = np.hypot(offset[:, 1], offset[:, 2])
    radius = np.hypot(offset[:, 0] / width, across / height)
    drawn = np.zeros(points.shape[:3], np.float32)
    drawn[box] = np.clip((1 - radius) * np.minimum(width, height) + 0.5, 0, 1)
    return drawn


def _largest(probability: np.ndarray) -> np.ndarray:
    """``probability`` without what does not hang together with its largest parts.

    Each side may be a part of its own; crumbs of sulci that a wide tube catches go.
    """
    parts, count = ndimage.label(probability > 0.15, np.ones((3, 3, 3)))
    sizes = np.bincount(parts.ravel(), minlength=count + 1)[1:]
    kept = np.flatnonzero(sizes >= 0.02 * sizes.max()) + 1
    near = ndimage.binary_dilation(np.isin(parts, kept), iterations=2)
    return probability * near
