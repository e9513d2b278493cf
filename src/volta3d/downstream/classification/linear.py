"""A linear model on features that stay as they are: the honest line below fine-tuning.

Shape legend: n training scans, d features, r directions, O outputs, C classes.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import softmax
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge

from volta3d.downstream.classification.told import Question, Told

STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)  # inverse penalties; features have variance 1
NEVER = -1e9  # logit of a class that the training part lacks


@dataclass(frozen=True)
class Line:
    """``features @ weight.T + bias``: logits [n, C], or numbers [n, 1].

    Args:
        weight: float64 [O, d].
        bias: float64 [O].
    """

    weight: np.ndarray
    bias: np.ndarray

    def tell(self, features: np.ndarray, classes: int) -> np.ndarray:
        """Class probabilities [n, C], or numbers [n, 1]."""
        values: np.ndarray = features @ self.weight.T + self.bias
        return np.asarray(softmax(values, axis=1)) if classes else values


class LinearLearner:
    """Logistic regression with balanced class weights, or ridge regression.

    Features are standardised by the training part; the penalty is chosen on inner validation by
    the log-loss or the squared error (the strongest where there is none).

    Args:
        features: [scans, d].
        balanced: whether classes weigh alike.
    """

    def __init__(self, features: np.ndarray, *, balanced: bool = True) -> None:
        self.features, self.balanced = features.astype(np.float64), balanced

    def learn(self, question: Question) -> Told:
        """Fit, choose the penalty, predict inner and test."""
        q = question
        train, inner = self.features[q.train], self.features[q.inner]
        lines = _lines(train, q, STRENGTHS if len(inner) else STRENGTHS[:1], self.balanced)
        losses = {s: _loss(line.tell(inner, q.classes), q) for s, line in lines.items()}
        chosen = min(losses, key=losses.__getitem__)
        line = lines[chosen]
        return Told(
            inner=line.tell(inner, q.classes),
            test=line.tell(self.features[q.test], q.classes),
            tensors={
                "linear.weight": torch.from_numpy(line.weight.copy()),
                "linear.bias": torch.from_numpy(line.bias.copy()),
            },
            facts={"strength": chosen},
        )


def _lines(
    train: np.ndarray, q: Question, strengths: tuple[float, ...], balanced: bool
) -> dict[float, Line]:
    """One fit per penalty, in terms of the features as they are."""
    mean, deviation = train.mean(0), train.std(0)
    varies = deviation > 1e-6 * np.abs(train).max(0)
    scale = np.where(varies, 1 / np.where(varies, deviation, 1), 0)
    inside = (train - mean) * scale
    # a penalised fit has no weight outside the directions that the scans span
    _, size, directions = np.linalg.svd(inside, full_matrices=False)
    directions = directions[size > 1e-9 * max(size[0], 1e-300)]
    found = {}
    for strength in strengths:
        weight, bias = _fit(inside @ directions.T, q, strength, balanced)
        weight = (weight @ directions) * scale
        found[strength] = Line(weight, bias - weight @ mean)
    return found


def _fit(
    inside: np.ndarray, q: Question, strength: float, balanced: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Weights [O, r] and bias [O]."""
    if not q.classes:
        if not inside.shape[1]:
            return np.zeros((1, 0)), np.array([q.train_values.mean()])
        ridge = Ridge(alpha=1 / strength).fit(inside, q.train_values)
        return np.atleast_2d(ridge.coef_), np.atleast_1d(ridge.intercept_)
    weight = np.zeros((q.classes, inside.shape[1]))
    bias = np.full(q.classes, NEVER)
    present = np.unique(q.train_values).astype(int)
    if len(present) < 2 or not inside.shape[1]:
        bias[present] = 0.0
        return weight, bias
    model = LogisticRegression(
        C=strength, class_weight="balanced" if balanced else None, max_iter=300, tol=1e-4
    )
    with warnings.catch_warnings():
        # a fit cut short at one penalty is a slightly more penalised fit
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(inside, q.train_values.astype(np.int64))
    coefficients, intercepts = model.coef_, model.intercept_
    if len(present) == 2:  # kept for the second class alone; as logits of both
        coefficients = np.stack([-coefficients[0], coefficients[0]]) / 2
        intercepts = np.array([-intercepts[0], intercepts[0]]) / 2
    weight[present], bias[present] = coefficients, intercepts
    return weight, bias


def _loss(told: np.ndarray, q: Question) -> float:
    """On inner validation; 0 where there is none."""
    if not len(told):
        return 0.0
    if not q.classes:
        return float(((told[:, 0] - q.inner_values) ** 2).mean())
    chance = told[np.arange(len(told)), q.inner_values.astype(np.int64)]
    loss = float(-np.log(np.maximum(chance, 1e-12)).mean())
    return loss if math.isfinite(loss) else math.inf
