"""Exported networks answer as ours do, in programs that know nothing of ours."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
from tests.export.conftest import fitted, segmentation
from torch import nn

from volta3d.cohort.contract import Contract
from volta3d.downstream.embed import embed
from volta3d.downstream.fitted import load_fitted
from volta3d.downstream.predict import predict
from volta3d.errors import EncoderError, UsageError, VoltaError
from volta3d.export import export
from volta3d.export import onnx as onnx_module

pytestmark = pytest.mark.filterwarnings(
    "ignore:.torch.jit.:DeprecationWarning"
)  # MONAI reads these files
MODELS = ("encoder", "classifier", "linear", "regressor", "unet", "unetr")


def model_of(name: str, encoder: Path, contract: Contract, folder: Path) -> Path:
    if name == "encoder":
        return encoder
    if name in ("unet", "unetr"):
        return segmentation(folder / name, contract, kind=name)
    labels = [] if name == "regressor" else ["F", "M"]
    kind = "linear" if name == "linear" else "vit"
    return fitted(folder / name, contract, kind=kind, labels=labels)


@pytest.mark.parametrize("name", MODELS)
def test_an_ONNX_file_answers_as_the_network_does_for_any_batch(
    name: str, encoder_folder: Path, contract: Contract, tmp_path: Path
) -> None:
    runtime = pytest.importorskip("onnxruntime")
    done = export(model_of(name, encoder_folder, contract, tmp_path), tmp_path / "out")
    session = runtime.InferenceSession(
        str(tmp_path / "out/model.onnx"), providers=["CPUExecutionProvider"]
    )
    scans = np.random.default_rng(1).random((3, *done.input), dtype=np.float32)
    answers = session.run(None, {"scan": scans})
    assert [a.shape for a in answers] == [(3, *shape) for shape in done.outputs.values()]
    about = json.loads((tmp_path / "out/config.json").read_text())
    assert about["synthetic"] is True and about["contract"]["size"] == 32
    assert done.difference < 1e-3
    if name in ("classifier", "linear", "regressor"):
        model = load_fitted(tmp_path / name)
        np.testing.assert_allclose(
            answers[0], model.tell(torch.from_numpy(scans)), rtol=1e-3, atol=1e-5
        )


@pytest.mark.parametrize("name", MODELS)
def test_a_bundle_s_network_runs_without_volta3d(
    name: str, encoder_folder: Path, contract: Contract, tmp_path: Path
) -> None:
    export(
        model_of(name, encoder_folder, contract, tmp_path), tmp_path / "b", format="monai-bundle"
    )
    code = (
        "import sys, torch\n"
        "net = torch.jit.load('b/models/model.ts').eval()\n"
        "size = int(sys.argv[1])\n"
        "said = net(torch.ones(1, 1, size, size, size))\n"
        "first = said[0] if isinstance(said, tuple) else said\n"
        "assert torch.isfinite(first).all()\n"
        "assert not any(m.startswith('volta3d') for m in sys.modules)\n"
    )
    meta = json.loads((tmp_path / "b/configs/metadata.json").read_text())
    size = meta["network_data_format"]["inputs"]["image"]["spatial_shape"][0]
    subprocess.run([sys.executable, "-c", code, str(size)], cwd=tmp_path, check=True)


@pytest.mark.parametrize("name", ["encoder", "unet"])
def test_MONAI_builds_its_own_class_with_the_same_weights(
    name: str, encoder_folder: Path, contract: Contract, tmp_path: Path
) -> None:
    from monai.bundle import ConfigParser

    export(
        model_of(name, encoder_folder, contract, tmp_path), tmp_path / "b", format="monai-bundle"
    )
    parser = ConfigParser()
    parser.read_config(str(tmp_path / "b/configs/inference.json"))
    parser["bundle_root"] = str(tmp_path / "b")
    network = parser.get_parsed_content("monai_network")
    assert isinstance(network, nn.Module)
    state = torch.load(tmp_path / "b/models/model.pt", weights_only=True)
    network.load_state_dict(state, strict=True)
    network.eval()
    scripted = torch.jit.load(str(tmp_path / "b/models/model.ts"))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        if name == "unet":
            crop = torch.rand((1, 1, 16, 16, 16), generator=generator)
            theirs, ours = network(crop).softmax(1), scripted(crop)
        else:
            cube = torch.rand((1, 1, 32, 32, 32), generator=generator)
            small = nn.functional.interpolate(
                nn.functional.avg_pool3d(cube, 2), size=(12,) * 3, mode="trilinear"
            )
            theirs, ours = network(small)[0], scripted(cube)[1]
    torch.testing.assert_close(theirs, ours, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["encoder", "classifier", "unet"])
def test_a_bundle_runs_on_raw_scans_and_gives_what_predict_gives(
    name: str, encoder_folder: Path, contract: Contract, tmp_path: Path, head: np.ndarray
) -> None:
    pytest.importorskip("ignite")
    pytest.importorskip("fire")
    model = model_of(name, encoder_folder, contract, tmp_path)
    export(model, tmp_path / "b", format="monai-bundle")
    (tmp_path / "b/scans").mkdir()
    scan = tmp_path / "b/scans/head.nii.gz"
    affine = np.diag([-5.0, 5.0, 5.5, 1.0])  # to the left, so that it has to be turned
    affine[:3, 3] = (90, -100, -80)
    nib.save(nib.Nifti1Image(head, affine), scan)
    subprocess.run(
        [sys.executable, "-m", "monai.bundle", "run", "--config_file", "configs/inference.json",
         "--bundle_root", "."],
        cwd=tmp_path / "b", check=True, capture_output=True, timeout=250,
    )  # fmt: skip
    if name == "unet":
        predict(model, scan, tmp_path / "told", device="cpu")
        ours = nib.load(next((tmp_path / "told").rglob("*_dseg.nii.gz")))
        theirs = nib.load(next((tmp_path / "b/eval").rglob("*dseg*")))
        assert np.allclose(ours.affine, theirs.affine)
        mine = np.asanyarray(ours.dataobj)
        mapped = np.array([0, 48, 47])[np.asanyarray(theirs.dataobj).squeeze()]
        assert mapped.shape == mine.shape
        inside = (mine > 0) | (mapped > 0)
        assert inside.sum() > 500  # an untrained network outlines something
        assert (mine == mapped)[inside].mean() > 0.97
        return
    row = pd.read_csv(tmp_path / "b/eval/predictions.csv", header=None).iloc[0, 1:].to_numpy(float)
    if name == "encoder":
        table = embed(model, scan, tmp_path / "f.parquet")
        ours_row = table[[c for c in table if c.startswith("token")]].iloc[0].to_numpy(float)
    else:
        predict(model, scan, tmp_path / "told", device="cpu")
        told = pd.read_csv(tmp_path / "told/predictions.tsv", sep="\t")
        ours_row = np.array([1 - told["score"][0], told["score"][0]])
    np.testing.assert_allclose(row, ours_row, rtol=2e-3, atol=1e-4)


def test_what_cannot_be_exported_is_refused(
    encoder_folder: Path, contract: Contract, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match="onnx or monai-bundle"):
        export(encoder_folder, tmp_path / "out", format="caffe")
    with pytest.raises(UsageError, match="Something else"):
        export(encoder_folder, encoder_folder, format="monai-bundle")  # would lose the encoder
    with pytest.raises(EncoderError):
        export(tmp_path / "nowhere", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    monkeypatch.setattr(onnx_module, "TOLERANCE", -1.0)
    with pytest.raises(VoltaError, match="answers differently"):
        export(encoder_folder, tmp_path / "out", format="monai-bundle")
    assert not (tmp_path / "out").exists()


def test_an_export_is_replaced_by_the_next(
    encoder_folder: Path, contract: Contract, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    export(encoder_folder, out, format="monai-bundle")
    export(segmentation(tmp_path / "unet", contract), out, format="monai-bundle")
    assert "Outlines left, right" in (out / "docs/README.md").read_text()
