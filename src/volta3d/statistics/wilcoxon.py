"""Wilcoxon's signed-rank test of paired values."""

from __future__ import annotations

import math

import numpy as np
from scipy.stats import wilcoxon


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
