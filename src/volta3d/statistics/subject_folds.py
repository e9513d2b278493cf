"""Scans dealt to stratified folds in which each subject's scans lie together."""

from __future__ import annotations

import numpy as np

from volta3d.randomness import numpy_generator

FOLDS = 5  # of every probe
REPEATS = 3


def subject_folds(
    values: np.ndarray, groups: np.ndarray, *, folds: int, seed: int, categorical: bool
) -> np.ndarray:
    """Stratified folds [n] in which all scans of a subject lie together.

    Subjects are put in order of their class, or of their mean value, and dealt to the folds;
    subjects of one class are dealt in random order.

    Args:
        values: [n] classes or numbers.
        groups: [n] the subject of each scan.
        folds: how many are wanted; no more than there are subjects are made.
        seed: of the dealing.
        categorical: whether ``values`` are classes.
    """
    rng = numpy_generator(seed, "folds")
    subjects, member = np.unique(np.asarray(groups).astype(str), return_inverse=True)
    key = np.bincount(member, weights=values) / np.bincount(member)
    if categorical:  # a subject whose class changes counts with its lowest one
        key = np.array([values[member == s].min() for s in range(len(subjects))])
    folds = max(2, min(folds, len(subjects)))
    order = np.lexsort((rng.permutation(len(subjects)), key))
    dealt = np.empty(len(subjects), np.int64)
    for start in range(0, len(order), folds):
        block = order[start : start + folds]
        # within a class the order is random already, and a fixed cycle spreads a rare class best
        cycle = np.arange(folds) if categorical else rng.permutation(folds)
        dealt[block] = cycle[: len(block)]
    assigned: np.ndarray = dealt[member]
    return assigned
