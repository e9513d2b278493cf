"""The two probes: a linear model and nearest neighbours, fitted on one part, told of another.

Shape legend: n training scans, m test scans, d feature dimensions, C classes.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable

import numpy as np
from sklearn import config_context
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from volta3d.pretrain.quickprobe import ridge_predictions, standardise
from volta3d.statistics.subject_folds import subject_folds

STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0)  # inverse penalties; features have variance 1
INNER_FOLDS = 3
FEW = 2  # up to so many dimensions an angle says nothing and neighbours are found by distance

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
    inside, outside = _rotate(inside, outside)
    strength = _choose(inside, values, groups)
    scores[:, present] = _logistic(inside, values, outside, strength)
    if len(present) < classes and classes == 2:
        scores[:] = math.nan
    return scores


def _rotate(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both in the at most n directions that the training part spans.

    A penalised linear model has no weight outside them, so its predictions stay the same and it
    is fitted faster.
    """
    if train.shape[0] >= train.shape[1]:
        return train, test
    _, values, directions = np.linalg.svd(train, full_matrices=False)
    kept = directions[values > 1e-9 * values[0]] if values[0] > 0 else directions[:1]
    return train @ kept.T, test @ kept.T


def _choose(train: np.ndarray, values: np.ndarray, groups: np.ndarray) -> float:
    folds = subject_folds(values, groups, folds=INNER_FOLDS, seed=0, categorical=True)
    loss = dict.fromkeys(STRENGTHS, 0.0)
    for fold in np.unique(folds):
        test = folds == fold
        present = np.unique(values[~test])
        known = test & np.isin(values, present)
        if len(present) < 2 or not known.any():
            continue
        truth = np.searchsorted(present, values[known])
        for strength in STRENGTHS:
            told = _logistic(train[~test], values[~test], train[known], strength)
            chance = told[np.arange(len(truth)), truth]
            loss[strength] -= float(np.log(np.maximum(chance, 1e-12)).sum())
    return min(STRENGTHS, key=loss.__getitem__)


def _logistic(
    train: np.ndarray, values: np.ndarray, test: np.ndarray, strength: float
) -> np.ndarray:
    """Probabilities [m, classes of the training part], classes weighted alike.

    A probe makes thousands of small fits, half of whose time went into checks of arguments and
    into finding the weights of classes anew.
    """
    model = LogisticRegression(C=strength, max_iter=200, tol=1e-3)
    _, own, counts = np.unique(values, return_inverse=True, return_counts=True)
    weights = (len(values) / (len(counts) * counts))[own]
    checked = config_context(skip_parameter_validation=True)
    with warnings.catch_warnings(), checked:
        # a fit cut short at one penalty is a slightly more penalised fit
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(train, values, weights)
        probabilities: np.ndarray = model.predict_proba(test)
    return probabilities


def neighbours(
    train: np.ndarray, values: np.ndarray, groups: np.ndarray, test: np.ndarray, classes: int
) -> np.ndarray:
    """The mean over the k nearest training scans, k = √n (rounded), by cosine.

    Features are standardised by the training part first: raw features of brains all point one way.
    For one or two dimensions the Euclidean distance takes the place of the cosine. A class counts
    by its share among the neighbours over its share in the training part.

    Returns:
        Numbers [m, 1] or class scores [m, C]; NaN for classes the training part lacks.
    """
    inside, outside = standardise(train, test)
    if train.shape[1] > FEW:
        inside, outside = _unit(inside), _unit(outside)
    far = (
        ((outside[:, None] - inside[None]) ** 2).sum(-1)
        if train.shape[1] <= FEW
        else (-(outside @ inside.T))
    )
    k = max(1, round(math.sqrt(len(train))))
    near = values[np.argsort(far, axis=1, kind="stable")[:, :k]]
    if not classes:
        return np.asarray(near.mean(1, keepdims=True))
    share: np.ndarray = (near[:, :, None] == np.arange(classes)).mean(1)
    prior = (values[:, None] == np.arange(classes)).mean(0)
    scores = np.where(prior > 0, share / np.where(prior > 0, prior, 1), math.nan)
    if classes == 2:
        # with two classes the prior changes no order, and the odds decide
        scores = np.full_like(share, math.nan) if (prior == 0).any() else scores
    return scores


def _unit(vectors: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: np.ndarray = vectors / np.where(length > 0, length, 1)
    return unit


PROBES: dict[str, Predictor] = {"linear": linear, "knn": neighbours}
