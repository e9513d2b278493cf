"""Scores of out-of-fold predictions, for many bootstrap resamples at once.

A resample of subjects is a row of weights: how often each scan's subject was drawn. Every score
takes weights [R, n] and gives [R]; weights of one give the score itself.

AUROC and r are taken within folds and averaged, see ``volta3d.pretrain.quickprobe``.

Shape legend: R resamples, n scans, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from volta3d.randomness import numpy_generator


@dataclass(frozen=True)
class Predictions:
    """The out-of-fold predictions of one repeat of the cross-validation.

    Args:
        values: [n] the truth, numbers or indices of classes.
        scores: [n, C] class scores, or [n, 1] predicted numbers; NaN where the training part
            did not allow any.
        folds: [n] the fold each scan was tested in.
        baseline: [n] the mean of the training part, for R²; unused for classes.
    """

    values: np.ndarray
    scores: np.ndarray
    folds: np.ndarray
    baseline: np.ndarray


Score = Callable[[Predictions, np.ndarray], np.ndarray]
Drawn = Callable[[np.ndarray], np.ndarray]


def resample_subjects(groups: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Weights [R, n] of ``resamples`` draws of subjects with replacement; scans go with theirs."""
    subjects, member = np.unique(np.asarray(groups).astype(str), return_inverse=True)
    rng = numpy_generator(seed, "bootstrap")
    counts = rng.multinomial(len(subjects), np.full(len(subjects), 1 / len(subjects)), resamples)
    weights: np.ndarray = counts[:, member].astype(np.float64)
    return weights


def averaged(score: Score, repeats: Sequence[Predictions]) -> Drawn:
    """The score as a function of weights alone: the mean over repeats of the cross-validation."""
    return lambda weights: _mean([score(p, weights) for p in repeats])


def interval(drawn: Drawn, weights: np.ndarray, level: float = 0.95) -> tuple[float, float, float]:
    """A statistic with its lower and upper limit: percentiles over resampled subjects.

    The interval covers who was scanned; it doesn't cover how the folds fell nor how the encoder
    was trained. All are NaN where the statistic is undefined.

    Args:
        drawn: weights [R, n] to values [R].
        weights: [R, n] of the resamples.
        level: what the interval covers.
    """
    point = drawn(np.ones((1, weights.shape[1])))
    values = drawn(weights)
    values = values[np.isfinite(values)]
    if not np.isfinite(point[0]) or not len(values):
        return np.nan, np.nan, np.nan
    tail = 50 * (1 - level)
    low, high = np.percentile(values, [tail, 100 - tail])
    return float(point[0]), float(low), float(high)


def auroc(predictions: Predictions, weights: np.ndarray) -> np.ndarray:
    """Area under the ROC curve over pairs within a fold; macro one-vs-rest for over two classes."""
    count = predictions.scores.shape[1]
    classes = range(count) if count > 2 else [count - 1]
    return _mean([_auroc_of(predictions, c, weights) for c in classes])


def _auroc_of(predictions: Predictions, label: int, weights: np.ndarray) -> np.ndarray:
    won, pairs = np.zeros(len(weights)), np.zeros(len(weights))
    for fold in np.unique(predictions.folds):
        here = predictions.folds == fold
        scores, positive = predictions.scores[here, label], predictions.values[here] == label
        if np.isnan(scores).any():
            continue
        first, second = scores[positive][:, None], scores[~positive][None]
        outcome = (first > second) + 0.5 * (first == second)
        ones, zeros = weights[:, here][:, positive], weights[:, here][:, ~positive]
        won += ((ones @ outcome) * zeros).sum(1)
        pairs += ones.sum(1) * zeros.sum(1)
    return _divide(won, pairs)


def balanced_accuracy(predictions: Predictions, weights: np.ndarray) -> np.ndarray:
    """Mean over the classes of the share recognised, the highest score deciding."""
    told = np.nan_to_num(predictions.scores, nan=-np.inf).argmax(1)
    right = told == predictions.values
    recalls = []
    for label in np.unique(predictions.values):
        own = weights[:, predictions.values == label]
        recalls.append(_divide(own @ right[predictions.values == label], own.sum(1)))
    return _mean(recalls)


def correlation(predictions: Predictions, weights: np.ndarray) -> np.ndarray:
    """Pearson's r in each fold, averaged with weights n - 1."""
    total, size = np.zeros(len(weights)), np.zeros(len(weights))
    for fold in np.unique(predictions.folds):
        here = predictions.folds == fold
        x, y, w = predictions.values[here], predictions.scores[here, 0], weights[:, here]
        if np.ptp(y) <= 1e-9 * np.abs(y).max() or np.ptp(x) == 0:
            continue
        x, y = x - x.mean(), y - y.mean()  # keeps the digits of what follows
        n = w.sum(1)
        mean_x, mean_y = _divide(w @ x, n), _divide(w @ y, n)
        cross = w @ (x * y) - n * mean_x * mean_y
        square_x, square_y = w @ x**2 - n * mean_x**2, w @ y**2 - n * mean_y**2
        defined = (square_x > 1e-9 * (w @ x**2)) & (square_y > 1e-9 * (w @ y**2))
        r = _divide(cross, np.sqrt(np.where(defined, square_x * square_y, 0)))
        total += np.where(defined, (n - 1) * np.nan_to_num(r), 0)
        size += np.where(defined, n - 1, 0)
    return _divide(total, size)


def r_squared(predictions: Predictions, weights: np.ndarray) -> np.ndarray:
    """1 - squared error / squared error of the training part's mean; negative is worse than it."""
    error = (predictions.values - predictions.scores[:, 0]) ** 2
    total = (predictions.values - predictions.baseline) ** 2
    return 1 - _divide(weights @ error, weights @ total)


def mean_absolute_error(predictions: Predictions, weights: np.ndarray) -> np.ndarray:
    """In the units of the column."""
    error = np.abs(predictions.values - predictions.scores[:, 0])
    return _divide(weights @ error, weights.sum(1))


CATEGORICAL: dict[str, Score] = {"AUROC": auroc, "balanced accuracy": balanced_accuracy}
CONTINUOUS: dict[str, Score] = {"r": correlation, "R2": r_squared, "MAE": mean_absolute_error}


def _divide(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """The ratio, NaN where the denominator is 0."""
    safe = np.where(denominator > 0, denominator, 1)
    return np.where(denominator > 0, numerator / safe, np.nan)


def _mean(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Mean [R] over the parts that are defined, NaN where none is."""
    stacked = np.stack(parts)
    known = np.isfinite(stacked)
    return _divide(np.where(known, stacked, 0).sum(0), known.sum(0))
