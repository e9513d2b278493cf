"""Settings of ``volta3d prepare``."""

from __future__ import annotations

from typing import Literal

from volta3d.config.base import Config, Count, Positive, Range, Some


class PrepareConfig(Config):
    """How raw scans become a cohort (METHOD section 1)."""

    spacing: Positive = 1.0  # [S] 1 mm isotropic
    size: Some = 128  # [C] cube edge in voxels
    fit: Literal["resize", "pad", "none"] = "resize"  # [C]
    scaling: Literal["range", "zscore"] = "range"  # [C] range [0, 1] or z-score
    skull_strip: Literal["none"] = "none"  # [C] the same for every data set of a study
    percentiles: Range = (0.05, 99.95)  # [C] of the non-zero voxels
    margin: Count = 2  # [C] voxels kept around the foreground box when fit is resize
