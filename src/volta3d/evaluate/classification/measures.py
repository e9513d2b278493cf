"""Which scores are reported of a run, by the kind of its target."""

from __future__ import annotations

from functools import partial

from volta3d.statistics.calibration import calibration_error
from volta3d.statistics.scores import (
    Score,
    balanced_accuracy_called,
    brier,
    correlation,
    fold_auroc,
    mean_absolute_error,
    pooled_auroc,
    r_squared,
    sensitivity,
    specificity,
)

BINARY: dict[str, Score] = {
    "AUROC": fold_auroc,
    "AUROC pooled": pooled_auroc,
    "sensitivity at .5": partial(sensitivity, youden=False),
    "specificity at .5": partial(specificity, youden=False),
    "balanced accuracy at .5": partial(balanced_accuracy_called, youden=False),
    "sensitivity at Youden": partial(sensitivity, youden=True),
    "specificity at Youden": partial(specificity, youden=True),
    "balanced accuracy at Youden": partial(balanced_accuracy_called, youden=True),
    "Brier": brier,
    "ECE": calibration_error,
}
MULTICLASS: dict[str, Score] = {
    "AUROC": fold_auroc,
    "AUROC pooled": pooled_auroc,
    "balanced accuracy": partial(balanced_accuracy_called, youden=False),
    "Brier": brier,
    "ECE": calibration_error,
}
NUMBERS: dict[str, Score] = {
    "MAE": mean_absolute_error,
    "R2": r_squared,
    "r": correlation,
}


def measures_of(classes: int) -> dict[str, Score]:
    """The scores for a number of classes; 0 for a number."""
    return NUMBERS if not classes else BINARY if classes == 2 else MULTICLASS
