"""A bundle's own preparation, which knows nothing of volta3d, gives what ``prepare`` gives."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from volta3d.cohort.arrays import decode, encode
from volta3d.cohort.contract import Contract
from volta3d.export.bundle_scripts import preparation
from volta3d.prepare.volume import prepare_scan

STEP = 1 / 65535  # in which cohorts hold the range 0 to 1


def scan(path: Path, *, turned: float = 0.0, axes: str = "RAS") -> Path:
    """A head with an ear, a hole and noise, anisotropic, in some orientation."""
    rng = np.random.default_rng(3)
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in (50, 60, 40)), indexing="ij")
    head = (x**2 / 0.5 + y**2 / 0.7 + z**2 / 0.6) < 1
    volume = np.where(head, 400 + 200 * np.cos(4 * x) * np.sin(3 * y + z), 0.0)
    volume[20:26, 25:32, 15:22] = 0
    volume[2:5, 2:5, 2:5] = 300
    volume += 20 * rng.random(volume.shape)
    volume[0, 0, 0] = 5000
    affine = np.diag([3.2, 2.9, 4.0, 1.0])
    affine[:3, 3] = (-80, -90, -75)
    angle = np.deg2rad(turned)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    image = nib.Nifti1Image(volume.astype(np.float32), turn @ affine)
    orientation = nib.orientations.axcodes2ornt(axes)
    nib.save(image.as_reoriented(orientation), path)
    return path


CONTRACTS = {
    "resize": Contract(size=32, spacing=4.0),
    "pad": Contract(size=40, spacing=4.0, fit="pad"),
    "none": Contract(size=64, spacing=4.0, fit="none"),
    "zscore": Contract(size=32, spacing=6.0, scaling="zscore", value_range=None, storage="float16"),
    "nyul": Contract(
        size=32,
        spacing=6.0,
        scaling="nyul",
        landmarks=(0.0, 0.2, 0.3, 0.35, 0.4, 0.5, 0.55, 0.6, 0.7, 0.8, 1.0),
    ),
}


@pytest.mark.parametrize("name", CONTRACTS)
@pytest.mark.parametrize(("axes", "turned"), [("RAS", 0.0), ("PSR", 0.0), ("LIP", 9.0)])
def test_the_cube_is_the_one_that_prepare_makes(
    name: str, axes: str, turned: float, tmp_path: Path
) -> None:
    contract, path = CONTRACTS[name], scan(tmp_path / "s.nii", turned=turned, axes=axes)
    wanted = prepare_scan(path, contract)
    stored = decode(encode(wanted.volume, contract), contract)
    image = nib.load(path)
    data = np.asarray(image.dataobj, np.float32)
    cube, grid = preparation.prepare(data, image.affine, contract.content())
    np.testing.assert_allclose(grid, wanted.affine, atol=1e-6)
    # sums in another order: a step of the store, or of half precision for z-scores
    allowed = 2e-3 if contract.scaling == "zscore" else 4 * STEP
    assert np.abs(cube - stored).max() <= allowed
    assert stored.std() > 0.05


def test_a_scan_that_cannot_be_prepared_is_refused() -> None:
    contract = CONTRACTS["resize"].content()
    with pytest.raises(ValueError, match="no contrast"):
        preparation.prepare(np.ones((9, 9, 9), np.float32), np.eye(4), contract)
    wide = CONTRACTS["none"].model_copy(update={"size": 8}).content()
    noise = np.random.default_rng(0).random((40, 40, 40)).astype(np.float32)
    with pytest.raises(ValueError, match="cube of 8 voxels"):
        preparation.prepare(noise, np.diag([4.0, 4.0, 4.0, 1.0]), wide)


def test_voxels_that_are_no_numbers_take_their_neighbours_mean() -> None:
    data = np.full((5, 5, 5), 2.0, np.float32)
    data[2, 2, 2] = np.nan
    assert preparation.mend(data)[2, 2, 2] == pytest.approx(2.0, rel=1e-6)


def test_nothing_of_volta3d_is_imported() -> None:
    text = Path(preparation.__file__).read_text(encoding="utf-8")
    assert "import volta3d" not in text and "from volta3d" not in text
