"""What is measured of tested predictions, for many bootstrap resamples at once.

Every measure takes weights [R, n] (how often each scan's subject was drawn; ones give the measure
itself) and gives [R].

Shape legend: R resamples, n scans, C classes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from volta3d.evaluate.scores import (
    Predictions,
    correlation,
    mean_absolute_error,
    r_squared,
)

BINS = 10  # of the calibration curve
HALF = 0.5


@dataclass(frozen=True)
class Reported:
    """The test predictions of one arm, fraction and seed.

    Args:
        values: [n] indices of classes, or numbers.
        scores: [n, C] probabilities, or [n, 1] numbers.
        folds: [n] the fold each scan was tested in.
        thresholds: [n] Youden's, from inner validation; NaN where undefined.
        baseline: [n] the training part's mean, for numbers.
    """

    values: np.ndarray
    scores: np.ndarray
    folds: np.ndarray
    thresholds: np.ndarray
    baseline: np.ndarray

    @property
    def classes(self) -> int:
        """How many, 0 for numbers."""
        return self.scores.shape[1] if self.scores.shape[1] > 1 else 0

    def fold(self, number: int) -> Reported:
        """The part tested in one fold."""
        here = self.folds == number
        return Reported(*(getattr(self, name)[here] for name in self.__dataclass_fields__))

    def as_predictions(self) -> Predictions:
        """For the scores that probes share."""
        return Predictions(self.values, self.scores, self.folds, self.baseline)


Measure = Callable[[Reported, np.ndarray], np.ndarray]


def pooled_auroc(tested: Reported, weights: np.ndarray) -> np.ndarray:
    """AUROC over all pairs, whichever folds they lie in; macro one-vs-rest for over two classes.

    NaN where a class is missing.
    """
    classes = range(tested.classes) if tested.classes > 2 else [1]
    found = [_auroc(tested.values == c, tested.scores[:, c], weights) for c in classes]
    return np.asarray(np.mean(found, axis=0))  # NaN if one class's is undefined


def fold_auroc(tested: Reported, weights: np.ndarray) -> np.ndarray:
    """AUROC of each fold, averaged over the folds where it is defined [S METHOD section 7]."""
    parts = []
    for number in np.unique(tested.folds):
        here = tested.folds == number
        parts.append(pooled_auroc(tested.fold(int(number)), weights[:, here]))
    return _mean_defined(np.stack(parts))


def _auroc(positive: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    first, second = scores[positive][:, None], scores[~positive][None]
    outcome = (first > second) + 0.5 * (first == second)
    ones, zeros = weights[:, positive], weights[:, ~positive]
    return _divide(((ones @ outcome) * zeros).sum(1), ones.sum(1) * zeros.sum(1))


def sensitivity(tested: Reported, weights: np.ndarray, *, youden: bool) -> np.ndarray:
    """Share of the positive scans called positive, at .5 or at each fold's Youden threshold.

    A fold whose inner validation gave no threshold counts at .5.
    """
    positive = tested.values == 1
    return _share(called(tested, youden) & positive, positive, weights)


def specificity(tested: Reported, weights: np.ndarray, *, youden: bool) -> np.ndarray:
    """Share of the negative scans called negative; see ``sensitivity``."""
    negative = tested.values == 0
    return _share(~called(tested, youden) & negative, negative, weights)


def balanced(tested: Reported, weights: np.ndarray, *, youden: bool) -> np.ndarray:
    """Mean over the classes of the share recognised; for over two the highest score decides."""
    told = called(tested, youden).astype(int) if tested.classes == 2 else tested.scores.argmax(1)
    shares = [
        _share((told == c) & (tested.values == c), tested.values == c, weights)
        for c in range(tested.classes)
    ]
    return np.asarray(np.mean(shares, axis=0))


def called(tested: Reported, youden: bool) -> np.ndarray:
    """bool [n]: which scans are called positive."""
    threshold = np.full(len(tested.values), HALF)
    if youden:
        threshold = np.where(np.isnan(tested.thresholds), HALF, tested.thresholds)
    positive: np.ndarray = tested.scores[:, 1] >= threshold
    return positive


def brier(tested: Reported, weights: np.ndarray) -> np.ndarray:
    """Mean squared error of the probabilities (Brier 1950): of the positive class for two, summed
    over the classes for more."""
    truth = tested.values[:, None] == np.arange(tested.classes)
    squares = (tested.scores - truth) ** 2
    error = squares[:, 1] if tested.classes == 2 else squares.sum(1)
    return _divide(weights @ error, weights.sum(1))


def calibration_error(tested: Reported, weights: np.ndarray) -> np.ndarray:
    """Expected calibration error: |observed - predicted| averaged over ten bins of probability.

    For two classes the probability of the positive one; for more that of the highest.
    """
    predicted, happened = _confidence(tested)
    member = _bin(predicted)[:, None] == np.arange(BINS)
    gaps = np.abs(weights @ (member * (happened - predicted)[:, None]))
    return _divide(gaps.sum(1), weights.sum(1))


def calibration_curve(tested: Reported) -> list[dict[str, float | int]]:
    """Per bin that holds scans: their number, mean probability and share observed."""
    predicted, happened = _confidence(tested)
    bins = _bin(predicted)
    return [
        {
            "n": int((bins == b).sum()),
            "predicted": float(predicted[bins == b].mean()),
            "observed": float(happened[bins == b].mean()),
        }
        for b in np.unique(bins)
    ]


def _confidence(tested: Reported) -> tuple[np.ndarray, np.ndarray]:
    if tested.classes == 2:
        return tested.scores[:, 1], (tested.values == 1).astype(np.float64)
    told = tested.scores.argmax(1)
    return tested.scores.max(1), (told == tested.values).astype(np.float64)


def _bin(probability: np.ndarray) -> np.ndarray:
    bins: np.ndarray = np.clip((probability * BINS).astype(int), 0, BINS - 1)
    return bins


def _share(hit: np.ndarray, among: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return _divide(weights @ hit.astype(np.float64), weights @ among.astype(np.float64))


def _divide(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """The ratio, NaN where the denominator is 0."""
    safe = np.where(denominator > 0, denominator, 1)
    return np.where(denominator > 0, numerator / safe, np.nan)


def _mean_defined(parts: np.ndarray) -> np.ndarray:
    known = np.isfinite(parts)
    return _divide(np.where(known, parts, 0).sum(0), known.sum(0))


def _at(measure: Callable[..., np.ndarray], youden: bool) -> Measure:
    return lambda tested, weights: measure(tested, weights, youden=youden)


BINARY: dict[str, Measure] = {
    "AUROC": fold_auroc,
    "AUROC pooled": pooled_auroc,
    "sensitivity at .5": _at(sensitivity, False),
    "specificity at .5": _at(specificity, False),
    "balanced accuracy at .5": _at(balanced, False),
    "sensitivity at Youden": _at(sensitivity, True),
    "specificity at Youden": _at(specificity, True),
    "balanced accuracy at Youden": _at(balanced, True),
    "Brier": brier,
    "ECE": calibration_error,
}
MULTICLASS: dict[str, Measure] = {
    "AUROC": fold_auroc,
    "AUROC pooled": pooled_auroc,
    "balanced accuracy": _at(balanced, False),
    "Brier": brier,
    "ECE": calibration_error,
}
NUMBERS: dict[str, Measure] = {
    "MAE": lambda tested, weights: mean_absolute_error(tested.as_predictions(), weights),
    "R2": lambda tested, weights: r_squared(tested.as_predictions(), weights),
    "r": lambda tested, weights: correlation(tested.as_predictions(), weights),
}


def measures_of(classes: int) -> dict[str, Measure]:
    """The measures for a number of classes; 0 for a number."""
    return NUMBERS if not classes else BINARY if classes == 2 else MULTICLASS
