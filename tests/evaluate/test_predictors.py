"""The two probes: nothing of a test row reaches the model, and chance is chance."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from volta3d.evaluate.predictors import PROBES, Predictor
from volta3d.evaluate.probes import Question, answer, out_of_fold
from volta3d.statistics.subject_folds import subject_folds

BOTH = pytest.mark.parametrize("predictor", PROBES.values(), ids=PROBES)
Data = tuple[np.ndarray, np.ndarray, np.ndarray]


def planted(n: int = 60, d: int = 20, classes: int = 2) -> Data:
    """Features [n, d] whose first column tells the target; two scans of each subject."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(n // 2), 2).astype(str)
    level = np.repeat(rng.normal(size=n // 2), 2)
    values = (level > 0).astype(float) if classes else 50 + 10 * level
    features = rng.normal(size=(n, d))
    features[:, 0] = 3 * level + 0.3 * rng.normal(size=n)
    return features, values, groups


def question(values: np.ndarray, groups: np.ndarray, classes: int) -> Question:
    return Question("target", np.ones(len(values), bool), values, groups, classes)


@BOTH
@pytest.mark.parametrize("classes", [0, 2])
def test_a_test_row_reaches_nothing_but_its_own_prediction(
    predictor: Predictor, classes: int
) -> None:
    features, values, groups = planted(classes=classes)
    train, test = np.arange(40), np.arange(40, 60)

    def told(rows: np.ndarray) -> np.ndarray:
        return predictor(features[train], values[train], groups[train], rows, classes)

    plain, poisoned = features[test], features[test].copy()
    poisoned[0] = 1e6
    np.testing.assert_allclose(told(plain)[1:], told(poisoned)[1:], rtol=1e-9)
    np.testing.assert_allclose(told(plain)[3:4], told(plain[3:4]), rtol=1e-9)


@BOTH
@pytest.mark.parametrize("classes", [0, 2])
def test_a_planted_signal_is_found(predictor: Predictor, classes: int) -> None:
    features, values, groups = planted(n=120, classes=classes)
    told = out_of_fold(question(values, groups, classes), features, predictor, seed=0)[0]
    assert np.corrcoef(told.scores[:, -1], values)[0, 1] > 0.5


@BOTH
def test_L6_shuffled_labels_give_chance(predictor: Predictor) -> None:
    """More features than scans, where a leak of any kind would shine: AUROC about .5."""
    rng, found = np.random.default_rng(1), []
    groups = np.arange(60).astype(str)
    for _ in range(12):
        features, values = rng.normal(size=(60, 200)), rng.permutation(np.repeat([0.0, 1.0], 30))
        asked = question(values, groups, 2)
        told = out_of_fold(asked, features, predictor, seed=0)
        weights = np.ones((1, 60))
        found.append(np.mean([asked.scores["AUROC"](p, weights)[0] for p in told]))
    # over many draws the standard deviation of one was .11 (linear) and .08 (knn): 3 x .11 / √12
    assert abs(np.mean(found) - 0.5) < 0.1


@pytest.mark.parametrize("categorical", [True, False])
def test_L1_no_subject_is_in_two_folds_and_classes_are_spread(categorical: bool) -> None:
    rng = np.random.default_rng(2)
    groups = rng.integers(0, 30, 100).astype(str)
    by_subject = {g: rng.integers(0, 2) for g in np.unique(groups)}
    values = np.array([float(by_subject[g]) for g in groups])
    folds = subject_folds(values, groups, folds=5, seed=0, categorical=categorical)
    assert set(folds) == set(range(5))
    for subject in np.unique(groups):
        assert len(set(folds[groups == subject])) == 1
    subjects = np.unique(groups)
    fold_of = {g: folds[groups == g][0] for g in subjects}
    ones = [sum(by_subject[g] for g in subjects if fold_of[g] == k) for k in range(5)]
    if categorical:
        assert max(ones) - min(ones) <= 1


def test_the_rotation_changes_no_prediction() -> None:
    """More features than scans: fitted in the span of the scans, told as if fitted in full."""
    features, values, groups = planted(n=40, d=100)
    train, test = np.arange(30), np.arange(30, 40)
    told = PROBES["linear"](features[train], values[train], groups[train], features[test], 2)
    mean, deviation = features[train].mean(0), features[train].std(0)
    inside, outside = (features[train] - mean) / deviation, (features[test] - mean) / deviation
    candidates = []
    for strength in (1e-3, 1e-2, 1e-1, 1.0):
        model = LogisticRegression(C=strength, class_weight="balanced", max_iter=2000, tol=1e-6)
        candidates.append(model.fit(inside, values[train]).predict_proba(outside))
    # 1e-2: the probe's optimiser stops at a gradient of 1e-3
    assert min(np.abs(told - c).max() for c in candidates) < 1e-2


@BOTH
def test_a_class_the_training_part_lacks_is_undefined(predictor: Predictor) -> None:
    features, _, groups = planted(n=20)
    told = predictor(features[:10], np.zeros(10), groups[:10], features[10:], 2)
    assert np.isnan(told).any()


def test_every_arm_sees_the_same_folds_and_the_gain_is_paired() -> None:
    features, values, groups = planted(n=80, classes=0)
    noise = np.random.default_rng(5).normal(size=features.shape)
    arms = {"trained token": features, "untrained token": noise, "volume only": noise[:, :1]}
    rows = answer(question(values, groups, 0), arms, seed=0)
    table = {(r["features"], r["probe"], r["metric"]): r for r in rows}
    best, before = table["trained token", "linear", "r"], table["untrained token", "linear", "r"]
    assert best["gain"] == pytest.approx(best["score"] - before["score"])  # type: ignore[operator]
    assert best["gain_low"] > 0  # type: ignore[operator]
    assert "gain" not in before and "gain" not in table["volume only", "linear", "r"]
    same = answer(question(values, groups, 0), {"trained mean": noise, "untrained mean": noise})
    assert all(r["gain"] == r["gain_low"] == r["gain_high"] == 0 for r in same if "gain" in r)
    assert rows == answer(question(values, groups, 0), arms, seed=0)
