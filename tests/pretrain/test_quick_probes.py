"""The quick linear probe: what it must and must not find."""

from __future__ import annotations

import math

import numpy as np
import pytest

from volta3d.pretrain.quick_probes import quick_probe


def test_T6_a_class_missing_from_training_is_undefined() -> None:
    target = np.array(["a"] * 30 + ["b"], object)
    found = quick_probe(
        np.random.default_rng(0).normal(size=(31, 4)), target, np.arange(31), seed=0
    )
    assert math.isnan(found["auroc"])


def probe(features: np.ndarray, target: np.ndarray, seed: int = 0) -> dict[str, float]:
    return quick_probe(features, target, np.arange(len(features)), seed=seed)


def test_finds_what_is_there() -> None:
    rng = np.random.default_rng(3)
    x = rng.normal(size=(128, 192))
    age = 50 + 10 * x[:, :4].sum(1) / 2 + 3 * rng.normal(size=128)
    sex = np.where(x[:, 0] > 0, "M", "F").astype(object)
    site = np.array(["a", "b", "c"], object)[np.digitize(x[:, 1], [-0.4, 0.4])]
    # with 188 noise dimensions and 102 training scans much is lost; chance is 0 and .5
    assert probe(x, age)["r"] > 0.4
    assert probe(x, sex)["auroc"] > 0.6
    # few noise dimensions; the middle of three classes is not linear: one of three AUROCs near .5
    assert probe(x[:, :8], sex)["auroc"] > 0.95
    assert 0.75 < probe(x[:, :8], site)["auroc"] < 0.95


def test_L6_shuffled_labels_score_chance() -> None:
    rng = np.random.default_rng(4)
    x = rng.normal(size=(60, 16))
    r = [probe(x, rng.normal(size=60), s)["r"] for s in range(12)]
    sex = np.array(["M", "F"] * 30, object)
    aurocs = [probe(x, rng.permutation(sex), s)["auroc"] for s in range(12)]
    # one r of 60 scans has a standard error of .18 (an AUROC .09), the mean of 12 .05 (.027)
    assert np.mean(r) == pytest.approx(0, abs=0.15)
    assert np.mean(aurocs) == pytest.approx(0.5, abs=0.08)


def test_L7_constant_features_know_nothing() -> None:
    x = np.full((40, 8), 0.3) * (1 + 1e-9 * np.random.default_rng(0).normal(size=(40, 8)))
    sex = np.array(["M", "F"] * 20, object)
    assert probe(x, sex) == {"auroc": 0.5}
    assert math.isnan(probe(x, np.arange(40.0))["r"])


def test_unknown_values_are_left_out() -> None:
    rng = np.random.default_rng(5)
    x, age = rng.normal(size=(40, 3)), rng.normal(size=40)
    gaps = age.copy()
    gaps[::4] = math.nan
    known = ~np.isnan(gaps)
    who = np.array([f"s{i:02d}" for i in range(40)])
    assert quick_probe(x, gaps, who, seed=0) == quick_probe(
        x[known], age[known], who[known], seed=0
    )


def test_too_little_to_probe_gives_nothing() -> None:
    x = np.random.default_rng(6).normal(size=(30, 3))
    assert probe(x, np.array(["M"] * 30, object)) == {}
    assert probe(x, np.array([""] * 30, object)) == {}
    assert probe(x[:6], np.arange(6.0)) == {}
    assert quick_probe(x, np.arange(30.0), ["one"] * 30, seed=0) == {}
    x[3, 1] = math.nan
    assert probe(x, np.arange(30.0)) == {}
