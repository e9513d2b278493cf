"""AUROC against counting pairs, and where it has none."""

from __future__ import annotations

import math

import numpy as np
import pytest

from volta3d.statistics.ranking import auroc, auroc_within

FOUR, SIX = np.ones((1, 4)), np.ones((1, 6))


def test_X16_auroc_against_counting_pairs_with_ties() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        positive = rng.random(30) < 0.4
        scores = rng.integers(0, 6, 30).astype(float)  # many ties
        won = pairs = 0.0
        for i in np.flatnonzero(positive):
            for j in np.flatnonzero(~positive):
                pairs += 1
                won += 1.0 if scores[i] > scores[j] else 0.5 if scores[i] == scores[j] else 0.0
        # counts are integers and halves: only the division rounds
        assert auroc(positive, scores, np.ones((1, 30)))[0] == pytest.approx(won / pairs, abs=1e-12)


def test_T6_one_class_is_undefined_not_a_half() -> None:
    scores = np.arange(4.0)
    assert math.isnan(auroc(np.ones(4, bool), scores, FOUR)[0])
    assert math.isnan(auroc(np.zeros(4, bool), scores, FOUR)[0])
    # fold 0 has both classes and is right, fold 1 has one class only: it must not pull to .5
    positive = np.array([False, True, True, True])
    assert auroc_within(positive, scores, np.array([0, 0, 1, 1]), FOUR)[0] == 1
    assert math.isnan(auroc_within(positive, scores, np.array([0, 1, 1, 1]), FOUR)[0])


def test_auroc_within_averages_folds_by_their_pairs() -> None:
    positive = np.array([True, False, True, True, False, False])
    scores = np.array([1.0, 0.0, 5.0, 3.0, 4.0, 2.0])
    folds = np.array([0, 0, 1, 1, 1, 1])
    # fold 0: 1 of 1 pair; fold 1: 5>4, 5>2, 3>2 of 4
    assert auroc_within(positive, scores, folds, SIX)[0] == pytest.approx((1 + 3) / 5)


def test_weights_are_scans_drawn_again() -> None:
    rng = np.random.default_rng(1)
    positive, scores, folds = rng.random(24) < 0.5, rng.integers(0, 9, 24) * 1.0, np.arange(24) % 3
    weights = rng.multinomial(24, np.full(24, 1 / 24), 5).astype(float)
    for row, value in zip(weights, auroc_within(positive, scores, folds, weights), strict=True):
        drawn = np.repeat(np.arange(24), row.astype(int))
        pairs = [
            1.0 if scores[i] > scores[j] else 0.5 if scores[i] == scores[j] else 0.0
            for i in drawn
            for j in drawn
            if positive[i] and not positive[j] and folds[i] == folds[j]
        ]
        assert value == pytest.approx(sum(pairs) / len(pairs), abs=1e-12)
