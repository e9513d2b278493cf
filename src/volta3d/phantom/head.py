"""A subject's head: the template's maps, warped, as seen at the voxels of one scan."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from volta3d.phantom.anatomy import HEAD, TISSUES, Anatomy
from volta3d.phantom.effects import structure_flows
from volta3d.phantom.subject import Subject
from volta3d.phantom.warp import Grid, integrate, move, sample, solenoidal_velocity
from volta3d.randomness import numpy_generator

WARP_GRID = Grid((-108.0, -144.0, -124.0), 4.0, (55, 65, 62))
WARPS = ((48.0, 2.2), (24.0, 1.5))  # mm between control points, mm standard deviation
VOLUMES = (
    "right_hippocampus",
    "left_hippocampus",
    "ventricles",
    "grey_matter",
    "white_matter",
    "intracranial",
)
TURN = 4.0  # degrees, standard deviation about each axis
SHIFT = 3.0  # mm, standard deviation along each axis
PROPORTION = 0.025  # standard deviation of the log of each extent of a head, at the same volume


@dataclass(frozen=True)
class Head:
    """Maps of one head at the voxels of one scan, all float32 [I, J, K] unless stated.

    Attributes:
        skull, flesh: signed distances in template mm, see `Anatomy`.
        inside: bool, where the tissue maps are defined: within the hull of the brain.
        grey, white, fluid: probabilities, their sum is 1; at ``inside`` only, [N].
        texture: see `Anatomy`, [N].
        hippocampus: probability of the right minus that of the left one.
        volumes: mm³ of `VOLUMES`, in the subject's own head.
    """

    skull: Tensor
    flesh: Tensor
    inside: Tensor
    grey: Tensor
    white: Tensor
    fluid: Tensor
    texture: Tensor
    hippocampus: Tensor
    volumes: dict[str, float]


def pose(subject: Subject, seed: int) -> np.ndarray:
    """World mm to template mm, before any warp: 4×4, of position, head size and proportions."""
    generator = numpy_generator(seed, "phantom", "pose", subject.number)
    turns = np.radians(TURN) * generator.standard_normal(3)
    rotation = rotation_matrix(turns)
    matrix = np.eye(4)
    matrix[:3, 3] = SHIFT * generator.standard_normal(3)
    extents = PROPORTION * generator.standard_normal(3)
    stretch = np.exp(extents - extents.mean())
    matrix[:3, :3] = stretch[:, None] * rotation / subject.head_scale
    return matrix


def rotation_matrix(turns: np.ndarray) -> np.ndarray:
    """Rotation by ``turns`` (radians) about x, then y, then z: 3×3."""
    (cx, cy, cz), (sx, sy, sz) = np.cos(turns), np.sin(turns)
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return np.asarray(about_z @ about_y @ about_x)


def shape_warp(subject: Subject, seed: int) -> Tensor:
    """The subject's random shape, a displacement [3, X, Y, Z] on `WARP_GRID` keeping volumes."""
    generator = numpy_generator(seed, "phantom", "warp", subject.number)
    velocity = torch.zeros(3, *WARP_GRID.shape)
    for knot, amplitude in WARPS:
        velocity += solenoidal_velocity(generator, WARP_GRID, knot=knot, amplitude=amplitude)
    return integrate(velocity, WARP_GRID)


def make_head(
    anatomy: Anatomy, subject: Subject, seed: int, affine: np.ndarray, shape: tuple[int, int, int]
) -> Head:
    """The subject's head on the scan grid given by ``affine`` (voxel to world mm) and ``shape``."""
    points = _grid_points(pose(subject, seed) @ affine, shape)
    points = move(points, shape_warp(subject, seed), WARP_GRID)
    skull, flesh = sample(anatomy.head, HEAD, points)
    inside = skull < 1
    within = points[inside][None, None]  # the brain is a fifth of a scan
    flows = structure_flows(anatomy)
    within = move(within, flows.displacement(subject.log_factors), flows.grid)
    found = sample(anatomy.tissues, anatomy.grid, within)[:, 0, 0]
    core, rim, white, texture, side, ventricle = found
    assert TISSUES == ("core", "rim", "white", "texture", "hippocampus", "ventricle")
    voxel = abs(float(np.linalg.det(affine[:3, :3])))
    wished = subject.grey_factor * anatomy.grey_volume * subject.head_scale**3 / voxel
    kept = min(1.0, max(0.0, (wished - _total(core)) / _total(rim)))
    grey = core + kept * rim
    parts = (side.clamp(min=0), (-side).clamp(min=0), ventricle, grey, white, skull < 0)
    hippocampus = torch.zeros(shape)
    hippocampus[inside] = side
    return Head(
        skull=skull,
        flesh=flesh,
        inside=inside,
        grey=grey,
        white=white,
        fluid=(1 - grey - white).clamp(0, 1),
        texture=texture,
        hippocampus=hippocampus,
        volumes={n: _total(part) * voxel for n, part in zip(VOLUMES, parts, strict=True)},
    )


def _total(part: Tensor) -> float:
    # NumPy's sums do not depend on the number of threads, torch's may.
    return float(part.numpy().sum(dtype=np.float64))


def _grid_points(matrix: np.ndarray, shape: tuple[int, int, int]) -> Tensor:
    """``matrix`` applied to every voxel index, [I, J, K, 3].

    Without a matrix product, whose rounding may depend on the number of threads.
    """
    i, j, k = (torch.arange(n, dtype=torch.float32) for n in shape)
    m = torch.from_numpy(matrix.astype(np.float32))
    rows = [
        m[r, 0] * i[:, None, None] + m[r, 1] * j[:, None] + m[r, 2] * k + m[r, 3] for r in range(3)
    ]
    return torch.stack(rows, dim=-1)
