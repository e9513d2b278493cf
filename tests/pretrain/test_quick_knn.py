"""Nearest neighbours while training: against a loop, by subject, and within data sets."""

from __future__ import annotations

import math

import numpy as np
import pytest

from volta3d.pretrain.quick_probes import knn_within, quick_knn


def told_by_a_loop(x: np.ndarray, y: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """The mean over the √n most similar scans of other subjects, written out."""
    z = (x - x.mean(0)) / x.std(0)
    told = []
    for i in range(len(z)):
        others = [j for j in range(len(z)) if groups[j] != groups[i]]
        likeness = [z[i] @ z[j] / (np.linalg.norm(z[i]) * np.linalg.norm(z[j])) for j in others]
        nearest = np.argsort(likeness)[::-1][: round(math.sqrt(len(z)))]
        told.append(np.mean([y[others[j]] for j in nearest]))
    return np.array(told)


@pytest.fixture
def scans() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    x = generator.standard_normal((60, 8))
    return x, 3 * x[:, 0] + generator.standard_normal(60), np.repeat(np.arange(30), 2)


def test_a_number_against_a_loop(scans: tuple[np.ndarray, ...]) -> None:
    x, y, groups = scans
    expected = np.corrcoef(told_by_a_loop(x, y, groups), y)[0, 1]
    assert quick_knn(x, y, groups)["r"] == pytest.approx(expected, abs=1e-12)
    assert expected > 0.3


def test_classes_against_a_loop_and_pairs_counted(scans: tuple[np.ndarray, ...]) -> None:
    x, y, groups = scans
    positive = y > 0
    told = told_by_a_loop(x, positive.astype(float), groups)
    pairs = [(a > b) + 0.5 * (a == b) for a in told[positive] for b in told[~positive]]
    names = np.where(positive, "M", "F")
    assert quick_knn(x, names, groups)["auroc"] == pytest.approx(np.mean(pairs), abs=1e-12)


def test_L1_a_subjects_own_scans_tell_nothing() -> None:
    apart, together = [], []
    for seed in range(40):
        generator = np.random.default_rng(seed)
        x = np.repeat(generator.standard_normal((40, 6)), 2, axis=0)  # two identical scans each
        y = np.repeat(generator.standard_normal(40), 2)
        apart.append(quick_knn(x, y, np.repeat(np.arange(40), 2))["r"])
        together.append(quick_knn(x, y, np.arange(80))["r"])
    # one seed's standard error is about .2, the mean's .03
    assert abs(np.mean(apart)) < 0.12
    assert np.mean(together) > 0.15  # a twin among nine neighbours gives up to a third


def test_features_that_only_tell_the_archive_know_nothing_within_it() -> None:
    archive, groups = np.repeat([0, 1], 40), np.arange(80)
    within = []
    for seed in range(40):
        generator = np.random.default_rng(seed)
        x = generator.standard_normal((80, 4)) + 10 * archive[:, None]
        y = archive * 30 + generator.standard_normal(80)
        assert quick_knn(x, y, groups)["r"] > 0.9
        within.append(knn_within(x, y, groups, archive)["r"])
    # one seed's standard error is about .2, the mean's .03
    assert abs(np.mean(within)) < 0.12
    assert knn_within(x, y, groups, np.zeros(80)) == {}


def test_undefined_is_not_a_half() -> None:
    x = np.random.default_rng(3).standard_normal((20, 3))
    assert quick_knn(x, np.array(["F"] * 20, dtype=object), np.arange(20)) == {}
    assert quick_knn(x[:5], np.arange(5.0), np.arange(5)) == {}
    assert quick_knn(np.full((20, 3), np.nan), np.arange(20.0), np.arange(20)) == {}
    assert quick_knn(x, np.arange(20.0), np.zeros(20)) == {}
