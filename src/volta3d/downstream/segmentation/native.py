"""Back to the scan's own grid: probabilities resampled linearly, then the likeliest class.

Classes are decided on the native grid, not resampled after a decision: a boundary keeps its place
between voxels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn.functional import grid_sample

from volta3d.prepare.geometry import mapping_to

SLAB_BYTES = 2**26  # of coordinates and resampled probabilities held at once
PLACE_BYTES = 64  # of coordinates, for each voxel
EVERY = ndimage.generate_binary_structure(3, 3)  # voxels that touch by a corner hang together


@dataclass(frozen=True)
class Grid:
    """The voxels of a file: their number along each axis, and where they lie.

    Args:
        shape: [I, J, K].
        affine: 4x4 from voxels to world mm (RAS).
    """

    shape: tuple[int, int, int]
    affine: np.ndarray

    @property
    def voxel_mm3(self) -> float:
        """Volume of one voxel."""
        return float(abs(np.linalg.det(self.affine[:3, :3])))


def to_native(probabilities: Tensor, affine: np.ndarray, native: Grid) -> np.ndarray:
    """The class of each native voxel.

    Only the part of the native grid that can hold a structure is looked at, in slabs of bounded
    size, so memory hardly depends on the native grid.

    Args:
        probabilities: [C, D, H, W] on the prepared grid, summing to 1, class 0 background.
        affine: 4x4 from prepared voxels to world mm.
        native: any grid: other orientation, spacing, rotation.

    Returns:
        uint8 [I, J, K]; 0 outside the prepared cube.
    """
    classes = np.zeros(native.shape, np.uint8)
    structures = probabilities[1:].float()
    # a structure wins with at least 1/C, so one of the eight neighbours must have that much
    likely = (structures >= 1 / len(probabilities)).any(0)
    if not bool(likely.any()):
        return classes
    mapping = mapping_to(affine, native.affine)
    first, last = _native_box(likely, mapping, native.shape)
    if (last <= first).any():
        return classes
    per_voxel = PLACE_BYTES + 8 * len(structures)
    per_plane = per_voxel * int(np.prod((last - first)[1:]))
    thick = max(1, SLAB_BYTES // per_plane)
    for start in range(int(first[0]), int(last[0]), thick):
        stop = min(start + thick, int(last[0]))
        low, high = (start, first[1], first[2]), (stop, last[1], last[2])
        ranges = [range(int(a), int(b)) for a, b in zip(low, high, strict=True)]
        box = tuple(slice(r.start, r.stop) for r in ranges)
        classes[box] = _slab(structures, mapping, ranges)
    return classes


def largest_components(classes: np.ndarray) -> np.ndarray:
    """Each class reduced to its largest connected part (26 neighbours), the rest background."""
    kept = np.zeros_like(classes)
    for index, box in enumerate(ndimage.find_objects(classes), start=1):
        if box is None:
            continue
        parts, count = ndimage.label(classes[box] == index, structure=EVERY)
        sizes = np.bincount(parts.ravel())
        sizes[0] = 0
        kept[box][parts == (sizes.argmax() if count > 1 else 1)] = index
    return kept


def _native_box(
    likely: Tensor, mapping: np.ndarray, shape: tuple[int, int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """First and one past the last native voxel that can lie next to a likely prepared voxel."""
    at = likely.nonzero()
    low, high = at.amin(0).cpu().numpy() - 1.0, at.amax(0).cpu().numpy() + 1.0
    corners = np.array([np.where(ends, high, low) for ends in np.ndindex(2, 2, 2)])
    inverse = np.linalg.inv(mapping)
    placed = corners @ inverse[:3, :3].T + inverse[:3, 3]
    first = np.clip(np.floor(placed.min(0)), 0, shape).astype(int)
    last = np.clip(np.ceil(placed.max(0)) + 1, 0, shape).astype(int)
    return first, last


def _slab(structures: Tensor, mapping: np.ndarray, ranges: list[range]) -> np.ndarray:
    """The classes of some native voxels, uint8."""
    device = structures.device
    place = torch.as_tensor(mapping[:3, 3], dtype=torch.float64, device=device)
    total = place.view(1, 1, 1, 3)
    for axis, voxels in enumerate(ranges):
        steps = torch.arange(voxels.start, voxels.stop, dtype=torch.float64, device=device)
        column = torch.as_tensor(mapping[:3, axis], dtype=torch.float64, device=device)
        view = [1, 1, 1, 1]
        view[axis] = -1
        total = total + steps.view(view) * column
    edges = torch.tensor(structures.shape[1:], dtype=torch.float64, device=device)
    at = ((2 * total + 1) / edges - 1).flip(-1).float()
    found = grid_sample(
        structures[None], at[None], mode="bilinear", padding_mode="zeros", align_corners=False
    )[0]
    best, index = found.max(0)
    wins = best > 1 - found.sum(0)
    chosen: np.ndarray = torch.where(wins, index + 1, 0).to(torch.uint8).cpu().numpy()
    return chosen
