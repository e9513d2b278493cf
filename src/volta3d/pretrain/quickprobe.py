"""A linear probe fast enough to run while training, and the folds and scores all probes share.

Scores are taken *within* folds and averaged. A model that knows nothing predicts the mean of its
training part, which is high where the test fold's mean is low; pooled over folds that shows as a
negative correlation and an AUROC below .5 where the truth is 0 and .5.

Shape legend: n scans, d feature dimensions, C classes (or 1 for a continuous target).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.stats import rankdata

from volta3d.statistics.subject_folds import FOLDS, REPEATS, subject_folds
from volta3d.statistics.targets import Target

PENALTIES = 10.0 ** np.arange(-2, 6)  # in units of the number of scans: features have variance 1


def standardise(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both parts by the training part's mean and deviation; constant dimensions become 0."""
    mean, deviation = train.mean(0), train.std(0)
    varies = deviation > 1e-6 * np.abs(train).max(0)
    scale = np.where(varies, 1 / np.where(varies, deviation, 1), 0)
    return (train - mean) * scale, (test - mean) * scale


def ridge_predictions(train: np.ndarray, targets: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Ridge regression, penalty chosen by exact leave-one-out on the training part.

    Args:
        train: [n, d], standardised.
        targets: [n, C].
        test: [m, d], standardised with the training part.

    Returns:
        Predictions [m, C].

    With K = X Xᵀ = U S² Uᵀ the fit is U S²/(S² + a) Uᵀ y, and the left-out residual of scan i is
    (y_i - fit_i) / (1 - h_ii), h_ii the diagonal of that matrix plus 1/n for the intercept. The
    left-out scan may share its subject with others: that touches the penalty, never the test fold.
    """
    n, mean = len(train), targets.mean(0)
    centred = targets - mean
    squares, u = np.linalg.eigh(train @ train.T)
    squares = np.maximum(squares, 0)
    projected = u.T @ centred
    best, chosen = math.inf, PENALTIES[-1] * n
    for penalty in PENALTIES * n:
        shrink = squares / (squares + penalty)
        left = 1 - 1 / n - (u**2) @ shrink
        residual = (centred - u @ (shrink[:, None] * projected)) / np.maximum(left, 1e-9)[:, None]
        error = float((residual**2).mean())
        if error < best:
            best, chosen = error, penalty
    dual = u @ (projected / (squares + chosen)[:, None])
    predictions: np.ndarray = mean + test @ (train.T @ dual)
    return predictions


def auroc(positive: np.ndarray, scores: np.ndarray) -> float:
    """Area under the ROC curve as the Mann-Whitney statistic, ties count half; NaN for one class.

    Args:
        positive: bool [n].
        scores: [n], higher for the positive class.
    """
    ones = int(positive.sum())
    zeros = len(positive) - ones
    if not ones or not zeros:
        return math.nan
    ranks = rankdata(scores)
    return float((ranks[positive].sum() - ones * (ones + 1) / 2) / (ones * zeros))


def auroc_within(positive: np.ndarray, scores: np.ndarray, folds: np.ndarray) -> float:
    """AUROC over the pairs that lie in one fold, NaN if there are none.

    Folds with one class, or with NaN scores (a class missing from the training part), add none.
    """
    total = pairs = 0.0
    for fold in np.unique(folds):
        here = folds == fold
        ones = int(positive[here].sum())
        weight = ones * (int(here.sum()) - ones)
        if weight and not np.isnan(scores[here]).any():
            total += weight * auroc(positive[here], scores[here])
            pairs += weight
    return total / pairs if pairs else math.nan


def correlation_within(values: np.ndarray, predictions: np.ndarray, folds: np.ndarray) -> float:
    """Pearson's r in each fold, averaged with weights n - 1; NaN where no fold has one.

    Folds in which values or predictions are constant have none.
    """
    total = weights = 0.0
    for fold in np.unique(folds):
        x, y = values[folds == fold], predictions[folds == fold]
        r = correlation(x, y)
        if not math.isnan(r):
            total += (len(x) - 1) * r
            weights += len(x) - 1
    return total / weights if weights else math.nan


def correlation(x: np.ndarray, y: np.ndarray) -> float:
    """Pearson's r of two [n]; NaN where one of them is constant up to rounding."""
    a, b = x - x.mean(), y - y.mean()
    for deviation, value in ((a, x), (b, y)):
        if np.abs(deviation).max() <= 1e-9 * np.abs(value).max():
            return math.nan
    return float(a @ b) / math.sqrt(float(a @ a) * float(b @ b))


def score_within(values: np.ndarray, predictions: np.ndarray, folds: np.ndarray) -> float:
    """r for predictions [n, 1], AUROC (macro one-vs-rest) for class scores [n, C], within folds."""
    if predictions.shape[1] == 1:
        return correlation_within(values, predictions[:, 0], folds)
    classes = range(predictions.shape[1]) if predictions.shape[1] > 2 else [1]
    return _mean([auroc_within(values == c, predictions[:, c], folds) for c in classes])


def _mean(scores: list[float]) -> float:
    defined = [s for s in scores if not math.isnan(s)]
    return float(np.mean(defined)) if defined else math.nan


def quick_probe(features: np.ndarray, target: Any, groups: Any, *, seed: int) -> dict[str, float]:
    """What a linear model reads from features, cross-validated by subject, in milliseconds.

    Ridge regression (on ±1 per class for a categorical target), features standardised inside the
    fold, 5 folds, 3 repeats.

    Args:
        features: [n, d].
        target: [n] a column of participants.tsv; empty or NaN where unknown.
        groups: [n] the subject of each scan.
        seed: of the folds.

    Returns:
        {"r": ...} for a continuous target, {"auroc": ...} for classes (macro one-vs-rest for more
        than two), NaN where undefined; empty when there are too few values, one class only, or
        features that are not finite.
    """
    read = Target.read(target)
    x = np.asarray(features, np.float64)[read.known]
    if not read.usable or not np.isfinite(x).all():
        return {}
    y, subjects = read.values, np.asarray(groups)[read.known]
    if len(np.unique(subjects)) < 2:
        return {}
    wanted, categorical = y[:, None], bool(read.classes)
    if categorical:
        wanted = np.where(wanted == np.arange(len(read.classes)), 1.0, -1.0)
    scores = []
    for repeat in range(REPEATS):
        fold = subject_folds(y, subjects, folds=FOLDS, seed=seed + repeat, categorical=categorical)
        predicted = np.empty_like(wanted)
        for k in np.unique(fold):
            test = fold == k
            inside, outside = standardise(x[~test], x[test])
            predicted[test] = ridge_predictions(inside, wanted[~test], outside)
            # a class that the training part lacks has no score there
            predicted[np.ix_(test, np.ptp(wanted[~test], axis=0) == 0)] = math.nan
        scores.append(score_within(y, predicted, fold))
    return {"auroc" if categorical else "r": _mean(scores)}
