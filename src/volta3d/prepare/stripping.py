"""Whether a volume shows a whole head or a skull-stripped brain.

Told apart by volume: of 124 whole heads of IXI none holds less than 2,500 ml, of 73 stripped brains
of six studies none more than 1,720 ml. A stripped brain also has nothing around it.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from volta3d.prepare.findings import Finding

Stripping = Literal["stripped", "whole", ""]
LEAST_ML, BRAIN_ML, HEAD_ML = 300.0, 2000.0, 2200.0
EMPTY = 0.3  # share of voxels around a stripped brain that hold the same value
SAMPLE = 2**18
CUT = 0.3  # of the largest cross-section, on an end of the field of view
FINDING = Finding("info", "skull-stripped", "A skull-stripped brain, not a whole head")


def stripping_of(data: np.ndarray, mm3: float, mask: np.ndarray | None = None) -> Stripping:
    """What a volume shows; empty when it cannot be told.

    Args:
        data: float32 [I, J, K], its background the darkest value.
        mm3: the volume of what stands out from the background.
        mask: where that is, on any grid; a head that the field of view cuts is not told.
    """
    ml = mm3 / 1000
    if ml < LEAST_ML or (mask is not None and _is_cut(mask)):
        return ""
    values = data.ravel(order="K")[:: max(1, data.size // SAMPLE)]
    empty = float((values == values.min()).mean()) >= EMPTY
    if not empty or ml >= HEAD_ML:
        return "whole"
    return "stripped" if ml <= BRAIN_ML else ""


def _is_cut(mask: np.ndarray) -> bool:
    for axis in range(3):
        areas = mask.sum(axis=tuple(a for a in range(3) if a != axis))
        if max(areas[0], areas[-1]) > CUT * areas.max():
            return True
    return False
