"""A linear model on features that stay as they are: the honest line below fine-tuning.

Shape legend: n training scans, d features, r directions, O outputs, C classes.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from volta3d.downstream.classification.told import Question, Told
from volta3d.statistics.linear_models import LinearModel, Scaling, logistic, ridge, spanned

STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)  # inverse penalties; features have variance 1


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
        models = _models(train, q, STRENGTHS if len(inner) else STRENGTHS[:1], self.balanced)
        losses = {s: _loss(model.predict(inner, q.classes), q) for s, model in models.items()}
        chosen = min(losses, key=losses.__getitem__)
        model = models[chosen]
        return Told(
            inner=model.predict(inner, q.classes),
            test=model.predict(self.features[q.test], q.classes),
            tensors={
                "linear.weight": torch.from_numpy(model.weight.copy()),
                "linear.bias": torch.from_numpy(model.bias.copy()),
            },
            facts={"strength": chosen},
        )


def _models(
    train: np.ndarray, q: Question, strengths: tuple[float, ...], balanced: bool
) -> dict[float, LinearModel]:
    """One fit per penalty, in terms of the features as they are."""
    scaling = Scaling.of(train)
    inside = scaling(train)
    directions = spanned(inside)
    found = {}
    for strength in strengths:
        if q.classes:
            fitted = logistic(
                inside @ directions.T, q.train_values, q.classes, strength, balanced=balanced
            )
        else:
            fitted = ridge(inside @ directions.T, q.train_values, 1 / strength)
        weight = (fitted.weight @ directions) * scaling.scale
        found[strength] = LinearModel(weight, fitted.bias - weight @ scaling.mean)
    return found


def _loss(told: np.ndarray, q: Question) -> float:
    """On inner validation; 0 where there is none."""
    if not len(told):
        return 0.0
    if not q.classes:
        return float(((told[:, 0] - q.inner_values) ** 2).mean())
    chance = told[np.arange(len(told)), q.inner_values.astype(np.int64)]
    loss = float(-np.log(np.maximum(chance, 1e-12)).mean())
    return loss if math.isfinite(loss) else math.inf
