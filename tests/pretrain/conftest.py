"""Tiny cohorts and configurations, and what it means that two runs are the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from lightning_fabric import Fabric
from safetensors.torch import load_file

from volta3d.cohort.contract import Contract
from volta3d.cohort.store import Cohort, write_cohort
from volta3d.config import PretrainConfig, build
from volta3d.pretrain.checkpoint import available
from volta3d.pretrain.data import Scans
from volta3d.pretrain.log import read_metrics
from volta3d.pretrain.trainer import Trainer

EDGE = 16
TINY: dict[str, Any] = {
    "preset": "tiny",
    "epochs": 2,
    "batch_size": 2,
    "accumulate": 2,
    "lr": 1e-3,
    "precision": "fp32",
    "device": "cpu",
    "checkpoint_steps": 1,
    "views": {"global_size": 16, "local_size": 8, "locals": 1},
    "model": {
        "patch_size": 8,
        "width": 16,
        "depth": 1,
        "heads": 2,
        "mlp": 32,
        "decoder_channels": 4,
        "summariser_heads": 2,
        "head_hidden": 16,
        "bottleneck": 8,
        "prototypes": 16,
    },
    "objective": {"start_statistics": 64},
    "optim": {"warmup_epochs": 1},
    "monitor": {"scans": 4, "alarm_after_epochs": 1},
}


@pytest.fixture(scope="session")
def tiny() -> Callable[..., PretrainConfig]:
    """tiny("epochs=3", "views.locals=0"): the tiny configuration with settings on top."""
    return lambda *assignments: build(PretrainConfig, TINY, assignments)


@pytest.fixture(scope="session")
def make_cohort() -> Callable[..., Cohort]:
    """Write scans of random blobs, all different; same arguments, same bytes."""

    def make(
        path: Path, count: int = 10, *, edge: int = EDGE, seed: int = 0, **table: Any
    ) -> Cohort:
        rng = np.random.default_rng(seed)
        coarse = rng.random((count, 4, 4, 4), dtype=np.float32)
        fine = coarse.repeat(edge // 4, 1).repeat(edge // 4, 2).repeat(edge // 4, 3)
        noise = rng.random(fine.shape, dtype=np.float32)
        names = [f"scan-{seed}-{i:02d}" for i in range(count)]
        people = pd.DataFrame({"scan_id": names, "dataset": "random", **table})
        contract = Contract(size=edge, synthetic=True)
        return write_cohort(path, contract, 0.8 * fine + 0.2 * noise, people)

    return make


@pytest.fixture(scope="session")
def cohort(make_cohort: Callable[..., Cohort], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten scans: with batches of 2 and windows of 2, three optimiser steps an epoch, 4 + 4 + 2."""
    return make_cohort(tmp_path_factory.mktemp("cohort") / "ten").path


@pytest.fixture
def trainer(cohort: Path, tiny: Callable[..., PretrainConfig]) -> Callable[..., Trainer]:
    """trainer("lr=1"): a trainer on the ten scans that never touches a disk."""

    def make(*assignments: str) -> Trainer:
        config = tiny(*assignments)
        fabric = Fabric(accelerator="cpu", devices=1, precision="32-true")
        return Trainer(Scans.open([cohort], config, fabric.device), config, fabric)

    return make


@pytest.fixture(scope="session")
def metrics() -> Callable[[Path], list[dict[str, Any]]]:
    """The records of a run without what depends on the clock."""

    def read(run: Path) -> list[dict[str, Any]]:
        records = read_metrics(run / "metrics.jsonl")
        return [{k: v for k, v in r.items() if k != "scans_per_second"} for r in records]

    return read


@pytest.fixture(scope="session")
def checkpoint_bytes() -> Callable[[Path], dict[str, bytes]]:
    """Every file under a run's checkpoints folder, by its name."""

    def read(run: Path) -> dict[str, bytes]:
        files = [p for p in sorted((run / "checkpoints").rglob("*")) if p.is_file()]
        return {str(p.relative_to(run)): p.read_bytes() for p in files}

    return read


@pytest.fixture(scope="session")
def assert_same_run(
    metrics: Callable[[Path], list[dict[str, Any]]],
) -> Callable[[Path, Path], None]:
    """Two finished runs agree bit by bit: metrics, newest checkpoint, encoder, pictures."""

    def same_tensors(a: Path, b: Path) -> None:
        ours, theirs = load_file(a), load_file(b)
        assert ours.keys() == theirs.keys()
        different = [k for k in ours if ours[k].numpy().tobytes() != theirs[k].numpy().tobytes()]
        assert not different, f"{a.name}: {different[:5]}"

    def compare(a: Path, b: Path) -> None:
        assert metrics(a) == metrics(b)
        ours, theirs = (available(run / "checkpoints")[0] for run in (a, b))
        assert ours.name == theirs.name
        state, other = (json.loads((p / "state.json").read_text()) for p in (ours, theirs))
        assert state == other
        for name in ("model.safetensors", "optimizer.safetensors"):
            same_tensors(ours / name, theirs / name)
        same_tensors(a / "encoder/model.safetensors", b / "encoder/model.safetensors")
        for name in ("config.json", "MODEL_CARD.md"):
            assert (a / "encoder" / name).read_text() == (b / "encoder" / name).read_text()
        pictures = sorted(p.name for p in (a / "pictures").iterdir())
        assert pictures == sorted(p.name for p in (b / "pictures").iterdir())
        for name in pictures:
            same_tensors(a / "pictures" / name, b / "pictures" / name)

    return compare
