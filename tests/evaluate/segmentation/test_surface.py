"""Distances between surfaces against loops over all pairs of voxels."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from monai.metrics.hausdorff_distance import compute_hausdorff_distance
from monai.metrics.surface_distance import compute_average_surface_distance

from volta3d.evaluate.segmentation.surface import dice, surface, surface_distances

SPACINGS = [(1.0, 1.0, 1.0), (0.5, 1.25, 3.0)]


def blob(seed: int, shape: tuple[int, int, int] = (9, 8, 7)) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.random(shape) < rng.uniform(0.05, 0.5)


def surface_by_loop(mask: np.ndarray) -> list[tuple[int, ...]]:
    """Voxels with a face neighbour outside of the mask or of the grid, one by one."""
    found = []
    for at in zip(*np.nonzero(mask), strict=True):
        for axis in range(3):
            for step in (-1, 1):
                near = list(at)
                near[axis] += step
                beyond = not 0 <= near[axis] < mask.shape[axis]
                if (beyond or not mask[tuple(near)]) and tuple(at) not in found:
                    found.append(tuple(at))
    return found


def distances_by_loop(
    first: np.ndarray, second: np.ndarray, spacing: tuple[float, float, float]
) -> tuple[float, float]:
    one, other = surface_by_loop(first), surface_by_loop(second)

    def nearest(here: list[tuple[int, ...]], there: list[tuple[int, ...]]) -> list[float]:
        return [
            min(math.dist(np.multiply(a, spacing), np.multiply(b, spacing)) for b in there)
            for a in here
        ]

    there, back = nearest(one, other), nearest(other, one)
    hd95 = max(np.percentile(there, 95), np.percentile(back, 95))
    return float(hd95), sum(there + back) / len(there + back)


@pytest.mark.parametrize("spacing", SPACINGS, ids=["isotropic", "anisotropic"])
@pytest.mark.parametrize("seed", range(4))
def test_X14_hd95_and_mean_distance_against_brute_force(
    seed: int, spacing: tuple[float, float, float]
) -> None:
    first, second = blob(seed), blob(seed + 100)
    found = surface_distances(first, second, spacing)
    hd95, mean = distances_by_loop(first, second, spacing)
    assert found.hd95 == pytest.approx(hd95, rel=1e-9)  # the same sums in another order
    assert found.mean == pytest.approx(mean, rel=1e-9)


# MONAI 1.6 calls its own function with an argument it deprecated
@pytest.mark.filterwarnings("ignore:monai.metrics.utils get_mask_edges:FutureWarning")
@pytest.mark.parametrize("spacing", SPACINGS, ids=["isotropic", "anisotropic"])
def test_X14_solid_bodies_against_monai(spacing: tuple[float, float, float]) -> None:
    first, second = np.zeros((2, 16, 14, 12), bool)
    first[3:10, 4:11, 2:8] = True
    second[4:13, 3:10, 4:10] = True
    found = surface_distances(first, second, spacing)
    a, b = (torch.from_numpy(m)[None, None].float() for m in (first, second))
    hd95 = compute_hausdorff_distance(a, b, include_background=True, percentile=95, spacing=spacing)
    assert found.hd95 == pytest.approx(float(hd95), rel=1e-5)  # MONAI computes in fp32
    # MONAI's symmetric distance is the mean over both surfaces' voxels too
    msd = compute_average_surface_distance(
        a, b, include_background=True, symmetric=True, spacing=spacing
    )
    assert found.mean == pytest.approx(float(msd), rel=1e-5)


def test_X14_a_shift_is_measured_in_millimetres() -> None:
    mask = np.zeros((20, 20, 20), bool)
    mask[5:10, 5:10, 5:10] = True
    for axis, millimetres in enumerate((0.5, 1.25, 3.0)):
        moved = np.roll(mask, 2, axis=axis)
        found = surface_distances(mask, moved, (0.5, 1.25, 3.0))
        assert found.hd95 == pytest.approx(2 * millimetres)


def test_X14_empty_masks_have_no_distance_and_say_so() -> None:
    mask, empty = np.ones((4, 4, 4), bool), np.zeros((4, 4, 4), bool)
    for pair in ((mask, empty), (empty, mask), (empty, empty)):
        found = surface_distances(*pair, (1.0, 1.0, 1.0))
        assert math.isnan(found.hd95) and math.isnan(found.mean)
    assert dice(mask, empty) == 0.0
    assert math.isnan(dice(empty, empty))


def test_X14_dice_against_counting() -> None:
    first, second = blob(1), blob(2)
    both = sum(bool(a) and bool(b) for a, b in zip(first.ravel(), second.ravel(), strict=True))
    assert dice(first, second) == 2 * both / (first.sum() + second.sum())
    assert dice(first, first) == 1.0


def test_equal_masks_are_at_distance_zero_and_one_voxel_counts() -> None:
    point = np.zeros((5, 5, 5), bool)
    point[2, 2, 2] = True
    assert surface(point).sum() == 1
    assert surface_distances(point, point, (1.0, 2.0, 3.0)).hd95 == 0.0
    with pytest.raises(ValueError, match="different grids"):
        surface_distances(point, point[1:], (1.0, 1.0, 1.0))
