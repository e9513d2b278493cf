"""Labelled scans in memory: on the device when they fit, and what surrounds each head."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from volta3d.cohort.contract import Contract
from volta3d.cohort.store import Cohort, write_cohort
from volta3d.config import load_segment
from volta3d.downstream.segmentation import labelled as labelled_module
from volta3d.downstream.segmentation.fit import Fit, Task
from volta3d.downstream.segmentation.labelled import LabelledScans
from volta3d.downstream.segmentation.sides import check_flips
from volta3d.downstream.segmentation.structures import pairs
from volta3d.errors import CohortError, UsageError

EDGE = 16
NAMES = {47: "Right-Hippocampus", 48: "Left-Hippocampus"}
Z = {"scaling": "zscore", "value_range": None, "storage": "float16"}


def cohort_of(folder: Path, contract: Contract, blacks: tuple[float, ...]) -> Cohort:
    """Heads of another black each in a cube of that black, a structure on each side."""
    labels = np.zeros((EDGE,) * 3, np.uint16)
    labels[4:6, 6:10, 6:10], labels[10:12, 6:10, 6:10] = 48, 47
    volumes = [np.full(labels.shape, black, np.float32) for black in blacks]
    for volume in volumes:
        volume[3:13, 2:14, 4:12] = 1.0
    ids = [f"s{i}" for i in range(len(blacks))]
    people = pd.DataFrame({"scan_id": ids, "participant_id": ids})
    return write_cohort(folder, contract, volumes, people, labels=[labels] * len(blacks))


def opened(cohort: Cohort, device: str = "cpu") -> LabelledScans:
    return LabelledScans.open(cohort, "hippocampus", 2.0, torch.device(device))


@pytest.mark.parametrize("fits", [True, False])
def test_label_maps_stay_on_the_device_only_when_all_fit(
    tmp_path: Path, fits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    contract = Contract(size=EDGE, spacing=2.0, fit="pad", label_names=NAMES)
    cohort = cohort_of(tmp_path / "c", contract, (0.0, 0.0))
    monkeypatch.setattr(labelled_module, "_fits", lambda cohort, device: fits)
    scans = opened(cohort, "meta")  # a device apart from the CPU, on any machine
    kept = {label.device.type for label in scans._labels}
    assert kept == ({"meta"} if fits else {"cpu"})
    assert scans.label(1).device.type == "meta" and scans.label(1).dtype == torch.uint8
    assert scans.volume(1).device.type == "meta"


def test_every_z_scored_head_has_a_black_and_a_box_of_its_own(tmp_path: Path) -> None:
    contract = Contract(size=EDGE, spacing=2.0, fit="pad", label_names=NAMES, **Z)  # type: ignore[arg-type]
    scans = opened(cohort_of(tmp_path / "c", contract, (-1.0, -2.0)))
    assert scans.blacks == [-1.0, -2.0] and scans.value_range == (-2.0, 1.0)
    for index in (0, 1):
        first, last = scans.inside(index)
        assert first.tolist() == [3, 2, 4] and last.tolist() == [12, 13, 11]


def test_a_range_has_one_black(tmp_path: Path) -> None:
    contract = Contract(size=EDGE, spacing=2.0, fit="pad", label_names=NAMES)
    scans = opened(cohort_of(tmp_path / "c", contract, (0.0, 0.0)))
    assert scans.blacks == [0.0, 0.0] and scans.value_range == (0.0, 1.0)


def test_a_scan_without_a_structure_is_kept_where_it_may_be_absent(tmp_path: Path) -> None:
    contract = Contract(size=EDGE, spacing=2.0, fit="pad", label_names=NAMES)
    volumes = [np.ones((EDGE,) * 3, np.float32)] * 2
    whole = np.zeros((EDGE,) * 3, np.uint16)
    whole[4:6, 6:10, 6:10], whole[10:12, 6:10, 6:10] = 48, 47
    one = np.where(whole == 47, 0, whole)
    people = pd.DataFrame({"scan_id": ["a", "b"], "participant_id": ["A", "B"]})
    cohort = write_cohort(tmp_path / "c", contract, volumes, people, labels=[whole, one])
    device = torch.device("cpu")
    strict = LabelledScans.open(cohort, "hippocampus", 2.0, device)
    assert strict.scan_ids == ["a"] and strict.refused[0]["code"] == "structure-missing"
    scans = LabelledScans.open(cohort, "hippocampus", 2.0, device, absent=True)
    assert len(scans) == 2 and sorted(map(len, scans.voxels(1))) == [0, 32]
    config = load_segment("small", ["crops.size=16", "batch_size=2", "epochs=1", "average=0"])
    check_flips(scans, config)
    fit = Fit.__new__(Fit)  # crops alone: no network is needed to draw them
    fit.scans, fit.config, fit.swapped = scans, config, pairs(scans.structures)
    fit.task = Task([0, 1], [], 0, "full", tmp_path)
    for epoch in range(6):
        images, labels = fit.batch([(0, 0), (1, 0)], epoch)
        assert images.shape == (2, 1, 16, 16, 16) and set(labels.unique().tolist()) <= {0, 1, 2}


def test_people_of_two_data_sets_with_one_id_are_two_and_who_shares_an_image_is_one(
    tmp_path: Path,
) -> None:
    contract = Contract(size=EDGE, spacing=2.0, fit="pad", label_names=NAMES)
    labels = np.zeros((EDGE,) * 3, np.uint16)
    labels[4:6, 6:10, 6:10], labels[10:12, 6:10, 6:10] = 48, 47
    people = pd.DataFrame(
        {
            "scan_id": list("abc"),
            "participant_id": ["sub-1", "sub-1", "sub-2"],
            "dataset": ["one", "other", "other"],
            "source_sha256": ["x", "y", "y"],
        }
    )
    volumes = [np.ones((EDGE,) * 3, np.float32)] * 3
    cohort = write_cohort(tmp_path / "c", contract, volumes, people, labels=[labels] * 3)
    first, second, third = opened(cohort).subjects
    assert first != second and second == third


def of_maps(folder: Path, maps: list[np.ndarray], names: dict[int, str]) -> Cohort:
    contract = Contract(size=EDGE, spacing=2.0, fit="pad", label_names=names)
    ids = [f"s{i}" for i in range(len(maps))]
    people = pd.DataFrame({"scan_id": ids, "participant_id": ids})
    volumes = [np.ones((EDGE,) * 3, np.float32)] * len(maps)
    return write_cohort(folder, contract, volumes, people, labels=maps)


def sides(left: int, right: int) -> np.ndarray:
    labels = np.zeros((EDGE,) * 3, np.uint16)
    labels[4:6, 6:10, 6:10], labels[10:12, 6:10, 6:10] = left, right
    return labels


@pytest.mark.parametrize("labels", [{"tumour": 99}, {"brain": 1, "tumour": 99}])
def test_a_label_that_occurs_nowhere_is_refused_with_those_that_do(
    tmp_path: Path, labels: dict[str, int]
) -> None:
    cohort = of_maps(tmp_path / "c", [sides(1, 0), sides(1, 4)], {4: "enhancing tumour"})
    with pytest.raises(UsageError) as caught:
        LabelledScans.open(cohort, labels, 2.0, torch.device("cpu"), absent=True)
    text = caught.value.paragraph()
    assert "None of the 2 label maps" in text and "'tumour' (label 99)" in text
    assert "1, 4 enhancing tumour" in text and "brain" not in text
    found = LabelledScans.open(cohort, {"tumour": (4, 99)}, 2.0, torch.device("cpu"), absent=True)
    assert len(found) == 2


@pytest.mark.parametrize("maps", [[(17, 0), (17, 53)], [(17, 0), (0, 0), (0, 53)]])
def test_freesurfer_s_numbers_are_known_though_the_first_scan_lacks_one(
    tmp_path: Path, maps: list[tuple[int, int]]
) -> None:
    cohort = of_maps(tmp_path / "c", [sides(*m) for m in maps], {})
    device = torch.device("cpu")
    scans = LabelledScans.open(cohort, "hippocampus", 2.0, device, absent=True)
    assert len(scans) == len(maps) and [s.values for s in scans.structures] == [(17,), (53,)]
    if maps[-1] == (17, 53):
        strict = LabelledScans.open(cohort, "hippocampus", 2.0, device)
        assert strict.scan_ids == ["s1"] and strict.refused[0]["code"] == "structure-missing"
    else:
        with pytest.raises(CohortError, match="None of the 3 label maps"):
            LabelledScans.open(cohort, "hippocampus", 2.0, device)
