"""Small models to export."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from volta3d.cohort.contract import Contract
from volta3d.config import ModelConfig, PretrainConfig, build
from volta3d.downstream.fitted import save_fitted
from volta3d.downstream.segment_model import save_segment_model
from volta3d.downstream.segment_networks import Architecture, empty
from volta3d.downstream.structures import Structure
from volta3d.model.pair import build_pair
from volta3d.pretrain.encoder import save_encoder

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
    from volta3d.downstream.classifier import VitClassifier, fresh_vit

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
