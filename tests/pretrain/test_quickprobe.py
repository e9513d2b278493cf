"""The quick probe: its parts against loops, and what it must and must not find."""

from __future__ import annotations

import math

import numpy as np
import pytest

from volta3d.pretrain.quickprobe import (
    auroc,
    auroc_within,
    correlation_within,
    quick_probe,
    ridge_predictions,
    score_within,
    standardise,
)
from volta3d.statistics.subject_folds import subject_folds
from volta3d.statistics.targets import Target


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
        assert auroc(positive, scores) == pytest.approx(won / pairs, abs=1e-12)


def test_T6_one_class_is_undefined_not_a_half() -> None:
    scores = np.arange(4.0)
    assert math.isnan(auroc(np.ones(4, bool), scores))
    assert math.isnan(auroc(np.zeros(4, bool), scores))
    # fold 0 has both classes and is right, fold 1 has one class only: it must not pull to .5
    positive = np.array([False, True, True, True])
    assert auroc_within(positive, scores, np.array([0, 0, 1, 1])) == 1
    assert math.isnan(auroc_within(positive, scores, np.array([0, 1, 1, 1])))


def test_T6_a_class_missing_from_training_is_undefined() -> None:
    target = np.array(["a"] * 30 + ["b"], object)
    found = quick_probe(
        np.random.default_rng(0).normal(size=(31, 4)), target, np.arange(31), seed=0
    )
    assert math.isnan(found["auroc"])


def test_auroc_within_averages_folds_by_their_pairs() -> None:
    positive = np.array([True, False, True, True, False, False])
    scores = np.array([1.0, 0.0, 5.0, 3.0, 4.0, 2.0])
    folds = np.array([0, 0, 1, 1, 1, 1])
    # fold 0: 1 of 1 pair; fold 1: 5>4, 5>2, 3>2 of 4
    assert auroc_within(positive, scores, folds) == pytest.approx((1 + 3) / 5)


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
    assert correlation_within(x, y, folds) == pytest.approx(total / (4 + 7 + 2), abs=1e-12)
    # predictions that only differ between folds know nothing
    assert math.isnan(correlation_within(x, folds + 0.1, folds))


def test_ridge_against_solving_and_leaving_out_by_hand() -> None:
    rng = np.random.default_rng(2)
    for d in (4, 40):  # fewer and more dimensions than scans
        train, test = standardise(rng.normal(size=(15, d)), rng.normal(size=(6, d)))
        y = (train[:, :2] @ np.array([1.0, -1.0]) + 0.5 * rng.normal(size=15) + 3)[:, None]

        def fit(x: np.ndarray, t: np.ndarray, penalty: float, at: np.ndarray) -> np.ndarray:
            # the intercept is not penalised: solve with a column of ones of its own
            ones = np.c_[np.ones(len(x)), x]
            keep = penalty * np.eye(ones.shape[1])
            keep[0, 0] = 0
            return np.c_[np.ones(len(at)), at] @ np.linalg.solve(ones.T @ ones + keep, ones.T @ t)

        errors = {}
        for penalty in 15 * 10.0 ** np.arange(-2, 6):
            out = [np.arange(15) != i for i in range(15)]
            errors[penalty] = sum(
                float((fit(train[o], y[o], penalty, train[~o]) - y[~o])[0, 0] ** 2) for o in out
            )
        best = min(errors, key=errors.__getitem__)
        expected = fit(train, y, best, test)
        # the normal equations lose half of the fp64 digits
        np.testing.assert_allclose(ridge_predictions(train, y, test), expected, atol=1e-6)


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


def probe(features: np.ndarray, target: np.ndarray, seed: int = 0) -> dict[str, float]:
    return quick_probe(features, target, np.arange(len(features)), seed=seed)


def test_finds_what_is_there() -> None:
    rng = np.random.default_rng(3)
    x = rng.normal(size=(128, 192))
    age = 50 + 10 * x[:, :4].sum(1) / 2 + 3 * rng.normal(size=128)
    sex = np.where(x[:, 0] > 0, "M", "F").astype(object)
    site = np.array(["a", "b", "c"], object)[np.digitize(x[:, 1], [-0.4, 0.4])]
    # with 188 noise dimensions and 102 training scans much is lost; chance is 0 and .5
    assert probe(x, age)["r"] > 0.4
    assert probe(x, sex)["auroc"] > 0.6
    # few noise dimensions; the middle of three classes is not linear: one of three AUROCs near .5
    assert probe(x[:, :8], sex)["auroc"] > 0.95
    assert 0.75 < probe(x[:, :8], site)["auroc"] < 0.95


def test_L6_shuffled_labels_score_chance() -> None:
    rng = np.random.default_rng(4)
    x = rng.normal(size=(60, 16))
    r = [probe(x, rng.normal(size=60), s)["r"] for s in range(12)]
    sex = np.array(["M", "F"] * 30, object)
    aurocs = [probe(x, rng.permutation(sex), s)["auroc"] for s in range(12)]
    # one r of 60 scans has a standard error of .18 (an AUROC .09), the mean of 12 .05 (.027)
    assert np.mean(r) == pytest.approx(0, abs=0.15)
    assert np.mean(aurocs) == pytest.approx(0.5, abs=0.08)


def test_L7_constant_features_know_nothing() -> None:
    x = np.full((40, 8), 0.3) * (1 + 1e-9 * np.random.default_rng(0).normal(size=(40, 8)))
    sex = np.array(["M", "F"] * 20, object)
    assert probe(x, sex) == {"auroc": 0.5}
    assert math.isnan(probe(x, np.arange(40.0))["r"])


def test_unknown_values_are_left_out() -> None:
    rng = np.random.default_rng(5)
    x, age = rng.normal(size=(40, 3)), rng.normal(size=40)
    gaps = age.copy()
    gaps[::4] = math.nan
    known = ~np.isnan(gaps)
    who = np.array([f"s{i:02d}" for i in range(40)])
    assert quick_probe(x, gaps, who, seed=0) == quick_probe(
        x[known], age[known], who[known], seed=0
    )


def test_too_little_to_probe_gives_nothing() -> None:
    x = np.random.default_rng(6).normal(size=(30, 3))
    assert probe(x, np.array(["M"] * 30, object)) == {}
    assert probe(x, np.array([""] * 30, object)) == {}
    assert probe(x[:6], np.arange(6.0)) == {}
    assert quick_probe(x, np.arange(30.0), ["one"] * 30, seed=0) == {}
    x[3, 1] = math.nan
    assert probe(x, np.arange(30.0)) == {}


def test_target_kinds() -> None:
    assert Target.read(np.array([20.5, 30.0, 30.1])).classes == ()
    assert Target.read(np.array([0.0, 1.0, 1.0])).classes == ("0.0", "1.0")
    assert Target.read(np.array(["AD", "", "CN", "AD"], object)).classes == ("AD", "CN")
    assert Target.read(np.array([str(v) for v in range(20)], object)).classes == ()
    assert Target.read(np.array([str(v % 3) for v in range(20)], object)).classes == ("0", "1", "2")
    read = Target.read(np.array(["M", None, math.nan, "F"], object))
    assert read.known.tolist() == [True, False, False, True]
    assert read.values.tolist() == [1.0, 0.0]


def test_macro_score_leaves_undefined_classes_out() -> None:
    values = np.array([0.0, 1.0, 2.0, 0.0, 1.0, 1.0])
    scores = np.eye(3)[values.astype(int)]
    folds = np.array([0, 0, 0, 1, 1, 1])
    assert score_within(values, scores, folds) == 1
    scores[:, 2] = math.nan
    assert score_within(values, scores, folds) == 1
