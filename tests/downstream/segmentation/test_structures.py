"""Structures by name, number and side; label maps that would teach something wrong."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from volta3d.downstream.segmentation.labelcheck import check_labels
from volta3d.downstream.segmentation.labelmap_files import volumes_of
from volta3d.downstream.segmentation.native import Grid
from volta3d.downstream.segmentation.structures import (
    Structure,
    class_counts,
    classes_of,
    pairs,
    resolve,
    side_of,
    values_of,
)
from volta3d.errors import UsageError

BRAIN = {47: "Right-Hippocampus", 48: "Left-Hippocampus", 31: "Right-Amygdala"}


@pytest.mark.parametrize(
    ("name", "side"),
    [
        ("Left-Hippocampus", "left"),
        ("hippocampus_R", "right"),
        ("ctx-lh-insula", "left"),
        ("rh.hippo", "right"),
        ("Hippocampus", ""),
        ("left-right thing", ""),
        ("Lateral ventricle", ""),
        ("LeftHippocampus", "left"),
        ("HippocampusRight", "right"),
        ("lHippocampus", "left"),
        ("RHippocampus", "right"),
        ("rhHippocampus", "right"),
        ("hippocampus_lh", "left"),
        ("LOrG", ""),
        ("Right LOrG lateral orbital gyrus", "right"),
        ("Bright spot", ""),
    ],
)
def test_sides_are_words_not_letters(name: str, side: str) -> None:
    assert side_of(name) == side


def test_the_hippocampus_is_found_by_its_names_left_first() -> None:
    found = resolve("hippocampus", BRAIN)
    assert [(s.values, s.side) for s in found] == [((48,), "left"), ((47,), "right")]
    assert pairs(found) == (0, 2, 1)


def test_freesurfer_numbers_are_known_without_names() -> None:
    found = resolve("hippocampus", {}, present=[2, 17, 53])
    assert [(s.values, s.side) for s in found] == [((17,), "left"), ((53,), "right")]


def test_freesurfer_numbers_have_sides_where_both_are_listed_and_nothing_is_named() -> None:
    found = resolve((53, 16, 17, 18), {})
    names = ["Right-Hippocampus", "label 16", "Left-Hippocampus", "label 18"]
    assert [s.name for s in found] == names
    assert pairs(found) == (0, 3, 2, 1, 4)
    # in other tables the numbers are other structures', 47 a cerebellum's in FreeSurfer's
    assert pairs(resolve((48, 47), {})) is None
    assert pairs(resolve((17, 53), {17: "this", 53: "that"})) is None


def test_sides_are_found_in_names_of_one_word() -> None:
    names = {1: "LeftHippocampus", 2: "RightHippocampus", 3: "leftAmygdala", 4: "Amygdala_R"}
    assert pairs(resolve((1, 2, 3, 4), names)) == (0, 2, 1, 4, 3)
    assert pairs(resolve("hippocampus", {1: names[1], 2: names[2]})) == (0, 2, 1)


def test_the_decathlon_s_parts_have_no_sides() -> None:
    found = resolve("hippocampus", {1: "Anterior", 2: "Posterior"})
    assert [s.values for s in found] == [(1,), (2,)]
    assert pairs(found) is None


def test_one_s_own_lists_and_names() -> None:
    listed = resolve((48, "Right-Hippocampus"), BRAIN)
    assert [s.name for s in listed] == ["Left-Hippocampus", "Right-Hippocampus"]
    merged = resolve({"left": (1, 2), "right": (3,)}, {})
    assert merged[0].values == (1, 2) and pairs(merged) == (0, 2, 1)


@pytest.mark.parametrize(
    ("labels", "names", "word"),
    [
        ("hippocampus", {}, "labels="),
        ("hippocampus", {1: "thalamus"}, "dseg.tsv"),
        ("hippocampus", {47: "Right-Hippocampus"}, "other side"),
        (("Hipocampus",), BRAIN, "Hippocampus"),
        ({"left": 1}, {}, "other side"),
        ({"left": 0, "right": 2}, {}, "1 and 65535"),
        ({"left": 1, "right": 1}, {}, "of their own"),
        ((), {}, "of their own"),
    ],
)
def test_T3_labels_that_cannot_be_meant_are_refused_with_the_way_out(
    labels: object, names: dict[int, str], word: str
) -> None:
    with pytest.raises(UsageError) as caught:
        resolve(labels, names)  # type: ignore[arg-type]
    assert word in caught.value.paragraph()


def test_classes_and_values_are_inverse_and_strangers_are_background() -> None:
    structures = (Structure("left", (48, 50), "left"), Structure("right", (47,), "right"))
    labels = np.array([[[0, 48, 50], [47, 9, 300]]], np.uint16)
    classes = classes_of(labels, structures)
    assert classes.tolist() == [[[0, 1, 1], [2, 0, 0]]]
    assert values_of(classes, structures).tolist() == [[[0, 48, 48], [47, 0, 0]]]


def test_classes_are_counted_plane_by_plane() -> None:
    """The same counts, without numpy's eight bytes a voxel for the whole volume."""
    structures = (Structure("a", (1,)), Structure("b", (2,)), Structure("none", (3,)))
    classes = np.random.default_rng(0).integers(0, 3, (96, 80, 64)).astype(np.uint8)
    expected = np.bincount(classes.ravel(), minlength=4)
    for laid in (classes, np.asfortranarray(classes), classes[::-1, ::2]):
        wanted = np.bincount(laid.ravel(), minlength=4)
        assert np.array_equal(class_counts(laid, structures), wanted)
    grid = Grid(classes.shape, np.diag([2.0, 1.0, 1.0, 1.0]))
    tracemalloc.start()
    found = volumes_of(classes, grid, structures)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found == {"a": 2.0 * expected[1], "b": 2.0 * expected[2], "none": 0.0}
    assert peak < classes.nbytes / 4


