"""DeLong's test for two correlated ROC curves (DeLong, DeLong and Clarke-Pearson 1988).

The AUROC is the mean of ψ over all pairs of a positive and a negative case, ψ = 1, ½ or 0 as the
positive one scores higher, equal or lower. V10 of a positive case is its mean over the negatives,
V01 of a negative case its mean over the positives; the (co)variance of AUROCs on the same cases is
S10/m + S01/n with S10, S01 the sample (co)variances of V10 and V01. Where an arm was trained with
several seeds its V10 and V01 are averaged over them: the AUROC is then the mean over seeds, and
everything is linear in it.

Shape legend: m positive cases, n negative cases, S seeds, A arms.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.stats import norm, rankdata


def placements(positive: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """V10 [m] and V01 [n] of one arm, averaged over seeds, by mid-ranks.

    Args:
        positive: bool [m + n].
        scores: [m + n], or [S, m + n].
    """
    over_seeds = np.atleast_2d(scores)
    v10, v01 = [], []
    for own in over_seeds:
        x, y = own[positive], own[~positive]
        ranks = rankdata(np.concatenate([x, y]))
        v10.append((ranks[: len(x)] - rankdata(x)) / len(y))
        v01.append(1 - (ranks[len(x) :] - rankdata(y)) / len(x))
    return np.mean(v10, axis=0), np.mean(v01, axis=0)


def delong(positive: np.ndarray, arms: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """AUROCs [A] and their covariance [A, A]; NaN where a class has fewer than two cases.

    Args:
        positive: bool [m + n].
        arms: scores [m + n] or [S, m + n] of each arm.
    """
    positive = np.asarray(positive, bool)
    m, n = int(positive.sum()), int((~positive).sum())
    count = len(arms)
    if m < 1 or n < 1:
        return np.full(count, np.nan), np.full((count, count), np.nan)
    pairs = [placements(positive, np.asarray(a, np.float64)) for a in arms]
    v10, v01 = np.stack([p[0] for p in pairs]), np.stack([p[1] for p in pairs])
    if m < 2 or n < 2:
        return v10.mean(1), np.full((count, count), np.nan)
    covariance = np.atleast_2d(np.cov(v10)) / m + np.atleast_2d(np.cov(v01)) / n
    return v10.mean(1), covariance


def delong_test(
    positive: np.ndarray, first: np.ndarray, second: np.ndarray
) -> tuple[float, float, float]:
    """Difference of two AUROCs (first - second), z, and the two-sided p.

    Two arms that rank alike have z 0 and p 1. All three are NaN where undefined.
    """
    aucs, covariance = delong(positive, [first, second])
    difference = float(aucs[0] - aucs[1])
    variance = float(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    if math.isnan(variance):
        return difference, math.nan, math.nan
    if variance <= 1e-15:  # rounding
        return (
            difference,
            0.0 if abs(difference) < 1e-12 else math.inf,
            float(abs(difference) < 1e-12),
        )
    z = difference / math.sqrt(variance)
    return difference, z, float(2 * norm.sf(abs(z)))
