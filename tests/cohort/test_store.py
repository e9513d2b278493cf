"""The cohort on disk: what goes in comes out, and nothing damaged or half-written opens."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from volta3d.cohort.arrays import LABELS, VOLUMES, chunk_path
from volta3d.cohort.contract import Contract
from volta3d.cohort.participants import COLUMNS
from volta3d.cohort.store import Cohort, write_cohort
from volta3d.errors import CohortError, VoltaError

SIZE = 8
NAMES = {"scan_id": ["a", "b", "c"], "age": [30.5, None, 71], "sex": ["M", "", "F"]}


def cubes(n: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((n, SIZE, SIZE, SIZE), dtype=np.float32)


@pytest.fixture
def cohort(tmp_path: Path) -> Cohort:
    labels = [None, np.full((SIZE,) * 3, 47, np.uint8), None]
    table = pd.DataFrame(NAMES)
    return write_cohort(tmp_path / "c", Contract(size=SIZE), cubes(), table, labels=labels)


def test_volumes_labels_affines_and_table_come_back(cohort: Cohort) -> None:
    again = Cohort.open(cohort.path)
    assert len(again) == 3 and again.scan_ids == ["a", "b", "c"]
    # uint16 steps of the range [0, 1]: half a step at most
    assert np.abs(again.volume(2) - cubes()[2]).max() <= 0.5 / 65535 + 1e-7
    assert again.volume(0).dtype == np.float32
    assert again.has_labels and again.label(0) is None
    label = again.label(1)
    assert label is not None and label.dtype == np.uint16 and (label == 47).all()
    centre = again.affine(0) @ np.array([3.5, 3.5, 3.5, 1.0])
    np.testing.assert_allclose(centre[:3], 0, atol=1e-12)
    assert tuple(again.participants.columns) == COLUMNS
    assert again.participants["age"].tolist()[::2] == [30.5, 71.0]
    assert (
        np.isnan(again.participants["age"][1]) and again.participants["site"].tolist() == [""] * 3
    )
    assert again.participants["participant_id"].tolist() == ["a", "b", "c"]
    assert list(again.participants.index) == [0, 1, 2]
    assert again.hash() == cohort.hash()


def test_zscore_cohorts_are_stored_as_halves(tmp_path: Path) -> None:
    contract = Contract(size=SIZE, scaling="zscore", storage="float16", value_range=None)
    volumes = 6 * cubes() - 3
    cohort = write_cohort(tmp_path / "z", contract, volumes, pd.DataFrame(NAMES))
    # a half has 11 significant bits
    np.testing.assert_allclose(cohort.volume(1), volumes[1], rtol=2**-11, atol=1e-6)


def test_load_pools_by_averaging(cohort: Cohort) -> None:
    loaded = cohort.load([2, 0], downsample=4)
    assert loaded.shape == (2, 1, 2, 2, 2) and loaded.dtype == torch.float32
    expected = cubes()[2][4:, :4, 4:].mean(dtype=np.float64)
    assert abs(float(loaded[0, 0, 1, 0, 1]) - expected) < 1e-5  # uint16 steps average out
    assert torch.equal(cohort.load()[1, 0], torch.from_numpy(cohort.volume(1)))
    with pytest.raises(CohortError, match=r"pooled by 3.*1, 2, 4, 8"):
        cohort.load(downsample=3)


def test_hash_follows_contract_scans_and_sources(tmp_path: Path) -> None:
    def made(name: str, contract: Contract, **columns: list[object]) -> str:
        table = pd.DataFrame({"scan_id": ["a", "b", "c"], **columns})
        return write_cohort(tmp_path / name, contract, cubes(), table).hash()

    plain = made("1", Contract(size=SIZE))
    assert made("2", Contract(size=SIZE)) == plain
    assert made("3", Contract(size=SIZE, spacing=2.0)) != plain
    assert made("4", Contract(size=SIZE), source_sha256=["x", "", ""]) != plain
    assert made("5", Contract(size=SIZE), age=[1, 2, 3]) == plain


@pytest.mark.parametrize("entry", ["contract.yaml", "participants.tsv", VOLUMES, "affines.zarr"])
def test_a_cohort_with_a_part_missing_does_not_open(cohort: Cohort, entry: str) -> None:
    path = cohort.path / entry
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(CohortError, match="repare"):
        Cohort.open(cohort.path)


@pytest.mark.parametrize("array", [VOLUMES, LABELS])
def test_a_missing_scan_is_seen_at_once(cohort: Cohort, array: str) -> None:
    chunk_path(cohort.path / array, 1).unlink()
    with pytest.raises(CohortError, match="1 scans of the cohort are missing"):
        Cohort.open(cohort.path)


@pytest.mark.parametrize("at", [5, 100, -1])
def test_a_flipped_bit_is_an_error_not_a_wrong_voxel(cohort: Cohort, at: int) -> None:
    chunk = chunk_path(cohort.path / VOLUMES, 1)
    raw = bytearray(chunk.read_bytes())
    raw[at] ^= 4
    chunk.write_bytes(bytes(raw))
    again = Cohort.open(cohort.path)
    again.volume(0)
    with pytest.raises(CohortError, match="damaged"):
        again.volume(1)


def test_edited_contract_and_swapped_rows_are_refused(cohort: Cohort) -> None:
    table = cohort.path / "participants.tsv"
    head, first, *rest = table.read_text().splitlines()
    table.write_text("\n".join([head, *rest, first]) + "\n")
    with pytest.raises(CohortError, match="sealed"):
        Cohort.open(cohort.path)
    contract = cohort.path / "contract.yaml"
    contract.write_text(contract.read_text().replace("spacing: 1.0", "spacing: 2.0"))
    with pytest.raises(CohortError, match="contract was changed"):
        Cohort.open(cohort.path)


def test_a_missing_folder_and_a_foreign_one_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(CohortError, match="volta3d prepare SCANS"):
        Cohort.open(tmp_path / "nowhere")
    with pytest.raises(CohortError, match=r"contract\.yaml is missing"):
        Cohort.open(tmp_path)
    scan = tmp_path / "sub-1" / "anat" / "sub-1_T1w.nii.gz"
    scan.parent.mkdir(parents=True)
    scan.touch()
    with pytest.raises(CohortError, match=r"aren't prepared yet.*Prepare them first: volta3d prep"):
        Cohort.open(tmp_path)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"volumes": cubes(2)}, "2 volumes for 3"),
        ({"volumes": cubes(4)}, "wanted 3"),
        ({"volumes": cubes()[:, :4]}, "wanted 3 of"),
        ({"volumes": cubes() + 1}, "leave the range"),
        ({"volumes": cubes() * np.nan}, "NaN"),
        ({"labels": [None]}, "1 label maps"),
        ({"affines": np.eye(4)[None]}, "affines"),
        ({"participants": pd.DataFrame({"scan_id": ["a", "A", "b"]})}, "repeated.*"),
        ({"participants": pd.DataFrame({"age": [1, 2, 3]})}, "needs a column scan_id"),
        ({"participants": pd.DataFrame({"scan_id": list("abc"), "age": ["old"] * 3})}, "number"),
    ],
)  # fmt: skip
def test_contradictions_are_refused_and_leave_nothing(
    tmp_path: Path, change: dict[str, object], says: str
) -> None:
    given: dict[str, object] = {"volumes": cubes(), "participants": pd.DataFrame(NAMES)}
    with pytest.raises(CohortError, match=says):
        write_cohort(tmp_path / "c", Contract(size=SIZE), **(given | change))  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_an_unwritable_place_is_one_paragraph(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(VoltaError, match="Writing failed"):
        write_cohort(tmp_path / "file/c", Contract(size=SIZE), cubes(), pd.DataFrame(NAMES))
