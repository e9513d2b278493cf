"""Every archive is recognised as itself, and every layout says nothing about other archives."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from volta3d.errors import CohortError, UsageError
from volta3d.prepare.layouts import LAYOUTS, detect, discover

Make = Callable[..., Path]
# Every layout has a fixture of its name in conftest.py: a generated tree of the archive's shape.
TREES = {name: {"bids": "bids_tree"}.get(name, name) for name in LAYOUTS if name != "dicom"}
# A tree is also what a more general layout would take: HarP holds an ADNI tree, CAPS a BIDS
# description, and all of them NIfTI files.
GENERAL = {"harp": {"adni"}, "caps": {"bids"}}


@pytest.mark.parametrize("name", TREES)
def test_a_tree_is_recognised_as_itself_and_nothing_else(
    name: str, request: pytest.FixtureRequest
) -> None:
    root = request.getfixturevalue(TREES[name])
    assert detect(root) == name
    fits = {other for other, layout in LAYOUTS.items() if layout.matches(root)}
    assert fits == {name, "folder"} | GENERAL.get(name, set())
    assert discover(root) == discover(root, name)


def test_a_folder_that_holds_the_archive_s_folder_is_recognised(adni: Path, harp: Path) -> None:
    assert detect(adni.parent) == "adni"
    assert discover(adni.parent).scans == discover(adni).scans


def test_dicom_is_what_is_left(tmp_path: Path, dicom: ModuleType) -> None:
    dicom.write(tmp_path / "in", dicom.slices())
    assert detect(tmp_path / "in") == "dicom"
    assert {n for n, layout in LAYOUTS.items() if layout.matches(tmp_path / "in")} == {"dicom"}


def test_every_layout_has_its_two_functions_and_says_what_it_reads() -> None:
    assert list(LAYOUTS)[-2:] == ["folder", "dicom"]  # they take whatever there is
    assert set(LAYOUTS) - {"dicom"} == set(TREES)
    for layout in LAYOUTS.values():
        assert callable(layout.matches) and callable(layout.discover) and layout.__doc__


def test_unknown_layouts_and_empty_sources_say_what_to_do(tmp_path: Path, adni: Path) -> None:
    with pytest.raises(UsageError, match="adni"):
        discover(adni, "adnl")
    with pytest.raises(CohortError, match="No T1w scan found"):
        discover(adni, "brats")
    with pytest.raises(CohortError, match="No scans found"):
        discover(tmp_path / "download" / "ADNI" / "tables")


def test_a_link_that_leaves_the_source_is_refused_by_every_layout(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    for name, fixture in TREES.items():
        root = request.getfixturevalue(fixture)
        before = len(discover(root, name).scans)
        victim = discover(root, name).scans[0].source
        outside = tmp_path / f"outside-{name}.nii.gz"
        victim.rename(outside)
        victim.symlink_to(outside)
        found = discover(root, name)
        assert len(found.scans) == before - 1, name
        assert "link-outside" in {f.code for _, f in found.refused}, name
