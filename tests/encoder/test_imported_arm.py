"""An imported vision transformer as an arm: fitted, saved, and asked again."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from monai.networks.nets import SwinUNETR, ViT
from safetensors.torch import save_file

from volta3d.cohort.store import Cohort
from volta3d.config import load_classify
from volta3d.downstream.classification.classify import classify
from volta3d.downstream.classification.fitted import load_fitted
from volta3d.encoder.imported import import_encoder
from volta3d.errors import EncoderError


def test_a_vit_is_a_linear_arm_and_a_swin_is_refused(signal_cohort: Cohort, tmp_path: Path) -> None:
    contract = signal_cohort.path / "contract.yaml"
    vit = ViT(1, 16, 4, hidden_size=24, mlp_dim=48, num_layers=2, num_heads=2)
    save_file(dict(vit.state_dict()), tmp_path / "w.safetensors")
    import_encoder(
        tmp_path / "w.safetensors",
        tmp_path / "theirs",
        contract=contract,
        kind="monai-vit",
        options={"heads": 2},
    )
    swin = SwinUNETR(1, 2, feature_size=12, depths=(1, 1, 1, 1), num_heads=(3, 3, 3, 3))
    torch.save(swin.state_dict(), tmp_path / "swin.pt")
    contract_32 = tmp_path / "c.yaml"
    contract_32.write_text("contract: {size: 32}\n")
    import_encoder(tmp_path / "swin.pt", tmp_path / "swin", contract=contract_32, kind="swinunetr")
    config = load_classify("small", ["folds=3", "device=cpu"])
    with pytest.raises(EncoderError, match=r"cannot be an arm|prepared differently"):
        classify(
            signal_cohort.path, "sex", [f"s=linear:{tmp_path / 'swin'}"], tmp_path / "no", config
        )
    arms = [f"theirs=linear:{tmp_path / 'theirs'}"]
    classify(signal_cohort.path, "sex", arms, tmp_path / "run", config)
    fitted = load_fitted(tmp_path / "run/arms/theirs/model")
    scores = fitted.predict(signal_cohort.load([0, 1]))
    assert scores.shape == (2, 2) and scores[0, 0] > 0.5 > scores[1, 0]
