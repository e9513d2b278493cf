"""How prepared cubes are brought to the voxel that an encoder knows, whole or in tiles."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, avg_pool3d, grid_sample

from volta3d.encoder.scale import RESAMPLED, Scale, Share
from volta3d.pretrain.monitor import whole

SLACK = 0.02  # of a view, by which tiles may fall short of the cube


@dataclass(frozen=True)
class Reading:
    """How cubes of one preparation go into an encoder.

    Millimetres are those of the scans' own affines. Where an encoder's scale isn't known, they are
    voxels of the prepared cube instead, which relate the two as well.

    Args:
        size: edge of a prepared cube, in voxels.
        mm: edge of its voxel, the median of the cohort.
        image_size: edge of a tile, in voxels of the network.
        tiles: along each axis.
        voxel_mm: edge of the network's voxel.
        downsample: cubes are average-pooled by this factor before they are resampled.
        scale: of the encoder in pretraining; None: unknown.
    """

    size: int
    mm: float
    image_size: int
    tiles: int
    voxel_mm: float
    downsample: int
    scale: Scale | None = None

    @property
    def edge(self) -> int:
        """Edge of all tiles together, in voxels of the network."""
        return self.tiles * self.image_size

    @property
    def as_prepared(self) -> float:
        """The network's voxel in mm if the cube just filled the tiles."""
        return self.mm * self.size / self.edge

    def cubes(self, volumes: Tensor, mm: Tensor | None = None) -> Tensor:
        """Prepared cubes [B, 1, D, D, D] to what the tiles hold, [B, 1, N·S, N·S, N·S].

        Average pooling, then one trilinear resampling with the centres kept. Nothing else smooths:
        the pooling is the anti-aliasing, and what is left to the resampling is less than a factor
        of two. A scan whose voxel is within 2 % of the one wanted just fills the tiles.

        Args:
            volumes: float32.
            mm: [B] edge of each scan's voxel; None: all have the cohort's.
        """
        pooled = avg_pool3d(volumes, self.downsample) if self.downsample > 1 else volumes
        fields = torch.full((len(volumes),), self.mm) if mm is None else mm.float().cpu()
        fields = fields * self.size / (self.voxel_mm * self.edge)  # the cube's edge over the tiles'
        away = (fields.log().abs() > math.log(RESAMPLED)).tolist()
        if not any(away):
            return whole(pooled, self.edge)
        cubes = [
            _resampled(pooled[i : i + 1], 1 / float(fields[i]), self.edge)
            if apart
            else whole(pooled[i : i + 1], self.edge)
            for i, apart in enumerate(away)
        ]
        return torch.cat(cubes)

    def content(self) -> dict[str, Any]:
        """Both scales in plain JSON types."""
        known = self.scale is not None
        return {
            "encoder": self.scale.content() if self.scale is not None else None,
            "scans_voxel_mm": round(self.mm, 4) if known else None,
            "read_at_mm": round(self.voxel_mm, 4) if known else None,
            "tiles": self.tiles**3,
        }

    def text(self) -> str:
        """Both scales for a person."""
        tiles = "whole" if self.tiles == 1 else f"in {self.tiles}x{self.tiles}x{self.tiles} tiles"
        if self.scale is None:
            return (
                "Scale: how many millimetres the encoder's voxels had is unknown; each scan is "
                f"read as it was prepared, {tiles}"
            )
        s = self.scale
        how = f"measured on {s.measured_on} scans" if s.measured_on else "by its contract"
        return (
            f"Scale: the encoder knows voxels of {s.voxel_mm:.2f} mm and tokens of "
            f"{s.token_mm:.1f} mm ({how}); these scans have voxels of {self.mm:.2f} mm and are "
            f"read at {self.voxel_mm:.2f} mm, {tiles}"
        )


def plan(
    *,
    size: int,
    mm: float,
    image_size: int,
    downsample: int,
    prepared_mm: float,
    voxel_mm: float,
    share: Share,
    scale: Scale | None,
) -> Reading:
    """As few tiles as cover the cube at a scale that pretraining had.

    The views of pretraining cover a span of scales. Within it the voxel is chosen so that the tiles
    just cover the cube; else it is the mean one, and what the tiles reach beyond the cube is 0.

    Args:
        size, mm: of the prepared cubes at hand.
        image_size: edge of a view, in voxels.
        downsample: of pretraining.
        prepared_mm: edge of the prepared voxel in pretraining.
        voxel_mm: edge of the network's voxel in pretraining.
        share: the span.
        scale: None: unknown.
    """
    edge = size * mm
    # pooled as in pretraining, as far as the finer or coarser grid at hand allows
    wanted = max(1, math.floor(downsample * prepared_mm / mm + SLACK))
    pooled = max(k for k in range(1, wanted + 1) if size % k == 0)
    tiles = max(1, math.ceil(edge / (voxel_mm * share.high * image_size) - SLACK))
    filling = edge / (tiles * image_size)
    if share.low / RESAMPLED <= filling / voxel_mm <= share.high * RESAMPLED:
        voxel_mm = filling
    return Reading(size, mm, image_size, tiles, voxel_mm, pooled, scale)


def _resampled(cube: Tensor, zoom: float, edge: int) -> Tensor:
    """[1, 1, D, D, D] to [1, 1, E, E, E] that spans ``zoom`` times the edge about the centre.

    What lies beyond the cube is 0.
    """
    theta = torch.eye(3, 4, device=cube.device, dtype=cube.dtype)[None] * zoom
    grid = affine_grid(theta, [1, 1, edge, edge, edge], align_corners=False)
    return grid_sample(cube, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
