"""Intensities: percentiles, range, z-score, and the voxels that are no numbers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from volta3d.cohort.contract import Contract
from volta3d.prepare.findings import Refused
from volta3d.prepare.intensity import limits, mend, to_range
from volta3d.prepare.volume import prepare_scan

Make = Callable[..., Path]
HEAD = tuple[np.ndarray, np.ndarray]


def test_range_runs_between_the_percentiles_of_the_non_zero_voxels() -> None:
    rng = np.random.default_rng(0)
    data = rng.gamma(2, 50, (20, 20, 20)).astype(np.float32)
    data[:10] = 0
    low, high, findings = limits(data, (0.05, 99.95))
    ordered = np.sort(data[data != 0].astype(np.float64))

    def percentile(p: float) -> float:  # linear between ranks, from its definition
        rank = p / 100 * (len(ordered) - 1)
        below = int(rank)
        return float(ordered[below] + (rank - below) * (ordered[below + 1] - ordered[below]))

    assert low == pytest.approx(percentile(0.05), rel=1e-5)
    assert high == pytest.approx(percentile(99.95), rel=1e-5)
    scaled = to_range(data, low, high)
    expected = np.clip((data.astype(np.float64) - low) / (high - low), 0, 1)
    np.testing.assert_allclose(scaled, expected, atol=1e-6)  # fp32
    assert scaled.min() == 0 and scaled.max() == 1 and findings == []


@pytest.mark.parametrize("percentiles", [(0.05, 99.95), (0, 100), (1, 99), (25, 75), (49, 51)])
@pytest.mark.parametrize("dtype", [np.float32, np.int16, np.uint8, np.float64])
def test_limits_are_exactly_numpy_s_percentiles(
    dtype: type, percentiles: tuple[float, float]
) -> None:
    """The shortcut through the tails orders a part of the values and must not show."""
    rng = np.random.default_rng(0)
    kinds = [
        rng.gamma(2, 20, 200_000),
        rng.normal(0, 50, 30_000),
        np.sort(rng.gamma(2, 20, 150_000)),  # a sample of sorted values is not a random one
        np.where(rng.random(200_000) < 0.97, 0, rng.gamma(2, 20, 200_000)),
        rng.integers(0, 5, 3_000),
        np.array([0, 0, 3, 0, 7]),
    ]
    for values in kinds:
        data = np.clip(values, *((0, 255) if dtype is np.uint8 else (-999, 999))).astype(dtype)
        known = data[data != 0].astype(np.float32)
        low, high = np.percentile(known, percentiles)
        if low < high:
            assert limits(data, percentiles)[:2] == (low, high)
        else:
            with pytest.raises(Refused, match="constant"):
                limits(data, percentiles)


def test_zscore_has_mean_0_and_deviation_1_over_the_foreground(
    tmp_path: Path, nifti: Make, head: HEAD
) -> None:
    path = nifti(tmp_path / "a.nii", *head)
    ranged = prepare_scan(path, Contract(size=20, spacing=3)).volume
    contract = Contract(size=20, spacing=3, scaling="zscore", storage="float16", value_range=None)
    scores = prepare_scan(path, contract).volume
    # a z-score is linear in the range of the same scan
    slope, intercept = np.polyfit(ranged.ravel(), scores.ravel(), 1)
    np.testing.assert_allclose(scores, slope * ranged + intercept, atol=1e-4)
    inside = ranged > 0.25  # tissue with its partial voxels, as the foreground has them
    assert abs(scores[inside].mean()) < 0.1 and abs(scores[inside].std() - 1) < 0.1
    assert scores.min() < -1


def test_N23_a_few_voxels_that_are_no_numbers_take_their_neighbours_mean(
    tmp_path: Path, nifti: Make, head: HEAD
) -> None:
    data = head[0].astype(np.float32)
    data[10, 10, 10], data[5, 5, 5], data[0, 0, 0] = np.nan, np.inf, -np.inf
    mended, findings = mend(data.copy())
    assert [f.code for f in findings] == ["not-finite-voxels"]
    block = data[9:12, 9:12, 9:12]
    assert mended[10, 10, 10] == pytest.approx(block[np.isfinite(block)].mean(), rel=1e-4)
    corner = data[:2, :2, :2]
    assert mended[0, 0, 0] == pytest.approx(corner[np.isfinite(corner)].mean(), rel=1e-4)
    untouched = np.isfinite(data)
    np.testing.assert_array_equal(mended[untouched], data[untouched])
    prepared = prepare_scan(nifti(tmp_path / "a.nii", data, head[1]), Contract(size=16))
    assert "not-finite-voxels" in [f.code for f in prepared.findings]
    data[:2] = np.nan
    with pytest.raises(Refused, match="not-finite"):
        mend(data)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_N25_an_outlier_spike_changes_nothing_else(
    tmp_path: Path, nifti: Make, head: HEAD, dtype: type
) -> None:
    data = head[0].astype(dtype)
    contract = Contract(size=16, percentiles=(0.5, 99.5))
    plain = prepare_scan(nifti(tmp_path / "a.nii", data, head[1]), contract)
    data[14, 11, 12] = 3e38 if dtype is np.float32 else 1e300
    spiked = prepare_scan(nifti(tmp_path / "b.nii", data, head[1]), contract)
    codes = [f.code for f in spiked.findings if f not in plain.findings]
    assert codes == (["spike"] if dtype is np.float32 else ["not-finite-voxels"])
    # one voxel at the upper end instead of inside the head, spread over its neighbours
    changed = np.abs(spiked.volume - plain.volume) > 0.02
    assert changed.sum() <= 27


@pytest.mark.parametrize("value", [0, 7])
def test_N27_a_constant_volume_is_refused(tmp_path: Path, nifti: Make, value: int) -> None:
    path = nifti(tmp_path / "a.nii", np.full((12, 12, 12), value, np.int16), np.eye(4))
    with pytest.raises(Refused, match="constant"):
        prepare_scan(path, Contract(size=16))


def test_N27_a_mask_is_not_a_scan(tmp_path: Path, nifti: Make, head: HEAD) -> None:
    mask = (head[0] > 50).astype(np.uint8)
    with pytest.raises(Refused, match="constant"):
        prepare_scan(nifti(tmp_path / "a.nii", mask, head[1]), Contract(size=16))


def test_the_outside_is_as_dark_as_the_darkest_voxel(
    tmp_path: Path, nifti: Make, head: HEAD
) -> None:
    data = (head[0] + 1000).astype(np.int16)  # an archive that stores with an offset
    volume = prepare_scan(
        nifti(tmp_path / "a.nii", data, head[1]), Contract(size=72, fit="pad")
    ).volume
    # 72 mm of cube around 50 mm of scan: the outermost planes lie outside
    assert (volume[0] == 0).all() and volume.max() > 0.9
