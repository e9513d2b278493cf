"""The benchmarks of preparation in a cheap form: they run, and their ruler is straight."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import nibabel as nib
import numpy as np
import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"
KEYS = {"what", "ours", "reference", "ratio", "wanted", "met"}


@pytest.fixture(scope="module")
def scripts() -> Iterator[dict[str, ModuleType]]:
    names = ["claims", "big_scans", "prepare", "cohort_read"]
    sys.path.insert(0, str(FOLDER))
    try:
        yield {name: importlib.import_module(name) for name in names}
    finally:
        sys.path.remove(str(FOLDER))
        for name in names:
            sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ball of 40 mm at 2 mm, axes to the back, top and right."""
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, n) for n in (28, 28, 24)], indexing="ij"))
    data = 100 * np.clip(6 * (0.8 - np.sqrt((grid**2).sum(axis=0))), 0, 1) * (1 + grid[0] / 3)
    data += np.random.default_rng(0).integers(1, 5, data.shape)
    affine = np.array([[0, 0, 2, -23], [-2, 0, 0, 27], [0, 2, 0, -27], [0, 0, 0, 1.0]])
    path = tmp_path_factory.mktemp("bench") / "ball.nii.gz"
    nib.save(nib.Nifti1Image(data.astype(np.int16), affine), path)
    return path


def test_the_reference_is_the_mean_over_each_voxel(
    scripts: dict[str, ModuleType], scan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scripts["prepare"], "SUBSAMPLES", 3)
    grid = np.diag([5.0, 5.0, 5.0, 1.0])
    grid[:3, 3] = -11
    found = scripts["prepare"].reference(scan, grid, 5)
    image = nib.as_closest_canonical(nib.load(scan))
    data = np.asarray(image.dataobj, np.float64)
    low, high = np.percentile(data, (0.05, 99.95))
    data = (data.clip(low, high) - low) / (high - low)
    inverse = np.linalg.inv(image.affine)
    for at in ((1, 2, 3), (2, 2, 2), (4, 1, 2)):
        values = []
        for offset in np.ndindex(3, 3, 3):
            point = inverse @ grid @ [*(np.array(at) + (np.array(offset) - 1) / 3), 1]
            low_corner, total = np.floor(point[:3]).astype(int), 0.0
            for step in np.ndindex(2, 2, 2):
                corner = low_corner + step
                weight = np.prod(1 - np.abs(point[:3] - corner))
                inside = (corner >= 0).all() and (corner < data.shape).all()
                total += weight * (data[tuple(corner)] if inside else 0)
            values.append(total)
        assert found[at] == pytest.approx(np.mean(values), abs=1e-9)


@pytest.mark.filterwarnings("ignore")  # of MONAI
def test_both_sides_run_and_lie_near_the_reference(
    scripts: dict[str, ModuleType], scan: Path
) -> None:
    claims, details = scripts["prepare"].against_monai(scan, 16, repeats=1)
    assert all(set(found) >= KEYS and found["ours"] > 0 for found in claims)
    assert set(details["seconds"]) == {"ours", "monai"}
    speed, accuracy = claims
    assert speed["ratio"] == pytest.approx(speed["reference"] / speed["ours"], rel=1e-2)
    assert accuracy["ours"] < 0.1 and accuracy["reference"] < 0.1  # the same grid, the same range


def test_memory_and_copies(scripts: dict[str, ModuleType], scan: Path, tmp_path: Path) -> None:
    found = scripts["prepare"].memory(scan, tmp_path, 24, 16, cases=(("int16", True),))
    assert len(found) == 1 and 0.05 < found[0]["ours"] < 1.5 and found[0]["met"]
    root = scripts["big_scans"].make_copies(scan, tmp_path / "copies", 2)
    files = sorted(root.rglob("*.nii.gz"))
    assert len(files) == 2 and files[0].read_bytes() != files[1].read_bytes()
    one, two = (np.asarray(nib.load(f).dataobj) for f in files)
    np.testing.assert_array_equal(one, two)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of MONAI
def test_reading_prints_one_object(
    scripts: dict[str, ModuleType],
    scan: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    read, out = scripts["cohort_read"], tmp_path / "out.json"
    monkeypatch.setattr(read, "make_scan", lambda *_: scan)
    monkeypatch.setattr(read, "one_thread", lambda: None)
    monkeypatch.setattr(sys, "argv", ["cohort_read", "--tiny", "--out", str(out)])
    read.main()
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads(out.read_text()) and printed["name"] == "cohort_read"
    assert all(set(found) >= KEYS for found in printed["claims"])
    assert printed["machine"]["cores"] >= 1
