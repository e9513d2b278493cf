"""Linear models: standardised features, ridge and logistic regression.

Shape legend: n training scans, m test scans, d features, r directions, O outputs, C classes.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

import numpy as np
from scipy.special import softmax
from sklearn import config_context
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge

PENALTIES = 10.0 ** np.arange(-2, 6)  # in units of the number of scans: features have variance 1
NEVER = -1e9  # logit of a class that the training part lacks


@dataclass(frozen=True)
class LinearModel:
    """``features @ weight.T + bias``: logits [n, C], or numbers [n, 1].

    Args:
        weight: float64 [O, d].
        bias: float64 [O].
    """

    weight: np.ndarray
    bias: np.ndarray

    def predict(self, features: np.ndarray, classes: int) -> np.ndarray:
        """Class probabilities [n, C], or numbers [n, 1] where ``classes`` is 0."""
        values: np.ndarray = features @ self.weight.T + self.bias
        return np.asarray(softmax(values, axis=1)) if classes else values


@dataclass(frozen=True)
class Scaling:
    """The mean and the inverse deviation [d] of a training part; 0 for constant dimensions."""

    mean: np.ndarray
    scale: np.ndarray

    @classmethod
    def of(cls, train: np.ndarray) -> Scaling:
        """That of features [n, d]."""
        mean, deviation = train.mean(0), train.std(0)
        varies = deviation > 1e-6 * np.abs(train).max(0)
        return cls(mean, np.where(varies, 1 / np.where(varies, deviation, 1), 0))

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """Features [m, d], standardised."""
        scaled: np.ndarray = (features - self.mean) * self.scale
        return scaled


def standardise(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both parts by the training part's mean and deviation; constant dimensions become 0."""
    scaling = Scaling.of(train)
    return scaling(train), scaling(test)


def spanned(train: np.ndarray) -> np.ndarray:
    """The directions [r, d] that the training part spans, orthonormal.

    A penalised linear model has no weight outside them: fitted in them it predicts the same, and
    is fitted faster.
    """
    _, size, directions = np.linalg.svd(train, full_matrices=False)
    kept: np.ndarray = directions[size > 1e-9 * max(size[0], 1e-300)]
    return kept


def ridge(train: np.ndarray, targets: np.ndarray, penalty: float) -> LinearModel:
    """Ridge regression at one penalty, the intercept free.

    Args:
        train: [n, d].
        targets: [n].
        penalty: of the squared weights, beside the sum of squared errors.
    """
    if not train.shape[1]:
        return LinearModel(np.zeros((1, 0)), np.array([targets.mean()]))
    fitted = Ridge(alpha=penalty).fit(train, targets)
    return LinearModel(np.atleast_2d(fitted.coef_), np.atleast_1d(fitted.intercept_))


def ridge_predictions(train: np.ndarray, targets: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Ridge regression, penalty chosen by exact leave-one-out on the training part.

    Args:
        train: [n, d], standardised.
        targets: [n, O].
        test: [m, d], standardised with the training part.

    Returns:
        Predictions [m, O].

    With K = X Xᵀ = U S² Uᵀ the fit is U S²/(S² + a) Uᵀ y, and the left-out residual of scan i is
    (y_i - fit_i) / (1 - h_ii), h_ii the diagonal of that matrix plus 1/n for the intercept. The
    left-out scan may share its subject with others: that touches the penalty, never the test fold.
    """
    n, mean = len(train), targets.mean(0)
    centred = targets - mean
    squares, u = np.linalg.eigh(train @ train.T)
    squares = np.maximum(squares, 0)
    projected = u.T @ centred
    best, chosen = math.inf, PENALTIES[-1] * n
    for penalty in PENALTIES * n:
        shrink = squares / (squares + penalty)
        left = 1 - 1 / n - (u**2) @ shrink
        residual = (centred - u @ (shrink[:, None] * projected)) / np.maximum(left, 1e-9)[:, None]
        error = float((residual**2).mean())
        if error < best:
            best, chosen = error, penalty
    dual = u @ (projected / (squares + chosen)[:, None])
    predictions: np.ndarray = mean + test @ (train.T @ dual)
    return predictions


def logistic(
    train: np.ndarray,
    values: np.ndarray,
    classes: int,
    strength: float,
    *,
    balanced: bool = True,
    tolerance: float = 1e-4,
    iterations: int = 300,
) -> LinearModel:
    """Logistic regression at one penalty; logits of all classes.

    Args:
        train: [n, d].
        values: [n] indices of classes.
        classes: how many there are; one that ``values`` lack gets the logit ``NEVER``.
        strength: the inverse of the penalty.
        balanced: whether classes weigh alike.
        tolerance: the gradient at which the solver stops.
        iterations: after which it stops at the latest: a slightly more penalised fit.
    """
    weight, bias = np.zeros((classes, train.shape[1])), np.full(classes, NEVER)
    present, own, counts = np.unique(
        values.astype(np.int64), return_inverse=True, return_counts=True
    )
    if len(present) < 2 or not train.shape[1]:
        bias[present] = 0.0
        return LinearModel(weight, bias)
    model = LogisticRegression(C=strength, max_iter=iterations, tol=tolerance)
    weights = (len(values) / (len(counts) * counts))[own] if balanced else None
    # half the time of a small fit went into checks of the solver's arguments
    with warnings.catch_warnings(), config_context(skip_parameter_validation=True):
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(train, values.astype(np.int64), weights)
    coefficients, intercepts = model.coef_, model.intercept_
    if len(present) == 2:  # kept for the second class alone; as logits of both
        coefficients = np.stack([-coefficients[0], coefficients[0]]) / 2
        intercepts = np.array([-intercepts[0], intercepts[0]]) / 2
    weight[present], bias[present] = coefficients, intercepts
    return LinearModel(weight, bias)
