"""A classifier and a regressor of scikit-learn: scans in, labels or numbers out."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted

from volta3d.encoder.embedder import Embedder
from volta3d.errors import UsageError

Features = Literal["token", "mean", "concat", "regions"]
PENALTIES = np.logspace(0, 7, 29)  # of ridge; standardised features are many more than scans


class _OnFeatures(BaseEstimator):  # type: ignore[misc]
    """What both share: an :class:`Embedder`, and a linear model on standardised features."""

    def __sklearn_tags__(self) -> Tags:
        """Scans come as the Embedder takes them; a target is needed."""
        tags: Tags = super().__sklearn_tags__()
        tags.input_tags.one_d_array = True
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = True
        tags.input_tags.string = True
        tags.no_validation = True
        tags.target_tags.required = True
        return tags

    def _fit(self, X: Iterable[Any], y: Any, last: Any) -> None:
        own = {k: getattr(self, k) for k in ("encoder", "features", "batch_size", "device")}
        embedder = Embedder(**own).fit(X)
        scans = X if hasattr(X, "__len__") else list(X)
        target = np.asarray(y)
        if target.ndim != 1 or len(target) != len(scans):  # type: ignore[arg-type]
            raise UsageError(
                f"{target.shape} targets for {len(scans)} scans",  # type: ignore[arg-type]
                where="y",
                fix="Give one target a scan",
            )
        self.embedder_: Embedder = embedder
        model = make_pipeline(StandardScaler(), last)
        self.model_: Pipeline = model.fit(embedder.transform(scans).astype(np.float64), target)

    def _features(self, X: Iterable[Any]) -> np.ndarray:
        check_is_fitted(self)
        features: np.ndarray = self.embedder_.transform(X).astype(np.float64)
        return features


class EncoderClassifier(ClassifierMixin, _OnFeatures):  # type: ignore[misc]
    """Logistic regression on an encoder's features.

    Nothing of the encoder is fitted, so that ``cross_val_score`` around it cannot leak. Folds are
    the caller's: keep the scans of a person together.

    Args:
        encoder: as ``load_encoder`` takes it.
        features: see :class:`Embedder`.
        C: inverse penalty; features are standardised.
        class_weight: None, or ``balanced``.
        batch_size, device: see :class:`Embedder`.
    """

    def __init__(
        self,
        encoder: Path | str,
        features: Features = "regions",
        C: float = 1e-3,
        class_weight: Literal["balanced"] | None = None,
        batch_size: int = 4,
        device: str = "auto",
    ) -> None:
        self.encoder = encoder
        self.features = features
        self.C = C
        self.class_weight = class_weight
        self.batch_size = batch_size
        self.device = device

    def fit(self, X: Iterable[Any], y: Any) -> Self:
        """Fit on scans ``X`` and their classes ``y`` [n].

        Raises:
            VoltaError: see :class:`Embedder`.
            UsageError: not one target a scan.
        """
        last = LogisticRegression(C=self.C, class_weight=self.class_weight, max_iter=5000)
        self._fit(X, y, last)
        self.classes_: np.ndarray = self.model_.classes_
        return self

    def predict(self, X: Iterable[Any]) -> np.ndarray:
        """The class of each scan [n]."""
        return np.asarray(self.model_.predict(self._features(X)))

    def predict_proba(self, X: Iterable[Any]) -> np.ndarray:
        """Class probabilities [n, C], in the order of ``classes_``."""
        return np.asarray(self.model_.predict_proba(self._features(X)))

    def decision_function(self, X: Iterable[Any]) -> np.ndarray:
        """Logits, [n] for two classes, else [n, C]."""
        return np.asarray(self.model_.decision_function(self._features(X)))


class EncoderRegressor(RegressorMixin, _OnFeatures):  # type: ignore[misc]
    """Ridge regression on an encoder's features; its penalty is chosen by leaving one scan out.

    Args:
        encoder: as ``load_encoder`` takes it.
        features: see :class:`Embedder`.
        batch_size, device: see :class:`Embedder`.
    """

    def __init__(
        self,
        encoder: Path | str,
        features: Features = "regions",
        batch_size: int = 4,
        device: str = "auto",
    ) -> None:
        self.encoder = encoder
        self.features = features
        self.batch_size = batch_size
        self.device = device

    def fit(self, X: Iterable[Any], y: Any) -> Self:
        """Fit on scans ``X`` and their numbers ``y`` [n].

        Raises:
            VoltaError: see :class:`Embedder`.
            UsageError: not one target a scan.
        """
        self._fit(X, y, RidgeCV(PENALTIES))
        return self

    def predict(self, X: Iterable[Any]) -> np.ndarray:
        """The number of each scan [n]."""
        return np.asarray(self.model_.predict(self._features(X)))
