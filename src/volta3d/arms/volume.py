"""``volume``: a linear model on head and brain volume alone, which every image model must beat."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from volta3d.arms.classifier import Bench, ClassifierArm, Notify, Rebuilt, Setting
from volta3d.arms.fold_data import FoldData, FoldResult
from volta3d.arms.linear_model import LinearLearner, line_of
from volta3d.arms.spec import ArmSpec
from volta3d.cohort.store import Cohort
from volta3d.config import ClassifyConfig
from volta3d.errors import UsageError

VOLUMES = ("foreground_mm3", "brain_mm3")


class VolumeArm(ClassifierArm):
    """A linear model on log volumes."""

    kind: ClassVar[str] = "volume"

    def fit(
        self, bench: Bench, data: FoldData, notify: Notify | None
    ) -> tuple[FoldResult, dict[str, Tensor]]:
        """``LinearLearner`` on the volumes."""
        balanced = bench.config.class_weights == "balanced"
        result = LinearLearner(bench.volumes(self.columns), balanced=balanced).learn(data)
        return result, result.tensors

    def architecture(self, config: ClassifyConfig) -> dict[str, Any]:
        """See ``ClassifierArm.architecture``."""
        return {**super().architecture(config), "columns": list(self.columns)}

    def notes(self, setting: Setting) -> list[str]:
        """A sentence for each volume that is known for some labelled scans only."""
        rows = setting.rows
        known = {c: int(_known(setting.cohort, rows, c).sum()) for c in VOLUMES}
        return [
            f"{column} is known for {count} of {len(rows)} scans only: the volume arm goes "
            "without it"
            for column, count in known.items()
            if 0 < count < len(rows)
        ]


def resolve(spec: ArmSpec, setting: Setting) -> VolumeArm:
    """The arm of a SPEC: the measured volumes that are known for every labelled scan.

    Raises:
        UsageError: there is none.
    """
    columns = tuple(c for c in VOLUMES if _known(setting.cohort, setting.rows, c).all())
    if not columns:
        raise UsageError(
            "No head or brain volume is known for all labelled scans",
            where="volume",
            fix="Leave the volume arm out, or prepare the cohort again",
        )
    return VolumeArm(spec.name, "volume", columns=columns)


def load(architecture: Mapping[str, Any], outputs: int, tensors: dict[str, Tensor]) -> Rebuilt:
    """A fitted linear model of volumes.

    Raises:
        ValueError: tensors that don't fit.
    """
    return Rebuilt(line=line_of(tensors, outputs))


def _known(cohort: Cohort, rows: np.ndarray, column: str) -> np.ndarray:
    values = cohort.participants.iloc[rows][column].to_numpy(np.float64)
    known: np.ndarray = np.isfinite(values) & (values > 0)
    return known
