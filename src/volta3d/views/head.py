"""Where a scan's head lies in its cube, and how large the cube is in millimetres."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

Triple = tuple[float, float, float]
WHOLE: tuple[Triple, Triple] = ((-1.0, -1.0, -1.0), (1.0, 1.0, 1.0))
FAINT = 0.05  # of the fullest slice: slices with less foreground are noise, not head


@dataclass(frozen=True)
class Head:
    """What a view in millimetres needs to know of its scan.

    Args:
        edge_mm: of the whole cube, by the scan's own affine.
        low, high: the foreground's box in normalised coordinates, -1 and 1 being the outer faces.
    """

    edge_mm: float
    low: Triple = WHOLE[0]
    high: Triple = WHOLE[1]


def cube_edge_mm(affine: np.ndarray, size: int) -> float:
    """Edge in mm of a cube of ``size`` voxels, from its affine [4, 4]."""
    return float(np.linalg.norm(affine[:3, :3], axis=0).mean() * size)


@torch.no_grad()
def foreground_box(volume: Tensor) -> tuple[Triple, Triple]:
    """The box of what is brighter than the mean of a volume [D, H, W], normalised: (low, high).

    A constant volume is foreground throughout.
    """
    mask = (volume > volume.mean()).float()
    low, high = [], []
    for axis in range(3):
        profile = mask.mean(dim=[other for other in range(3) if other != axis])
        inside = (profile > FAINT * profile.max()).nonzero().flatten().tolist()
        if not inside:
            return WHOLE
        edge = len(profile)
        low.append(2 * inside[0] / edge - 1)
        high.append(2 * (inside[-1] + 1) / edge - 1)
    return (low[0], low[1], low[2]), (high[0], high[1], high[2])
