"""One file under two names is noticed when the cohort is made."""

from __future__ import annotations

import shutil
from pathlib import Path

import nibabel as nib
import numpy as np

from volta3d.cohort.store import Cohort
from volta3d.config import PrepareConfig
from volta3d.prepare import prepare


def write(path: Path, seed: int) -> None:
    """A ball of noise on a small grid."""
    grid = np.indices((24, 24, 24)) - 11.5
    ball = (np.sqrt((grid**2).sum(0)) < 9).astype(np.float32)
    voxels = ball * (100 + 20 * np.random.default_rng(seed).random(ball.shape, np.float32))
    nib.save(nib.Nifti1Image(voxels, np.diag([4.0, 4, 4, 1])), path)


def test_L3_the_same_file_under_another_participant_is_a_finding(tmp_path: Path) -> None:
    source = tmp_path / "scans"
    source.mkdir()
    write(source / "anna.nii.gz", 0)
    write(source / "carl.nii.gz", 1)
    shutil.copy(source / "anna.nii.gz", source / "berta.nii.gz")
    result = prepare([source], tmp_path / "cohort", config=PrepareConfig(size=24, spacing=4))
    assert result.findings["same-image"] == 2
    people = Cohort.open(result.cohort).participants.set_index("participant_id")["findings"]
    marked = {name for name, codes in people.items() if "same-image" in codes.split(";")}
    assert {name.lower() for name in marked} == {"anna", "berta"}
