"""The millimetres that a network sees: of a voxel of its views, and of a token."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from volta3d.cohort.store import Cohort
from volta3d.config import PretrainConfig, ViewsConfig
from volta3d.errors import CohortError
from volta3d.views.head import cube_edge_mm

SLACK = 1.05  # a grid this much coarser than the views is not called too coarse
HEAD_MM = 192.0  # edge of a cube that holds a head
FINE = 1.7  # views this much coarser than the grid leave out voxels instead of averaging them


@dataclass(frozen=True)
class Scale:
    """Measured by the affines of the scans, as medians.

    Args:
        voxel_mm: of a global view, in the middle of its range.
        token_mm: edge of a patch.
        view_edge_mm: edge of a global view.
        measured_on: how many scans.
    """

    voxel_mm: float
    token_mm: float
    view_edge_mm: float
    measured_on: int

    def content(self) -> dict[str, Any]:
        """For config.json, rounded to what was measured."""
        rounded = {name: round(value, 4) for name, value in asdict(self).items()}
        return {**rounded, "measured_on": self.measured_on}

    def text(self) -> str:
        """One phrase for a person."""
        return (
            f"views of {self.view_edge_mm:.3g} mm an edge with voxels of {self.voxel_mm:.3g} mm "
            f"and tokens of {self.token_mm:.3g} mm (median of {self.measured_on} scans)"
        )


def cube_edges_mm(cohort: Cohort) -> list[float]:
    """Edge in mm of every cube of a cohort, by its own affine."""
    size = cohort.contract.size
    return [cube_edge_mm(cohort.affine(row), size) for row in range(len(cohort))]


def measured(config: PretrainConfig, edges_mm: Sequence[float]) -> Scale:
    """The scale of a run's global views on cubes of so many mm an edge."""
    view = _view_mm(config.views, float(np.median(edges_mm)))
    voxel = view / config.views.global_size
    return Scale(voxel, voxel * config.model.patch_size, view, len(edges_mm))


def _view_mm(views: ViewsConfig, cube_mm: float) -> float:
    if views.spacing_mm:
        return sum(views.spacing_mm) / 2 * views.global_size
    assert views.global_scale is not None  # one of the two ways is always set
    return sum(views.global_scale) / 2 * cube_mm


def check_scale(
    config: PretrainConfig, edges_mm: Sequence[float], voxels: int, where: object
) -> None:
    """Refuse cubes that views in millimetres can't be cut from.

    Args:
        config: of the run.
        edges_mm: of the cubes.
        voxels: of a cube's edge, after downsampling.
        where: the cohort.

    Raises:
        CohortError: the voxels are too coarse or too fine, or the cubes too small; with the
            command that prepares scans as the preset wants them.
    """
    views = config.views
    if not views.spacing_mm:
        return
    fine, coarse = views.spacing_mm
    edge = float(np.median(edges_mm))
    voxel, view = edge / voxels, views.global_size * fine
    wanted = f"preset '{config.preset}' cuts views at {fine:g} to {coarse:g} mm"
    if voxel > SLACK * coarse:
        raise CohortError(
            f"The cohort's voxels measure {voxel:.3g} mm and {wanted}: it would blow them up",
            where=where,
            fix=_preparation(config),
        )
    if edge < view:
        raise CohortError(
            f"The cohort's cubes measure {edge:.0f} mm an edge and {wanted}, {view:.0f} mm an edge",
            where=where,
            fix=_preparation(config),
        )
    if fine > FINE * voxel:
        pooled = views.downsample * int((fine + coarse) / 2 / voxel)
        raise CohortError(
            f"The cohort's voxels measure {voxel:.3g} mm and {wanted}: most voxels would be left "
            "out",
            where=where,
            fix=f"Average them with --set views.downsample={pooled}, or: {_preparation(config)}",
        )


def _preparation(config: PretrainConfig) -> str:
    """The command that makes a cohort on a true grid in the middle of the views' range."""
    assert config.views.spacing_mm is not None
    spacing = round(sum(config.views.spacing_mm) / 2, 2)
    size = max(8 * math.ceil(HEAD_MM / spacing / 8), config.views.global_size)
    return (
        f"Prepare it with: volta3d prepare SOURCE --out COHORT --set spacing={spacing:g} "
        f"--set fit=pad --set size={size}"
    )
