"""Means, shares and ratios under many sets of weights at once: one row of weights a resample.

A resample of subjects is a row of weights [n]: how often each scan's subject was drawn. Weights of
one give the statistic itself.

Shape legend: R resamples, n scans.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

Drawn = Callable[[np.ndarray], np.ndarray]
"""A statistic as a function of weights alone: [R, n] to [R]."""


def divide(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """The ratio, NaN where the denominator is 0."""
    safe = np.where(denominator > 0, denominator, 1)
    return np.where(denominator > 0, numerator / safe, np.nan)


def mean_defined(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Mean [R] over the parts that are defined, NaN where none is."""
    stacked = np.stack(parts)
    known = np.isfinite(stacked)
    return divide(np.where(known, stacked, 0).sum(0), known.sum(0))


def share(hit: np.ndarray, among: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The weight [R] of the scans that are ``hit``, over that of the scans ``among``; bool [n]."""
    return divide(weights @ hit.astype(np.float64), weights @ among.astype(np.float64))


def mean_of(values: np.ndarray) -> Drawn:
    """The mean of the values [n] that are known, as a function of weights."""
    known = np.isfinite(values)
    filled = np.where(known, values, 0.0)
    return lambda weights: divide(weights @ filled, weights @ known.astype(np.float64))


def pearson(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Pearson's r [R] of two [n]; NaN where one of them is constant up to rounding.

    Args:
        x, y: [n].
        weights: [R, n].
    """
    undefined = np.full(len(weights), np.nan)
    if not len(x):
        return undefined
    for values in (x, y):
        if np.abs(values - values.mean()).max() <= 1e-9 * np.abs(values).max():
            return undefined
    x, y = x - x.mean(), y - y.mean()  # keeps the digits of what follows
    n = weights.sum(1)
    mean_x, mean_y = divide(weights @ x, n), divide(weights @ y, n)
    cross = weights @ (x * y) - n * mean_x * mean_y
    square_x = weights @ x**2 - n * mean_x**2
    square_y = weights @ y**2 - n * mean_y**2
    defined = (square_x > 1e-9 * (weights @ x**2)) & (square_y > 1e-9 * (weights @ y**2))
    root = np.sqrt(np.where(defined, square_x * square_y, 1.0))
    r: np.ndarray = np.where(defined, cross / root, np.nan)
    return r
