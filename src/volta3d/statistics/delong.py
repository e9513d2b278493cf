"""DeLong's test for two correlated ROC curves (DeLong, DeLong and Clarke-Pearson 1988).

People may have several scans (Obuchowski 1997).

The AUROC is the mean of ψ over all pairs of a positive and a negative case, ψ = 1, ½ or 0 as the
positive one scores higher, equal or lower. V10 of a positive case is its mean over the negatives,
V01 of a negative case its mean over the positives; the (co)variance of AUROCs on the same cases is
S10/m + S01/n with S10, S01 the sample (co)variances of V10 and V01. Where an arm was trained with
several seeds its V10 and V01 are averaged over them: the AUROC is then the mean over seeds, and
everything is linear in it.

Scans of one person are not independent. With V10 - AUROC summed over the positive scans of each
person, x, and V01 - AUROC over the negative ones, y, the covariance is
k/(k - 1) Σ (x/m + y/n)(x/m + y/n)' over people, where xx', yy' and the mixed products each have the
number k of people who are in that sum. For one scan each that is DeLong's.

Cross-validated scores of different folds come from different models, whose scales need not agree:
ranked together, an arm also pays for that. ``delong_in_folds`` tests the mean of the folds' AUROCs.
Given the models, folds are independent of each other: its variance is the mean of the folds'
variances over their number.

Shape legend: m positive cases, n negative cases, S seeds, A arms, P people.
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


def delong(
    positive: np.ndarray, arms: Sequence[np.ndarray], people: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """AUROCs [A] and their covariance [A, A]; NaN where a class has fewer than two people.

    Args:
        positive: bool [m + n].
        arms: scores [m + n] or [S, m + n] of each arm.
        people: [m + n] whose each case is; None: each somebody else's.
    """
    positive = np.asarray(positive, bool)
    m, n = int(positive.sum()), int((~positive).sum())
    count = len(arms)
    if m < 1 or n < 1:
        return np.full(count, np.nan), np.full((count, count), np.nan)
    pairs = [placements(positive, np.asarray(a, np.float64)) for a in arms]
    v10, v01 = np.stack([p[0] for p in pairs]), np.stack([p[1] for p in pairs])
    aucs = v10.mean(1)
    whose = np.arange(m + n) if people is None else np.unique(people, return_inverse=True)[1]
    x = _sums(v10 - aucs[:, None], whose[positive], int(whose.max()) + 1)
    y = _sums(v01 - aucs[:, None], whose[~positive], int(whose.max()) + 1)
    have = [len(np.unique(whose[positive])), len(np.unique(whose[~positive]))]
    if min(have) < 2:
        return aucs, np.full((count, count), np.nan)
    both = x @ y.T / (m * n) * _corrected(len(np.unique(whose)))
    covariance = (
        x @ x.T / m**2 * _corrected(have[0]) + y @ y.T / n**2 * _corrected(have[1]) + both + both.T
    )
    return aucs, np.atleast_2d(covariance)


def _sums(values: np.ndarray, whose: np.ndarray, people: int) -> np.ndarray:
    """Values [A, cases] summed over each person's cases, [A, P]."""
    return np.stack([np.bincount(whose, own, people) for own in values])


def _corrected(count: int) -> float:
    return count / (count - 1)


def delong_test(
    positive: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    people: np.ndarray | None = None,
) -> tuple[float, float, float]:
    """Difference of two AUROCs (first - second), z, and the two-sided p; arguments as ``delong``.

    Two arms that rank alike have z 0 and p 1. All three are NaN where undefined.
    """
    aucs, covariance = delong(positive, [first, second], people)
    return _tested(float(aucs[0] - aucs[1]), _variance(covariance))


def delong_in_folds(
    positive: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    folds: np.ndarray,
    people: np.ndarray | None = None,
) -> tuple[float, float, float]:
    """As ``delong_test``, of AUROCs averaged over the folds where both classes are.

    Args:
        positive, first, second, people: as ``delong_test``.
        folds: [m + n] in which each case was tested.
    """
    positive, whose = np.asarray(positive, bool), people
    differences, variances = [], []
    for fold in np.unique(folds):
        here = np.asarray(folds) == fold
        arms = [np.asarray(a)[..., here] for a in (first, second)]
        aucs, covariance = delong(positive[here], arms, None if whose is None else whose[here])
        if not np.isnan(aucs).any():
            differences.append(float(aucs[0] - aucs[1]))
            variances.append(_variance(covariance))
    if not differences:
        return math.nan, math.nan, math.nan
    return _tested(float(np.mean(differences)), float(np.mean(variances)) / len(variances))


def _variance(covariance: np.ndarray) -> float:
    return float(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])


def _tested(difference: float, variance: float) -> tuple[float, float, float]:
    if math.isnan(variance):
        return difference, math.nan, math.nan
    if variance <= 1e-15:  # rounding
        same = abs(difference) < 1e-12
        return difference, 0.0 if same else math.inf, float(same)
    z = difference / math.sqrt(variance)
    return difference, z, float(2 * norm.sf(abs(z)))
