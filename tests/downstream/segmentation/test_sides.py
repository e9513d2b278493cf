"""Structures that lie on one side although no name says so: not mirrored without being told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from volta3d.cohort.contract import Contract
from volta3d.cohort.store import write_cohort
from volta3d.config import load_segment
from volta3d.downstream.segmentation.labelled import LabelledScans
from volta3d.downstream.segmentation.sides import check_flips
from volta3d.errors import UsageError

EDGE = 24
NAMES: dict[int, str] = {}


def scans_of(
    folder: Path,
    maps: list[np.ndarray],
    labels: Any,
    names: dict[int, str] = NAMES,
    *,
    absent: bool = False,
) -> LabelledScans:
    head = np.zeros((EDGE,) * 3, np.float32)
    head[2:22, 2:22, 2:22] = 1.0
    ids = [f"s{i}" for i in range(len(maps))]
    people = pd.DataFrame({"scan_id": ids, "participant_id": ids})
    contract = Contract(size=EDGE, spacing=2.0, fit="pad", synthetic=True, label_names=names)
    cohort = write_cohort(folder, contract, [head] * len(maps), people, labels=maps)
    return LabelledScans.open(cohort, labels, 2.0, torch.device("cpu"), absent=absent)


def two(left: int, right: int, *, shift: int = 0, deeper: int = 0) -> np.ndarray:
    """A body on each side; ``deeper`` moves the right one to the front."""
    labels = np.zeros((EDGE,) * 3, np.uint16)
    labels[5 + shift : 8 + shift, 9:13, 9:13] = left
    labels[15 + shift : 18 + shift, 9 + deeper : 13 + deeper, 9:13] = right
    return labels


def test_numbers_without_names_that_lie_mirrored_are_refused_with_the_way_out(
    tmp_path: Path,
) -> None:
    scans = scans_of(tmp_path / "c", [two(48, 47), two(48, 47, shift=1)], (47, 48))
    with pytest.raises(UsageError) as caught:
        check_flips(scans, load_segment("small"))
    text = caught.value.paragraph()
    assert "{left: 48, right: 47}" in text and "crops.flip=0" in text
    check_flips(scans, load_segment("small", ["crops.flip=0"]))
    with pytest.raises(UsageError):
        check_flips(scans, load_segment("small", ["crops.flip=0", "test_flips=left-right"]))
    told = scans_of(tmp_path / "d", [two(48, 47)] * 2, {"left": 48, "right": 47})
    check_flips(told, load_segment("small"))


def test_freesurfer_s_numbers_tell_their_sides(tmp_path: Path) -> None:
    scans = scans_of(tmp_path / "c", [two(17, 53)] * 2, (17, 53))
    assert [s.side for s in scans.structures] == ["left", "right"]
    check_flips(scans, load_segment("small"))


def test_what_is_not_a_pair_is_mirrored_as_before(tmp_path: Path) -> None:
    """Parts of one structure, sides that change from scan to scan, bodies at other depths."""
    config = load_segment("small")
    parts = np.zeros((EDGE,) * 3, np.uint16)
    parts[10:14, 6:10, 9:13], parts[10:14, 10:15, 9:13] = 1, 2
    names = {1: "Anterior", 2: "Posterior"}
    check_flips(scans_of(tmp_path / "parts", [parts] * 10, "hippocampus", names), config)
    check_flips(scans_of(tmp_path / "either", [two(1, 2), two(2, 1)] * 5, (1, 2)), config)
    apart = [two(1, 2, deeper=7)] * 2  # 14 mm
    check_flips(scans_of(tmp_path / "apart", apart, (1, 2)), config)


def test_one_side_alone_is_refused_when_it_is_no_chance(tmp_path: Path) -> None:
    config = load_segment("small")
    check_flips(scans_of(tmp_path / "few", [two(48, 47)] * 4, (47,)), config)
    with pytest.raises(UsageError, match="on the right in every scan"):
        check_flips(scans_of(tmp_path / "many", [two(48, 47)] * 8, (47,)), config)


def test_scans_that_lack_a_structure_say_nothing_of_its_side(tmp_path: Path) -> None:
    config = load_segment("small")
    healthy, left = np.zeros((EDGE,) * 3, np.uint16), two(1, 0)
    tumour = {"tumour": 1}
    check_flips(scans_of(tmp_path / "one", [left, *[healthy] * 7], tumour, absent=True), config)
    check_flips(scans_of(tmp_path / "7", [left] * 7 + [healthy] * 9, tumour, absent=True), config)
    with pytest.raises(UsageError, match="on the left in every scan that has it"):
        maps = [left] * 8 + [healthy] * 8
        check_flips(scans_of(tmp_path / "eight", maps, tumour, absent=True), config)


def test_structures_that_never_share_a_scan_are_no_pair(tmp_path: Path) -> None:
    config = load_segment("small")
    maps = [two(1, 0), two(0, 2)]
    check_flips(scans_of(tmp_path / "apart", maps, (1, 2), absent=True), config)
    with pytest.raises(UsageError, match="always lies on the left"):
        maps.append(two(1, 2))
        check_flips(scans_of(tmp_path / "once", maps, (1, 2), absent=True), config)
