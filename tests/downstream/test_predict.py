"""A fitted model on new scans."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch

from volta3d.cohort.contract import Contract
from volta3d.cohort.store import Cohort, write_cohort
from volta3d.config import load_classify
from volta3d.downstream.classification.classify import classify
from volta3d.downstream.classification.fitted import load_fitted, read_model_config
from volta3d.downstream.predict import predict
from volta3d.errors import CohortError, EncoderError, UsageError, VoltaError
from volta3d.files import sha256

QUICK = ["epochs=4", "folds=2", "lr=3e-3", "precision=fp32", "keep_weights=false"]


@pytest.fixture
def models(signal_cohort: Cohort, encoder_folder: Path, tmp_path: Path) -> dict[str, Path]:
    arms = [
        f"volta={encoder_folder}", "vit=scratch", f"lin=linear:{encoder_folder}", "vol=volume",
    ]  # fmt: skip
    return classify(
        signal_cohort.path, "sex", arms, tmp_path / "run", load_classify("small", QUICK)
    ).models


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """Two scans that can be read and one that cannot."""
    folder = tmp_path / "scans"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name, brightness in (("dark", 0.2), ("bright", 0.9)):
        head = np.zeros((24, 24, 24), np.float32)
        head[3:21, 3:21, 3:21] = 0.2 + 0.1 * rng.random((18, 18, 18))
        head[8:16, 8:16, 8:16] += brightness
        nib.save(nib.Nifti1Image(head, np.diag([6.0, 6, 6, 1])), folder / f"{name}.nii.gz")
    (folder / "broken.nii.gz").write_bytes(b"no scan")
    return folder


def test_new_scans_are_prepared_and_told_and_bad_ones_refused(
    models: dict[str, Path], scans: Path, tmp_path: Path
) -> None:
    for arm, model in models.items():
        result = predict(model, scans, tmp_path / arm)
        assert result.predicted == 2 and len(result.refused) == 1
        assert "broken" in result.refused[0]["source"] and result.refused[0]["how_to_fix"]
        told = pd.read_csv(result.table, sep="\t")
        assert set(told["sex"]) <= {"F", "M"} and told["score"].between(0, 1).all()
        assert ((told["score"] > 0.5) == (told["sex"] == "M")).all()
        about = json.loads((tmp_path / arm / "predictions.json").read_text())
        assert about["predictions_sha256"] == sha256(result.table)
        assert about["model_sha256"] == read_model_config(model)["weights_sha256"]
        assert len(pd.read_csv(result.refusals, sep="\t")) == 1


def test_a_prepared_cohort_gives_what_the_model_itself_gives(
    models: dict[str, Path], signal_cohort: Cohort, tmp_path: Path
) -> None:
    result = predict(models["lin"], signal_cohort.path, tmp_path / "out")
    told = pd.read_csv(result.table, sep="\t")
    assert list(told["scan_id"]) == signal_cohort.scan_ids
    fitted = load_fitted(models["lin"])
    scores = fitted.predict(signal_cohort.load(range(3)))
    # one scan at once or three: the same sums in another order
    assert told["score"][:3].to_numpy() == pytest.approx(scores[:, 1], abs=1e-5)
    right = (told["score"] > 0.5) == (signal_cohort.participants["sex"] == "M")
    assert right.mean() > 0.8  # on what it was fitted on


@pytest.fixture
def traced(signal_cohort: Cohort, scans: Path, tmp_path: Path) -> Cohort:
    """A cohort of files that are known, one raw scan's among them."""
    people = signal_cohort.participants.copy()
    people["source_sha256"] = [f"{i:02x}" * 32 for i in range(1, len(people) + 1)]
    people.loc[0, "source_sha256"] = sha256(scans / "dark.nii.gz")
    cubes = signal_cohort.load(range(len(people))).numpy()[:, 0]
    return write_cohort(tmp_path / "traced", signal_cohort.contract, cubes, people)


def fitted_volume(cohort: Cohort, run: Path) -> Path:
    settings = load_classify("small", QUICK)
    return classify(cohort.path, "sex", ["vol=volume"], run, settings).models["vol"]


