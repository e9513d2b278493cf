"""Scores of tested predictions, for many bootstrap resamples at once.

Every score takes weights [R, n] (how often each scan's subject was drawn; ones give the score
itself) and gives [R].

Shape legend: R resamples, n scans, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from volta3d.statistics import ranking
from volta3d.statistics.weighted import Drawn, divide, mean_defined, pearson, share

HALF = 0.5


@dataclass(frozen=True)
class Predictions:
    """The predictions of tested scans: of one repeat or seed of a cross-validation.

    Args:
        values: [n] the truth, numbers or indices of classes.
        scores: [n, C] class scores, or [n, 1] predicted numbers; NaN where the training part
            did not allow any.
        folds: [n] the fold each scan was tested in.
        baseline: [n] the mean of the training part, for R²; unused for classes.
        thresholds: [n] Youden's, chosen on other scans; NaN where undefined; None: .5 everywhere.
    """

    values: np.ndarray
    scores: np.ndarray
    folds: np.ndarray
    baseline: np.ndarray
    thresholds: np.ndarray | None = None

    @property
    def classes(self) -> int:
        """How many, 0 for numbers."""
        return self.scores.shape[1] if self.scores.shape[1] > 1 else 0

    def part(self, rows: np.ndarray) -> Predictions:
        """Some of the scans.

        Args:
            rows: bool [n], or positions.
        """
        thresholds = None if self.thresholds is None else self.thresholds[rows]
        return Predictions(
            self.values[rows], self.scores[rows], self.folds[rows], self.baseline[rows], thresholds
        )

    def fold(self, number: int) -> Predictions:
        """The part tested in one fold."""
        return self.part(self.folds == number)


Score = Callable[[Predictions, np.ndarray], np.ndarray]


def averaged(score: Score, repeats: Sequence[Predictions]) -> Drawn:
    """The score as a function of weights alone: the mean over the repeats that have one."""
    return lambda weights: mean_defined([score(p, weights) for p in repeats])


def within_fold_auroc(predictions: Predictions, weights: np.ndarray) -> np.ndarray:
    """AUROC over pairs within a fold; macro one-vs-rest for over two classes, those defined."""
    count = predictions.scores.shape[1]
    classes = range(count) if count > 2 else [count - 1]
    values, scores = predictions.values, predictions.scores
    return mean_defined(
        [
            ranking.auroc_within(values == c, scores[:, c], predictions.folds, weights)
            for c in classes
        ]
    )


def pooled_auroc(predictions: Predictions, weights: np.ndarray) -> np.ndarray:
    """AUROC over all pairs, whichever folds they lie in; macro one-vs-rest for over two classes.

    NaN where a class is missing.
    """
    classes = range(predictions.classes) if predictions.classes > 2 else [1]
    found = [
        ranking.auroc(predictions.values == c, predictions.scores[:, c], weights) for c in classes
    ]
    return np.asarray(np.mean(found, axis=0))  # NaN if one class's is undefined


def fold_auroc(predictions: Predictions, weights: np.ndarray) -> np.ndarray:
    """AUROC of each fold, averaged over the folds where it is defined [S METHOD section 7]."""
    return mean_defined(
        [
            pooled_auroc(predictions.part(here), weights[:, here])
            for here in (predictions.folds == f for f in np.unique(predictions.folds))
        ]
    )


def called(predictions: Predictions, youden: bool) -> np.ndarray:
    """bool [n]: which scans are called positive, at .5 or at each fold's Youden threshold.

    A fold whose training part gave no threshold counts at .5.
    """
    threshold = np.full(len(predictions.values), HALF)
    if youden and predictions.thresholds is not None:
        threshold = np.where(np.isnan(predictions.thresholds), HALF, predictions.thresholds)
    positive: np.ndarray = predictions.scores[:, 1] >= threshold
    return positive


def sensitivity(predictions: Predictions, weights: np.ndarray, *, youden: bool) -> np.ndarray:
    """Share of the positive scans called positive; see ``called``."""
    positive = predictions.values == 1
    return share(called(predictions, youden) & positive, positive, weights)


def specificity(predictions: Predictions, weights: np.ndarray, *, youden: bool) -> np.ndarray:
    """Share of the negative scans called negative; see ``called``."""
    negative = predictions.values == 0
    return share(~called(predictions, youden) & negative, negative, weights)


def recalls(
    chosen: np.ndarray, values: np.ndarray, classes: Sequence[int], weights: np.ndarray
) -> list[np.ndarray]:
    """For each class the share [R] of its scans that are recognised; both [n] indices."""
    return [share((chosen == c) & (values == c), values == c, weights) for c in classes]


def balanced_accuracy(predictions: Predictions, weights: np.ndarray) -> np.ndarray:
    """Mean over the classes that occur of the share recognised, the highest score deciding."""
    chosen = np.nan_to_num(predictions.scores, nan=-np.inf).argmax(1)
    present = [int(c) for c in np.unique(predictions.values)]
    return mean_defined(recalls(chosen, predictions.values, present, weights))


def balanced_accuracy_called(
    predictions: Predictions, weights: np.ndarray, *, youden: bool
) -> np.ndarray:
    """Mean over all classes of the share recognised; for two by ``called``, NaN if one is absent.

    For over two classes the highest score decides.
    """
    two = predictions.classes == 2
    chosen = called(predictions, youden).astype(int) if two else predictions.scores.argmax(1)
    found = recalls(chosen, predictions.values, range(predictions.classes), weights)
    return np.asarray(np.mean(found, axis=0))


def brier(predictions: Predictions, weights: np.ndarray) -> np.ndarray:
    """Mean squared error of the probabilities (Brier 1950): of the positive class for two, summed
    over the classes for more."""
    truth = predictions.values[:, None] == np.arange(predictions.classes)
    squares = (predictions.scores - truth) ** 2
    error = squares[:, 1] if predictions.classes == 2 else squares.sum(1)
    return divide(weights @ error, weights.sum(1))


def correlation(predictions: Predictions, weights: np.ndarray) -> np.ndarray:
    """Pearson's r in each fold, averaged with weights n - 1 over the folds that have one.

    Folds in which truth or predictions are constant have none.
    """
    total, size = np.zeros(len(weights)), np.zeros(len(weights))
    for fold in np.unique(predictions.folds):
        here = predictions.folds == fold
        own = weights[:, here]
        r = pearson(predictions.values[here], predictions.scores[here, 0], own)
        freedom = np.where(np.isfinite(r), own.sum(1) - 1, 0)
        total += freedom * np.nan_to_num(r)
        size += freedom
    return divide(total, size)


def r_squared(predictions: Predictions, weights: np.ndarray) -> np.ndarray:
    """1 - squared error / squared error of the training part's mean; negative is worse than it."""
    error = (predictions.values - predictions.scores[:, 0]) ** 2
    total = (predictions.values - predictions.baseline) ** 2
    return 1 - divide(weights @ error, weights @ total)


def mean_absolute_error(predictions: Predictions, weights: np.ndarray) -> np.ndarray:
    """In the units of the column."""
    error = np.abs(predictions.values - predictions.scores[:, 0])
    return divide(weights @ error, weights.sum(1))


def score_once(score: Score, predictions: Predictions) -> float:
    """A score of the scans as they are, each once."""
    return float(score(predictions, np.ones((1, len(predictions.values))))[0])
