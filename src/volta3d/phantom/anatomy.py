"""The anatomy every phantom is warped from: template tissue maps, structures and head shape.

From a package that is already installed, nothing is downloaded: nilearn's MNI ICBM152 T1, grey-
and white-matter maps. Hippocampi and ventricles are drawn into them by `structures`.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from volta3d.errors import VoltaError
from volta3d.phantom.structures import draw_structures
from volta3d.phantom.warp import Grid, sample

RIGHT_HIPPOCAMPUS = 47
LEFT_HIPPOCAMPUS = 48

TISSUES = ("core", "rim", "white", "texture", "hippocampus", "ventricle")
RIM_SHARE = 0.36  # of all grey matter: the part ageing takes from
MARGIN = 6  # mm around the brain
# Distances are smooth, so 3 mm is enough; it reaches below the template to hold a neck.
HEAD = Grid((-105.0, -141.0, -120.0), 3.0, (71, 85, 82))


@dataclass(frozen=True, eq=False)
class Anatomy:
    """Maps of the template head in template mm (RAS).

    ``tissues`` is float32 [6, X, Y, Z] on ``grid``, which encloses the brain, in this order:

    - core, rim: probability of grey matter away from and next to outer cerebrospinal fluid;
    - white: probability of white matter;
    - texture: what the template's T1 signal has beyond its tissue maps, in units of the difference
      between white and grey matter;
    - hippocampus: probability of the right minus that of the left one, as they never touch;
    - ventricle: probability of the lateral ventricles.

    ``head`` is float32 [2, X, Y, Z] on `HEAD`: signed distances in mm (negative inside) from the
    hull of the brain, and from face and neck. ``grey_volume`` is in mm³.
    """

    tissues: Tensor
    grid: Grid
    head: Tensor
    grey_volume: float

    def tissue(self, name: str) -> Tensor:
        """One tissue map [X, Y, Z]."""
        return self.tissues[TISSUES.index(name)]


@functools.lru_cache(maxsize=2)
def load_anatomy(resolution: int = 1) -> Anatomy:
    """The anatomy with tissues at ``resolution`` mm (1 or 2); about 110 MB are kept at 1 mm."""
    (t1, grey, white), grid = _templates(resolution)
    brain = t1 > 0
    fluid = np.clip(1 - grey - white, 0, 1) * brain
    hippocampus, ventricle = draw_structures(grey, fluid, grid)
    rim = grey * _next_to_fluid(grey, fluid, ventricle, resolution)
    texture = _texture(t1, grey, white, fluid, brain)
    tissues = (grey - rim, rim, white, texture, hippocampus, ventricle)
    head = (_hull_distance(brain, grid), _flesh_distance())
    return Anatomy(
        _stack(tissues), grid, _stack(head), float(grey.sum(dtype=np.float64)) * resolution**3
    )


def _stack(maps: tuple[np.ndarray, ...]) -> Tensor:
    return torch.from_numpy(np.stack([m.astype(np.float32) for m in maps]))


def _templates(resolution: int) -> tuple[list[np.ndarray], Grid]:
    """T1, grey and white matter, float32, cut to the brain, and the grid they lie on."""
    try:
        from nilearn import datasets  # slow to import, and needed by this function alone
    except ImportError as error:
        raise VoltaError(
            "Synthetic brains are made from nilearn's template, and nilearn is not installed",
            fix="pip install 'volta3d[demo]'",
        ) from error
    images = [
        datasets.load_mni152_template(resolution=1),
        datasets.load_mni152_gm_template(resolution=1),
        datasets.load_mni152_wm_template(resolution=1),
    ]
    maps = [np.asarray(image.dataobj, dtype=np.float32) for image in images]
    cut = []
    for axis in range(3):
        used = np.flatnonzero(maps[0].any(axis=tuple(a for a in range(3) if a != axis)))
        cut.append(slice(max(0, int(used[0]) - MARGIN), int(used[-1]) + 1 + MARGIN, resolution))
    maps = [np.ascontiguousarray(m[tuple(cut)]) for m in maps]
    x, y, z = (float(images[0].affine[a, 3]) + cut[a].start for a in range(3))
    return maps, Grid((x, y, z), float(resolution), maps[0].shape)


def _next_to_fluid(
    grey: np.ndarray, fluid: np.ndarray, ventricle: np.ndarray, resolution: int
) -> np.ndarray:
    """The share of each voxel's grey matter that borders on outer fluid; RIM_SHARE overall."""
    inner = ndimage.maximum_filter(ventricle, 3)
    outer = fluid * np.clip(1 - inner, 0, 1)
    outer[grey + outer < 0.05] = 1  # beyond the brain
    near = ndimage.gaussian_filter(outer, 2.0 / resolution)
    share = np.clip(near / 0.5, 0, 1)
    factor = RIM_SHARE * float(grey.sum()) / float((share * grey).sum())
    return np.clip(share * factor, 0, 1)


def _texture(
    t1: np.ndarray, grey: np.ndarray, white: np.ndarray, fluid: np.ndarray, brain: np.ndarray
) -> np.ndarray:
    tissues = np.stack([grey[brain], white[brain], fluid[brain]]).astype(np.float64)
    level = np.linalg.solve(tissues @ tissues.T, tissues @ t1[brain].astype(np.float64))
    rest = np.zeros_like(t1)
    rest[brain] = t1[brain] - level @ tissues
    return np.asarray(np.clip(rest / (level[1] - level[0]), -1, 1))


def _hull_distance(brain: np.ndarray, grid: Grid) -> np.ndarray:
    """Signed distance from the brain closed over its sulci, in mm, -10 to 30, on `HEAD`."""
    inside = sample(torch.from_numpy(brain.astype(np.float32))[None], grid, HEAD.points())[0] > 0.5
    grown = ndimage.distance_transform_edt(~inside.numpy()) * HEAD.spacing <= 12
    hull = ndimage.distance_transform_edt(grown) * HEAD.spacing > 12
    # Half a voxel on either side of the border, so that the distance crosses 0 there.
    outside = ndimage.distance_transform_edt(~hull) - 0.5 * ~hull
    within = ndimage.distance_transform_edt(hull) - 0.5 * hull
    return np.asarray(
        np.clip(ndimage.gaussian_filter(outside - within, 0.7) * HEAD.spacing, -10, 30)
    )


def _flesh_distance() -> np.ndarray:
    """Rough signed distance from face and neck, in mm, -20 to 20, on `HEAD`."""
    x, y, z = np.meshgrid(*HEAD.axes(), indexing="ij", sparse=True)
    face = np.sqrt((x / 58) ** 2 + ((y - 42) / 46) ** 2 + ((z + 62) / 62) ** 2) - 1
    neck = np.sqrt((x / 56) ** 2 + ((y + 38) / 60) ** 2) - 1
    below = np.maximum(neck * 56, z + 40)
    return np.asarray(np.clip(np.minimum(face * 46, below), -20, 20))
