"""New scans outlined as the run outlined its own: same box, precision, passes; many calls."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch

from volta3d.cohort.store import Cohort
from volta3d.config import PrepareConfig, load_segment
from volta3d.downstream.predict import predict
from volta3d.downstream.segmentation import predict_labels as predict_module
from volta3d.downstream.segmentation.ensemble import load_ensemble
from volta3d.downstream.segmentation.labelmap_files import VOLUMES, described
from volta3d.downstream.segmentation.model import load_segment_model
from volta3d.downstream.segmentation.predict_labels import Options, Way, predict_labels
from volta3d.downstream.segmentation.segment import segment
from volta3d.encoder.weights import read_tensors
from volta3d.errors import CohortError, EncoderError, UsageError, VoltaError
from volta3d.prepare import prepare

EDGE = 16
AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])
TINY = [
    "crops.size=16", "crops.per_scan=2", "unet.channels=[4,8]", "unet.strides=[2]", "epochs=8",
    "unet.residual_units=1", "warmup_epochs=0", "overlap=0", "lr=0.02", "selection=last",
]  # fmt: skip
DSEG = "index\tname\n1\tLeft-Hippocampus\n2\tRight-Hippocampus\n"


def brain(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A ball of noise with two bright bodies, and where they are."""
    rng = np.random.default_rng(seed)
    x, y, z = np.indices((EDGE,) * 3)
    head = (x - 7.5) ** 2 + (y - 7.5) ** 2 + (z - 7.5) ** 2 < 50
    labels = np.zeros(head.shape, np.uint8)
    at = rng.uniform(6.5, 8.5, 2)
    for value, middle in ((1, 4.5), (2, 10.5)):
        labels[((x - middle) ** 2 / 3 + (y - at[0]) ** 2 / 6 + (z - at[1]) ** 2 / 4) < 1.5] = value
    spread = rng.uniform(0.1, 0.3)  # so that z-scores of air differ
    volume = head * (0.5 + spread * rng.random(head.shape)) + 0.5 * (labels > 0)
    return volume.astype(np.float32), labels


def save(path: Path, data: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(data, AFFINE), path)
    return path


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A plain folder of six scans and their label maps."""
    for number in range(6):
        volume, labels = brain(number)
        save(tmp_path / "raw" / f"s{number}.nii.gz", volume)
        save(tmp_path / "raw" / f"s{number}_dseg.nii.gz", labels)
    (tmp_path / "raw" / "dseg.tsv").write_text(DSEG)
    return tmp_path / "raw"


Fitted = Callable[..., Path]


@pytest.fixture
def fitted(source: Path, tmp_path: Path) -> Fitted:
    """fitted(*settings): a run on the scans, with other preparations where asked for."""

    def make(*settings: str, **prepared: Any) -> Path:
        config = PrepareConfig(size=24, spacing=2.0, fit="pad", **prepared)
        prepare([source], tmp_path / "cohort", config=config)
        run = tmp_path / "run"
        segment(
            tmp_path / "cohort", ["u=unet"], run, load_segment("small", [*TINY, *settings]),
            holdout=0.4,
        )  # fmt: skip
        return run

    return make


def maps_of(folder: Path) -> dict[str, np.ndarray]:
    return {p.name: np.asarray(nib.load(p).dataobj) for p in sorted(folder.rglob("*_dseg.nii.gz"))}


def agree(run: Path, told: Path) -> None:
    """Every scan the run tested, outlined again to the voxel."""
    own, again = maps_of(run / "predictions" / "u"), maps_of(told)
    assert len(own) == 2
    for name, labels in own.items():
        assert (labels > 0).any()
        assert np.array_equal(labels, again[name]), name


def test_z_scored_scans_are_outlined_as_the_run_outlined_them(
    fitted: Fitted, source: Path, tmp_path: Path
) -> None:
    """Air has another value in every scan, and the head's box follows it."""
    run = fitted("precision=fp32", scaling="zscore")
    cohort = Cohort.open(tmp_path / "cohort")
    blacks = [float(cohort.volume(i).min()) for i in range(len(cohort))]
    assert len(set(blacks)) > 3
    predict_labels(run / "arms/u/model", [source], tmp_path / "told")
    agree(run, tmp_path / "told")


