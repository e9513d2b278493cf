"""What one fit is given, and what it comes to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor


@dataclass(frozen=True)
class FoldData:
    """What one fit is given: labels of the training and inner parts, never those of the test.

    Args:
        train, inner, test: positions [k] among the labelled scans.
        train_values, inner_values: classes or numbers.
        classes: how many; 0 for a number.
        seed: of everything random in the fit.
        views: seed of how training scans are varied.
        groups: [k] of each training scan the group it is held out with when something is chosen
            inside the training part; None: it is chosen on ``inner``.
    """

    train: np.ndarray
    inner: np.ndarray
    test: np.ndarray
    train_values: np.ndarray
    inner_values: np.ndarray
    classes: int
    seed: int
    views: int = 0
    groups: np.ndarray | None = None


@dataclass(frozen=True)
class FoldResult:
    """What one fit comes to: predictions for inner validation and test, and how they came about.

    Args:
        inner, test: [k, C] class probabilities, or [k, 1] numbers.
        epoch: the epoch taken, from 0; -1 where there are none.
        history: per epoch: ``epoch``, ``loss``, ``inner_loss``.
        tensors: what was fitted, by name.
        facts: anything else worth recording.
    """

    inner: np.ndarray
    test: np.ndarray
    epoch: int = -1
    history: list[dict[str, Any]] = field(default_factory=list)
    tensors: dict[str, Tensor] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)


def class_weights(values: np.ndarray, classes: int) -> np.ndarray:
    """n / (C n_c) for each class of a training part [S METHOD section 7]; 0 for an absent one.

    C counts the classes that are present, so that the mean over the training part is one: each
    class carries the same part of an epoch's loss, whatever batches it is dealt to.
    """
    counts = np.bincount(values.astype(np.int64), minlength=classes).astype(np.float64)
    present = max(1, int((counts > 0).sum()))
    weights: np.ndarray = np.where(counts > 0, len(values) / (present * np.maximum(counts, 1)), 0.0)
    return weights
