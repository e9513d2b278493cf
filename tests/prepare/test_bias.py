"""N4: a field that was multiplied in is divided out again."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from volta3d.cohort.contract import Contract
from volta3d.config import PrepareConfig
from volta3d.errors import UsageError
from volta3d.prepare import prepare
from volta3d.prepare.bias import correct_bias
from volta3d.prepare.volume import prepare_scan


def shaded_ball() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A ball of two tissues, the bias field on it, and its affine (5 mm)."""
    n = 26
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, n)] * 3, indexing="ij"))
    radius = np.sqrt((grid**2).sum(axis=0))
    tissue = np.where(radius < 0.55, 100.0, np.where(radius < 0.8, 60.0, 0.0))
    rng = np.random.default_rng(0)
    tissue += (tissue > 0) * rng.normal(0, 2, tissue.shape)
    field = np.exp(0.6 * grid[0] - 0.3 * grid[2] ** 2)
    return tissue, field, np.diag([5.0, 5.0, 5.0, 1.0])


def test_the_field_is_found_and_divided_out() -> None:
    pytest.importorskip("SimpleITK")
    tissue, field, affine = shaded_ball()
    core = tissue > 90
    shaded = (tissue * field).astype(np.float32)
    before = shaded[core].std() / shaded[core].mean()
    corrected, findings = correct_bias(shaded.copy(), affine)
    after = corrected[core].std() / corrected[core].mean()
    assert before > 0.12 and after < before / 3, (before, after)
    # and it is that field: up to a factor, corrected * field is what was shaded
    ratio = (shaded / np.where(core, corrected, 1))[core] / field[core]
    assert ratio.std() / ratio.mean() < 0.05
    assert findings == []
    again, _ = correct_bias(shaded.copy(), affine)
    np.testing.assert_array_equal(again, corrected)


def test_n4_is_part_of_the_contract(tmp_path: Path, nifti: object) -> None:
    pytest.importorskip("SimpleITK")
    tissue, field, affine = shaded_ball()
    path = nifti(tmp_path / "a.nii", (tissue * field).astype(np.float32), affine)  # type: ignore[operator]
    plain = prepare_scan(path, Contract(size=32, spacing=4))
    corrected = prepare_scan(path, Contract(size=32, spacing=4, bias="n4"))
    np.testing.assert_array_equal(plain.affine[:3, :3], corrected.affine[:3, :3])
    core = (slice(12, 20),) * 3
    assert corrected.volume[core].std() < plain.volume[core].std() / 2


def test_without_simpleitk_nothing_is_begun(
    tmp_path: Path, bids: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "SimpleITK", None)
    with pytest.raises(UsageError, match=r"volta3d\[bias\]"):
        prepare([bids(1)], tmp_path / "c", config=PrepareConfig(size=16, bias="n4"))  # type: ignore[operator]
    assert not (tmp_path / "c").exists()
