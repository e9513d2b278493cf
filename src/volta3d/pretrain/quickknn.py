"""What nearest neighbours read from features, fast enough to run while training.

Shape legend: n scans, d feature dimensions, C classes.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from volta3d.pretrain.quickprobe import (
    auroc,
    correlation,
    standardise,
)
from volta3d.statistics.targets import MIN_SCANS, Target


def quick_knn(features: np.ndarray, target: Any, groups: Any) -> dict[str, float]:
    """Each scan's target from the √n scans of other subjects that are nearest by cosine.

    Args:
        features: [n, d]; standardised over all scans first, since raw features of brains all
            point one way.
        target: [n] a column of participants.tsv; empty or NaN where unknown.
        groups: [n] the subject of each scan.

    Returns:
        {"r": ...} for a continuous target, {"auroc": ...} for classes (macro one-vs-rest for more
        than two), NaN where undefined; empty when there are too few values, one class only, or
        features that are not finite.

    Source: METHOD section 6; leaving one subject out needs no folds.
    """
    read = Target.read(target)
    x = np.asarray(features, np.float64)[read.known]
    subjects = np.asarray(groups).astype(str)[read.known]
    if not read.usable or not np.isfinite(x).all() or len(np.unique(subjects)) < 2:
        return {}
    x = standardise(x, x)[0]
    length = np.linalg.norm(x, axis=1, keepdims=True)
    x = x / np.where(length > 0, length, 1)
    likeness = x @ x.T
    likeness[subjects[:, None] == subjects[None]] = -np.inf  # its own scans tell nothing
    k = max(1, round(math.sqrt(len(x))))
    near = np.argsort(-likeness, axis=1, kind="stable")[:, :k]
    usable = np.take_along_axis(likeness, near, axis=1) > -np.inf
    if not read.classes:
        return {"r": correlation(read.values, _mean(read.values[near], usable))}
    count = len(read.classes)
    told = [_mean((read.values == c).astype(float)[near], usable) for c in range(count)]
    classes = range(count) if count > 2 else [1]
    scores = [auroc(read.values == c, told[c]) for c in classes]
    defined = [s for s in scores if not math.isnan(s)]
    return {"auroc": float(np.mean(defined)) if defined else math.nan}


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
        metric: sum(v * n for v, n in found) / sum(n for _, n in found)
        for metric, found in scores.items()
        if len(found) > 1
    }


def _mean(values: np.ndarray, usable: np.ndarray) -> np.ndarray:
    total: np.ndarray = (values * usable).sum(1) / np.maximum(usable.sum(1), 1)
    return total
