"""Thresholds and epochs chosen on inner validation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from volta3d.downstream.classification.selection import BestEpoch, youden_threshold


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 6)), min_size=2, max_size=12))
def test_youden_s_j_against_every_threshold_there_is(cases: list[tuple[bool, int]]) -> None:
    positive = np.array([p for p, _ in cases])
    scores = np.array([s / 6 for _, s in cases])
    if positive.all() or not positive.any():
        assert math.isnan(youden_threshold(positive, scores))
        return

    def j(threshold: float) -> float:
        told = [s >= threshold for s in scores]
        hits = sum(t for t, p in zip(told, positive, strict=True) if p) / positive.sum()
        return (
            hits
            + sum(not t for t, p in zip(told, positive, strict=True) if not p) / (~positive).sum()
        )

    # one threshold below, one above, and one between any two scores: no other can do better
    best = max(j(t / 12) for t in range(-1, 15))
    assert j(youden_threshold(positive, scores)) == pytest.approx(best)


def test_perfect_scores_give_a_threshold_midway() -> None:
    positive = np.array([False, False, True, True])
    assert youden_threshold(positive, np.array([0.1, 0.3, 0.4, 0.9])) == pytest.approx(0.35)
    assert math.isnan(youden_threshold(positive, np.array([0.1, np.nan, 0.4, 0.9])))
    assert math.isnan(youden_threshold(np.zeros(0, bool), np.zeros(0)))


def test_the_best_epoch_is_the_first_of_the_lowest_and_patience_ends() -> None:
    best = BestEpoch(patience=2)
    seen = []
    for epoch, loss in enumerate([3.0, 1.0, 1.0, float("nan"), 2.0]):
        seen.append(best.better(epoch, loss))
        if best.give_up:
            break
    assert seen == [True, True, False, False] and best.epoch == 1
    never = BestEpoch(patience=0)
    assert not any((never.better(e, 1.0), never.give_up)[1] for e in range(50))
