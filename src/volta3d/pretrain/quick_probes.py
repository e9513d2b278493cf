"""What a linear model and nearest neighbours read from features, fast enough for while training.

Shape legend: n scans, d feature dimensions.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from volta3d.statistics.linear_models import ridge_predictions, standardise
from volta3d.statistics.neighbours import from_other_subjects
from volta3d.statistics.scores import Predictions, correlation, score_once, within_fold_auroc
from volta3d.statistics.subject_folds import FOLDS, REPEATS, subject_folds
from volta3d.statistics.targets import MIN_SCANS, Target


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
    y, subjects = read.values, np.asarray(groups)[read.known]
    if not _can_be_read(read, x, subjects):
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
        scores.append(_score(y, predicted, fold))
    name = "auroc" if categorical else "r"
    defined = [s for s in scores if not math.isnan(s)]
    return {name: float(np.mean(defined)) if defined else math.nan}


def quick_knn(features: np.ndarray, target: Any, groups: Any) -> dict[str, float]:
    """Each scan's target from the √n scans of other subjects that are nearest by cosine.

    Args:
        features, target, groups: as for ``quick_probe``.

    Returns:
        As ``quick_probe``.

    Source: METHOD section 6; leaving one subject out needs no folds.
    """
    read = Target.read(target)
    x = np.asarray(features, np.float64)[read.known]
    subjects = np.asarray(groups).astype(str)[read.known]
    if not _can_be_read(read, x, subjects):
        return {}
    predicted = from_other_subjects(x, read.values, subjects, len(read.classes))
    score = _score(read.values, predicted, np.zeros(len(x), np.int64))
    return {"auroc" if read.classes else "r": score}


def knn_within(features: np.ndarray, target: Any, groups: Any, data_sets: Any) -> dict[str, float]:
    """``quick_knn`` in each data set alone, averaged with the number of scans as weights.

    Features that only tell one archive from another know nothing here.

    Returns:
        Empty when fewer than two data sets have enough scans.
    """
    names = np.asarray(data_sets).astype(str)
    target, groups = np.asarray(target, dtype=object), np.asarray(groups)
    scores: dict[str, list[tuple[float, int]]] = {}
    for name in np.unique(names):
        own = names == name
        if own.sum() < MIN_SCANS:
            continue
        for metric, value in quick_knn(features[own], target[own], groups[own]).items():
            if not math.isnan(value):
                scores.setdefault(metric, []).append((value, int(own.sum())))
    return {
        metric: sum(v * n for v, n in values) / sum(n for _, n in values)
        for metric, values in scores.items()
        if len(values) > 1
    }


def _can_be_read(target: Target, features: np.ndarray, subjects: np.ndarray) -> bool:
    several = len(np.unique(subjects)) > 1
    return target.usable and several and bool(np.isfinite(features).all())


def _score(values: np.ndarray, predicted: np.ndarray, folds: np.ndarray) -> float:
    """r for predictions [n, 1], AUROC for class scores [n, C], within folds."""
    predictions = Predictions(values, predicted, folds, values)
    return score_once(correlation if predicted.shape[1] == 1 else within_fold_auroc, predictions)
