"""The paper's own case from the archives on: HarP's scans are ADNI's, and ADNI is trained on."""

from __future__ import annotations

import shutil
from pathlib import Path

from volta3d.cohort.audit import audit
from volta3d.cohort.exclude import exclusion
from volta3d.cohort.phash import NEAR
from volta3d.cohort.store import Cohort
from volta3d.config import PrepareConfig
from volta3d.prepare import prepare

CONFIG = PrepareConfig(size=32, spacing=2.5)


def test_L2_the_archives_of_pretraining_and_segmentation_share_subjects(
    adni: Path, harp: Path, tmp_path: Path
) -> None:
    shutil.rmtree(harp / "ADNI" / "003_S_0907")  # so that one subject of ADNI is not in HarP
    (harp / "Labels_100_NIFTI" / "ADNI_003_S_0907_40966_L.nii").unlink()
    cohorts = [
        Cohort.open(prepare([source], tmp_path / name, config=CONFIG).cohort)
        for source, name in ((adni, "pretraining"), (harp, "segmentation"))
    ]
    result = audit([c.path for c in cohorts])
    assert result.found
    assert result.shared == ({"cohorts": ["pretraining", "segmentation"], "people": 1},)
    left_out = exclusion(cohorts[:1], cohorts[1:])
    assert sorted(left_out.scan_ids) == [
        "adni_002_S_0295_I13722",
        "adni_002_S_0295_I13723",
        "adni_002_S_0295_I234567",
    ]
    # an encoder trained on the rest shares nobody with the segmentation
    rest = [s for s in cohorts[0].scan_ids if s not in left_out.scan_ids]
    assert rest == ["adni_003_S_0907_I40966"]


def test_L2_other_preparations_and_names_of_one_scan_are_recognised(
    adni: Path, tmp_path: Path
) -> None:
    scans = sorted(adni.rglob("*MP-RAGE_*.nii"))[:1]
    other = tmp_path / "renamed"
    other.mkdir()
    shutil.copyfile(scans[0], other / "volunteer.nii")
    first = prepare([adni], tmp_path / "a", config=CONFIG).cohort
    second = prepare([other], tmp_path / "b", config=PrepareConfig(size=48, spacing=1.7)).cohort
    (overlap,) = audit([first, second]).overlaps
    assert (overlap.kind, overlap.other_participant_id) == ("same-file", "volunteer")
    assert 0 < overlap.distance < NEAR  # the perceptual hash alone would have found it too
