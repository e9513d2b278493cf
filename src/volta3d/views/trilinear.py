"""Trilinear sampling on a CPU through torch's vectorised kernel for pictures.

torch samples volumes on a CPU one voxel at a time, pictures eight or sixteen at a time. Here the
planes of a volume are laid out as tiles of one picture, with a margin of zeros between them. A
sample between the planes p and p + 1 is then one sample of a picture of two channels, tile p and
its right-hand neighbour, and a linear step between the two.

Shape legend: D H W voxels, S edge of a view.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


class Tiles:
    """The planes of one volume as tiles of a picture.

    Tile p holds plane p - 1; the tiles 0, D + 1 and D + 2 are the zeros around the volume. Tiles
    lie in rows of ``columns`` and one more: the first of a row is repeated at the end of the one
    before, so that the neighbour of every tile lies to its right.

    Args:
        volume: float32 [D, H, W] on a CPU.
    """

    def __init__(self, volume: Tensor) -> None:
        depth, height, width = volume.shape
        self.shape = (depth, height, width)
        # a nearly square picture, for normalised coordinates of a long one are less exact; a power
        # of two, so that dividing by it is exact
        self.columns = 2 ** (math.isqrt(depth + 2).bit_length() - 1)
        self.tile = (height + 1, width + 1)
        rows = -(-(depth + 2) // self.columns)
        self.height = rows * (height + 1) + 1
        self.width = (self.columns + 1) * (width + 1) + 1
        canvas = volume.new_zeros(self.height + 1, self.width)  # one row spare for channel 1
        for tile in range(1, depth + 1):
            for row in {tile // self.columns, (tile - 1) // self.columns}:
                top = row * (height + 1) + 1
                left = (tile - row * self.columns) * (width + 1) + 1
                canvas[top : top + height, left : left + width] = volume[tile - 1]
        # channel 1 is the same memory, one tile further
        self.picture = canvas.as_strided((2, self.height, self.width), (width + 1, self.width, 1))

    def sample(self, base: Tensor, line: Tensor) -> Tensor:
        """The volume at voxel coordinates ``base`` [3, S, S, 1] + ``line`` [3, 1, 1, S].

        0 is the centre of the first voxel; outside the volume lie zeros. Returns [S, S, S].
        """
        depth, height, width = self.shape
        along_y, along_x = 2.0 / (self.height - 1), 2.0 / (self.width - 1)  # of one voxel
        grid = base.new_empty(2, base.shape[1], base.shape[2], line.shape[3])
        x, y = grid  # planar, the way the kernel reads them fastest
        plane = (base[0] + 1.0 + line[0]).clamp_(0.0, depth + 1.0)
        torch.add((base[1] + 1.0) * along_y - 1.0, line[1] * along_y, out=y)
        torch.add((base[2] + 1.0) * along_x - 1.0, line[2] * along_x, out=x)
        y.clamp_(-1.0, (height + 1) * along_y - 1.0)
        x.clamp_(-1.0, (width + 1) * along_x - 1.0)
        tile = plane.floor()
        between = plane.sub_(tile)
        row = tile.mul(1.0 / self.columns).floor_()
        y.add_(row, alpha=self.tile[0] * along_y)
        x.add_(tile.sub_(row, alpha=self.columns), alpha=self.tile[1] * along_x)
        picture = self.picture.expand(grid.shape[1], -1, -1, -1)
        pair = F.grid_sample(picture, grid.movedim(0, -1), padding_mode="zeros", align_corners=True)
        return torch.lerp(pair[:, 0], pair[:, 1], between)


def sample_affine(volumes: Tensor, affines: Tensor, size: int) -> Tensor:
    """Views cut from volumes by affines, zeros outside.

    Args:
        volumes: float32 [B, 1, D, H, W] on a CPU.
        affines: float64 [B, V, 3, 4] from a view's normalised coordinates to its volume's, rows
            and columns in axis order.
        size: edge S of the views.

    Returns:
        [V * B, 1, S, S, S], view-major.
    """
    count, per_scan = affines.shape[:2]
    edges = torch.tensor(volumes.shape[2:], dtype=torch.float64)
    steps = (torch.arange(size, dtype=torch.float64) * 2 + 1) / size - 1
    # normalised to voxel coordinates: (u + 1) * edge / 2 - 1 / 2
    scaled = affines * (edges[:, None] / 2)
    scaled[..., 3] += (edges - 1) / 2
    along = scaled[..., :3, None] * steps  # [B, V, axis of the volume, axis of the view, S]
    base = (along[..., 0, :] + scaled[..., 3:])[..., None] + along[..., 1, None, :]
    base, line = base.float()[..., None], along[..., None, None, 2, :].float()
    out = volumes.new_empty(per_scan, count, 1, size, size, size)
    for scan in range(count):
        tiles = Tiles(volumes[scan, 0])
        for view in range(per_scan):
            out[view, scan, 0] = tiles.sample(base[scan, view], line[scan, view])
    return out.flatten(0, 1)
