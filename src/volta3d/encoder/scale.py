"""How many millimetres a voxel and a token of an encoder's views were (METHOD section 11).

An encoder must be used at the scale it was trained at. Runs measure that scale on their own scans
and record it; for encoders made before, it follows from the contract where that fixes the voxel.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from volta3d.cohort.contract import Contract
from volta3d.cohort.store import Cohort
from volta3d.errors import EncoderError
from volta3d.pretrain.scale import Scale

KEY = "scale"  # of config.json
Mismatch = Literal["refuse", "ok"]
__all__ = ["Mismatch", "Scale", "Share", "cohort_mm", "scale_of", "share_of", "voxel_mm"]

MISMATCH = 1.25  # beyond, a scan's voxel is another one than the encoder knows
RESAMPLED = 1.02  # beyond, a scan is brought to the encoder's voxel by an affine of its own


@dataclass(frozen=True)
class Share:
    """How much of a prepared cube's edge a global view covers.

    Args:
        mean: on average; None: views were described in millimetres.
        low, high: the narrowest and the widest view, over the mean.
    """

    mean: float | None
    low: float
    high: float


def share_of(content: Mapping[str, Any]) -> Share:
    """The span of the views that config.json states; the whole cube where it states none.

    An imported encoder saw voxels as its contract has them, in windows of its image size.
    """
    if "imported" in content:
        return Share(content["image_size"] / content["contract"]["size"], 1.0, 1.0)
    views = content.get("pretraining", {}).get("views", {})
    in_mm = isinstance(views, dict) and bool(views.get("spacing_mm"))
    try:
        low, high = (float(v) for v in views["spacing_mm" if in_mm else "global_scale"])
    except (KeyError, TypeError, ValueError):
        return Share(1.0, 1.0, 1.0)
    if not 0 < low <= high:
        return Share(1.0, 1.0, 1.0)
    mean = (low + high) / 2
    return Share(None if in_mm else mean, low / mean, high / mean)


def scale_of(
    content: Mapping[str, Any], contract: Contract, image_size: int, patch_size: int
) -> Scale | None:
    """The scale of an encoder: as its config.json records it, else by its contract.

    A contract with ``fit: resize`` lets each head have a voxel of its own, so that it doesn't tell:
    None.

    Raises:
        EncoderError: what is recorded is not such a scale.
    """
    recorded = content.get(KEY)
    if recorded is not None:
        try:
            scale = Scale(**recorded)
            numbers = [scale.voxel_mm, scale.token_mm, scale.view_edge_mm]
            if not all(0 < float(n) < 1e4 for n in numbers) or int(scale.measured_on) < 0:
                raise ValueError("not millimetres")
        except (TypeError, ValueError) as error:
            raise EncoderError(
                f"'{KEY}' in config.json is damaged: {error}",
                where="config.json",
                fix="Restore the encoder folder, or write it again with volta3d pretrain",
            ) from error
        return scale
    share = share_of(content)
    if contract.fit == "resize" or share.mean is None:
        return None
    edge = contract.spacing * contract.size * share.mean
    voxel = edge / image_size
    return Scale(voxel, voxel * patch_size, edge, 0)


def voxel_mm(affine: np.ndarray) -> float:
    """Edge in mm of the voxel of a prepared cube, whose voxels are cubes."""
    return float(abs(np.linalg.det(np.asarray(affine, np.float64)[:3, :3])) ** (1 / 3))


def cohort_mm(cohort: Cohort) -> float:
    """The median edge in mm of a cohort's voxels, by its own affines."""
    return float(np.median([voxel_mm(cohort.affine(i)) for i in range(len(cohort))]))
