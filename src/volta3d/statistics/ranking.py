"""The area under the ROC curve: of all pairs of a positive and a negative scan, the share in which
the positive one scores higher (Mann and Whitney 1947); ties count half.

Scores of a cross-validation come from different models. Within folds no pair spans two of them.
A model that knows nothing predicts the mean of its training part, which is high where the test
fold's mean is low: pooled over folds that shows as an AUROC below .5 where the truth is .5.

Shape legend: R resamples, n scans.
"""

from __future__ import annotations

import numpy as np

from volta3d.statistics.weighted import divide


def pairs_won(
    positive: np.ndarray, scores: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The weight of the pairs that the positive scan wins, and of all pairs, both [R].

    Args:
        positive: bool [n].
        scores: [n], higher for the positive class.
        weights: [R, n].
    """
    first, second = scores[positive][:, None], scores[~positive][None]
    outcome = (first > second) + 0.5 * (first == second)
    ones, zeros = weights[:, positive], weights[:, ~positive]
    return ((ones @ outcome) * zeros).sum(1), ones.sum(1) * zeros.sum(1)


def auroc(positive: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """AUROC [R] over all pairs, NaN where a class is missing; arguments as ``pairs_won``."""
    return divide(*pairs_won(positive, scores, weights))


def auroc_within(
    positive: np.ndarray, scores: np.ndarray, folds: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """AUROC [R] over the pairs that lie in one fold, NaN where there are none.

    Folds with one class, or with NaN scores (a class missing from the training part), add none.

    Args:
        positive, scores, weights: as for ``pairs_won``.
        folds: [n].
    """
    won, pairs = np.zeros(len(weights)), np.zeros(len(weights))
    for fold in np.unique(folds):
        here = folds == fold
        if np.isnan(scores[here]).any():
            continue
        more, own = pairs_won(positive[here], scores[here], weights[:, here])
        won, pairs = won + more, pairs + own
    return divide(won, pairs)
