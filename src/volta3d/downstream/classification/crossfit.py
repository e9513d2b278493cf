"""Scores of the training part by fits that have not seen the person: what a threshold comes from.

With ``epoch: last`` nothing is chosen on inner validation, so its fifth is trained on too, as in
the paper, which fits on four folds of five. Youden's threshold then comes from inside the training
part: it is dealt to a few groups of people, each group is scored by a refit on the others, and the
threshold is chosen on these scores together. The scores that are reported come from the fit on the
whole training part.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from volta3d.arms.fold_data import FoldData
from volta3d.statistics.splits import Splits

NOBODY = np.empty(0, np.int64)


def groups_of(
    subjects: Sequence[str], splits: Splits, *, fold: int, seed: int, groups: int
) -> np.ndarray:
    """The group of each training scan, [k]: by person, stratified, a function of the folds.

    Args:
        subjects: [k] whose each scan is.
        splits: their strata and the order of the training part.
        fold, seed: which training part.
        groups: how many.
    """
    own = set(subjects)
    place: dict[str, int] = {}
    for stratum in sorted(set(splits.strata.values())):
        order = [s for s in splits.orders[seed][fold] if s in own and splits.strata[s] == stratum]
        # going on where the last stratum ended keeps the groups of one size
        start = len(place)
        place |= {subject: (start + i) % groups for i, subject in enumerate(order)}
    return np.array([place[s] for s in subjects], np.int64)


def crossfit(data: FoldData, fit: Callable[[FoldData], np.ndarray]) -> np.ndarray:
    """Scores [k, O] of each training scan by a fit on the other groups.

    Args:
        data: with a group for each training scan.
        fit: fits the training part of what it is given, and scores its test part.
    """
    assert data.groups is not None
    scores: np.ndarray | None = None
    for group in np.unique(data.groups):
        held = data.groups == group
        part = replace(
            data,
            train=data.train[~held],
            train_values=data.train_values[~held],
            groups=data.groups[~held],
            inner=NOBODY,
            inner_values=data.train_values[:0],
            test=data.train[held],
        )
        own = fit(part)
        if scores is None:
            scores = np.zeros((len(data.train), own.shape[1]))
        scores[held] = own
    assert scores is not None
    return scores