def test_what_is_not_asked_for_is_done_as_the_run_did_it(
    fitted: Fitted, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = fitted("precision=fp32", "test_flips=left-right", "largest_component=true")
    model = run / "arms/u/model"
    monkeypatch.setattr(predict_module, "uses_bf16", lambda precision, device: True)
    predict_labels(model, [source], tmp_path / "told")
    agree(run, tmp_path / "told")
    about = json.loads((tmp_path / "told" / "predictions.json").read_text())
    made = {k: about[k] for k in ("test_flips", "largest_component", "precision")}
    assert made == {
        "test_flips": "left-right", "largest_component": True, "precision": "fp32",
    }  # fmt: skip
    loaded = load_segment_model(model)
    assert Way.of(loaded, Options("none", False)) == Way("none", False, False)


def test_a_model_says_how_its_run_used_it_or_is_refused(fitted: Fitted) -> None:
    folder = fitted("epochs=1", "precision=bf16") / "arms/u/model"
    content = json.loads((folder / "config.json").read_text())
    loaded = load_segment_model(folder)
    assert (loaded.test_flips, loaded.largest_component) == ("none", False)
    assert loaded.bf16 is content["bf16"]
    settings = content["settings"]
    older = {k: v for k, v in content.items() if k != "bf16"}  # of releases that didn't say
    for precision, expected in (("fp32", False), ("auto", True), ("bf16", True)):
        changed = {**older, "settings": {**settings, "precision": precision}}
        (folder / "config.json").write_text(json.dumps(changed))
        assert load_segment_model(folder).bf16 is expected
    for change in (
        {"settings": {**settings, "test_flips": "all"}},
        {"settings": {**settings, "largest_component": "yes"}},
        {"settings": "none"},
        {"bf16": 1},
    ):
        (folder / "config.json").write_text(json.dumps({**content, **change}))
        with pytest.raises(EncoderError):
            load_segment_model(folder)


@pytest.fixture
def model(fitted: Fitted) -> Path:
    return fitted("epochs=1", "precision=fp32") / "arms/u/model"


def test_a_second_call_adds_to_the_tables_of_a_folder(
    model: Path, source: Path, tmp_path: Path
) -> None:
    out = tmp_path / "told"
    broken = source / "s1.nii.gz"
    whole = broken.read_bytes()
    broken.write_bytes(b"no scan")
    predict_labels(model, [source / "s0.nii.gz", broken], out)
    broken.write_bytes(whole)
    assert len(pd.read_csv(out / "refused.tsv", sep="\t")) == 1
    result = predict_labels(model, [broken, source / "s0.nii.gz", source / "s2.nii.gz"], out)
    assert result.predicted == 3
    predict_labels(model, [source / "s3.nii.gz"], out)
    scans, volumes = (pd.read_csv(out / n, sep="\t") for n in ("scans.tsv", VOLUMES))
    maps = [p.relative_to(out).as_posix() for p in out.rglob("*_dseg.nii.gz")]
    assert sorted(scans["file"]) == sorted(maps) and len(maps) == 4
    assert set(scans["model_sha256"].str.len()) == {64}
    assert len(volumes) == 2 * len(maps) and set(volumes["file"]) == set(maps)
    labels = nib.load(out / maps[0]).dataobj
    own = volumes[(volumes["file"] == maps[0]) & (volumes["structure"] == "Left-Hippocampus")]
    assert own["mm3"].item() == pytest.approx(8.0 * (np.asarray(labels) == 1).sum())
    assert len(pd.read_csv(out / "refused.tsv", sep="\t")) == 0  # it could be read in the end
    (out / maps[0]).unlink()
    assert len(described(out)) == 3


def test_a_path_without_a_scan_is_refused_and_the_others_go_on(
    model: Path, source: Path, tmp_path: Path
) -> None:
    out = tmp_path / "told"
    scan = source / "s0.nii.gz"
    result = predict_labels(model, [tmp_path / "nowhere", scan, scan], out)
    assert result.predicted == 1 and [r["code"] for r in result.refused] == ["no-source"]
    with pytest.raises(CohortError):
        predict_labels(model, [tmp_path / "nowhere"], out)


def test_tables_of_earlier_releases_are_added_to(model: Path, source: Path, tmp_path: Path) -> None:
    """They had no column file in volumes.tsv."""
    out = tmp_path / "told"
    predict_labels(model, [source / "s0.nii.gz"], out)
    table = pd.read_csv(out / VOLUMES, sep="\t")
    table.drop(columns="file").to_csv(out / VOLUMES, sep="\t", index=False)
    predict_labels(model, [source / "s1.nii.gz"], out)
    found = pd.read_csv(out / VOLUMES, sep="\t")
    assert len(found) == 4 and found["file"].notna().all()


def test_a_folder_of_other_structures_or_with_broken_tables_is_refused(
    model: Path, source: Path, tmp_path: Path
) -> None:
    out = tmp_path / "told"
    predict_labels(model, [source / "s0.nii.gz"], out)
    names = (out / "dseg.tsv").read_text()
    (out / "dseg.tsv").write_text("index\tname\n1\tThalamus\n")
    with pytest.raises(UsageError, match="Thalamus"):
        predict_labels(model, [source / "s1.nii.gz"], out)
    (out / "dseg.tsv").write_text(names)
    (out / VOLUMES).write_bytes((out / VOLUMES).read_bytes().replace(b"\t0.0", b"\tx") + b"\xff\n")
    with pytest.raises(VoltaError, match="cannot be read"):
        predict_labels(model, [source / "s1.nii.gz"], out)
    assert len(maps_of(out)) == 1
    assert torch.is_grad_enabled()


def test_the_folder_of_an_arm_is_the_mean_of_its_folds(source: Path, tmp_path: Path) -> None:
    prepare([source], tmp_path / "cohort", config=PrepareConfig(size=24, spacing=2.0, fit="pad"))
    run, settings = tmp_path / "run", [*TINY, "epochs=2", "precision=fp32", "seeds=2"]
    segment(tmp_path / "cohort", ["u=unet"], run, load_segment("small", settings), folds=2)
    arm = run / "arms" / "u"
    together, one = load_ensemble(arm), load_segment_model(arm / "model")
    assert together.config["ensemble"] == 4
    assert together.config["weights_sha256"] != one.config["weights_sha256"]
    volume = Cohort.open(tmp_path / "cohort").volume(0)
    single = []
    for file in sorted(arm.glob("seed-*/fold-*/weights.safetensors")):
        one.network.load_state_dict(read_tensors(file))
        single.append(one.predict(volume))
    found = together.predict(volume)
    assert not torch.allclose(single[0], single[1], atol=1e-3)
    # float32, blended window by window instead of network by network
    assert torch.allclose(found, torch.stack(single).mean(0), atol=1e-5)
    assert torch.allclose(found.sum(0), torch.ones(24, 24, 24), atol=1e-5)
    told = predict(arm, source, tmp_path / "told")
    about = json.loads((tmp_path / "told" / "predictions.json").read_text())
    assert told.predicted == 6 and about["networks"] == 4
    assert about["model_sha256"] == together.config["weights_sha256"]
    next(arm.glob("seed-1/fold-1/weights.safetensors")).write_bytes(b"nothing")
    with pytest.raises(EncoderError, match="does not fit its arm"):
        load_ensemble(arm)
    for file in arm.glob("seed-*/fold-*/weights.safetensors"):
        file.unlink()
    with pytest.raises(EncoderError, match="are gone"):
        predict(arm, source, tmp_path / "other")
