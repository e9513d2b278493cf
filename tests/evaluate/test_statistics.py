"""Holm, signed ranks, subjects."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from volta3d.evaluate.scores import resample_subjects
from volta3d.evaluate.statistics import bootstrap_p, holm, p_text, per_subject, signed_rank


@settings(max_examples=80, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=0, max_size=7), st.floats(0.001, 0.3))
def test_holm_rejects_what_the_step_down_procedure_rejects(p: list[float], level: float) -> None:
    """The procedure: go up from the smallest p while p < level / (tests left), then stop."""
    rejected, left = set(), len(p)
    for index in sorted(range(len(p)), key=lambda i: p[i]):
        if p[index] * left > level:
            break
        rejected.add(index)
        left -= 1
    adjusted = holm(p)
    assert {i for i, a in enumerate(adjusted) if a <= level} == rejected
    assert all(a >= b for a, b in zip(adjusted, p, strict=True))


def test_holm_by_hand_and_with_tests_that_could_not_be_made() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    found = holm([math.nan, 0.01, math.nan, 0.5])
    assert math.isnan(found[0]) and found[1] == pytest.approx(0.02) and found[3] == 0.5


def test_signed_rank_by_counting_all_signs() -> None:
    difference = np.array([1.0, 2, 3, -4, 5, 6])
    total = sum(rank for rank, d in zip(range(1, 7), difference, strict=True) if d > 0)
    extreme = 0
    for signs in range(64):
        t = sum(r for r in range(1, 7) if signs >> (r - 1) & 1)
        extreme += abs(t - 10.5) >= abs(total - 10.5)
    assert signed_rank(difference, np.zeros(6)) == pytest.approx(extreme / 64)
    assert signed_rank(np.ones(6), np.ones(6)) == 1.0
    assert math.isnan(signed_rank(np.array([1.0, np.nan]), np.zeros(2)))
    # five pairs can never reach .05, as METHOD says
    assert signed_rank(np.arange(1.0, 6), np.zeros(5)) == pytest.approx(0.0625)


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


@pytest.mark.parametrize(
    ("p", "said"),
    [
        (0.04, "0.040"),
        (0.0004, "<0.001"),
        (0.0, "<0.001"),
        (math.nan, "undefined"),
        (None, "undefined"),
    ],
)
def test_a_small_p_is_no_zero(p: float | None, said: str) -> None:
    assert p_text(p) == said
