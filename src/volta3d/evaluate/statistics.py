"""Statistics that classification and segmentation share.

Bootstrap intervals over subjects are made of two parts: ``resample_subjects`` draws weights, and
``interval`` takes any statistic that is a function of weights.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.stats import wilcoxon

from volta3d.evaluate.scores import Drawn, interval, resample_subjects

__all__ = [
    "bootstrap_p",
    "holm",
    "interval",
    "p_text",
    "per_subject",
    "resample_subjects",
    "signed_rank",
]


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction (Holm 1979) of one family of tests.

    The smallest of k values is multiplied by k, the next by k - 1, and so on; none may fall below
    the one before it, none exceeds 1. NaN is no test: it stays NaN and doesn't count.
    """
    p = np.asarray(p_values, np.float64)
    known = np.flatnonzero(~np.isnan(p))
    adjusted = np.full(len(p), np.nan)
    order = known[np.argsort(p[known], kind="stable")]
    factors = len(order) - np.arange(len(order))
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * factors), 1.0)
    return [float(value) for value in adjusted]


def signed_rank(first: np.ndarray, second: np.ndarray) -> float:
    """The p of Wilcoxon's two-sided signed-rank test on paired values; NaN without five pairs.

    Pairs with NaN are left out; equal pairs count by Pratt's method; all equal is 1.
    """
    difference = np.asarray(first, np.float64) - np.asarray(second, np.float64)
    difference = difference[np.isfinite(difference)]
    if len(difference) < 5:
        return math.nan
    if not difference.any():
        return 1.0
    return float(wilcoxon(difference, zero_method="pratt").pvalue)


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


def p_text(value: float | None) -> str:
    """A p-value for reading: three digits, and never a zero that it is not."""
    if value is None or value != value:
        return "undefined"
    return "<0.001" if value < 0.001 else f"{value:.3f}"
