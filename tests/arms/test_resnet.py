"""The ResNet arm: its size, and a run and a prediction with it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from volta3d.arms.resnet import ResnetClassifier
from volta3d.cohort.store import Cohort
from volta3d.config import load_classify
from volta3d.downstream.classification.classify import classify
from volta3d.downstream.classification.fitted import load_fitted
from volta3d.downstream.predict import predict
from volta3d.pretrain.log import read_metrics


def test_it_is_resnet_18_and_a_function_of_its_seed() -> None:
    first, again, other = (ResnetClassifier(outputs=3, seed=s).eval() for s in (0, 0, 1))
    assert round(sum(p.numel() for p in first.parameters()) / 1e6, 1) == 33.2
    cubes = torch.rand(2, 1, 32, 32, 32)
    with torch.no_grad():
        assert first(cubes).shape == (2, 3)
        assert torch.equal(first(cubes), again(cubes))
        assert not torch.equal(first(cubes), other(cubes))
        # a scan's answer doesn't depend on the others of its batch
        torch.testing.assert_close(first(cubes[:1]), first(cubes)[:1], rtol=1e-4, atol=1e-5)


def test_it_is_fitted_kept_and_used(signal_cohort: Cohort, tmp_path: Path) -> None:
    settings = [
        "epochs=6", "folds=2", "lr=1e-4", "precision=fp32", "device=cpu", "head=layernorm",
        "epoch=last", "threshold_folds=0",
    ]  # fmt: skip
    config = load_classify("small", settings)
    result = classify(signal_cohort.path, "sex", ["cnn=resnet"], tmp_path / "run", config)
    losses = [r["loss"] for r in read_metrics(tmp_path / "run/arms/cnn/metrics.jsonl")]
    assert np.mean(losses[5::6]) < np.mean(losses[::6])  # the last epochs' and the first's
    predicted = predict(result.models["cnn"], signal_cohort.path, tmp_path / "out")
    table = pd.read_csv(predicted.table, sep="\t")
    own = load_fitted(result.models["cnn"]).predict(signal_cohort.load(range(3)))
    # one scan at once or three: the same sums in another order
    assert table["score"][:3].to_numpy() == pytest.approx(own[:, 1], abs=1e-4)
