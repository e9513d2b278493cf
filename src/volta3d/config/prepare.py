"""Settings of ``volta3d prepare``."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import model_validator

from volta3d.config.base import Config, Count, Positive, Range, Some

# of files of prepare/layouts, in the order in which they are tried
LAYOUT_NAMES = (
    "harp",  # holds an ADNI tree
    "adni",
    "aibl",
    "brats",
    "oasis3",
    "nnunet",
    "msd",
    "caps",
    "bids",
    "ixi",
    "folder",
    "dicom",
)


class PrepareConfig(Config):
    """How raw scans become a cohort (METHOD section 1)."""

    spacing: Positive = 1.0  # [S] 1 mm isotropic
    size: Some = 128  # [C] cube edge in voxels
    fit: Literal["resize", "pad", "none"] = "resize"  # [C]
    scaling: Literal["range", "zscore", "nyul"] = "range"  # [C] [0, 1], z-score, histogram
    skull_strip: Literal["none", "deepbet", "mask"] = "none"  # [C] the same for a whole study
    bias: Literal["none", "n4"] = "none"  # [C] what becomes of the coil's bias field
    percentiles: Range = (0.05, 99.95)  # [C] of the non-zero voxels
    margin: Count = 2  # [C] voxels kept around the foreground box when fit is resize
    landmarks_from: str = ""  # for nyul: a JSON or contract.yaml; learnt from the scans without it

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        low, high = self.percentiles
        if not 0 <= low < high <= 100:
            raise ValueError("percentiles must rise and lie within 0 to 100")
        if self.landmarks_from and self.scaling != "nyul":
            raise ValueError("landmarks_from needs scaling=nyul")
        return self
