"""``inspect``: knows what it is shown, and finds what is wrong with it."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import zarr

from volta3d.cohort.store import Cohort
from volta3d.config import PretrainConfig, build, load_classify
from volta3d.downstream.classification.classify import classify
from volta3d.encoder.embed import embed
from volta3d.encoder.load import load_encoder
from volta3d.errors import VoltaError
from volta3d.inspection.inspect import inspect, render
from volta3d.pretrain.loop import pretrain


@pytest.fixture
def run(cohort: Cohort, config: PretrainConfig, tmp_path: Path) -> Path:
    content = config.content() | {"epochs": 1, "device": "cpu", "precision": "fp32"}
    pretrain([cohort.path], tmp_path / "run", build(PretrainConfig, content))
    return tmp_path / "run"


def test_a_sound_cohort(cohort: Cohort) -> None:
    found = inspect(cohort.path)
    json.dumps(found, allow_nan=False)
    assert (found["kind"], found["sound"], found["problems"]) == ("cohort", True, [])
    facts = found["facts"]
    assert (facts["scans"], facts["participants"], facts["sex"]) == (6, 3, {"M": 3, "F": 3})
    assert facts["age"]["known"] == 5 and facts["age"]["maximum"] == 74
    assert "cohort, sound" in render(found)


def test_damaged_voxels_are_named(cohort: Cohort) -> None:
    stored = zarr.open_array(cohort.path / "volumes.zarr", mode="r+")
    stored[2] = 7
    chunk = sorted(p for p in (cohort.path / "volumes.zarr" / "c" / "4").rglob("*") if p.is_file())
    chunk[0].write_bytes(b"garbage")
    found = inspect(cohort.path)
    assert found["sound"] is False
    assert [p["where"] for p in found["problems"]] == ["phantom_02", "phantom_04"]
    text = render(found)
    assert "NOT sound, 2 problems" in text and "one value" in text


def test_a_cohort_half_made_or_changed_is_not_sound(cohort: Cohort) -> None:
    table = cohort.path / "participants.tsv"
    table.write_text(table.read_text().replace("phantom_01", "phantom_77"))
    assert inspect(cohort.path)["sound"] is False
    (cohort.path / "contract.yaml").unlink()
    found = inspect(cohort.path)
    assert found["kind"] == "cohort" and not found["sound"]
    assert "prepare" in found["problems"][0]["fix"]


def test_a_finished_run_and_its_parts(run: Path) -> None:
    found = inspect(run)
    assert (found["kind"], found["sound"]) == ("run", True), found["problems"]
    assert found["facts"]["finished"] and found["facts"]["step"] == 1
    newest = run / "checkpoints" / found["facts"]["checkpoints"][0]
    assert inspect(newest)["kind"] == "checkpoint" and inspect(newest)["facts"]["step"] == 1
    assert inspect(run / "encoder")["kind"] == "encoder"


def test_a_flipped_bit_in_a_checkpoint_is_found(run: Path) -> None:
    weights = next((run / "checkpoints").glob("*/model.safetensors"))
    raw = bytearray(weights.read_bytes())
    raw[-1] ^= 1
    weights.write_bytes(bytes(raw))
    found = inspect(run)
    assert not found["sound"] and "damaged" in found["problems"][0]["what"]


def test_a_run_without_anything_to_go_on_from(run: Path) -> None:
    import shutil

    shutil.rmtree(run / "encoder")
    assert inspect(run)["sound"] is True
    shutil.rmtree(run / "checkpoints")
    assert inspect(run)["sound"] is False


def test_an_encoder_with_a_broken_weight_file_or_no_card(encoder_folder: Path) -> None:
    assert inspect(encoder_folder)["sound"] is True
    (encoder_folder / "MODEL_CARD.md").unlink()
    assert "model card" in inspect(encoder_folder)["problems"][0]["what"]
    (encoder_folder / "model.safetensors").write_bytes(b"no")
    found = inspect(encoder_folder)
    assert found["kind"] == "encoder" and not found["sound"]


def test_a_scan_and_what_is_odd_about_it(tmp_path: Path) -> None:
    data = np.random.default_rng(0).random((10, 12, 8)).astype(np.float32)
    affine = np.array([[0, 0, -2.0, 5], [1, 0, 0, 6], [0, 3.0, 0, 7], [0, 0, 0, 1]])
    path = tmp_path / "scan.nii.gz"
    nib.save(nib.Nifti1Image(data, affine), path)
    found = inspect(path)
    assert (found["kind"], found["sound"]) == ("scan", True)
    facts = found["facts"]
    assert facts["axes"] == "ASL" and facts["voxel_mm"] == [1, 3, 2]
    assert facts["shape"] == [10, 12, 8] and facts["shape_ras"] == [8, 10, 12]
    path.write_bytes(path.read_bytes()[:-40])
    assert inspect(path)["sound"] is False
    nib.save(nib.Nifti1Image(np.zeros((4, 4, 4, 5), np.float32), np.eye(4)), path)
    broken = inspect(path)
    assert not broken["sound"] and broken["problems"][0]["fix"]


def test_features_and_a_folder_of_scans(
    encoder_folder: Path, cohort: Cohort, tmp_path: Path
) -> None:
    table = tmp_path / "features.parquet"
    embed(load_encoder(encoder_folder), cohort.path, table)
    found = inspect(table)
    assert (found["kind"], found["sound"]) == ("features", True)
    assert found["facts"]["scans"] == 6 and found["facts"]["features"] == 32
    table.write_bytes(b"PAR1 no")
    assert inspect(table)["sound"] is False
    raw = tmp_path / "raw"
    raw.mkdir()
    nib.save(nib.Nifti1Image(np.ones((4, 4, 4), np.float32), np.eye(4)), raw / "a.nii.gz")
    assert (inspect(raw)["kind"], inspect(raw)["facts"]["scans"]) == ("scans", 1)
    assert inspect(raw)["sound"]
    (raw / "b.nii.gz").write_bytes(b"this is no scan")
    broken = inspect(raw)
    assert not broken["sound"] and len(broken["problems"]) == 1
    assert broken["problems"][0]["where"].endswith("b.nii.gz") and broken["problems"][0]["fix"]


def test_nothing_and_nothing_known(tmp_path: Path) -> None:
    with pytest.raises(VoltaError, match="Nothing is there"):
        inspect(tmp_path / "nowhere")
    (tmp_path / "note.txt").write_text("hello")
    with pytest.raises(VoltaError, match="Not a file"):
        inspect(tmp_path / "note.txt")


def test_a_run_of_classify_its_model_and_its_predictions(
    signal_cohort: Cohort, encoder_folder: Path, tmp_path: Path
) -> None:
    config = load_classify("small", ["epochs=1", "folds=2"])
    run = tmp_path / "run"
    classify(signal_cohort.path, "sex", [f"a={encoder_folder}", "v=volume"], run, config)
    found = inspect(run)
    assert found["kind"] == "task run" and found["sound"], found
    assert found["facts"]["arms"] == found["facts"]["models"] == ["a", "v"]
    for arm in ("a", "v"):
        found = inspect(run / "arms" / arm / "model")
        assert found["kind"] == "model" and found["sound"], found
        assert found["facts"]["labels"] == ["F", "M"]
    found = inspect(run / "predictions.parquet")
    assert found["kind"] == "predictions" and found["sound"] and found["facts"]["scans"] == 30
    assert "predictions" in render(found)
    (run / "arms" / "a" / "model" / "model.safetensors").write_bytes(b"")
    assert not inspect(run / "arms" / "a" / "model")["sound"]
    (run / "predictions.parquet").unlink()
    found = inspect(run)
    assert not found["sound"] and "--resume" in found["problems"][0]["fix"]
