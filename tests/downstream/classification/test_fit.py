"""The loop: which epoch is taken, when it stops, what it refuses, and what it is made of."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from volta3d.cohort.store import Cohort
from volta3d.config import ClassifyConfig, load_classify
from volta3d.downstream.classification.contestants import Contestant, resolve
from volta3d.downstream.classification.fit import Learner
from volta3d.downstream.classification.inputs import Cubes, stemmed
from volta3d.downstream.classification.told import Question, Told, class_weights
from volta3d.errors import ConfigError, Diverged
from volta3d.files import content_hash
from volta3d.pretrain.data import Scans

VALUES = np.arange(30) % 2 * 1.0
PARTS = np.split(np.arange(30), [16, 22])


def config_of(*settings: str) -> ClassifyConfig:
    return load_classify("small", ["epochs=4", "lr=1e-2", "precision=fp32", *settings])


def question(values: np.ndarray = VALUES, classes: int = 2) -> Question:
    train, inner, test = PARTS
    return Question(train, inner, test, values[train], values[inner], classes, seed=0)


def learner(cohort: Cohort, arm: Contestant, config: ClassifyConfig, outputs: int = 2) -> Learner:
    cubes = Cubes(Scans([cohort], downsample=arm.downsample), arm.image_size, config.augment, 0)
    network = arm.network(config, outputs, seed=0)
    return Learner(
        network, cubes, np.arange(30), None, config, standardised=False, bf16=False
    )  # fmt: skip


@pytest.fixture
def arm(signal_cohort: Cohort, encoder_folder: Path) -> Contestant:
    return resolve([f"a={encoder_folder}"], signal_cohort, config_of(), np.arange(30))[0]


def learnt(cohort: Cohort, arm: Contestant, *settings: str, **more: Any) -> Told:
    return learner(cohort, arm, config_of(*settings)).learn(more.get("asked", question()))


def test_the_epoch_taken_is_the_one_with_the_lowest_inner_loss(
    signal_cohort: Cohort, arm: Contestant
) -> None:
    told = learnt(signal_cohort, arm, "lr=0.1", "epochs=6")
    losses = [h["inner_loss"] for h in told.history]
    assert told.epoch == int(np.argmin(losses)) and len(losses) == 6
    last = learnt(signal_cohort, arm, "lr=0.1", "epochs=6", "epoch=last")
    assert last.epoch == 5 and last.history == told.history
    # the weights are those of that epoch: the same as stopping there
    short = learnt(signal_cohort, arm, "lr=0.1", f"epochs={told.epoch + 1}", "epoch=last")
    assert np.array_equal(short.test, told.test)


def test_patience_ends_the_training_early(signal_cohort: Cohort, arm: Contestant) -> None:
    told = learnt(signal_cohort, arm, "lr=0.3", "epochs=40", "patience=2")
    assert len(told.history) < 40 and told.epoch == len(told.history) - 3


def test_F14_a_loss_that_is_no_number_names_the_scans(
    signal_cohort: Cohort, arm: Contestant
) -> None:
    with pytest.raises(Diverged, match=r"not finite in epoch \d+, scans phantom_"):
        learnt(signal_cohort, arm, "lr=1e30")


def test_the_loss_is_class_balanced_cross_entropy(signal_cohort: Cohort, arm: Contestant) -> None:
    uneven = (np.arange(30) % 4 == 0) * 1.0
    told = learnt(signal_cohort, arm, "epochs=1", "epoch=last", asked=question(uneven))
    weights = class_weights(uneven[PARTS[0]], 2)
    chance = told.inner[np.arange(6), uneven[PARTS[1]].astype(int)]
    own = weights[uneven[PARTS[1]].astype(int)]
    # sum of w·(-log p) over sum of w, from the published definition of n / (C n_c)
    wanted = float((own * -np.log(chance)).sum() / own.sum())
    assert told.history[0]["inner_loss"] == pytest.approx(wanted, rel=1e-4)  # fp32 logits


def test_numbers_are_learnt_in_units_of_their_deviation(
    signal_cohort: Cohort, arm: Contestant
) -> None:
    ages = 40 + 20 * VALUES
    fitted = learner(signal_cohort, arm, config_of("epochs=30"), outputs=1)
    told = fitted.learn(question(ages, classes=0))
    assert told.facts == {"mean": 50.0, "deviation": 10.0} and told.test.shape == (8, 1)
    assert np.abs(told.test[:, 0] - ages[PARTS[2]]).mean() < 8  # 10 would be the mean's


def test_what_the_frozen_part_makes_is_kept_on_disk_and_read_back(
    signal_cohort: Cohort, arm: Contestant, tmp_path: Path
) -> None:
    config = config_of()
    cubes = Cubes(Scans([signal_cohort], downsample=arm.downsample), 8, config.augment, 0)
    calls: list[int] = []

    def stem(volumes: torch.Tensor) -> torch.Tensor:
        calls.append(len(volumes))
        return volumes.flatten(1)[:, :5] * 2

    file = tmp_path / "stem.safetensors"
    made = stemmed(cubes, stem, np.arange(30), file)
    assert made is not None and made.shape == (30, 5) and sum(calls) == 31
    again = stemmed(cubes, stem, np.arange(30), file)
    assert again is not None and torch.equal(again, made) and sum(calls) == 32
    file.write_bytes(b"damaged")
    again = stemmed(cubes, stem, np.arange(30), file)
    assert again is not None and torch.equal(again, made)


@pytest.mark.parametrize("augmented", [False, True])
def test_stored_stems_give_the_same_fit(
    signal_cohort: Cohort, arm: Contestant, augmented: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With augmentation they serve inner validation and test."""
    config = config_of("blocks=1", f"augment.enabled={str(augmented).lower()}")
    plain = learner(signal_cohort, arm, config)
    told = plain.learn(question())
    kept = learner(signal_cohort, arm, config)
    stem, seen = kept.network.stem, []
    kept.stored = stemmed(kept.cubes, stem, np.arange(30), None)

    def watched(cubes: torch.Tensor) -> torch.Tensor:
        seen.append(len(cubes))
        made: torch.Tensor = stem(cubes)
        return made

    monkeypatch.setattr(kept.network, "stem", watched)
    found = kept.learn(question())
    # batches of other sizes may round differently
    assert np.abs(found.test - told.test).max() < 1e-3
    assert np.abs(found.inner - told.inner).max() < 1e-3
    assert sum(seen) == (config.epochs * len(PARTS[0]) if augmented else 0)


