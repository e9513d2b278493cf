"""The millimetres of a run: measured, refused where they don't fit, and written down."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from volta3d.cohort.contract import Contract
from volta3d.cohort.store import Cohort, centred_affine, write_cohort
from volta3d.config import PretrainConfig, load_pretrain
from volta3d.errors import CohortError
from volta3d.pretrain.data import Scans
from volta3d.pretrain.loop import pretrain
from volta3d.pretrain.scale import check_scale, cube_edges_mm, measured

MakeConfig = Callable[..., PretrainConfig]
MM = ("views.global_scale=null", "views.local_scale=null", "views.locals=0")


@pytest.fixture
def blobs(tmp_path: Path) -> Cohort:
    """Cubes of 16 voxels whose own affines measure 2.0, 2.0, 2.5 and 3.0 mm a voxel."""
    rng = np.random.default_rng(0)
    volumes = rng.random((4, 4, 4, 4), dtype=np.float32).repeat(4, 1).repeat(4, 2).repeat(4, 3)
    affines = np.stack([centred_affine(mm, 16) for mm in (2.0, 2.0, 2.5, 3.0)])
    people = pd.DataFrame({"scan_id": [f"s{i}" for i in range(4)], "dataset": "blobs"})
    contract = Contract(size=16, spacing=2.0, synthetic=True)
    return write_cohort(tmp_path / "blobs", contract, volumes, people, affines)


def test_fractions_are_measured_by_the_cohorts_own_affines(blobs: Cohort) -> None:
    edges = cube_edges_mm(blobs)
    assert edges == pytest.approx([32, 32, 40, 48])
    config = load_pretrain("paper", ["views.global_scale=[0.5,0.9]", "views.global_size=48"])
    found = measured(config, edges)
    assert found.view_edge_mm == pytest.approx(0.7 * 36)  # the median cube
    assert found.voxel_mm == pytest.approx(0.7 * 36 / 48)
    assert found.token_mm == pytest.approx(16 * found.voxel_mm)
    assert found.measured_on == 4


def test_millimetres_are_what_was_asked_for() -> None:
    found = measured(load_pretrain("small"), [192.0, 230.0])
    assert found.content() == {
        "voxel_mm": 2.0, "token_mm": 16.0, "view_edge_mm": 96.0, "measured_on": 2,
    }  # fmt: skip
    assert "voxels of 2 mm and tokens of 16 mm (median of 2 scans)" in found.text()


@pytest.mark.parametrize(
    ("edge_mm", "voxels", "words"),
    [
        (384.0, 128, "measure 3 mm.*blow them up"),
        (80.0, 48, "cubes measure 80 mm.*86 mm an edge"),
        (192.0, 192, r"measure 1 mm.*--set views\.downsample=2"),
    ],
)
def test_cubes_that_do_not_fit_are_refused_with_the_command(
    edge_mm: float, voxels: int, words: str
) -> None:
    with pytest.raises(CohortError, match=words) as caught:
        check_scale(load_pretrain("small"), [edge_mm], voxels, "cohort")
    command = "volta3d prepare SOURCE --out COHORT --set spacing=2 --set fit=pad --set size=96"
    assert command in str(caught.value)


@pytest.mark.parametrize(("edge_mm", "voxels"), [(192.0, 96), (228.0, 128), (200.0, 128)])
def test_cubes_that_fit_do(edge_mm: float, voxels: int) -> None:
    check_scale(load_pretrain("small"), [edge_mm], voxels, "cohort")


def test_a_run_in_millimetres_says_so_and_writes_it_down(
    blobs: Cohort, tiny: MakeConfig, tmp_path: Path
) -> None:
    config = tiny(*MM, "views.spacing_mm=[1.8,2.2]", "epochs=1", "objective.start_statistics=4")
    said: list[str] = []
    result = pretrain([blobs.path], tmp_path / "run", config, tell=said.append)
    assert "It sees views of 32 mm an edge with voxels of 2 mm and tokens of 16 mm" in said[1]
    scale = json.loads((result.encoder / "config.json").read_text())["scale"]
    assert scale == {"voxel_mm": 2.0, "token_mm": 16.0, "view_edge_mm": 32.0, "measured_on": 4}
    card = (result.encoder / "MODEL_CARD.md").read_text()
    assert "| voxel of a view | 2 mm |" in card and "| token | 16 mm an edge |" in card


def test_heads_are_the_same_held_in_memory_and_streamed(blobs: Cohort) -> None:
    found = []
    for keep in ("resident", "stream"):
        scans = Scans([blobs], keep=keep)
        found.append(scans.heads([2, 0], scans.batch([2, 0])))
    assert found[0] == found[1]
    assert [head.edge_mm for head in found[0]] == pytest.approx([40, 32])
