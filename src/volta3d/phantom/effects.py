"""What sex, age and diagnosis do to a synthetic brain: effects of stated size.

All are ours [C], of the order that the literature reports for ageing and for a dementia, visible to
the eye in voxels of 3 mm, and independent of one another. Against them stand differences between
people that mean nothing (volumes, proportions of the head, the course of its folds) and between
scans (contrast, bias field, position). Means, and standard deviations between people:

==================  ===========================  ==========================  ==================
structure           from age 20 to age 85        with atrophy                between people
==================  ===========================  ==========================  ==================
lateral ventricles  12 to 36 ml                  x 1.8                       sd of log .20
hippocampus, each   3.6 to 3.2 ml                x 0.70                      sd of log .08, side .03
grey matter         -20 %                        -8 % of the template's      sd 1.5 %
grey-white signal   -20 %                                                    sd .04 of white
head, linear        none; women .96 of men       none                        sd 2 %
==================  ===========================  ==========================  ==================

Grey matter goes where it borders on outer fluid, so the sulci widen.
Structures change their volume by a flow whose divergence is prescribed: a material volume V grows
as dV/dt = ∫ div v, so a divergence of log f throughout a structure multiplies its volume by f, and
image and labels move together.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from volta3d.phantom.anatomy import Anatomy
from volta3d.phantom.warp import Grid, integrate, potential_velocity, sample

AGES = (20.0, 85.0)  # years, uniform

HEAD_FEMALE = 0.96  # linear size relative to male
HEAD_DEVIATION = 0.02

VENTRICLE_YOUNG = 0.7  # factor on the template's volume at age 20
VENTRICLE_PER_YEAR = 0.017  # of log volume, from age 20
VENTRICLE_ATROPHY = 1.80  # factor on the volume
VENTRICLE_DEVIATION = 0.20  # of log volume

HIPPOCAMPUS_PER_YEAR = 0.0018  # of log volume lost, from age 20
HIPPOCAMPUS_ATROPHY = 0.70  # factor on the volume
HIPPOCAMPUS_DEVIATION = 0.08  # of log volume, both sides together
SIDE_DEVIATION = 0.03  # of log volume, each side

GREY_PER_YEAR = 0.003  # share of all grey matter lost per year from age 20
GREY_ATROPHY = 0.08  # share of all grey matter lost
GREY_DEVIATION = 0.015  # of that share
CONTRAST_PER_YEAR = 0.003  # share of the grey-white signal difference lost per year from age 20

STRUCTURES = ("right_hippocampus", "left_hippocampus", "ventricle")
_GRID = Grid((-78.0, -114.0, -78.0), 3.0, (53, 68, 56))


def ventricle_factor(age: float, atrophy: float) -> float:
    """The mean volume of the lateral ventricles relative to the template's; atrophy is 0 to 1."""
    factor = VENTRICLE_YOUNG * math.exp(VENTRICLE_PER_YEAR * (age - AGES[0]))
    return factor * float(VENTRICLE_ATROPHY**atrophy)


def hippocampus_factor(age: float, atrophy: float) -> float:
    """The mean volume of a hippocampus relative to the template's."""
    factor = math.exp(-HIPPOCAMPUS_PER_YEAR * (age - AGES[0]))
    return factor * float(HIPPOCAMPUS_ATROPHY**atrophy)


def grey_factor(age: float, atrophy: float) -> float:
    """The mean volume of grey matter relative to the template's."""
    return 1 - GREY_PER_YEAR * (age - AGES[0]) - GREY_ATROPHY * atrophy


def contrast_factor(age: float) -> float:
    """The grey-white signal difference relative to that at age 20."""
    return 1 - CONTRAST_PER_YEAR * (age - AGES[0])


@dataclass(frozen=True)
class StructureFlows:
    """Velocity fields that each change one structure's volume.

    ``velocities`` [3 structures, 3, X, Y, Z] in mm on ``grid``: unit divergence in the structure,
    which its surroundings make room for. ``maps`` [3 structures, X, Y, Z] weigh the structures.
    """

    velocities: Tensor
    maps: Tensor
    grid: Grid

    def displacement(self, log_factors: tuple[float, float, float]) -> Tensor:
        """The map from the changed head back to the template, [3, X, Y, Z] in mm.

        What grows leaves the region of its own divergence, and flows overlap, so the amounts whose
        joint effect has the wished factors are found by a few steps of a fixed-point iteration.

        Args:
            log_factors: for each of `STRUCTURES`, the logarithm of the factor on its volume.
        """
        points = self.grid.points()
        volumes = _volumes(self.maps)
        wished = np.array(log_factors, dtype=np.float64)
        amounts = wished.copy()
        for _ in range(3):
            right, left, ventricle = (float(-a) for a in amounts)
            velocity = right * self.velocities[0] + left * self.velocities[1]
            velocity += ventricle * self.velocities[2]
            displacement = integrate(velocity, self.grid, points)
            found = sample(self.maps, self.grid, points + displacement.movedim(0, -1))
            amounts += wished - np.log(_volumes(found) / volumes)
        return displacement


def _volumes(maps: Tensor) -> np.ndarray:
    # NumPy's sums do not depend on the number of threads, torch's may.
    return np.asarray(maps.numpy().sum(axis=(1, 2, 3), dtype=np.float64))


@functools.lru_cache(maxsize=2)
def structure_flows(anatomy: Anatomy) -> StructureFlows:
    """The flows of one anatomy."""
    points = _GRID.points()
    found = sample(anatomy.tissues, anatomy.grid, points).numpy()
    core, rim, white, _, side, ventricle = found
    brain = core + rim + white + ventricle
    fluid = np.clip(1 - core - rim - white, 0, 1)
    structures = np.stack([np.clip(side, 0, 1), np.clip(-side, 0, 1), ventricle])
    regions = [_around(structures[0], 1.5), _around(structures[1], 1.5), _around(ventricle, 4.5)]
    hippocampi = np.clip(regions[0] + regions[1], 0, 1)
    regions[2] = regions[2] * (1 - hippocampi)
    velocities = []
    for index, region in enumerate(regions):
        if index < 2:
            # Mostly the fluid beside it, so that a hippocampus that shrinks leaves a dark gap.
            room = _around(structures[index], 9.0) * (1 - region) * (0.15 + fluid)
        else:
            room = np.clip(brain, 0, 1) * (1 - region) * (1 - hippocampi)
        divergence = region - room * (region.sum() / room.sum())
        velocities.append(potential_velocity(divergence, _GRID))
    maps = torch.from_numpy(structures.astype(np.float32))
    return StructureFlows(torch.stack(velocities), maps, _GRID)


def _around(structure: np.ndarray, margin: float) -> np.ndarray:
    """1 in the structure and up to ``margin`` mm around it, falling smoothly to 0."""
    distance = ndimage.distance_transform_edt(structure < 0.5) * _GRID.spacing
    return np.asarray(ndimage.gaussian_filter(np.clip((margin - distance) / 3 + 1, 0, 1), 0.5))