SIDES = (Structure("left", (1,), "left"), Structure("right", (2,), "right"))


def two_sides(left: slice, right: slice) -> np.ndarray:
    classes = np.zeros((20, 10, 10), np.uint8)
    classes[left, 2:6, 2:6], classes[right, 2:6, 2:6] = 1, 2
    return classes


@pytest.mark.parametrize(
    ("classes", "code"),
    [
        (two_sides(slice(2, 6), slice(12, 16)), None),
        (two_sides(slice(12, 16), slice(2, 6)), "sides-swapped"),
        (two_sides(slice(2, 6), slice(0, 0)), "structure-missing"),
        (np.zeros((20, 10, 10), np.uint8), "structure-missing"),
        (two_sides(slice(2, 3), slice(12, 16)), "sides-unequal"),
    ],
    ids=["sound", "swapped", "one missing", "empty", "unequal"],
)
def test_T5_label_maps_that_would_teach_something_wrong(
    classes: np.ndarray, code: str | None
) -> None:
    found = check_labels(classes, np.eye(4), SIDES, side_ratio=2.0)
    assert (found.code if found else None) == code
    if found:
        assert found.how_to_fix


def test_a_structure_may_be_absent_where_that_is_said() -> None:
    one = two_sides(slice(2, 6), slice(0, 0))
    assert check_labels(one, np.eye(4), SIDES, 2.0, absent=True) is None
    assert check_labels(one * 0, np.eye(4), SIDES, 2.0, absent=True) is None
    refused = check_labels(one, np.eye(4), SIDES, 2.0)
    assert refused is not None and "absent=allow" in refused.how_to_fix
    swapped = two_sides(slice(12, 16), slice(2, 6))
    found = check_labels(swapped, np.eye(4), SIDES, 2.0, absent=True)
    assert found is not None and found.code == "sides-swapped"


def test_sides_are_judged_in_the_world_not_along_the_array() -> None:
    mirrored = np.diag([-1.0, 1.0, 1.0, 1.0])
    classes = two_sides(slice(12, 16), slice(2, 6))
    assert check_labels(classes, mirrored, SIDES, 2.0) is None
