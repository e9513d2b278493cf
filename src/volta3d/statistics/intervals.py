"""Bootstrap intervals over people: who was scanned is drawn again, with all of their scans.

Made of two parts: ``resample_subjects`` draws weights, and ``interval`` takes any statistic that is
a function of weights.

Shape legend: R resamples, n scans.
"""

from __future__ import annotations

import math

import numpy as np

from volta3d.randomness import numpy_generator
from volta3d.statistics.weighted import Drawn


def resample_subjects(groups: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Weights [R, n] of ``resamples`` draws of subjects with replacement; scans go with theirs."""
    subjects, member = np.unique(np.asarray(groups).astype(str), return_inverse=True)
    rng = numpy_generator(seed, "bootstrap")
    counts = rng.multinomial(len(subjects), np.full(len(subjects), 1 / len(subjects)), resamples)
    weights: np.ndarray = counts[:, member].astype(np.float64)
    return weights


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


def bootstrap_p(drawn: Drawn, weights: np.ndarray) -> float:
    """Two-sided p of a statistic being 0: twice the smaller share of resamples beyond 0."""
    values = drawn(weights)
    values = values[np.isfinite(values)]
    if not len(values):
        return math.nan
    below = (1 + (values <= 0).sum()) / (len(values) + 1)
    above = (1 + (values >= 0).sum()) / (len(values) + 1)
    return float(min(1.0, 2 * min(below, above)))


def per_subject(groups: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Means [..., subjects] of values [..., n] over each subject's scans, subjects sorted."""
    subjects, member = np.unique(np.asarray(groups).astype(str), return_inverse=True)
    sums = np.zeros((*values.shape[:-1], len(subjects)))
    np.add.at(np.moveaxis(sums, -1, 0), member, np.moveaxis(values, -1, 0))
    means: np.ndarray = sums / np.bincount(member)
    return means
