"""Augmentation is bounded, keyed by scan and epoch, and leaves its input alone."""

from __future__ import annotations

import numpy as np
import torch

from volta3d.config import AugmentConfig
from volta3d.downstream.classification.augment import augment

NAMES = ["a", "b", "c"]
NOTHING = AugmentConfig(flip=0, rotation=0, scale=(1.0, 1.0), intensity=0)


def volumes() -> torch.Tensor:
    return torch.rand(3, 1, 8, 8, 8, generator=torch.Generator().manual_seed(0))


def test_R7_draws_depend_on_seed_epoch_and_scan_alone() -> None:
    x, config = volumes(), AugmentConfig()
    kept = x.clone()
    first = augment(x, NAMES, size=8, epoch=0, seed=0, config=config)
    assert torch.equal(x, kept)
    assert torch.equal(first, augment(x, NAMES, size=8, epoch=0, seed=0, config=config))
    for epoch, seed in ((1, 0), (0, 1)):
        other = augment(x, NAMES, size=8, epoch=epoch, seed=seed, config=config)
        assert all(not torch.equal(a, b) for a, b in zip(first, other, strict=True))
    alone = augment(x[1:2], ["b"], size=8, epoch=0, seed=0, config=config)
    # the same draws; the sampling of a batch and of one volume may round differently
    assert torch.allclose(alone[0], first[1], atol=1e-5)


def test_nothing_asked_for_is_nothing_done() -> None:
    x = volumes()
    same = augment(x, NAMES, size=8, epoch=0, seed=0, config=NOTHING)
    assert torch.allclose(same, x, atol=1e-5)  # one trilinear reading at the voxels' centres
    flipped = augment(
        x, NAMES, size=8, epoch=0, seed=0, config=NOTHING.model_copy(update={"flip": 1.0})
    )
    assert torch.allclose(flipped, x.flip(2), atol=1e-5)  # axis 0 of the volume is left-right


def test_intensities_stay_in_their_range() -> None:
    strong = AugmentConfig(intensity=1.0, contrast=1.0, bias=1.0, smooth=1.0)
    told = augment(volumes(), NAMES, size=8, epoch=3, seed=0, config=strong)
    assert told.min() >= 0 and told.max() <= 1
    scores = torch.from_numpy(np.random.default_rng(0).normal(size=(3, 1, 8, 8, 8))).float()
    told = augment(scores, NAMES, size=8, epoch=3, seed=0, config=strong, value_range=None)
    assert told.min() >= scores.min() - 1e-4 and told.max() <= scores.max() + 1e-4


def test_sizes_follow_the_network() -> None:
    assert augment(volumes(), NAMES, size=4, epoch=0, seed=0, config=AugmentConfig()).shape == (
        3, 1, 4, 4, 4,
    )  # fmt: skip