def sha256_text(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def told_about(model: Path, given: Path, out: Path) -> dict[str, Any]:
    predict(model, given, out)
    found: dict[str, Any] = json.loads((out / "predictions.json").read_text())
    return found


def test_scans_a_model_was_fitted_to_are_known_again(
    traced: Cohort, scans: Path, tmp_path: Path
) -> None:
    model = fitted_volume(traced, tmp_path / "run")
    raw = told_about(model, scans, tmp_path / "raw")
    assert raw["trained_on_these"] == 1
    assert raw["fitted"] == {"scans": ["scans_dark"], "unknown": []}
    assert raw["files"]["scans_dark"] == sha256(scans / "dark.nii.gz")[:16]
    assert "source_sha256" not in raw["trained_on"]
    cubes = traced.load(range(5)).numpy()[:, 0]
    part = traced.participants.iloc[:5].copy()
    part.loc[4, ["source_sha256", "participant_id"]] = ["e" * 64, "new"]
    write_cohort(tmp_path / "part", traced.contract, cubes, part)
    again = told_about(model, tmp_path / "part", tmp_path / "again")
    assert again["trained_on_these"] == 4 and len(again["fitted"]["scans"]) == 4


def test_a_model_that_remembers_nothing_says_so(
    traced: Cohort, signal_cohort: Cohort, scans: Path, tmp_path: Path
) -> None:
    model = fitted_volume(traced, tmp_path / "run")
    config = model / "config.json"
    content = json.loads(config.read_text())
    assert len(content["trained_on"].pop("source_sha256")) == 30
    told = json.dumps(content)
    ids = [p for p in traced.participants["participant_id"] if p]
    assert ids and not any(i in told or sha256_text(i) in told for i in ids), (
        "no id, no hash of one"
    )
    config.write_text(json.dumps(content))
    raw = told_about(model, scans, tmp_path / "raw")
    assert raw["trained_on_these"] is None and raw["fitted"]["unknown"] == [
        "scans_bright",
        "scans_dark",
    ]
    assert told_about(model, traced.path, tmp_path / "same")["trained_on_these"] == 30
    # files of no hash: only the cohort itself is known
    model = fitted_volume(signal_cohort, tmp_path / "unhashed")
    assert told_about(model, signal_cohort.path, tmp_path / "own")["trained_on_these"] == 30
    other = told_about(model, traced.path, tmp_path / "other")
    assert other["trained_on_these"] is None
    assert len(other["fitted"]["unknown"]) == 30


def test_a_second_call_adds_to_a_folder_and_another_model_is_refused(
    models: dict[str, Path], scans: Path, tmp_path: Path
) -> None:
    out, dark, bright = tmp_path / "out", scans / "dark.nii.gz", scans / "bright.nii.gz"
    predict(models["lin"], [dark, scans / "broken.nii.gz"], out)
    first = pd.read_csv(out / "predictions.tsv", sep="\t")
    result = predict(models["lin"], [bright, dark], out)
    assert result.predicted == 2
    both = pd.read_csv(result.table, sep="\t")
    assert sorted(both["scan_id"]) == sorted({*both["scan_id"]}) and len(both) == 2
    alone = first[first["scan_id"].str.contains("dark")]["score"].item()
    assert both[both["scan_id"].str.contains("dark")]["score"].item() == pytest.approx(alone)
    about = json.loads((out / "predictions.json").read_text())
    assert about["told"] == 2 and len(about["files"]) == 2
    assert about["predictions_sha256"] == sha256(result.table)
    assert len(pd.read_csv(out / "refused.tsv", sep="\t")) == 1  # still broken
    with pytest.raises(UsageError, match="another model"):
        predict(models["vol"], [dark], out)
    result.table.write_text("scan_id\n")
    with pytest.raises(VoltaError, match="earlier results cannot be read"):
        predict(models["lin"], [dark], out)


def test_numbers_are_told_in_their_units(
    signal_cohort: Cohort, encoder_folder: Path, tmp_path: Path
) -> None:
    arms = [f"volta={encoder_folder}", "vol=volume"]
    run = classify(signal_cohort.path, "age", arms, tmp_path / "age", load_classify("small", QUICK))
    for arm, model in run.models.items():
        told = pd.read_csv(predict(model, signal_cohort.path, tmp_path / arm).table, sep="\t")
        assert told["age"].between(20, 65).all()
        assert "score" not in told


def test_the_card_says_what_it_is(models: dict[str, Path]) -> None:
    card = (models["volta"] / "MODEL_CARD.md").read_text()
    for words in ("sex", "F, M", "30 subjects", "SYNTHETIC", "Not for diagnosis", "no test score"):
        assert words in " ".join(card.split())


def test_S5_a_damaged_or_foreign_model_is_one_paragraph(
    models: dict[str, Path], encoder_folder: Path, scans: Path, tmp_path: Path
) -> None:
    for model, words in (
        (tmp_path / "nowhere", "No fitted model"),
        (encoder_folder, "An encoder, not a fitted model"),
    ):
        with pytest.raises(EncoderError, match=words):
            predict(model, scans, tmp_path / "out")
    config = models["lin"] / "config.json"
    content = json.loads(config.read_text())
    changes: list[dict[str, Any]] = [
        {"architecture": {**content["architecture"], "type": "os.system"}},
        {"architecture": {**content["architecture"], "image_size": 10**9}},
        {"architecture": {}},
        {"labels": ["a", "b", "c"]},
        {"contract": {"size": "big"}},
        {"weights_sha256": "0" * 64},
        {"format": 99},
    ]
    for change in changes:
        config.write_text(json.dumps(content | change))
        with pytest.raises(EncoderError):
            load_fitted(models["lin"])
    weights = models["vit"] / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-9])
    with pytest.raises(EncoderError, match="not those"):
        load_fitted(models["vit"])
    assert not (tmp_path / "out").exists()


