"""Two real series, an MPRAGE of 192 sagittal slices and 22 thick slices: right side up."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from scipy import ndimage

from volta3d.cohort.store import Cohort
from volta3d.prepare import prepare
from volta3d.prepare.dicom import convert, survey

DATA = Path(__file__).resolve().parents[4] / "shared" / "data" / "dicom"
pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not DATA.is_dir(), reason="the real scans of ../shared/data are not here"),
]
KNOWN = {
    "fnndsc_sag-anon": ((256, 256, 192), (0.859375, 0.859375, 0.9), "sagittal", "M", 3.0),
    "brainix_t1": ((512, 512, 22), (0.46875, 0.46875, 6.0), "axial", "", 57.8),
}


@pytest.mark.parametrize("name", KNOWN)
def test_a_real_series_lies_where_its_headers_say(tmp_path: Path, name: str) -> None:
    shape, voxel, plane, sex, age = KNOWN[name]
    found = survey(DATA / name)
    assert found.refused == () and len(found.series) == 1
    (series,) = found.series
    assert (series.header.sex, series.header.age) == (sex, age)
    assert convert(series, tmp_path / "a.nii") == ()
    image = nib.load(tmp_path / "a.nii")
    assert image.shape == shape
    np.testing.assert_allclose(nib.affines.voxel_sizes(image.affine), voxel, atol=1e-3)
    codes = nib.aff2axcodes(image.affine)
    assert {"sagittal": "LR", "axial": "IS"}[plane].find(codes[2]) >= 0
    data, inverse = np.asanyarray(image.dataobj), np.linalg.inv(image.affine)
    for file in series.files[:: len(series.files) // 5]:  # voxels against another decoder
        one = pydicom.dcmread(file.container)
        x, y, z = (float(v) for v in one.ImagePositionPatient)
        first = inverse @ [-x, -y, z, 1]
        assert np.abs(first[:2]).max() < 0.01 and abs(first[2] - round(first[2])) < 0.01
        np.testing.assert_array_equal(data[:, :, round(first[2])], one.pixel_array.T)


@pytest.mark.parametrize("name", KNOWN)
def test_a_real_series_is_prepared_the_right_way_round(tmp_path: Path, name: str) -> None:
    assert prepare([DATA / name], tmp_path / "c").prepared == 1
    cohort = Cohort.open(tmp_path / "c")
    volume = cohort.volume(0)
    parts, _ = ndimage.label(ndimage.binary_opening(volume > 0.08, iterations=2))
    head = parts == np.bincount(parts.ravel())[1:].argmax() + 1  # without specks in the air
    # below the middle, the nose reaches farthest forward, near the midline
    centre = np.argwhere(head).mean(axis=0)
    low = head[:, :, : int(centre[2])]
    reach = np.where(low.any(axis=1), low.shape[1] - low[:, ::-1].argmax(axis=1), 0).max(axis=1)
    assert abs(int(reach.argmax()) - centre[0]) < 12
    # the vertex is smaller than the middle
    rows = np.flatnonzero(head.any(axis=(0, 1)))
    area = head.sum(axis=(0, 1))
    assert area[rows[-1] - 3] < 0.5 * area[int(centre[2])]
    # left and right lie alike, front and back don't
    mirrored = np.corrcoef(head.ravel(), head[::-1].ravel())[0, 1]
    turned = np.corrcoef(head.ravel(), head[:, ::-1].ravel())[0, 1]
    assert mirrored > 0.8 and mirrored > turned
    findings = cohort.participants["findings"][0].split(";")
    assert ("thick-slices" in findings) == (name == "brainix_t1")
