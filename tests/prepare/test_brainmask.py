"""Skull stripping: masks of derivatives, deepbet, and what the contract says about them."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from volta3d.cohort.contract import Contract
from volta3d.cohort.store import Cohort
from volta3d.config import PrepareConfig
from volta3d.errors import UsageError
from volta3d.prepare import brainmask, prepare
from volta3d.prepare.brainmask import brain_mask, find_mask
from volta3d.prepare.findings import Refused
from volta3d.prepare.volume import prepare_scan

Make = Callable[..., Path]
MASKED = PrepareConfig(size=20, spacing=2.5, fit="pad", skull_strip="mask")


def with_masks(bids: Callable[..., Path], nifti: Make) -> tuple[Path, np.ndarray]:
    """Two heads of which the first has a brain mask, and that mask."""
    root = bids(2)
    head = nib.load(root / "sub-01/anat/sub-01_T1w.nii.gz")
    mask = np.zeros(head.shape, np.uint8)
    mask[7:13, 8:14, 9:15] = 1
    name = "derivatives/bet/sub-01/anat/sub-01_desc-brain_mask.nii.gz"
    nifti(root / name, mask, head.affine)
    return root, mask


def test_a_given_mask_strips_and_a_scan_without_one_is_quarantined(
    tmp_path: Path, bids: Callable[..., Path], nifti: Make
) -> None:
    root, mask = with_masks(bids, nifti)
    result = prepare([root], tmp_path / "c", config=MASKED)
    assert (result.prepared, result.quarantined) == (1, 1)
    cohort = Cohort.open(tmp_path / "c")
    assert cohort.quarantine["code"].tolist() == ["no-brain-mask"]
    row = cohort.participants.iloc[0]
    assert row["foreground_mm3"] == row["brain_mm3"]
    assert row["brain_mm3"] == pytest.approx(float(mask.sum()) * 2.5**3)
    assert "odd-brain-volume" in row["findings"]  # a brain of 3 ml
    # the scan's own voxels within the mask, dark outside
    inside = np.argwhere(cohort.volume(0) > 0)
    assert (np.ptp(inside, axis=0) + 1 <= 6).all() and len(inside) > 0.9 * mask.sum()
    middle = np.linalg.inv(nib.load(root / "sub-01/anat/sub-01_T1w.nii.gz").affine)
    at = middle @ cohort.affine(0) @ [*inside.mean(axis=0), 1]
    np.testing.assert_allclose(at[:3], np.argwhere(mask).mean(axis=0), atol=0.3)


def test_another_mask_makes_another_piece(
    tmp_path: Path, bids: Callable[..., Path], nifti: Make
) -> None:
    root, mask = with_masks(bids, nifti)
    prepare([root], tmp_path / "c", config=MASKED)
    path = find_mask(root / "sub-01/anat/sub-01_T1w.nii.gz")
    assert path is not None
    assert prepare([root], tmp_path / "c", config=MASKED).skipped == 1
    mask[7] = 0
    nifti(path, mask, nib.load(root / "sub-01/anat/sub-01_T1w.nii.gz").affine)
    assert prepare([root], tmp_path / "c", config=MASKED).prepared == 1


def test_a_mask_that_could_belong_to_two_scans_belongs_to_none(
    tmp_path: Path, bids: Callable[..., Path], nifti: Make
) -> None:
    root, _ = with_masks(bids, nifti)
    image = root / "sub-01/anat/sub-01_T1w.nii.gz"
    assert find_mask(image) is not None
    assert find_mask(tmp_path / "elsewhere.nii.gz") is None
    (root / "sub-01/anat/sub-01_run-2_T1w.nii.gz").write_bytes(image.read_bytes())
    assert find_mask(image) is None


@pytest.mark.parametrize(
    ("change", "code"), [("shift", "mask-grid"), ("empty", "empty-brain-mask"), ("cut", "mask-")]
)
def test_a_wrong_mask_is_refused(
    change: str, code: str, bids: Callable[..., Path], nifti: Make
) -> None:
    root, mask = with_masks(bids, nifti)
    source = root / "sub-01/anat/sub-01_T1w.nii.gz"
    path, affine = find_mask(source), nib.load(source).affine
    assert path is not None
    if change == "shift":
        affine[0, 3] += 5
    nifti(path, mask * (change != "empty"), affine)
    if change == "cut":
        path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(Refused) as caught:
        prepare_scan(source, Contract(size=16, skull_strip="mask"))
    assert caught.value.finding.code.startswith(code) and caught.value.finding.how_to_fix


def test_without_deepbet_nothing_is_begun(
    tmp_path: Path, bids: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "deepbet", None)
    monkeypatch.setitem(sys.modules, "deepbet.bet", None)
    with pytest.raises(UsageError, match=r"volta3d\[skullstrip\]"):
        prepare([bids(1)], tmp_path / "c", config=PrepareConfig(size=16, skull_strip="deepbet"))
    assert not (tmp_path / "c").exists()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of deepbet and of TorchScript, which it is stored in
def test_deepbet_finds_a_brain_without_any_network(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("deepbet")

    def offline(*_: object) -> None:
        raise AssertionError("asked for the network")

    monkeypatch.setattr(socket.socket, "connect", offline)
    grid = np.stack(np.meshgrid(*[np.linspace(-1.1, 1.1, 64)] * 3, indexing="ij"))
    radius = np.sqrt((grid**2 / np.array([0.8, 1.0, 0.8])[:, None, None, None] ** 2).sum(axis=0))
    # brain with grey on white, dark skull, bright scalp, at 3 mm
    levels = [(0.55, 100), (0.7, 70), (0.76, 15), (0.82, 10), (0.9, 110)]
    head = np.zeros(radius.shape, np.float32)
    for outer, value in reversed(levels):
        head[radius < outer] = value
    head += np.random.default_rng(0).normal(0, 2, head.shape).astype(np.float32)
    affine = np.diag([3.0, 3.0, 3.0, 1.0])
    contract = Contract(skull_strip="deepbet")
    mask, _ = brain_mask(head, affine, Path("head.nii"), contract)
    assert mask is not None and mask.shape == head.shape
    brain = radius < 0.7
    overlap = 2 * (mask & brain).sum() / (mask.sum() + brain.sum())
    assert overlap > 0.8 and not mask[radius > 1].any()


def test_deepbet_sees_blocks_of_a_millimetre(monkeypatch: pytest.MonkeyPatch) -> None:
    class Threshold:
        """Stands for the network: what it is shown, and a mask of it."""

        def run_model(self, volume: np.ndarray) -> np.ndarray:
            self.shown = volume.shape
            return volume / 100

        def postprocess(self, mask: np.ndarray) -> np.ndarray:
            return mask

    fake = Threshold()
    monkeypatch.setattr(brainmask, "_network", lambda: fake)
    head = np.zeros((41, 40, 12), np.float32)
    head[8:20, 10:30, 3:9] = 100
    affine = np.diag([0.5, 0.4, 3.0, 1.0])
    mask, findings = brain_mask(head, affine, Path("a.nii"), Contract(skull_strip="deepbet"))
    assert fake.shown == (21, 20, 12) and mask is not None
    np.testing.assert_array_equal(mask, head > 50)
    assert [f.code for f in findings] == ["odd-brain-volume"]
