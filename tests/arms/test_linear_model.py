"""The linear model on frozen features."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge

from volta3d.arms.fold_data import FoldData, class_weights
from volta3d.arms.linear_model import LinearLearner
from volta3d.statistics.linear_models import LinearModel

RNG = np.random.default_rng(0)


def question(values: np.ndarray, classes: int, inner: bool = True) -> FoldData:
    parts = np.split(np.arange(len(values)), [30, 40])
    train, inside, test = parts if inner else (np.arange(40), np.arange(0), parts[2])
    return FoldData(train, inside, test, values[train], values[inside], classes, seed=0)


def features(values: np.ndarray, width: int) -> np.ndarray:
    """Noise of many sizes around large offsets, the first column also holding the answer."""
    x = RNG.normal(size=(len(values), width)) * np.logspace(-3, 3, width) + 100
    x[:, 0] += values * 1e-2
    return x


@pytest.mark.parametrize(("classes", "width"), [(2, 4), (3, 4), (2, 90)])
def test_it_is_scikit_learn_s_logistic_regression(classes: int, width: int) -> None:
    values = np.arange(60) % classes * 1.0
    x, q = features(values, width), question(values, classes)
    result = LinearLearner(x).learn(q)
    mean, deviation = x[q.train].mean(0), x[q.train].std(0)
    reference = LogisticRegression(
        C=result.facts["strength"], class_weight="balanced", max_iter=5000, tol=1e-8
    ).fit((x[q.train] - mean) / deviation, q.train_values)
    wanted = reference.predict_proba((x[q.test] - mean) / deviation)
    # two solvers' stopping points: probabilities agree to three digits
    assert np.abs(result.test - wanted).max() < 5e-3
    line = LinearModel(
        result.tensors["linear.weight"].numpy(), result.tensors["linear.bias"].numpy()
    )
    assert np.allclose(line.predict(x[q.test], classes), result.test)
    assert np.allclose(result.test.sum(1), 1)


def test_it_is_scikit_learn_s_ridge_regression() -> None:
    values = RNG.normal(size=60) * 10 + 50
    x, q = features(values, 5), question(values, 0)
    result = LinearLearner(x).learn(q)
    mean, deviation = x[q.train].mean(0), x[q.train].std(0)
    reference = Ridge(alpha=1 / result.facts["strength"]).fit(
        (x[q.train] - mean) / deviation, q.train_values
    )
    assert np.allclose(result.test[:, 0], reference.predict((x[q.test] - mean) / deviation))


def test_the_penalty_comes_from_inner_validation_alone() -> None:
    values = RNG.normal(size=60)
    x, q = RNG.normal(size=(60, 50)), question(values, 0)
    assert LinearLearner(x).learn(q).facts["strength"] < 1  # noise: the strongest penalties win
    clear = np.concatenate([values[:, None], np.zeros((60, 3))], axis=1)
    assert LinearLearner(clear).learn(q).facts["strength"] == 10.0
    assert LinearLearner(clear).learn(question(values, 0, inner=False)).facts["strength"] == 1e-4


def test_features_that_do_not_vary_and_one_class_only() -> None:
    values = np.arange(60) % 2 * 1.0
    q = question(values, 2)
    result = LinearLearner(np.ones((60, 3))).learn(q)
    assert np.allclose(result.test, 0.5)
    only = FoldData(q.train, q.inner, q.test, q.train_values * 0, q.inner_values * 0, 2, 0)
    result = LinearLearner(features(values, 3)).learn(only)
    assert np.allclose(result.test, [[1, 0]])
    assert np.allclose(LinearLearner(np.ones((60, 3))).learn(question(values, 0)).test, 0.5)


def test_class_weights_are_n_over_c_times_n_c() -> None:
    assert class_weights(np.array([0.0, 0, 0, 1]), 2).tolist() == [4 / 6, 2.0]
    assert class_weights(np.array([0.0, 0]), 2).tolist() == [1.0, 0.0]
