"""Crops: the same draw for image and labels, sides swapped with flips, a function of keys."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from volta3d.config import CropsConfig
from volta3d.downstream.segmentation import crops as crops_module
from volta3d.downstream.segmentation.crops import JITTER, Crop, cut, draw_crop, placed
from volta3d.views.geometry import Geometry
from volta3d.views.intensity import Intensity

EDGE = 24
STILL = CropsConfig(size=EDGE, scale=(1, 1), rotation=0, flip=0, intensity=0, foreground=0)
KEY = (0, 0, "scan", 0)
INSIDE = (np.zeros(3), np.full(3, EDGE - 1.0))


def volume_and_labels() -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(0)
    labels = np.zeros((EDGE, EDGE, EDGE), np.uint8)
    labels[4:9, 6:14, 8:12], labels[15:20, 6:14, 8:12] = 1, 2
    return torch.from_numpy(rng.random(labels.shape, dtype=np.float32)), torch.from_numpy(labels)


def cut_one(
    geometry: Geometry, volume: torch.Tensor, labels: torch.Tensor, size: int = EDGE
) -> tuple[torch.Tensor, torch.Tensor]:
    crop = Crop(KEY, geometry, Intensity())
    return cut(
        [volume], [labels], [crop], size, blacks=[0.0], value_range=(0.0, 1.0), swapped=(0, 2, 1)
    )


def test_the_plain_crop_of_the_whole_cube_is_the_cube() -> None:
    volume, labels = volume_and_labels()
    images, maps = cut_one(Geometry(), volume, labels)
    assert torch.allclose(images[0, 0], volume, atol=1e-5)
    assert torch.equal(maps[0, 0], labels.long())


def test_a_left_right_flip_mirrors_the_image_and_swaps_the_labels() -> None:
    volume, labels = volume_and_labels()
    images, maps = cut_one(Geometry(flip=True), volume, labels)
    assert torch.allclose(images[0, 0], volume.flip(0), atol=1e-5)
    swapped = torch.tensor([0, 2, 1])[labels.long()].flip(0)
    assert torch.equal(maps[0, 0], swapped)
    # what was on the left is on the right and called right: left stays left of right
    left, right = ((maps[0, 0] == c).nonzero()[:, 0].float().mean() for c in (1, 2))
    assert left < right


def test_image_and_labels_move_together() -> None:
    """An image that is its own label map is still one after zoom, turn and shift."""
    _, labels = volume_and_labels()
    geometry = Geometry((0.8, 0.8, 0.8), (0.1, -0.05, 0.02), (10.0, -8.0, 6.0))
    images, maps = cut_one(geometry, (labels > 0).float(), labels)
    disagree = ((images[0, 0] > 0.5) != (maps[0, 0] > 0)).float().mean()
    assert disagree < 0.01  # voxels half covered may be rounded either way


def test_crops_are_a_function_of_their_key_alone() -> None:
    config = CropsConfig(size=16)
    voxels = [np.array([[5, 6, 7]]), np.array([[18, 8, 9]])]
    first = draw_crop(KEY, config, EDGE, INSIDE, voxels)
    assert first == draw_crop(KEY, config, EDGE, INSIDE, voxels)
    others = [(1, 0, "scan", 0), (0, 1, "scan", 0), (0, 0, "other", 0), (0, 0, "scan", 1)]
    assert all(draw_crop(k, config, EDGE, INSIDE, voxels) != first for k in others)


def test_crops_lie_around_structures_as_often_as_asked_each_structure_alike() -> None:
    """Structure 2 has a hundred times fewer voxels and is seen as often."""
    config = CropsConfig(size=8, foreground=0.75, stray=0.0)
    many = np.argwhere(np.ones((8, 8, 4), bool)) + 10
    voxels = [many, np.array([[30, 30, 30]])]
    box = (np.zeros(3), np.full(3, 47.0))  # long enough to leave these crops where they were drawn
    centres = [
        centre_of(draw_crop((0, 0, "s", number), config, 48, box, voxels), 48)
        for number in range(400)
    ]
    on_second = np.mean([np.allclose(c, 30) for c in centres])
    on_first = np.mean([(np.abs(c - c.round()) < 1e-6).all() and (c < 18).all() for c in centres])
    # binomial with p = .375 and n = 400: standard deviation .024
    assert abs(on_second - 0.375) < 0.1 and abs(on_first - 0.375) < 0.1


def centre_of(crop: Crop, edge: int) -> np.ndarray:
    """In voxels of a cube of ``edge``."""
    return (np.array(crop.geometry.center) + 1) * edge / 2 - 0.5


def test_crops_lie_where_windows_lie() -> None:
    """A box of 36 x 50 x 37 voxels in a cube of 64, as of the Decathlon's hippocampi.

    Along an axis where the box is shorter than the crop it lies in the crop's middle, as a padded
    window has it; along a longer one the crop stays within the box. Both give or take the jitter.
    """
    box = (np.array([14.0, 7.0, 13.0]), np.array([49.0, 56.0, 49.0]))
    first, last = box[0] - 0.5, box[1] + 0.5
    config = CropsConfig(size=48, foreground=0.9, stray=0.5)
    voxels = [np.array([[20, 12, 20], [44, 50, 44]]), np.array([[30, 40, 30]])]
    shares = []
    for number in range(200):
        crop = draw_crop((0, 0, "s", number), config, 64, box, voxels)
        centre, half = centre_of(crop, 64), crop.geometry.scale[0] * 64 / 2
        for axis in range(3):
            if box[1][axis] - box[0][axis] + 1 <= 2 * half:
                assert abs(centre[axis] - (first[axis] + last[axis]) / 2) <= JITTER + 1e-9
            else:
                assert centre[axis] - half >= first[axis] - JITTER - 1e-9
                assert centre[axis] + half <= last[axis] + JITTER + 1e-9
        seen = np.minimum(centre + half, last) - np.maximum(centre - half, first)
        shares.append(seen.prod() / (2 * half) ** 3)
    # a window of 48 holds 36/48 * 48/48 * 37/48 = .58 of this head; zooms vary it either way
    assert abs(np.median(shares) - 0.58) < 0.06


def test_a_centre_is_moved_no_further_than_the_box_asks() -> None:
    box = (np.array([0.0, 0.0, 10.0]), np.array([99.0, 99.0, 19.0]))
    centre = np.array([3.0, 40.0, 0.0])
    found = placed(centre, box, 20.0, np.zeros(3))
    assert np.allclose(found, [9.5, 40.0, 14.5])
    # bounds move by the jitter, what lies between them stays
    assert np.allclose(placed(centre, box, 20.0, np.full(3, -2.0)), [7.5, 40.0, 12.5])


def test_intensities_stay_in_the_range_and_labels_untouched() -> None:
    volume, labels = volume_and_labels()
    config = CropsConfig(size=16, intensity=1, contrast=1, smooth=1, bias=1)
    voxels = [labels.eq(1).nonzero().numpy(), labels.eq(2).nonzero().numpy()]
    crops = [draw_crop((0, 0, "s", n), config, EDGE, INSIDE, voxels) for n in range(4)]
    wide = (volume * 4 - 1, (-1.0, 3.0))
    images, maps = cut(
        [wide[0]] * 4, [labels] * 4, crops, 16,
        blacks=[-1.0] * 4, value_range=wide[1], swapped=(0, 2, 1),
    )  # fmt: skip
    assert float(images.min()) >= -1 - 1e-5 and float(images.max()) <= 3 + 1e-5
    assert images.shape == maps.shape == (4, 1, 16, 16, 16)
    assert set(maps.unique().tolist()) <= {0, 1, 2}


def test_a_voxel_of_a_crop_is_a_voxel_of_the_cube_even_when_the_crop_is_larger(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The sliding window pads; so do the crops, or the two would differ in scale."""
    monkeypatch.setattr(crops_module, "JITTER", 0.0)
    volume, labels = volume_and_labels()
    config = CropsConfig(size=32, scale=(1, 1), rotation=0, flip=0, intensity=0, foreground=0)
    middle = np.full(3, (EDGE - 1) / 2)
    crop = draw_crop(KEY, config, EDGE, (middle, middle), [])
    images, maps = cut(
        [volume + 1], [labels], [crop], 32,
        blacks=[0.0], value_range=(0.0, 2.0), swapped=(0, 2, 1),
    )  # fmt: skip
    assert torch.allclose(images[0, 0, 4:28, 4:28, 4:28], volume + 1, atol=1e-4)
    assert float(images[0, 0, :3].abs().max()) == 0.0
    assert torch.equal(maps[0, 0, 4:28, 4:28, 4:28], labels.long())


def test_what_lies_beyond_a_cube_has_the_black_of_that_cube() -> None:
    """z-scores: every scan has a black of its own."""
    volume, labels = volume_and_labels()
    beyond = Crop(KEY, Geometry(scale=(1.5, 1.5, 1.5)), Intensity())
    images, _ = cut(
        [volume - 2, volume - 3], [labels] * 2, [beyond] * 2, 36,
        blacks=[-2.0, -3.0], value_range=(-3.0, -1.0), swapped=None,
    )  # fmt: skip
    assert torch.allclose(images[:, 0, 0, 0, 0], torch.tensor([-2.0, -3.0]))
    assert torch.allclose(images[1, 0, 6:30, 6:30, 6:30], volume - 3, atol=1e-4)
