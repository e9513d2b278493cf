"""What is chosen on inner validation, and never on the scans that are reported."""

from __future__ import annotations

import math

import numpy as np

HALF = 0.5


def youden_threshold(positive: np.ndarray, scores: np.ndarray) -> float:
    """The threshold with the largest J = sensitivity + specificity - 1.

    A scan is called positive if its score is at least the threshold. Thresholds lie midway
    between neighbouring scores; among equals the one nearest .5 is taken.

    Args:
        positive: bool [n].
        scores: [n], probabilities.

    Returns:
        NaN where one of the classes is missing.
    """
    positive = np.asarray(positive, bool)
    if not len(positive) or positive.all() or not positive.any() or np.isnan(scores).any():
        return math.nan
    values = np.unique(np.asarray(scores, np.float64))
    candidates = np.concatenate([[values[0]], (values[:-1] + values[1:]) / 2])
    called = scores[None] >= candidates[:, None]
    sensitivity = (called & positive).sum(1) / positive.sum()
    specificity = (~called & ~positive).sum(1) / (~positive).sum()
    j = sensitivity + specificity - 1
    best = candidates[j >= j.max() - 1e-12]
    return float(best[np.argmin(np.abs(best - HALF))])


class BestEpoch:
    """Follows the inner validation loss.

    Args:
        patience: epochs without a better one after which to stop; 0 never stops.
    """

    def __init__(self, patience: int) -> None:
        self.patience = patience
        self.best = math.inf
        self.epoch = -1
        self._last = -1

    def better(self, epoch: int, loss: float) -> bool:
        """Note the loss after ``epoch``; whether it is the lowest so far."""
        self._last = epoch
        if not loss < self.best:
            return False
        self.best, self.epoch = loss, epoch
        return True

    @property
    def give_up(self) -> bool:
        """Whether the best one lies ``patience`` epochs back."""
        return bool(self.patience) and self._last - self.epoch >= self.patience
