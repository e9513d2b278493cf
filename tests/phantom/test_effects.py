"""The flows change exactly what they say, and the stated sizes are found in the truth written."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from volta3d.phantom.anatomy import Anatomy
from volta3d.phantom.effects import VENTRICLE_PER_YEAR, VENTRICLE_YOUNG, structure_flows
from volta3d.phantom.warp import Grid, jacobian, move, sample

FINE = Grid((-78.0, -112.0, -72.0), 2.0, (79, 100, 80))


def structure_volumes(anatomy: Anatomy, log_factors: tuple[float, float, float]) -> np.ndarray:
    flows = structure_flows(anatomy)
    points = move(FINE.points(), flows.displacement(log_factors), flows.grid)
    maps = sample(anatomy.tissues, anatomy.grid, points).double()
    side, ventricle = maps[4], maps[5]
    parts = (side.clamp(min=0), (-side).clamp(min=0), ventricle)
    return np.array([float(part.sum()) for part in parts])


@pytest.mark.parametrize(
    "wished",
    [(-0.357, -0.357, 0.5), (0.1, -0.05, -0.5), (-0.5, -0.4, 1.4), (0.0, 0.0, 0.8)],
)
def test_flows_scale_each_structure_by_its_factor(
    anatomy: Anatomy, wished: tuple[float, float, float]
) -> None:
    found = structure_volumes(anatomy, wished) / structure_volumes(anatomy, (0, 0, 0))
    # The flow lives on a 3 mm grid: 4 % of a volume.
    assert np.log(found) == pytest.approx(np.array(wished), abs=0.04)
    flows = structure_flows(anatomy)
    assert float(jacobian(flows.displacement(wished), flows.grid).min()) > 0


def table(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "participants.tsv", sep="\t")


def slopes(target: pd.Series, *columns: pd.Series) -> np.ndarray:
    """Least squares of the target on the columns and a constant."""
    design = np.stack([*(np.asarray(c, float) for c in columns), np.ones(len(target))], axis=1)
    return np.asarray(np.linalg.lstsq(design, np.asarray(target), rcond=None)[0])


def test_head_size_of_sexes(phantom_folder: Path) -> None:
    people = table(phantom_folder)
    size = people["true_intracranial_mm3"] ** (1 / 3)
    ratio = size[people.sex == "F"].mean() / size[people.sex == "M"].mean()
    # 12 against 12 with deviation .02: standard error .008.
    assert ratio == pytest.approx(0.96, abs=0.024)
    cubed = people["true_intracranial_mm3"] / people["head_scale"] ** 3
    assert cubed.std() / cubed.mean() < 0.005  # nothing but the head's scale changes it


def test_hippocampi_shrink_with_atrophy_and_a_little_with_age(phantom_folder: Path) -> None:
    people = table(phantom_folder)
    ill = people.diagnosis == "synthetic-atrophy"
    assert ill.sum() == 8
    for name in ("right", "left"):
        size = np.log(people[f"true_{name}_hippocampus_mm3"] / people["head_scale"] ** 3)
        age, atrophy, _ = slopes(size, people.age, ill)
        # Residual deviation .085 over 24 subjects: standard errors .037 and .0009.
        assert atrophy == pytest.approx(math.log(0.70), abs=0.1)
        assert age == pytest.approx(-0.0018, abs=0.0025)


def test_ventricles_grow_with_age_and_atrophy(phantom_folder: Path) -> None:
    people = table(phantom_folder)
    size = np.log(people["true_ventricles_mm3"] / people["head_scale"] ** 3)
    age, ill, young = slopes(size, people.age - 20, people.diagnosis == "synthetic-atrophy")
    # Residual deviation .20 over 24 subjects: standard errors .0022, .087 and .09.
    assert age == pytest.approx(VENTRICLE_PER_YEAR, abs=0.006)
    assert ill == pytest.approx(math.log(1.80), abs=0.25)
    assert math.exp(young) == pytest.approx(17_400 * VENTRICLE_YOUNG, rel=0.3)


def test_grey_matter_shrinks_with_age_and_atrophy(phantom_folder: Path) -> None:
    people = table(phantom_folder)
    size = people["true_grey_matter_mm3"] / people["head_scale"] ** 3
    age, ill, constant = slopes(size, people.age - 20, people.diagnosis == "synthetic-atrophy")
    # Residual deviation .015 over 24 subjects: standard errors .00017 and .0065.
    assert age / constant == pytest.approx(-0.003, abs=0.0005)
    assert ill / constant == pytest.approx(-0.08, abs=0.02)


def test_volumes_written_are_the_subjects_own(phantom_folder: Path, anatomy: Anatomy) -> None:
    from volta3d.phantom.subject import draw_subject

    people = table(phantom_folder)
    template = structure_volumes(anatomy, (0, 0, 0)) * FINE.spacing**3
    columns = ["true_right_hippocampus_mm3", "true_left_hippocampus_mm3", "true_ventricles_mm3"]
    for number, row in enumerate(people.to_dict("records"), start=1):
        subject = draw_subject(number, 3)
        found = np.log(np.array([row[c] for c in columns]) / subject.head_scale**3 / template)
        # Summed from voxels of up to 5 mm, so the smallest structures are off by a few per cent.
        assert found == pytest.approx(np.array(subject.log_factors), abs=0.08)
