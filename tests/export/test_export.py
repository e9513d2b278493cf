"""Exported networks answer as ours do, in programs that know nothing of ours."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from volta3d.arms.networks.classifier import VitClassifier, fresh_vit
from volta3d.arms.segmenter import Architecture, empty
from volta3d.cohort.contract import Contract
from volta3d.config import ModelConfig, PretrainConfig, build
from volta3d.downstream.classification.fitted import load_fitted, save_fitted
from volta3d.downstream.predict import predict
from volta3d.downstream.segmentation.model import save_segment_model
from volta3d.downstream.segmentation.structures import Structure
from volta3d.errors import EncoderError, UsageError, VoltaError
from volta3d.export import export, graphs
from volta3d.model.pair import build_pair
from volta3d.pretrain.encoder import save_encoder

pytestmark = pytest.mark.filterwarnings(
    "ignore:.torch.jit.:DeprecationWarning"
)  # MONAI reads these files


MODEL = {
    "patch_size": 4, "width": 16, "depth": 3, "heads": 2, "mlp": 32, "summariser_heads": 2,
    "head_hidden": 16, "bottleneck": 8, "prototypes": 12,
}  # fmt: skip
SEEN = {"scans": 6, "subjects": 5, "datasets": "phantom", "synthetic": True}


@pytest.fixture
def contract() -> Contract:
    return Contract(size=32, spacing=6.0, synthetic=True)


@pytest.fixture
def encoder_folder(tmp_path: Path, contract: Contract) -> Path:
    views = {"downsample": 2, "global_size": 12, "local_size": 4, "locals": 0}
    config = build(PretrainConfig, {"preset": "tiny", "views": views, "model": MODEL})
    facts = {
        "scans": 6, "participants": 5, "datasets": ["phantom"], "synthetic": True, "steps": 3,
        "monitors": {"epoch": 1, "information": 0.5, "effective_rank": 3.0}, "alarms": [],
        "data_hash": "0123456789abcdef",
    }  # fmt: skip
    pair = build_pair(config.model, 12, 0)
    folder = tmp_path / "encoder"
    save_encoder(folder, network=pair.teacher, config=config, contract=contract, card_facts=facts)
    return folder


def fitted(folder: Path, contract: Contract, *, kind: str, labels: list[str]) -> Path:
    """A classifier or a regressor; with ``kind`` linear it holds a linear model."""
    model = build(ModelConfig, MODEL)
    outputs = max(1, len(labels))
    encoder, summariser = fresh_vit(model, 12, 0)
    network = VitClassifier(
        encoder, summariser, pooling="token", outputs=outputs, tune="frozen", blocks=1, seed=0
    )
    tensors = dict(network.state_dict())
    if kind == "linear":
        generator = torch.Generator().manual_seed(1)
        tensors = {k: v for k, v in tensors.items() if not k.startswith("head.")}
        tensors["linear.weight"] = torch.randn(
            (outputs, 16), generator=generator, dtype=torch.float64
        )
        tensors["linear.bias"] = torch.zeros(outputs, dtype=torch.float64)
    content = {
        "kind": "classification" if labels else "regression",
        "target": "sex" if labels else "age",
        "labels": labels,
        "threshold": 0.4 if labels else None,
        "architecture": {
            "type": kind, "model": model.model_dump(), "image_size": 12, "downsample": 2,
            "pooling": "token", "mean": 50.0, "deviation": 12.0,
        },
        "arm": {"kind": kind, "tune": "frozen"},
        "trained_on": SEEN,
    }  # fmt: skip
    save_fitted(folder, content=content, tensors=tensors, contract=contract)
    return folder


def segmentation(folder: Path, contract: Contract, *, kind: str = "unet") -> Path:
    """A network that outlines two structures, untrained."""
    sizes = {"channels": [4, 8, 16], "strides": [2, 2], "residual_units": 1}
    if kind == "unetr":
        sizes = {
            "image_size": 16, "patch_size": 4, "width": 16, "depth": 3, "heads": 2, "mlp": 32,
            "features": 4,
        }  # fmt: skip
    architecture = Architecture(kind, 3, sizes)
    network = empty(architecture, 0)
    save_segment_model(
        folder,
        dict(network.state_dict()),
        architecture=architecture,
        structures=[Structure("left", (48,), "left"), Structure("right", (47,), "right")],
        contract=contract,
        about={
            "crop": 16, "overlap": 0.25, "arm": {"name": kind, "kind": kind}, "trained_on": SEEN,
            "fold": 0, "inner_dice": 0.5, "epoch": 1, "selection": "inner",
        },
    )  # fmt: skip
    return folder


@pytest.fixture
def head() -> np.ndarray:
    """Something that can be prepared, float32 [40, 44, 36]."""
    rng = np.random.default_rng(0)
    volume = np.zeros((40, 44, 36), np.float32)
    volume[5:35, 6:38, 5:31] = 0.4 + 0.1 * rng.random((30, 32, 26))
    volume[14:22, 16:28, 12:22] += 0.5
    return volume


def model_of(name: str, encoder: Path, contract: Contract, folder: Path) -> Path:
    if name == "encoder":
        return encoder
    if name in ("unet", "unetr"):
        return segmentation(folder / name, contract, kind=name)
    labels = [] if name == "regressor" else ["F", "M"]
    kind = "linear" if name == "linear" else "vit"
    return fitted(folder / name, contract, kind=kind, labels=labels)


@pytest.mark.parametrize("name", ["encoder", "linear", "regressor", "unet", "unetr"])
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
    inside = session.get_modelmeta().custom_metadata_map
    assert json.loads(inside["contract"])["size"] == 32
    assert json.loads(inside["labels"]) == about["labels"]
    if name in ("classifier", "linear", "regressor"):
        model = load_fitted(tmp_path / name)
        np.testing.assert_allclose(
            answers[0], model.predict(torch.from_numpy(scans)), rtol=1e-3, atol=1e-5
        )


@pytest.mark.parametrize("name", ["encoder", "linear", "unetr"])
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
@pytest.mark.parametrize("name", ["classifier", "unet"])
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
    # what MONAI's own runner finds here is a machine on which volta3d isn't installed
    (tmp_path / "machine").mkdir()
    (tmp_path / "machine/sitecustomize.py").write_text(
        "import sys\n"
        "class Absent:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] == 'volta3d':\n"
        "            raise ImportError('volta3d is not installed here')\n"
        "sys.meta_path.insert(0, Absent())\n"
    )
    alone = {**os.environ, "PYTHONPATH": str(tmp_path / "machine")}
    absent = subprocess.run([sys.executable, "-c", "import volta3d"], env=alone, check=False)
    assert absent.returncode == 1
    subprocess.run(
        [sys.executable, "-m", "monai.bundle", "run", "--config_file", "configs/inference.json",
         "--bundle_root", "."],
        cwd=tmp_path / "b", check=True, capture_output=True, timeout=250, env=alone,
    )  # fmt: skip
    if name == "unet":
        predict(model, scan, tmp_path / "told", device="cpu")
        ours = nib.load(next((tmp_path / "told").rglob("*_dseg.nii.gz")))
        theirs = nib.load(next((tmp_path / "b/eval").rglob("*dseg*")))
        assert np.allclose(ours.affine, theirs.affine)
        mine = np.asanyarray(ours.dataobj)
        mapped = np.asanyarray(theirs.dataobj).squeeze()
        assert set(np.unique(mapped)) <= {0, 47, 48}  # the table's own numbers
        assert mapped.shape == mine.shape
        inside = (mine > 0) | (mapped > 0)
        assert inside.sum() > 500  # an untrained network outlines something
        assert (mine == mapped)[inside].mean() > 0.97
        return
    row = pd.read_csv(tmp_path / "b/eval/predictions.csv", header=None).iloc[0, 1:].to_numpy(float)
    predict(model, scan, tmp_path / "told", device="cpu")
    score = float(pd.read_csv(tmp_path / "told/predictions.tsv", sep="\t")["score"][0])
    np.testing.assert_allclose(row, [1 - score, score], rtol=2e-3, atol=1e-4)


def test_what_cannot_be_exported_is_refused(
    encoder_folder: Path, contract: Contract, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match="onnx, monai-bundle"):
        export(encoder_folder, tmp_path / "out", format="caffe")
    with pytest.raises(UsageError, match="Something else"):
        export(encoder_folder, encoder_folder, format="monai-bundle")  # would lose the encoder
    with pytest.raises(EncoderError):
        export(tmp_path / "nowhere", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    monkeypatch.setattr(graphs, "TOLERANCE", -1.0)
    with pytest.raises(VoltaError, match="answers differently"):
        export(encoder_folder, tmp_path / "out", format="monai-bundle")
    assert not (tmp_path / "out").exists()


def test_the_networks_of_all_folds_are_exported_as_one(contract: Contract, tmp_path: Path) -> None:
    arm = tmp_path / "run/arms/unet"
    segmentation(arm / "model", contract)
    sizes = {"channels": [4, 8, 16], "strides": [2, 2], "residual_units": 1}
    for fold in range(2):
        folder = arm / f"seed-0/fold-{fold}"
        folder.mkdir(parents=True)
        network = empty(Architecture("unet", 3, sizes), fold)
        save_file(dict(network.state_dict()), folder / "weights.safetensors")
    export(arm, tmp_path / "b", format="monai-bundle")
    scripted = torch.jit.load(str(tmp_path / "b/models/model.ts"))
    crop = torch.rand((1, 1, 16, 16, 16), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        one, other = (
            empty(Architecture("unet", 3, sizes), fold).eval()(crop).softmax(1) for fold in (0, 1)
        )
        torch.testing.assert_close(scripted(crop), (one + other) / 2, rtol=1e-4, atol=1e-5)
    assert not (tmp_path / "b/models/model.pt").exists()  # several networks are no class of MONAI's


def test_an_export_is_replaced_by_the_next(
    encoder_folder: Path, contract: Contract, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    export(encoder_folder, out, format="monai-bundle")
    export(segmentation(tmp_path / "unet", contract), out, format="monai-bundle")
    assert "Outlines left, right" in (out / "docs/README.md").read_text()