def test_a_cohort_prepared_otherwise_is_refused(
    models: dict[str, Path], tmp_path: Path, make_signal_cohort: Any
) -> None:
    other = make_signal_cohort(tmp_path / "other", Contract(size=16, spacing=2.0, synthetic=True))
    with pytest.raises(EncoderError, match="prepared differently"):
        predict(models["lin"], other.path, tmp_path / "out")


def test_not_one_usable_scan_is_an_error(models: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "bad"
    folder.mkdir()
    (folder / "broken.nii.gz").write_bytes(b"no scan")
    with pytest.raises(VoltaError, match="None of the 1 scans"):
        predict(models["lin"], folder, tmp_path / "out")
    assert torch.is_grad_enabled()


@pytest.fixture
def patients(tmp_path: Path, dicom: ModuleType) -> list[Path]:
    """Two DICOM folders of one name, as a scanner's disks have them."""
    made = [dicom.slices(dicom.head() + n, uid=n, study=n, PatientID=f"P{n}") for n in (1, 2)]
    return [dicom.write(tmp_path / f"p{n}" / "DICOM", m) for n, m in enumerate(made, 1)]


def test_folders_of_one_name_are_told_as_two_scans(
    models: dict[str, Path], scans: Path, patients: list[Path], tmp_path: Path
) -> None:
    told = pd.read_csv(predict(models["lin"], patients, tmp_path / "out").table, sep="\t")
    assert list(told["scan_id"]) == ["p1_dicom", "p2_dicom"]
    assert list(told["participant_id"]) == ["p1-dicom", "p2-dicom"]
    files = []
    for name, scan in (("pat1", "dark"), ("pat2", "bright")):
        files.append(tmp_path / name / "anat" / "T1w.nii.gz")
        files[-1].parent.mkdir(parents=True)
        (scans / f"{scan}.nii.gz").rename(files[-1])
    told = pd.read_csv(predict(models["lin"], files, tmp_path / "two").table, sep="\t")
    assert list(told["scan_id"]) == ["pat1_anat_T1w", "pat2_anat_T1w"]
    assert told["score"].nunique() == 2
    twice = predict(models["lin"], [files[0], files[0]], tmp_path / "once")
    assert twice.predicted == 1 and twice.refused == ()


def test_a_bad_path_among_good_ones_is_refused(
    models: dict[str, Path], patients: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "notes.txt").write_text("no scan")
    (tmp_path / "empty").mkdir()
    bad = [tmp_path / "notes.txt", tmp_path / "empty", tmp_path / "nowhere"]
    result = predict(models["lin"], [*bad, patients[0]], tmp_path / "out")
    assert result.predicted == 1
    refused = pd.read_csv(result.refusals, sep="\t")
    assert list(refused["source"]) == [str(path) for path in bad]
    assert set(refused["code"]) == {"no-source"} and not refused["how_to_fix"].isna().any()
    assert json.loads((tmp_path / "out" / "predictions.json").read_text())["refused"] == 3
    with pytest.raises(CohortError, match=r"None of the 3 paths .*No scans found.*notes\.txt"):
        predict(models["lin"], bad, tmp_path / "none")
    with pytest.raises(UsageError, match="Nothing to predict"):
        predict(models["lin"], [], tmp_path / "none")
    assert not (tmp_path / "none").exists()
