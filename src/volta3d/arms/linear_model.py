"""A linear model on features that stay as they are: the honest line below fine-tuning.

Shape legend: n training scans, d features, r directions, O outputs, C classes.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from volta3d.arms.fold_data import FoldData, FoldResult
from volta3d.statistics.linear_models import LinearModel, Scaling, logistic, ridge, spanned

STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)  # inverse penalties; features have variance 1


def line_of(tensors: dict[str, torch.Tensor], outputs: int) -> LinearModel:
    """The linear model of a fitted model; its tensors are taken out.

    Raises:
        ValueError: it has another number of outputs.
        KeyError: it isn't there.
    """
    weight, bias = tensors.pop("linear.weight"), tensors.pop("linear.bias")
    line = LinearModel(weight.double().numpy(), bias.double().numpy())
    if line.bias.shape != (outputs,) or line.weight.shape[0] != outputs:
        raise ValueError("the linear model has another number of outputs")
    return line


class LinearLearner:
    """Logistic regression, or ridge regression.

    Features are standardised by the training part. The penalty is chosen by the log-loss or the
    squared error on inner validation; where there is none, on scores of each training group by fits
    on the others; where there are no groups either, it is the strongest.

    Args:
        features: [scans, d].
        balanced: whether classes weigh alike.
    """

    def __init__(self, features: np.ndarray, *, balanced: bool = True) -> None:
        self.features, self.balanced = features.astype(np.float64), balanced

    def learn(self, data: FoldData) -> FoldResult:
        """Fit, choose the penalty, predict inner and test."""
        classes = data.classes
        inner = self.features[data.inner]
        models = self._models(data.train, data.train_values, classes)
        if len(inner):
            losses = {
                strength: _loss(model.predict(inner, classes), data.inner_values, classes)
                for strength, model in models.items()
            }
        else:
            losses = self._losses_inside(data)
        chosen = min(losses, key=losses.__getitem__)
        model = models[chosen]
        return FoldResult(
            inner=model.predict(inner, classes),
            test=model.predict(self.features[data.test], classes),
            tensors={
                "linear.weight": torch.from_numpy(model.weight.copy()),
                "linear.bias": torch.from_numpy(model.bias.copy()),
            },
            facts={"strength": chosen},
        )

    def _losses_inside(self, data: FoldData) -> dict[float, float]:
        """The loss of each penalty on training scans that the fit has not seen."""
        groups = data.groups
        if groups is None or len(np.unique(groups)) < 2:
            return {STRENGTHS[0]: 0.0}
        losses = dict.fromkeys(STRENGTHS, 0.0)
        for group in np.unique(groups):
            held = groups == group
            models = self._models(data.train[~held], data.train_values[~held], data.classes)
            for strength, model in models.items():
                predicted = model.predict(self.features[data.train[held]], data.classes)
                share = held.mean()
                losses[strength] += share * _loss(predicted, data.train_values[held], data.classes)
        return losses

    def _models(
        self, train: np.ndarray, values: np.ndarray, classes: int
    ) -> dict[float, LinearModel]:
        """One fit per penalty, in terms of the features as they are."""
        features = self.features[train]
        scaling = Scaling.of(features)
        inside = scaling(features)
        directions = spanned(inside)
        models = {}
        for strength in STRENGTHS:
            if classes:
                fitted = logistic(
                    inside @ directions.T, values, classes, strength, balanced=self.balanced
                )
            else:
                fitted = ridge(inside @ directions.T, values, 1 / strength)
            weight = (fitted.weight @ directions) * scaling.scale
            models[strength] = LinearModel(weight, fitted.bias - weight @ scaling.mean)
        return models


def _loss(predicted: np.ndarray, values: np.ndarray, classes: int) -> float:
    """The mean log-loss, or squared error."""
    if not classes:
        return float(((predicted[:, 0] - values) ** 2).mean())
    chance = predicted[np.arange(len(predicted)), values.astype(np.int64)]
    loss = float(-np.log(np.maximum(chance, 1e-12)).mean())
    return loss if math.isfinite(loss) else math.inf
