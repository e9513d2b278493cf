"""A mask's surface as a lit picture, without a 3D library: the first voxel each ray meets."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

ZOOM = 3  # pictures are this much finer than the voxels
LIGHT = np.array([-0.6, 0.35, 0.7])  # from the viewer's side, above and a little in front
AMBIENT = 0.35


def relief(
    mask: np.ndarray, reference: np.ndarray, spacing: float
) -> tuple[np.ndarray, np.ndarray]:
    """See a mask along its first axis from below 0 (from the left of a RAS volume).

    Args:
        mask: bool [X, Y, Z].
        reference: bool [X, Y, Z], whose surface distances are measured to.
        spacing: edge of a voxel in mm.

    Returns:
        light [rows, columns] in [0, 1], NaN where nothing is met, and distance to the reference's
        surface in mm, positive outside it. Rows are Z, the lowest first; the front is to the
        left, as one sees it from there.
    """
    fine = ndimage.zoom(mask.astype(np.float32), ZOOM, order=1)
    smooth = ndimage.gaussian_filter(fine, 0.8 * ZOOM)
    solid = smooth > 0.5
    met = solid.any(axis=0)
    first = solid.argmax(axis=0)
    slopes = np.array([np.gradient(smooth, axis=a) for a in range(3)])
    y, z = np.indices(met.shape)
    normal = -slopes[:, first, y, z]
    normal /= np.maximum(np.linalg.norm(normal, axis=0), 1e-6)
    direction = LIGHT / np.linalg.norm(LIGHT)
    light = AMBIENT + (1 - AMBIENT) * np.clip(np.tensordot(direction, normal, axes=1), 0, 1)
    outside = ndimage.distance_transform_edt(~reference)
    inside = ndimage.distance_transform_edt(reference)
    signed = np.where(reference, 0.5 - np.asarray(inside), np.asarray(outside) - 0.5)
    scale = (np.array(mask.shape) - 1) / np.maximum(np.array(fine.shape) - 1, 1)
    at = np.stack([first * scale[0], y * scale[1], z * scale[2]])
    distance = ndimage.map_coordinates(signed, at, order=1, mode="nearest")
    hidden = np.where(met, 1.0, np.nan)
    return (light * hidden).T[:, ::-1], spacing * (distance * hidden).T[:, ::-1]
