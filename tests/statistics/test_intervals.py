"""Bootstrap over people."""

from __future__ import annotations

import math

import numpy as np
import pytest

from volta3d.statistics.intervals import bootstrap_p, per_subject, resample_subjects


def test_scans_of_a_subject_are_averaged() -> None:
    groups = np.array(["b", "a", "b"])
    assert per_subject(groups, np.array([1.0, 5, 3])).tolist() == [5, 2]
    assert per_subject(groups, np.array([[1.0, 5, 3], [0, 0, 2]])).tolist() == [[5, 2], [0, 1]]


def test_the_bootstrap_s_p_is_small_for_what_never_changes_sign() -> None:
    x = np.random.default_rng(0).normal(size=40)
    weights = resample_subjects(np.arange(40), 500, 0)

    def mean(shift: float) -> float:
        return bootstrap_p(lambda w: (w @ (x + shift)) / w.sum(1), weights)

    assert mean(3) == pytest.approx(2 / 501) and mean(-x.mean()) > 0.5
    assert math.isnan(bootstrap_p(lambda w: np.full(len(w), np.nan), weights))
