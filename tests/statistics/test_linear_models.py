"""Linear models against solving by hand and against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from volta3d.statistics.linear_models import (
    Scaling,
    logistic,
    ridge,
    ridge_predictions,
    spanned,
    standardise,
)


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


def test_ridge_at_one_penalty_is_the_normal_equations() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(20, 3)), rng.normal(size=20)
    ones = np.c_[np.ones(20), x]
    keep = 0.7 * np.diag([0.0, 1, 1, 1])
    wanted = ones @ np.linalg.solve(ones.T @ ones + keep, ones.T @ y)
    assert np.allclose(ridge(x, y, 0.7).predict(x, 0)[:, 0], wanted)
    assert ridge(x[:, :0], y, 0.7).predict(x[:, :0], 0)[:, 0] == pytest.approx(y.mean())


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("balanced", [True, False])
def test_logistic_is_scikit_learn_s_and_absent_classes_have_no_chance(
    classes: int, balanced: bool
) -> None:
    rng = np.random.default_rng(1)
    values = rng.integers(0, classes, 50) * 1.0
    x = rng.normal(size=(50, 4)) + values[:, None]
    wanted = LogisticRegression(
        C=0.1, class_weight="balanced" if balanced else None, max_iter=5000, tol=1e-10
    ).fit(x, values)
    found = logistic(x, values, classes + 1, 0.1, balanced=balanced, tolerance=1e-10).predict(
        x, classes + 1
    )
    assert np.allclose(found[:, :classes], wanted.predict_proba(x), atol=1e-5)
    assert (found[:, classes] == 0).all()
    alone = logistic(x, values * 0, classes, 0.1).predict(x, classes)
    assert (alone[:, 0] == 1).all() and (alone[:, 1:] == 0).all()


def test_a_penalised_fit_lies_in_the_directions_spanned() -> None:
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(12, 30)), rng.normal(size=12)
    directions = spanned(x)
    assert directions.shape == (12, 30)
    assert np.allclose(directions @ directions.T, np.eye(12))
    inside = ridge(x @ directions.T, y, 2.0)
    assert np.allclose(inside.weight @ directions, ridge(x, y, 2.0).weight)
    assert spanned(np.zeros((4, 3))).shape == (0, 3)


def test_constant_dimensions_become_zero() -> None:
    x = np.c_[np.arange(4.0), np.full(4, 0.3)]
    scaled = Scaling.of(x)(x + 1)
    assert scaled[:, 1].tolist() == [0.0] * 4
    assert scaled[:, 0] == pytest.approx((np.arange(4) + 1 - 1.5) / np.arange(4.0).std())
