"""The model card says what must be said, and nothing in it can break out of its cell."""

from __future__ import annotations

from typing import Any

from volta3d.cohort.contract import Contract
from volta3d.config import PretrainConfig
from volta3d.pretrain.card import cell, model_card, table


def content(*, synthetic: bool = False, **facts: Any) -> dict[str, Any]:
    config = PretrainConfig()
    return {
        "parameters": 88_359_168,
        "preset": "paper",
        "software": "volta3d 0",
        "model": config.model.content(),
        "image_size": 96,
        "downsample": 1,
        "contract": Contract(synthetic=synthetic).content(),
        "pretraining": config.content(),
        "facts": facts,
    }


def test_card_states_data_preparation_objective_monitors_and_limits() -> None:
    probe = {"column": "age", "token": {"r": 0.1234}, "mean": {"r": 0.5}}
    monitors = {"information": 0.875, "effective_rank": None, "probe": probe}
    card = model_card(
        content(scans=124, participants=120, datasets=["ixi"], steps=900, monitors=monitors)
    )
    for text in (
        "88,359,168 parameters",
        "| scans | 124 |",
        "| participants | 120 |",
        "| data sets | ixi |",
        "| spacing | 1 |",
        "| fit | resize |",
        "| orientation | RAS |",
        "reconstruction (weight 100)",
        "| steps | 900 |",
        "2 global of 96, 8 local of 48 voxels",
        "| information over scans (nat) | 0.875 |",
        "| effective rank | unknown |",
        "| probe on age from the token (r) | 0.1234 |",
        "Not a medical device",
        "Apache-2.0",
        "[batch, 1, 128, 128, 128]",
    ):
        assert text in card
    assert "SYNTHETIC" not in card


def test_synthetic_data_is_said_first_and_loudly() -> None:
    for card in (model_card(content(synthetic=True)), model_card(content(synthetic=False, **{}))):
        assert ("SYNTHETIC DATA" in card.split("## What it is")[0]) == ("| synthetic | yes" in card)
    assert "SYNTHETIC DATA" in model_card(content(synthetic=True))
    mixed = model_card({**content(), "facts": {"synthetic": True}})
    assert "SYNTHETIC DATA" in mixed


def test_alarms_are_said() -> None:
    card = model_card(content(alarms=["effective_rank", "information"]))
    assert "Alarms while training: effective_rank, information" in card
    assert "Alarms while training" not in model_card(content(alarms=[]))


def test_S_names_are_inert() -> None:
    card = model_card(content(datasets=["<script>alert(1)</script>\n# head | {width}`x`"]))
    assert "<script" not in card
    assert "\n# head" not in card
    assert "{width}" in card  # braces of a name are not filled in
    assert cell("a|b") == "a\\|b"
    assert cell(None) == cell("") == "unknown"
    assert table({}) == "None recorded."
