"""Scans of a subject lie in one fold, and folds are stratified."""

from __future__ import annotations

import numpy as np

from volta3d.statistics.subject_folds import subject_folds


def test_L1_no_subject_in_two_folds_and_folds_are_stratified() -> None:
    groups = np.repeat([f"s{i}" for i in range(25)], 2)
    classes = np.repeat((np.arange(25) < 10).astype(float), 2)
    ages = np.repeat(np.linspace(20, 80, 25), 2)
    for values, categorical in ((classes, True), (ages, False)):
        folds = subject_folds(values, groups, folds=5, seed=0, categorical=categorical)
        for subject in np.unique(groups):
            assert len(set(folds[groups == subject])) == 1
        assert sorted(set(folds)) == [0, 1, 2, 3, 4]
        assert np.bincount(folds).tolist() == [10] * 5
        if categorical:
            assert [values[folds == f].sum() for f in range(5)] == [4.0] * 5
        else:
            assert np.ptp([values[folds == f].mean() for f in range(5)]) < 12
    other = subject_folds(ages, groups, folds=5, seed=1, categorical=False)
    assert (other != folds).any()
