"""HarP, whose label maps are two files each: from the archive to outlines in scans' own space."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from volta3d.config import PrepareConfig, load_segment
from volta3d.downstream.segmentation.segment import segment
from volta3d.errors import CohortError
from volta3d.prepare import prepare

EDGE = 16
AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])
TINY = [
    "crops.size=16", "unet.channels=[4,8]", "unet.strides=[2]", "unet.residual_units=1", "epochs=1",
    "warmup_epochs=0", "precision=fp32", "overlap=0",
]  # fmt: skip


def brain(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A ball of noise, and masks of a body on the left and one on the right."""
    rng = np.random.default_rng(seed)
    x, y, z = np.indices((EDGE,) * 3)
    head = (x - 7.5) ** 2 + (y - 7.5) ** 2 + (z - 7.5) ** 2 < 50
    left, right = np.zeros(head.shape, np.uint8), np.zeros(head.shape, np.uint8)
    left[4:6, 6:10, 6 : 9 + seed % 2], right[10:12, 6:10, 6:9] = 1, 1
    volume = head * (0.5 + 0.2 * rng.random(head.shape)) + 0.4 * (left + right)
    return volume.astype(np.float32), left, right


def harp(root: Path, count: int = 5) -> Path:
    """The ADNI tree of the scans and a folder of masks, one a side."""
    for number in range(count):
        subject, image = f"002_S_{number:04d}", f"I1372{number}"
        name = f"ADNI_{subject}_MR_MPRAGE_Br_2007_S13407_{image}.nii"
        leaf = root / "ADNI" / subject / "MPRAGE" / "2006-04-18_08_20_30.0" / image
        leaf.mkdir(parents=True)
        volume, *sides = brain(number)
        nib.save(nib.Nifti1Image(volume, AFFINE), leaf / name)
        for letter, mask in zip("LR", sides, strict=True):
            path = root / "Labels" / f"ADNI_{subject}_1372{number}_{letter}.nii"
            path.parent.mkdir(exist_ok=True)
            nib.save(nib.Nifti1Image(mask, AFFINE), path)
    return root


def test_harp_is_segmented_and_its_reference_is_both_files_in_one(tmp_path: Path) -> None:
    source = harp(tmp_path / "harp")
    prepared = PrepareConfig(size=20, spacing=2.0, fit="pad")
    prepare([source], tmp_path / "cohort", config=prepared)
    run, config = tmp_path / "run", load_segment("small", TINY)
    result = segment(tmp_path / "cohort", ["u=unet"], run, config, holdout=0.4)
    assert (result.scans, result.refused) == (5, ())
    assert result.structures == ("Left-Hippocampus", "Right-Hippocampus")
    rows = pd.read_csv(run / "reference" / "scans.tsv", sep="\t")
    assert len(rows) == 2
    for person, file in zip(rows["participant_id"], rows["file"], strict=True):
        image = nib.load(run / "reference" / file)
        _, left, right = brain(int(person[-4:]))
        assert np.array_equal(np.asarray(image.dataobj), left + 2 * right)
        assert np.allclose(image.affine, AFFINE)
        assert nib.load(run / "predictions" / "u" / file).shape == (EDGE,) * 3


def test_one_of_the_two_files_moved_away_is_missed(tmp_path: Path) -> None:
    source = harp(tmp_path / "harp")
    prepare([source], tmp_path / "cohort", config=PrepareConfig(size=20, spacing=2.0, fit="pad"))
    gone = next((source / "Labels").glob("*_R.nii"))
    gone.rename(tmp_path / gone.name)
    with pytest.raises(CohortError, match="1 label files are not where they were") as caught:
        segment(tmp_path / "cohort", ["u=unet"], tmp_path / "run", load_segment("small", TINY))
    assert gone.name in caught.value.where


def test_another_data_set_s_label_maps_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("here", "there"):
        harp(tmp_path / name / "harp")
    monkeypatch.chdir(tmp_path / "here")
    prepare([Path("harp")], Path("cohort"), config=PrepareConfig(size=20, spacing=2.0, fit="pad"))
    monkeypatch.chdir(tmp_path / "there")  # which holds another data set of the same name
    cohort = Path("../here/cohort")
    changed = next((tmp_path / "here/harp/Labels").glob("*_R.nii"))
    image = nib.load(changed)
    values = np.asarray(image.dataobj).copy()
    values[:2] = 1
    nib.save(nib.Nifti1Image(values, image.affine), changed)
    with pytest.raises(CohortError, match="1 label maps are not those") as caught:
        segment(cohort, ["u=unet"], tmp_path / "run", load_segment("small", TINY))
    assert str(tmp_path / "here") in caught.value.where
