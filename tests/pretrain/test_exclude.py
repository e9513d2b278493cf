"""``pretrain --exclude``: people tested on are not trained on, and the run says so."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from volta3d.cli import app
from volta3d.cohort.store import Cohort
from volta3d.config import PretrainConfig
from volta3d.errors import CheckpointError, CohortError
from volta3d.pretrain.data import Scans
from volta3d.pretrain.loop import pretrain

Make = Callable[..., Cohort]
Tiny = Callable[..., PretrainConfig]
PTIDS = ["002_S_0295", "002_S_0413", "003_S_0907", "005_S_0221"]


@pytest.fixture
def adni(make_cohort: Make, tmp_path: Path) -> Cohort:
    return make_cohort(tmp_path / "adni", 4, dataset="adni", participant_id=PTIDS)


@pytest.fixture
def harp(make_cohort: Make, tmp_path: Path) -> Cohort:
    names = ["sub-ADNI003S0907", "sub-ADNI009S0842"]
    return make_cohort(tmp_path / "harp", 2, seed=7, dataset="harp", participant_id=names)


def test_L2_harp_subjects_are_taken_out_of_pretraining_on_adni(
    adni: Cohort, harp: Cohort, tiny: Tiny, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    pretrain([adni.path], run, tiny("epochs=1"), exclude=[harp.path])
    stated = json.loads((run / "cohort.json").read_text())
    assert stated["scan_ids"] == ["scan-0-00", "scan-0-01", "scan-0-03"]
    assert stated["excluded"] == {
        "against": [{"path": "harp", "hash": harp.hash()}],
        "scans": [
            {"scan_id": "scan-0-02", "reason": "subject", "cohort": "harp", "as": "scan-7-00"}
        ],
    }
    card = (run / "encoder" / "MODEL_CARD.md").read_text()
    assert f"| left out | 1 scans of people in harp ({harp.hash()}) |" in card
    with pytest.raises(CheckpointError, match=r"data\.excluded"):
        pretrain([adni.path], run, tiny("epochs=1"), resume=True)


def test_batches_hold_who_is_left_however_they_are_read(
    adni: Cohort, harp: Cohort, tiny: Tiny
) -> None:
    scans = Scans.open([adni.path], tiny(), "cpu", [harp.path])  # type: ignore[arg-type]
    streamed = Scans([adni], excluded=scans.excluded, keep="stream")
    whole = Scans([adni])
    assert (len(scans), scans.resident, streamed.resident) == (3, True, False)
    for held in (scans, streamed):
        assert held.batch([0, 1, 2]).equal(whole.batch([0, 1, 3]))
    assert scans.identity() == streamed.identity() != whole.identity()
    assert "excluded" not in whole.identity()


def test_excluding_everybody_is_refused_before_anything_is_written(
    adni: Cohort, tiny: Tiny, tmp_path: Path
) -> None:
    with pytest.raises(CohortError, match="Nobody is left"):
        pretrain([adni.path], tmp_path / "run", tiny(), exclude=[adni.path])
    assert not (tmp_path / "run").exists()


def test_L2_the_command_leaves_people_out_and_says_how_many(
    adni: Cohort, harp: Cohort, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    call = ["pretrain", str(adni.path), "--out", str(run), "--preset", "smoke"]
    call += ["--exclude", str(harp.path)]
    for key in ("epochs=1", "views.global_size=16", "views.local_size=8", "views.downsample=1"):
        call += ["--set", key]
    done = CliRunner().invoke(app, call)
    assert done.exit_code in (0, 3), done.output  # a run of one step may ring
    assert "1 scans left out" in done.stdout
