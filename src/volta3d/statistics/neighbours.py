"""Nearest neighbours: the mean over the k most alike scans, k = √n (rounded).

Features are standardised first: raw features of brains all point one way.

Shape legend: n training scans, m test scans, d features, C classes.
"""

from __future__ import annotations

import math

import numpy as np

from volta3d.statistics.linear_models import standardise

FEW = 2  # up to so many dimensions an angle says nothing and neighbours are found by distance


def likeness(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The cosine [m, n] of vectors [m, d] and [n, d]; 0 for a vector of zeros."""
    found: np.ndarray = _unit(one) @ _unit(other).T
    return found


def nearest(alike: np.ndarray) -> np.ndarray:
    """The positions [m, k] of the k = √n most alike of each row of [m, n], the first of equals."""
    k = max(1, round(math.sqrt(alike.shape[1])))
    near: np.ndarray = np.argsort(-alike, axis=1, kind="stable")[:, :k]
    return near


def from_neighbours(
    train: np.ndarray, values: np.ndarray, test: np.ndarray, classes: int
) -> np.ndarray:
    """Predictions for other scans.

    For one or two dimensions the Euclidean distance takes the place of the cosine. A class counts
    by its share among the neighbours over its share in the training part.

    Args:
        train, test: [n, d], [m, d].
        values: [n] numbers, or indices of classes.
        classes: how many; 0 for numbers.

    Returns:
        Numbers [m, 1] or class scores [m, C]; NaN for classes the training part lacks.
    """
    inside, outside = standardise(train, test)
    if train.shape[1] <= FEW:
        alike = -((outside[:, None] - inside[None]) ** 2).sum(-1)
    else:
        alike = likeness(outside, inside)
    near = values[nearest(alike)]
    if not classes:
        return np.asarray(near.mean(1, keepdims=True))
    share: np.ndarray = (near[:, :, None] == np.arange(classes)).mean(1)
    prior = (values[:, None] == np.arange(classes)).mean(0)
    scores = np.where(prior > 0, share / np.where(prior > 0, prior, 1), math.nan)
    if classes == 2:
        # with two classes the prior changes no order, and the odds decide
        scores = np.full_like(share, math.nan) if (prior == 0).any() else scores
    return scores


def from_other_subjects(
    features: np.ndarray, values: np.ndarray, subjects: np.ndarray, classes: int
) -> np.ndarray:
    """Predictions for every scan from the scans of other subjects, by cosine.

    Args:
        features: [n, d]; standardised over all scans.
        values: [n] numbers, or indices of classes.
        subjects: [n] whose each scan is; at least two.
        classes: how many; 0 for numbers.

    Returns:
        Numbers [n, 1], or the share of each class among the neighbours [n, C].
    """
    x = standardise(features, features)[0]
    alike = likeness(x, x)
    alike[subjects[:, None] == subjects[None]] = -np.inf  # its own scans tell nothing
    near = nearest(alike)
    usable = np.take_along_axis(alike, near, axis=1) > -np.inf
    wanted = [values == c for c in range(classes)] if classes else [values]
    count = np.maximum(usable.sum(1), 1)
    return np.stack([(w[near] * usable).sum(1) / count for w in wanted], axis=1)


def _unit(vectors: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: np.ndarray = vectors / np.where(length > 0, length, 1)
    return unit
