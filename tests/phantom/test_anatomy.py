"""The template maps: sides, sums, and structures where anatomy has them."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from scipy import ndimage

from volta3d.errors import VoltaError
from volta3d.phantom import anatomy as module
from volta3d.phantom.anatomy import RIM_SHARE, Anatomy


def test_right_hippocampus_lies_at_positive_x(anatomy: Anatomy) -> None:
    side = anatomy.tissue("hippocampus")
    x = anatomy.grid.points()[..., 0]
    right, left = x[side > 0.5], x[side < -0.5]
    assert len(right) > 300
    assert len(left) > 300
    assert float(right.min()) > 0
    assert float(left.max()) < 0


def test_tissues_are_probabilities_that_leave_room_for_fluid(anatomy: Anatomy) -> None:
    for name in ("core", "rim", "white", "ventricle"):
        values = anatomy.tissue(name)
        assert float(values.min()) >= 0
        assert float(values.max()) <= 1 + 1e-5
    total = anatomy.tissue("core") + anatomy.tissue("rim") + anatomy.tissue("white")
    assert float(total.max()) < 1.05  # the templates were scaled one by one
    assert float((total + anatomy.tissue("ventricle")).max()) < 1.05


def test_rim_is_the_stated_share_of_grey_matter(anatomy: Anatomy) -> None:
    rim = float(anatomy.tissue("rim").sum())
    grey = rim + float(anatomy.tissue("core").sum())
    assert rim / grey == pytest.approx(RIM_SHARE, abs=0.02)  # clipping at 1 loses a little
    assert anatomy.grey_volume == pytest.approx(grey * anatomy.grid.spacing**3, rel=1e-4)


def test_structures_have_human_volumes(anatomy: Anatomy) -> None:
    voxel = anatomy.grid.spacing**3
    side = anatomy.tissue("hippocampus")
    for part in (side.clamp(min=0), (-side).clamp(min=0)):
        assert 3000 < float(part.sum()) * voxel < 4000
    assert 10_000 < float(anatomy.tissue("ventricle").sum()) * voxel < 40_000


def test_skull_distance_encloses_the_brain(anatomy: Anatomy) -> None:
    from volta3d.phantom.anatomy import HEAD
    from volta3d.phantom.warp import sample

    points = anatomy.grid.points()
    distance = sample(anatomy.head, HEAD, points)[0]
    brain = (anatomy.tissue("core") + anatomy.tissue("rim") + anatomy.tissue("white")) > 0.5
    # The hull is known on a 3 mm grid.
    assert float(distance[brain].max()) < 4
    assert float((distance[brain] < 1).float().mean()) > 0.995
    centre = torch.tensor([[[[0.0, -20.0, 10.0]]]])
    assert float(sample(anatomy.head, HEAD, centre)[0]) == pytest.approx(-10)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_hippocampus_is_one_curved_band_of_grey_matter(anatomy: Anatomy, sign: int) -> None:
    inside = (anatomy.tissue("hippocampus") * sign > 0.5).numpy()
    assert ndimage.label(inside, np.ones((3, 3, 3)))[1] == 1
    grey = anatomy.tissue("core") + anatomy.tissue("rim")
    assert float(grey[torch.from_numpy(inside)].mean()) > 0.8
    x, y, z = anatomy.grid.points().numpy()[inside].T
    assert -10 < y.max() < 0 and -45 < y.min() < -36  # mm: from the amygdala to the splenium
    # It rises towards the tail and lies most lateral in the middle.
    head, body, tail = (
        (y > -14), (y < -20) & (y > -30), (y < -34)
    )  # fmt: skip
    assert z[head].mean() < z[body].mean() - 5 < z[tail].mean() - 10
    lateral = np.abs(x)
    assert lateral[body].mean() > max(lateral[head].mean(), lateral[tail].mean()) + 2
    assert 20 < lateral.mean() < 32


def test_ventricles_are_two_sides_with_frontal_occipital_and_inferior_horns(
    anatomy: Anatomy,
) -> None:
    inside = (anatomy.tissue("ventricle") > 0.4).numpy()
    x, y, z = anatomy.grid.points().numpy()[inside].T
    assert y.max() > 20 and y.min() < -50 and z.min() < -15 and 20 < z.max() < 40  # mm
    third = (np.abs(x) < 3) & (z < 2)
    assert third.mean() < 0.005  # the third ventricle is not one of them
    grey = (anatomy.tissue("core") + anatomy.tissue("rim") + anatomy.tissue("white")).numpy()
    assert grey[inside].mean() < 0.45  # fluid, but for partial volume


def test_without_nilearn_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nilearn", None)
    with pytest.raises(VoltaError, match=r"nilearn is not installed.*volta3d\[demo\]"):
        module._templates(2)
