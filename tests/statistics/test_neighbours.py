"""Nearest neighbours against loops."""

from __future__ import annotations

import math

import numpy as np
import pytest

from volta3d.statistics.neighbours import from_neighbours, from_other_subjects

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("width", [2, 7])
def test_numbers_and_classes_against_a_loop(width: int) -> None:
    train, test = RNG.normal(size=(30, width)), RNG.normal(size=(9, width))
    numbers, labels = RNG.normal(size=30), np.arange(30) % 3 * 1.0
    labels[:8] = 0
    mean, deviation = train.mean(0), train.std(0)
    inside, outside = (train - mean) / deviation, (test - mean) / deviation
    k = round(math.sqrt(30))
    for row, number, scores in zip(
        outside,
        from_neighbours(train, numbers, test, 0)[:, 0],
        from_neighbours(train, labels, test, 4),
        strict=True,
    ):
        far = [
            math.dist(row, other)
            if width == 2
            else -(row @ other) / (np.linalg.norm(row) * np.linalg.norm(other))
            for other in inside
        ]
        near = sorted(range(30), key=far.__getitem__)[:k]
        assert number == pytest.approx(sum(numbers[i] for i in near) / k)
        for c in range(3):
            of = sum(labels[i] == c for i in near) / k
            assert scores[c] == pytest.approx(of / (sum(labels == c) / 30))
        assert math.isnan(scores[3])


def test_L1_a_subject_s_own_scans_are_no_neighbours() -> None:
    x = RNG.normal(size=(6, 4))
    subjects, values = np.array(list("aaabbb")), np.array([1.0, 1, 1, 5, 5, 5])
    assert from_other_subjects(x, values, subjects, 0)[:, 0].tolist() == [5, 5, 5, 1, 1, 1]