def test_L2_what_pretraining_saw_of_the_cohort_is_said(
    signal_cohort: Cohort, encoder_folder: Path, tmp_path: Path
) -> None:
    config_file = encoder_folder / "config.json"
    content = json.loads(config_file.read_text())

    def saw() -> str:
        return resolve([f"a={encoder_folder}"], signal_cohort, config_of(), np.arange(30))[0].saw

    assert saw() == "unknown"
    beside = encoder_folder.parent / "cohort.json"
    beside.write_text(json.dumps({"scan_ids": ["phantom_03", "phantom_07", "other"]}))
    assert saw() == "2 of these scans, without labels"
    beside.write_text(json.dumps({"scan_ids": ["other"]}))
    assert saw() == "none of these scans"
    content["facts"]["data_hash"] = content_hash([signal_cohort.hash()])
    config_file.write_text(json.dumps(content))
    assert saw() == "all of these scans, without labels"


def test_a_loss_that_breaks_down_after_the_last_step_is_told_too(
    signal_cohort: Cohort, arm: Contestant
) -> None:
    with pytest.raises(Diverged, match="inner validation is not finite in epoch 0"):
        learnt(signal_cohort, arm, "lr=1e25", "epochs=1", "batch_size=64")
    with pytest.raises(Diverged, match="says of the scans is not finite"):
        nobody = np.empty(0, np.int64)
        alone = replace(question(), inner=nobody, inner_values=VALUES[nobody])
        learnt(signal_cohort, arm, "lr=1e25", "epochs=1", "batch_size=64", asked=alone)


def test_patience_without_a_choice_of_epoch_is_refused() -> None:
    with pytest.raises(ConfigError, match="epoch=inner"):
        config_of("epoch=last", "patience=3")
