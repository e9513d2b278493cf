"""Real scans: the right hippocampus lies on +x, and the layouts read what is there."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from volta3d.cohort.store import Cohort
from volta3d.config import PrepareConfig
from volta3d.prepare import prepare
from volta3d.prepare.layouts import detect, discover

REAL = Path(__file__).resolve().parents[4] / "shared" / "data"
pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not REAL.is_dir(), reason="the real scans are not beside the checkout"),
]
RIGHT, LEFT = 47, 48


@pytest.mark.parametrize(("name", "count"), [("ixi", 124), ("miccai2012", 15)])
def test_the_right_hippocampus_lies_on_the_right(name: str, count: int, tmp_path: Path) -> None:
    root = REAL / name
    assert detect(root) == "bids" and len(discover(root).scans) == count
    part = tmp_path / name
    for people in sorted(root.glob("sub-*"))[:: count // 3][:3]:
        shutil.copytree(people, part / people.name)
        for derivative in root.glob("derivatives/*"):
            target = part / "derivatives" / derivative.name
            shutil.copytree(derivative / people.name, target / people.name)
            shutil.copyfile(derivative / "dseg.tsv", target / "dseg.tsv")
    cohort = Cohort.open(
        prepare([part], tmp_path / "c", config=PrepareConfig(size=80, spacing=2.5)).cohort
    )
    assert len(cohort) == 3
    names = cohort.contract.label_names
    assert "right" in names[RIGHT].lower() and "left" in names[LEFT].lower()
    for row in range(3):
        labels, affine = cohort.label(row), cohort.affine(row)
        assert labels is not None
        places = {v: np.argwhere(labels == v).mean(axis=0) for v in (RIGHT, LEFT)}
        assert places[RIGHT][0] > places[LEFT][0]
        world = {v: (affine @ [*p, 1])[0] for v, p in places.items()}
        assert world[RIGHT] - world[LEFT] > 20  # mm; the least of all 139 is 21


def test_the_hippocampus_task_is_read_by_its_description() -> None:
    root = REAL / "msd_hippocampus"
    found = discover(root)
    assert detect(root) == "msd" and (len(found.scans), found.refused) == (200, ())
    assert found.scans[0].label_names == {1: "Anterior", 2: "Posterior"}
    assert len({s.participant_id for s in found.scans}) < 200
