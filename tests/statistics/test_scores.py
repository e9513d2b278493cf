"""Scores against scikit-learn and SciPy, and intervals against a simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import pearsonr
from sklearn.metrics import balanced_accuracy_score, mean_absolute_error, r2_score, roc_auc_score

from volta3d.evaluate.probes import CATEGORICAL, CONTINUOUS
from volta3d.statistics.intervals import interval, resample_subjects
from volta3d.statistics.scores import (
    Predictions,
    averaged,
    correlation,
    score_once,
    within_fold_auroc,
)


def predictions(values: np.ndarray, scores: np.ndarray, folds: int = 1) -> Predictions:
    n = len(values)
    return Predictions(values, scores, np.arange(n) % folds, np.full(n, values.mean()))


def test_X15_auroc_against_scikit_learn_with_ties() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, 60).astype(float)
    told = np.round(truth + rng.normal(size=60), 0)  # many ties
    both = np.stack([-told, told], 1)
    found = score_once(CATEGORICAL["AUROC"], predictions(truth, both))
    assert found == pytest.approx(roc_auc_score(truth, told))


def test_auroc_counts_pairs_within_folds_only() -> None:
    """An offset between folds changes nothing: no pair spans two of them."""
    rng = np.random.default_rng(1)
    truth = np.repeat([0.0, 1.0], 30)
    told = truth + rng.normal(size=60)
    plain = predictions(truth, np.stack([-told, told], 1), folds=3)
    shifted = told + 100 * plain.folds
    moved = Predictions(truth, np.stack([-shifted, shifted], 1), plain.folds, plain.baseline)
    score = CATEGORICAL["AUROC"]
    assert score_once(score, plain) == score_once(score, moved)
    pairs = [
        (roc_auc_score(truth[f], told[f]), truth[f].sum() * (1 - truth[f]).sum())
        for f in (plain.folds == k for k in range(3))
    ]
    expected = sum(a * w for a, w in pairs) / sum(w for _, w in pairs)
    assert score_once(score, plain) == pytest.approx(expected)


def test_more_than_two_classes_are_one_against_the_rest() -> None:
    rng = np.random.default_rng(2)
    truth = rng.integers(0, 3, 90).astype(float)
    told = rng.random((90, 3)) + np.eye(3)[truth.astype(int)] * 0.4
    told /= told.sum(1, keepdims=True)
    found = predictions(truth, told)
    assert score_once(CATEGORICAL["AUROC"], found) == pytest.approx(
        roc_auc_score(truth, told, multi_class="ovr", average="macro")
    )
    assert score_once(CATEGORICAL["balanced accuracy"], found) == pytest.approx(
        balanced_accuracy_score(truth, told.argmax(1))
    )


def test_regression_scores_against_scikit_learn_and_scipy() -> None:
    rng = np.random.default_rng(3)
    truth = rng.normal(50, 15, 80)
    told = 0.5 * truth + rng.normal(0, 8, 80)
    found = predictions(truth, told[:, None])
    assert score_once(CONTINUOUS["r"], found) == pytest.approx(pearsonr(truth, told)[0])
    assert score_once(CONTINUOUS["R2"], found) == pytest.approx(r2_score(truth, told))
    assert score_once(CONTINUOUS["MAE"], found) == pytest.approx(mean_absolute_error(truth, told))


def test_T6_a_single_class_is_undefined_not_one_half() -> None:
    truth = np.zeros(20)
    told = np.random.default_rng(0).random((20, 2))
    assert math.isnan(score_once(CATEGORICAL["AUROC"], predictions(truth, told)))
    constant = predictions(np.full(10, 3.0), np.random.default_rng(0).random((10, 1)))
    assert math.isnan(score_once(CONTINUOUS["r"], constant))
    drawn = averaged(CATEGORICAL["AUROC"], [predictions(truth, told)])
    assert all(math.isnan(v) for v in interval(drawn, np.ones((5, 20))))


def test_resampling_draws_subjects_not_scans() -> None:
    groups = np.repeat(["a", "b", "c", "d"], [1, 3, 2, 2])
    weights = resample_subjects(groups, 500, seed=0)
    for subject in "abcd":
        own = weights[:, groups == subject]
        assert (own == own[:, :1]).all()
    firsts = [int(np.flatnonzero(groups == s)[0]) for s in "abcd"]
    assert (weights[:, firsts].sum(1) == 4).all()
    assert abs(weights.mean() - 1) < 0.05
    again = resample_subjects(groups, 500, seed=0)
    assert np.array_equal(weights, again)


def test_intervals_cover_what_they_say() -> None:
    """95 % intervals of a correlation over 200 simulated studies of 80 subjects.

    Binomial: 190 ± 3 x 3.1 expected; percentile bootstraps of r are known to cover a little less.
    """
    rng, truth, covered = np.random.default_rng(4), 0.5, 0
    for study in range(200):
        x = rng.normal(size=80)
        y = truth * x + math.sqrt(1 - truth**2) * rng.normal(size=80)
        weights = resample_subjects(np.arange(80), 300, seed=study)
        _, low, high = interval(averaged(CONTINUOUS["r"], [predictions(y, x[:, None])]), weights)
        covered += low <= truth <= high
    assert 176 <= covered <= 199


def test_correlation_within_against_a_loop() -> None:
    rng = np.random.default_rng(1)
    folds = np.repeat([0, 1, 2], [5, 8, 3])
    x, y = rng.normal(size=16), rng.normal(size=16)
    total = 0.0
    for fold, n in enumerate((5, 8, 3)):
        members = [i for i in range(16) if folds[i] == fold]
        mx, my = sum(x[i] for i in members) / n, sum(y[i] for i in members) / n
        cross = sum((x[i] - mx) * (y[i] - my) for i in members)
        first = sum((x[i] - mx) ** 2 for i in members)
        second = sum((y[i] - my) ** 2 for i in members)
        total += (n - 1) * cross / math.sqrt(first * second)
    assert score_once(correlation, Predictions(x, (y)[:, None], folds, x)) == pytest.approx(
        total / (4 + 7 + 2), abs=1e-12
    )
    # predictions that only differ between folds know nothing
    assert math.isnan(score_once(correlation, Predictions(x, (folds + 0.1)[:, None], folds, x)))


def test_macro_score_leaves_undefined_classes_out() -> None:
    values = np.array([0.0, 1.0, 2.0, 0.0, 1.0, 1.0])
    scores = np.eye(3)[values.astype(int)]
    folds = np.array([0, 0, 0, 1, 1, 1])
    assert score_once(within_fold_auroc, Predictions(values, scores, folds, values)) == 1
    scores[:, 2] = math.nan
    assert score_once(within_fold_auroc, Predictions(values, scores, folds, values)) == 1
