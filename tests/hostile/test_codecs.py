"""Arrays whose own description asks the reader to unpickle them."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import zarr

from volta3d.cohort.arrays import AFFINES, LABELS, VOLUMES, chunk_path
from volta3d.cohort.contract import Contract
from volta3d.cohort.store import Cohort, write_cohort
from volta3d.errors import CohortError

SIZE = 8


class Trap:
    """Unpickled, it makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.fixture
def cohort(tmp_path: Path) -> Cohort:
    cubes = np.random.default_rng(0).random((2, SIZE, SIZE, SIZE), dtype=np.float32)
    people = pd.DataFrame({"scan_id": ["a", "b"]})
    labels = [np.ones((SIZE,) * 3, np.uint16)] * 2
    return write_cohort(tmp_path / "c", Contract(size=SIZE), cubes, people, labels=labels)


def read_all(path: Path) -> None:
    """Everything a cohort holds."""
    cohort = Cohort.open(path)
    for index in range(len(cohort)):
        cohort.volume(index), cohort.label(index), cohort.affine(index)


def older(array: Path, payload: bytes, dtype: str) -> None:
    """The array in zarr's older format, packed by pickle."""
    shape = zarr.open_array(str(array), mode="r").shape
    shutil.rmtree(array)
    array.mkdir()
    content = {
        "zarr_format": 2, "shape": shape, "chunks": (1, *shape[1:]), "dtype": dtype,
        "compressor": {"id": "pickle"}, "filters": None, "fill_value": 0, "order": "C",
    }  # fmt: skip
    (array / ".zarray").write_text(json.dumps(content))
    for index in range(shape[0]):
        (array / ".".join([str(index), *"0" * (len(shape) - 1)])).write_bytes(payload)
        chunk = chunk_path(array, index)  # where ours would lie
        chunk.parent.mkdir(parents=True)
        chunk.write_bytes(payload)


def newer(array: Path, payload: bytes, codec: dict[str, Any]) -> None:
    """The array as we write it, with another codec in its description."""
    described = array / "zarr.json"
    content = json.loads(described.read_text())
    content["codecs"] = [content["codecs"][0], codec]
    described.write_text(json.dumps(content))
    for chunk in (p for p in (array / "c").rglob("*") if p.is_file()):
        chunk.write_bytes(payload)


@pytest.mark.parametrize("array", [VOLUMES, LABELS, AFFINES])
@pytest.mark.parametrize("how", ["older", "older object", "newer", "newer filter"])
def test_S1_S2_an_array_that_asks_to_be_unpickled_is_refused(
    cohort: Cohort, tmp_path: Path, array: str, how: str
) -> None:
    sprung, path = tmp_path / "sprung", cohort.path / array
    payload = pickle.dumps(Trap(sprung))
    pickle.loads(payload)
    sprung.rmdir()  # the trap works
    if how.startswith("older"):
        given = {VOLUMES: "<u2", LABELS: "<u2", AFFINES: "<f8"}[array]
        older(path, payload, "|O" if how.endswith("object") else given)
    else:
        name = "numcodecs.pickle" if how == "newer" else "pickle"
        newer(path, payload, {"name": name, "configuration": {}})
    with pytest.raises(CohortError):
        read_all(cohort.path)
    assert not sprung.exists()


def test_S1_an_array_packed_otherwise_is_refused(cohort: Cohort) -> None:
    newer(cohort.path / AFFINES, b"", {"name": "gzip", "configuration": {"level": 1}})
    with pytest.raises(CohortError, match="codecs that are not read"):
        Cohort.open(cohort.path)
