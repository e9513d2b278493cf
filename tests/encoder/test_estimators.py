"""scikit-learn's own checks, and a classifier and a regressor that learn from scans."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import estimator_checks, get_tags

from volta3d import EncoderClassifier, EncoderRegressor
from volta3d.cohort.store import Cohort
from volta3d.encoder.embedder import Embedder
from volta3d.errors import UsageError

KINDS = [Embedder, EncoderClassifier, EncoderRegressor]
# scikit-learn skips these for what takes no table of numbers; none of them needs one
CHECKS = [
    "check_estimator_cloneable", "check_estimator_tags_renamed", "check_valid_tag_types",
    "check_estimator_repr", "check_no_attributes_set_in_init", "check_get_params_invariance",
    "check_set_params", "check_parameters_default_constructible",
]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_check_estimator_leaves_no_failure(kind: type, encoder_folder: Path) -> None:
    with pytest.warns(Warning, match="requires input"):
        results = estimator_checks.check_estimator(kind(encoder_folder), on_fail=None)
    assert results and all(r["status"] == "passed" for r in results)


@pytest.mark.parametrize("name", CHECKS)
@pytest.mark.parametrize("kind", KINDS)
def test_the_checks_that_need_no_numbers_pass(kind: type, name: str, encoder_folder: Path) -> None:
    check = getattr(estimator_checks, name)
    check(kind.__name__, kind(encoder_folder))


def test_tags_say_what_goes_in(encoder_folder: Path) -> None:
    tags = get_tags(Embedder(encoder_folder))
    assert tags.input_tags.three_d_array and not tags.input_tags.two_d_array
    assert tags.transformer_tags is not None and tags.transformer_tags.preserves_dtype == []
    classifier = get_tags(EncoderClassifier(encoder_folder))
    assert classifier.estimator_type == "classifier" and classifier.target_tags.required
    assert get_tags(EncoderRegressor(encoder_folder)).estimator_type == "regressor"


def cubes(cohort: Cohort) -> np.ndarray:
    return np.stack([cohort.volume(i) for i in range(len(cohort))])


def test_the_classifier_is_logistic_regression_on_features(
    encoder_folder: Path, signal_cohort: Cohort
) -> None:
    scans, sex = cubes(signal_cohort), signal_cohort.participants["sex"].to_numpy()
    own = EncoderClassifier(encoder_folder, features="mean", C=0.1).fit(scans, sex)
    features = Embedder(encoder_folder, features="mean").fit_transform(scans).astype(np.float64)
    line = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=5000))
    expected = line.fit(features, sex).predict_proba(features)
    np.testing.assert_allclose(own.predict_proba(scans), expected, rtol=1e-6)
    assert list(own.classes_) == ["F", "M"] and own.score(scans, sex) > 0.9
    assert own.decision_function(scans).shape == (30,)
    scores = cross_val_score(clone(own), scans, sex, cv=3)
    assert scores.mean() > 0.8


def test_the_regressor_learns_a_number(encoder_folder: Path, signal_cohort: Cohort) -> None:
    scans = cubes(signal_cohort)
    age = signal_cohort.participants["age"].to_numpy(float)
    own = EncoderRegressor(encoder_folder, features="mean").fit(scans, age)
    assert own.predict(scans).shape == (30,) and own.score(scans, age) > 0.7


@pytest.mark.parametrize("y", [[1, 2], [[1], [2], [3]], 3])
def test_one_target_a_scan(encoder_folder: Path, signal_cohort: Cohort, y: Any) -> None:
    with pytest.raises(UsageError, match="targets for 3 scans"):
        EncoderRegressor(encoder_folder).fit(cubes(signal_cohort)[:3], y)
