"""The two probes: a linear model and nearest neighbours, fitted on one part, tested on another.

Shape legend: n training scans, m test scans, d feature dimensions, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from volta3d.statistics.linear_models import logistic, ridge_predictions, spanned, standardise
from volta3d.statistics.neighbours import from_neighbours
from volta3d.statistics.subject_folds import subject_folds

STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0)  # inverse penalties; features have variance 1
INNER_FOLDS = 3

Predictor = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray, int], np.ndarray]
"""(train [n, d], values [n], groups [n], test [m, d], classes C or 0) to scores [m, C or 1]."""


def linear(
    train: np.ndarray, values: np.ndarray, groups: np.ndarray, test: np.ndarray, classes: int
) -> np.ndarray:
    """Ridge regression (classes 0) or logistic regression with balanced class weights.

    Features are standardised by the training part. The penalty is chosen inside it: by
    leave-one-out for ridge, by 3 folds of whole subjects and the log-loss for logistic regression.

    Returns:
        Numbers [m, 1] or probabilities [m, C]; NaN for classes the training part lacks.
    """
    inside, outside = standardise(train, test)
    if not classes:
        return ridge_predictions(inside, values[:, None], outside)
    scores = np.full((len(test), classes), math.nan)
    present = np.unique(values).astype(int)
    if len(present) < 2:
        return scores
    if inside.shape[0] < inside.shape[1]:
        directions = spanned(inside).T
        inside, outside = inside @ directions, outside @ directions
    strength = _choose(inside, values, groups)
    scores[:, present] = _logistic(inside, values, outside, classes, strength)[:, present]
    if len(present) < classes and classes == 2:
        scores[:] = math.nan
    return scores


def _choose(train: np.ndarray, values: np.ndarray, groups: np.ndarray) -> float:
    folds = subject_folds(values, groups, folds=INNER_FOLDS, seed=0, categorical=True)
    loss = dict.fromkeys(STRENGTHS, 0.0)
    for fold in np.unique(folds):
        test = folds == fold
        present = np.unique(values[~test])
        known = test & np.isin(values, present)
        if len(present) < 2 or not known.any():
            continue
        truth = values[known].astype(np.int64)
        classes = int(present.max()) + 1
        for strength in STRENGTHS:
            predicted = _logistic(train[~test], values[~test], train[known], classes, strength)
            chance = predicted[np.arange(len(truth)), truth]
            loss[strength] -= float(np.log(np.maximum(chance, 1e-12)).sum())
    return min(STRENGTHS, key=loss.__getitem__)


def neighbours(
    train: np.ndarray, values: np.ndarray, groups: np.ndarray, test: np.ndarray, classes: int
) -> np.ndarray:
    """The mean over the k nearest training scans; see ``from_neighbours``."""
    return from_neighbours(train, values, test, classes)


def _logistic(
    train: np.ndarray, values: np.ndarray, test: np.ndarray, classes: int, strength: float
) -> np.ndarray:
    """Probabilities [m, C]; a probe makes thousands of small fits, stopped early."""
    model = logistic(train, values, classes, strength, tolerance=1e-3, iterations=200)
    return model.predict(test, classes)


PROBES: dict[str, Predictor] = {"linear": linear, "knn": neighbours}
