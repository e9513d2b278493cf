"""A mask's surface as a lit picture, without a 3D library: the first voxel each ray meets."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

ZOOM = 3  # pictures are this much finer than the voxels
LIGHT = np.array([-0.6, 0.35, 0.7])  # from the viewer's side, above and a little in front
AMBIENT = 0.35
FULL_MM = 2.0  # distance at which a colour is full
GREY, RED, BLUE = (0.82, 0.82, 0.82), (0.8, 0.1, 0.1), (0.1, 0.25, 0.8)


def picture(
    mask: np.ndarray, reference: np.ndarray, spacing: float, side: str = "left"
) -> np.ndarray:
    """A mask seen from one side of the head, coloured by its distance to a reference.

    Args:
        mask, reference: bool [X, Y, Z], axes to the right, front and up.
        spacing: edge of a voxel in mm.
        side: left or right, from where it is seen; the front is to the left, or to the right.

    Returns:
        RGB [rows, columns, 3] in [0, 1], white where nothing is met; grey on the reference's
        surface, red 2 mm outside it, blue 2 mm inside. Rows are Z, the lowest first.
    """
    if side == "right":
        mask, reference = mask[::-1], reference[::-1]
    light, distance = render(mask, reference, spacing)
    if side == "right":
        light, distance = light[:, ::-1], distance[:, ::-1]
    part = np.clip(np.nan_to_num(distance) / FULL_MM, -1, 1)[..., None]
    grey, red, blue = (np.array(c) for c in (GREY, RED, BLUE))
    tone = grey + np.maximum(part, 0) * (red - grey) + np.maximum(-part, 0) * (blue - grey)
    found: np.ndarray = np.nan_to_num(tone * light[..., None], nan=1.0)
    return found


def render(
    mask: np.ndarray, reference: np.ndarray, spacing: float
) -> tuple[np.ndarray, np.ndarray]:
    """See a mask along its first axis from below 0 (from the left of a RAS volume).

    Args:
        mask: bool [X, Y, Z].
        reference: bool [X, Y, Z], whose surface distances are measured to.
        spacing: edge of a voxel in mm.

    Returns:
        light [rows, columns] in [0, 1], NaN where nothing is met, and distance to the reference's
        surface in mm, positive outside it (far outside when the reference is empty). Rows are Z,
        the lowest first; the front is to the left, as one sees it from there.
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
    scale = (np.array(mask.shape) - 1) / np.maximum(np.array(fine.shape) - 1, 1)
    at = np.stack([first * scale[0], y * scale[1], z * scale[2]])
    distance = ndimage.map_coordinates(_signed(reference), at, order=1, mode="nearest")
    hidden = np.where(met, 1.0, np.nan)
    return (light * hidden).T[:, ::-1], spacing * (distance * hidden).T[:, ::-1]


def _signed(reference: np.ndarray) -> np.ndarray:
    """Distance of each voxel to a mask's surface in voxels, negative inside."""
    if not reference.any():
        return np.full(reference.shape, float(sum(reference.shape)))
    outside = ndimage.distance_transform_edt(~reference)
    inside = ndimage.distance_transform_edt(reference)
    found: np.ndarray = np.where(reference, 0.5 - np.asarray(inside), np.asarray(outside) - 0.5)
    return found
