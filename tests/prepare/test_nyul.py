"""Histogram standardisation: landmarks, their standard, and a cohort that learns it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml

from volta3d.cohort.arrays import decode, encode
from volta3d.cohort.store import Cohort, read_contract
from volta3d.config import PrepareConfig
from volta3d.errors import ConfigError
from volta3d.prepare import prepare
from volta3d.prepare.nyul import deciles, learn, read_landmarks, rising, standardise
from volta3d.prepare.volume import place, prepare_scan

Make = Callable[..., Path]
LINE = tuple(k / 10 for k in range(11))
NYUL = PrepareConfig(size=16, spacing=3, scaling="nyul", percentiles=(0.5, 99.5))


def test_standardise_is_linear_between_landmarks() -> None:
    rng = np.random.default_rng(0)
    own = np.array([0, *np.sort(rng.random(9)), 1.0])
    to = (0.0, *sorted(rng.random(9)), 1.0)
    volume = rng.random((6, 7, 8)).astype(np.float32)
    moved = standardise(volume, own, to)
    for at in np.ndindex(volume.shape):  # the formula, voxel by voxel
        value = float(volume[at])
        k = max(i for i in range(10) if own[i] <= value)
        part = (value - own[k]) / (own[k + 1] - own[k])
        wanted = to[k] + part * (to[k + 1] - to[k])
        assert moved[at] == pytest.approx(wanted, abs=1e-6)  # fp32
    assert moved.dtype == np.float32 and moved.min() >= 0 and moved.max() <= 1


def test_standardised_to_itself_a_scan_stays_as_it_is() -> None:
    volume = np.random.default_rng(0).random((5, 5, 5)).astype(np.float32)
    own = deciles(volume, np.ones(volume.shape, bool))
    np.testing.assert_allclose(standardise(volume, own, tuple(own)), volume, atol=1e-6)


def test_landmarks_that_coincide_are_one() -> None:
    volume = np.linspace(0, 1, 50, dtype=np.float32)
    own = np.array([0, 0, 0, 0, 0.5, 0.5, 0.5, 0.5, 1, 1, 1.0])
    moved = standardise(volume, own, LINE)
    assert np.isfinite(moved).all() and (np.diff(moved) >= 0).all()
    assert (moved[0], moved[-1]) == (0, 1)


def test_the_standard_is_the_mean_of_the_landmarks() -> None:
    one, two = np.linspace(0, 1, 11), np.linspace(0, 1, 11) ** 2
    np.testing.assert_allclose(learn([one, two]), (one + two) / 2, atol=1e-6)
    assert rising(learn([one, two])) and not rising(LINE[:-1]) and not rising(LINE[::-1])


def contrasts(bids: Callable[..., Path], nifti: Make) -> Path:
    """Three heads of which each has a contrast of its own."""
    import nibabel as nib

    root = bids(3, labels=False)
    for k, path in enumerate(sorted(root.rglob("*_T1w.nii.gz"))):
        image = nib.load(path)
        data = np.asarray(image.dataobj, np.float64)
        bent = 900 * (data / data.max()) ** (0.6 + 0.4 * k)
        nifti(path, bent.astype(np.int16), image.affine)
    return root


def test_a_cohort_learns_its_standard_and_every_scan_comes_to_lie_on_it(
    tmp_path: Path, bids: Callable[..., Path], nifti: Make
) -> None:
    root, told = contrasts(bids, nifti), []
    result = prepare([root], tmp_path / "c", config=NYUL, progress=lambda *n: told.append(n))
    cohort = Cohort.open(tmp_path / "c")
    standard = cohort.contract.landmarks
    assert rising(standard) and (result.prepared, told[-1]) == (3, (6, 6))
    spread = []
    for path, index in zip(sorted(root.rglob("*_T1w.nii.gz")), range(3), strict=True):
        inside = place(path, cohort.contract).inside()
        found = deciles(cohort.volume(index), inside)
        # within the foreground's coarse grain of intensities
        np.testing.assert_allclose(found, standard, atol=0.03)
        plain = prepare_scan(path, cohort.contract.model_copy(update={"scaling": "range"}))
        spread.append(deciles(plain.volume, inside))
    assert np.ptp(np.stack(spread), axis=0).max() > 0.1  # before, they were far apart


def test_what_was_learnt_is_applied_again(
    tmp_path: Path, bids: Callable[..., Path], nifti: Make
) -> None:
    root = contrasts(bids, nifti)
    prepare([root], tmp_path / "c", config=NYUL)
    cohort = Cohort.open(tmp_path / "c")
    # as embed and predict do it: the contract alone says how
    path = sorted(root.rglob("*_T1w.nii.gz"))[1]
    again = prepare_scan(path, cohort.contract)
    same = decode(encode(again.volume, cohort.contract), cohort.contract)
    np.testing.assert_array_equal(same, cohort.volume(1))
    # a rerun learns nothing anew, also with fewer scans
    for folder in root.glob("sub-03"):
        for file in folder.rglob("*.nii.gz"):
            file.unlink()
    result = prepare([root], tmp_path / "c", config=NYUL)
    assert (result.prepared, result.skipped) == (0, 2)
    assert read_contract(tmp_path / "c").landmarks == cohort.contract.landmarks
    # another cohort on the same standard
    given = PrepareConfig(
        **{**NYUL.model_dump(), "landmarks_from": str(tmp_path / "c/contract.yaml")}
    )
    prepare([root], tmp_path / "d", config=given)
    np.testing.assert_array_equal(Cohort.open(tmp_path / "d").volume(1), cohort.volume(1))


@pytest.mark.slow
def test_two_workers_learn_the_same(tmp_path: Path, bids: Callable[..., Path], nifti: Make) -> None:
    root = contrasts(bids, nifti)
    for workers in (1, 2):
        prepare([root], tmp_path / str(workers), config=NYUL, workers=workers)
    one, two = (Cohort.open(tmp_path / name) for name in "12")
    assert one.hash() == two.hash()
    np.testing.assert_array_equal(one.volume(2), two.volume(2))


def test_landmarks_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "standard.json"
    path.write_text(str(list(LINE)))
    assert read_landmarks(path) == LINE
    path.write_text(yaml.safe_dump({"landmarks": list(LINE), "size": 3}))
    assert read_landmarks(path) == LINE
    for wrong in ("[0, 1]", "{}", "landmarks: [a]", "[0,.9,.1,.1,.1,.1,.1,.1,.1,.1,1]", "[", "7"):
        path.write_text(wrong)
        with pytest.raises(ConfigError, match=r"standard\.json"):
            read_landmarks(path)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_landmarks(tmp_path / "none.json")
