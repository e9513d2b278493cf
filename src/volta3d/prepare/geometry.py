"""The prepared grid: a cube with axes to the right, front and top around the head."""

from __future__ import annotations

import nibabel as nib
import numpy as np

from volta3d.cohort.contract import Contract
from volta3d.prepare.checks import corner_distance, voxel_sizes
from volta3d.prepare.findings import Finding, Refused
from volta3d.prepare.foreground import Foreground


def to_ras(data: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Axes permuted and flipped to the nearest RAS order, no resampling: (view, its affine)."""
    orientation = nib.io_orientation(affine)
    view = nib.apply_orientation(data, orientation)
    return view, affine @ nib.orientations.inv_ornt_aff(orientation, data.shape)


def as_float(view: np.ndarray) -> np.ndarray:
    """A C-contiguous float32 copy of a volume whose axes may lie in memory in any order.

    Files hold x fastest and the copy holds z fastest. Turning plane by plane, in a core's cache,
    takes a fraction of the time of one strided copy.
    """
    fastest = int(np.argmin(np.abs(view.strides)))
    if fastest == 2 or view.ndim != 3:
        return np.ascontiguousarray(view, np.float32)
    out = np.empty(view.shape, np.float32)
    step = -1 if view.strides[fastest] < 0 else 1
    for plane, target in zip(
        np.moveaxis(view, 1 - fastest, 0), np.moveaxis(out, 1 - fastest, 0), strict=True
    ):
        as_stored = np.ascontiguousarray(plane[::step].T)
        target[::step] = as_stored.T.astype(np.float32, order="C")
    return out


def plan_grid(
    shape: tuple[int, ...], affine: np.ndarray, foreground: Foreground, contract: Contract
) -> tuple[np.ndarray, list[Finding]]:
    """The affine of the prepared cube, and what a person should know about it.

    - ``resize``: the cube is centred on the foreground box. Its voxels have ``spacing`` mm, or
      more, the same along all axes, when the box would not fit with ``margin`` voxels to spare.
      A small head is never enlarged.
    - ``pad``: ``spacing`` mm, centred on the foreground box, cropped where the cube ends.
    - ``none``: ``spacing`` mm, centred on the field of view, nothing cropped.

    With ``pad`` and ``none`` the grid is shifted by less than half a voxel so that, where native
    axes and spacing agree with it, voxels are copied and not interpolated.

    Raises:
        Refused: with ``none``, a field of view larger than the cube.
    """
    size, spacing, findings = contract.size, contract.spacing, []
    if contract.fit == "none":
        low, high = _field_of_view(shape, affine)
        need = int(np.ceil((high - low).max() / spacing - 1e-3))
        if need > size:
            raise Refused(
                "larger-than-cube",
                f"The field of view needs {need} voxels an edge, the cube has {size}",
                f"Prepare with --set size={need}, or --set fit=pad, or --set fit=resize",
            )
    else:
        low, high = foreground.low, foreground.high
    extent = float((high - low).max())
    if contract.fit == "resize":
        room = max(1, size - 2 * contract.margin)
        spacing = max(spacing, extent / room)
    elif contract.fit == "pad" and extent > size * spacing * 1.001:
        what = f"The head is {extent:.0f} mm long, the cube {size * spacing:.0f} mm"
        findings.append(Finding("warning", "cropped", what, "Use a larger size, or fit=resize"))
    origin = (low + high) / 2 - spacing * (size - 1) / 2
    if contract.fit != "resize":
        origin += _towards_native(origin, affine, spacing)
    grid = np.diag([spacing, spacing, spacing, 1.0])
    grid[:3, 3] = origin
    return grid, findings


def _towards_native(origin: np.ndarray, affine: np.ndarray, spacing: float) -> np.ndarray:
    """The shift, at most half a voxel, that puts voxel centres onto native ones."""
    steps = (affine[:3, 3] - origin) / spacing
    shift: np.ndarray = (steps - np.round(steps)) * spacing
    return shift


def _field_of_view(shape: tuple[int, ...], affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    corners = np.array(list(np.ndindex(2, 2, 2))) * np.array(shape) - 0.5
    world = corners @ affine[:3, :3].T + affine[:3, 3]
    return world.min(axis=0), world.max(axis=0)


def mapping_to(native: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """4x4 from voxels of the prepared grid to native voxels."""
    mapping: np.ndarray = np.linalg.inv(native) @ grid
    # Rounding to a billionth of a voxel keeps parallel grids exactly parallel.
    return np.round(mapping, 9)


def same_grid(
    first: np.ndarray, second: np.ndarray, first_shape: tuple[int, ...], other: tuple[int, ...]
) -> bool:
    """Whether two grids are the same to a twentieth of a voxel at every corner."""
    if first_shape != other:
        return False
    return corner_distance(first, second, other) < 0.05 * float(voxel_sizes(first).min())
