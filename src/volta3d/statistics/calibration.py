"""Whether probabilities mean what they say: what was predicted beside what was observed.

Shape legend: R resamples, n scans, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from volta3d.statistics.scores import Predictions
from volta3d.statistics.weighted import divide

BINS = 10


@dataclass(frozen=True)
class Bin:
    """The scans of one bin of probability.

    Args:
        n: how many.
        predicted: their mean probability.
        observed: the share of them in which it came true.
    """

    n: int
    predicted: float
    observed: float


def calibration_error(predictions: Predictions, weights: np.ndarray) -> np.ndarray:
    """Expected calibration error [R]: |observed - predicted| averaged over ten bins of probability.

    For two classes the probability of the positive one; for more that of the highest.
    """
    predicted, happened = _confidence(predictions)
    member = _bin(predicted)[:, None] == np.arange(BINS)
    gaps = np.abs(weights @ (member * (happened - predicted)[:, None]))
    return divide(gaps.sum(1), weights.sum(1))


def calibration_curve(predictions: Predictions) -> list[Bin]:
    """The bins that hold scans."""
    predicted, happened = _confidence(predictions)
    bins = _bin(predicted)
    return [
        Bin(
            int((bins == b).sum()),
            float(predicted[bins == b].mean()),
            float(happened[bins == b].mean()),
        )
        for b in np.unique(bins)
    ]


def _confidence(predictions: Predictions) -> tuple[np.ndarray, np.ndarray]:
    values, scores = predictions.values, predictions.scores
    if predictions.classes == 2:
        return scores[:, 1], (values == 1).astype(np.float64)
    return scores.max(1), (scores.argmax(1) == values).astype(np.float64)


def _bin(probability: np.ndarray) -> np.ndarray:
    bins: np.ndarray = np.clip((probability * BINS).astype(int), 0, BINS - 1)
    return bins
