"""Where there is nothing to know, nothing is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from volta3d.cohort.contract import Contract
from volta3d.cohort.store import Cohort
from volta3d.config import load_classify
from volta3d.downstream.classification.classify import classify
from volta3d.evaluate.classification.score import evaluate_predictions

SETTINGS = ["epochs=3", "folds=3", "lr=1e-3", "precision=fp32", "final_model=false"]
SHUFFLES = 6


def aurocs(cohort: Cohort, arms: list[str], out: Path, **more: Any) -> dict[str, float]:
    config = load_classify("small", [*SETTINGS, "keep_weights=false"])
    run = classify(cohort.path, more.pop("target", "sex"), arms, out, config, **more).run
    rows = evaluate_predictions(run, resamples=10)["rows"]
    return {r["arm"]: r["score"] for r in rows if r["metric"] == "AUROC"}


def test_L6_shuffled_labels_give_an_auroc_about_a_half(
    signal_cohort: Cohort, encoder_folder: Path, tmp_path: Path
) -> None:
    arms = [f"ice=frozen:{encoder_folder}", f"lin=linear:{encoder_folder}"]
    honest = aurocs(signal_cohort, arms, tmp_path / "honest")
    assert honest["lin"] > 0.85  # the labels can be read when they are true
    told: dict[str, list[float]] = {"ice": [], "lin": []}
    for number in range(SHUFFLES):
        labels = np.random.default_rng(number).permutation(["a", "b"] * 15)
        rows = "\n".join(f"sub-{i:02d}\t{label}" for i, label in enumerate(labels))
        table = tmp_path / f"labels{number}.tsv"
        table.write_text("participant_id\tcoin\n" + rows + "\n")
        found = aurocs(signal_cohort, arms, tmp_path / f"run{number}", target="coin", labels=table)
        for arm, score in found.items():
            told[arm].append(score)
    for arm, scores in told.items():
        # one AUROC of three folds of 5 + 5 has a standard deviation of about .11, their mean .045
        assert np.mean(scores) == pytest.approx(0.5, abs=0.15), arm


def test_L7_padding_alone_gives_an_auroc_of_a_half(
    contract: Contract, encoder_folder: Path, tmp_path: Path, make_signal_cohort: Any
) -> None:
    empty = make_signal_cohort(tmp_path / "empty", contract, signal=0.0, noise=0.0)
    arms = [f"volta={encoder_folder}", "vit=scratch", f"lin=linear:{encoder_folder}"]
    torch.manual_seed(0)
    assert aurocs(empty, arms, tmp_path / "run") == {"volta": 0.5, "vit": 0.5, "lin": 0.5}
