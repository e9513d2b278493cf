"""Label maps for scans of several paths: of one name, and good ones among bad ones."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest

from volta3d.cohort.contract import Contract
from volta3d.cohort.store import write_cohort
from volta3d.config import load_segment
from volta3d.downstream.predict import predict
from volta3d.downstream.segmentation.segment import segment
from volta3d.errors import CohortError, UsageError

EDGE = 16


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A U-Net that saw four cubes once."""
    rng = np.random.default_rng(0)
    people = {
        "scan_id": [f"p_{i}" for i in range(4)],
        "participant_id": [f"sub-{i}" for i in range(4)],
    }
    labels = np.zeros((EDGE,) * 3, np.uint16)
    labels[4:8, 4:8, 4:8], labels[9:13, 4:8, 4:8] = 48, 47
    names = {47: "Right-Hippocampus", 48: "Left-Hippocampus"}
    contract = Contract(size=EDGE, spacing=8.0, synthetic=True, label_names=names)
    volumes = (rng.random((EDGE,) * 3, np.float32) for _ in range(4))
    write_cohort(tmp_path / "cohort", contract, volumes, pd.DataFrame(people), labels=[labels] * 4)
    quick = [
        "crops.size=16", "crops.per_scan=1", "unet.channels=[4,8]", "unet.strides=[2]",
        "unet.residual_units=1", "epochs=1", "validate_epochs=1", "warmup_epochs=0",
        "precision=fp32", "overlap=0",
    ]  # fmt: skip
    config = load_segment("small", quick)
    segment(tmp_path / "cohort", ["unet=unet"], tmp_path / "run", config, holdout=0.5)
    return tmp_path / "run" / "arms" / "unet" / "model"


def test_folders_of_one_name_and_bad_paths(model: Path, tmp_path: Path, dicom: ModuleType) -> None:
    for number in (1, 2):
        made = dicom.slices(dicom.head() + number, uid=number, study=number)
        dicom.write(tmp_path / f"p{number}" / "DICOM", made)
    (tmp_path / "empty").mkdir()
    bad = [tmp_path / "empty", tmp_path / "nowhere"]
    out = tmp_path / "told"
    result = predict(model, [bad[0], *sorted(tmp_path.glob("p?/DICOM")), bad[1]], out)
    assert result.predicted == 2
    scans = pd.read_csv(out / "scans.tsv", sep="\t")
    assert list(scans["scan_id"]) == ["p1_dicom", "p2_dicom"]
    assert sorted(p.relative_to(out).parts[0] for p in out.rglob("*_dseg.nii.gz")) == [
        "sub-p1dicom", "sub-p2dicom",
    ]  # fmt: skip
    assert set(pd.read_csv(result.table, sep="\t")["scan_id"]) == {"p1_dicom", "p2_dicom"}
    refused = pd.read_csv(result.refusals, sep="\t")
    assert list(refused["source"]) == [str(path) for path in bad]
    with pytest.raises(CohortError, match=r"None of the 2 paths .*No scans found.*empty"):
        predict(model, bad, tmp_path / "none")
    with pytest.raises(UsageError, match="Nothing to predict"):
        predict(model, [], tmp_path / "none")
    assert not (tmp_path / "none").exists()
