"""One thread for everybody; a tiny encoder, and cohorts that fit it, for the tests of many."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import numpy as np
import pandas as pd
import pytest
import torch

from volta3d.cohort.contract import Contract
from volta3d.cohort.store import Cohort, write_cohort
from volta3d.config import PretrainConfig, build
from volta3d.model.pair import Pair, build_pair
from volta3d.pretrain.encoder import save_encoder

SIZE = 16  # of the cubes of the tiny cohorts

# sums split over threads differ in their last bits between machines
torch.set_num_threads(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")  # of the processes that tests start, two at a time


def pytest_addoption(parser: pytest.Parser) -> None:
    """A folder for pictures of the pages that the browser tests open."""
    parser.addoption("--screenshots", default="", help="folder for screenshots of the report")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Modules with slow tests first: run last, they would leave one of two processes idle."""
    slow = {i.path for i in items if i.get_closest_marker("slow") or "browser" in i.path.parts}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Every test draws the same numbers, whichever ran before it."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def dicom() -> ModuleType:
    """The module ``dicom_series.py``: small DICOM series made from nothing."""
    path = Path(__file__).with_name("dicom_series.py")
    spec = importlib.util.spec_from_file_location("dicom_series", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def config() -> PretrainConfig:
    content: dict[str, Any] = {
        "preset": "tiny",
        "seed": 3,
        "views": {"downsample": 2, "global_size": 8, "local_size": 4, "locals": 0},
        "model": {
            "patch_size": 4,
            "width": 16,
            "depth": 2,
            "heads": 2,
            "mlp": 32,
            "summariser_heads": 2,
            "head_hidden": 16,
            "bottleneck": 8,
            "prototypes": 12,
        },
    }
    return build(PretrainConfig, content)


@pytest.fixture
def contract() -> Contract:
    return Contract(size=SIZE, spacing=8.0, synthetic=True)


@pytest.fixture
def pair(config: PretrainConfig) -> Pair:
    return build_pair(config.model, config.views.global_size, config.seed)


@pytest.fixture
def facts() -> dict[str, Any]:
    return {
        "scans": 12,
        "participants": 9,
        "datasets": ["phantom"],
        "synthetic": True,
        "steps": 40,
        "monitors": {
            "epoch": 5,
            "information": 0.75,
            "effective_rank": float("nan"),
            "probe": {"column": "age", "token": {"r": 0.25}, "mean": {"r": 0.5}},
        },
        "alarms": [],
        "data_hash": "0123456789abcdef",
    }


@pytest.fixture
def encoder_folder(
    tmp_path: Path, config: PretrainConfig, contract: Contract, pair: Pair, facts: dict[str, Any]
) -> Path:
    folder = tmp_path / "encoder"
    save_encoder(folder, network=pair.teacher, config=config, contract=contract, card_facts=facts)
    return folder


@pytest.fixture
def cohort(tmp_path: Path, contract: Contract) -> Cohort:
    rng = np.random.default_rng(0)
    volumes = rng.random((6, SIZE, SIZE, SIZE), dtype=np.float32)
    participants = pd.DataFrame(
        {
            "scan_id": [f"phantom_{i:02d}" for i in range(6)],
            "participant_id": [f"{i // 2:02d}" for i in range(6)],
            "dataset": "phantom",
            "sex": ["M", "F"] * 3,
            "age": [30.0, 41, 52, 63, 74, float("nan")],
        }
    )
    return write_cohort(tmp_path / "cohort", contract, volumes, participants)


class MakeSignalCohort(Protocol):
    """Writes a cohort of two classes of 15 subjects, the second brighter inside a cube."""

    def __call__(
        self, folder: Path, contract: Contract, *, signal: float = 0.5, noise: float = 0.5
    ) -> Cohort: ...


@pytest.fixture
def make_signal_cohort() -> MakeSignalCohort:
    def make(
        folder: Path, contract: Contract, *, signal: float = 0.5, noise: float = 0.5
    ) -> Cohort:
        rng = np.random.default_rng(0)
        second = np.arange(30) % 2 == 1
        volumes = rng.random((30, SIZE, SIZE, SIZE), dtype=np.float32) * noise
        volumes[second, 4:12, 4:12, 4:12] += signal
        people = pd.DataFrame(
            {
                "scan_id": [f"phantom_{i:02d}" for i in range(30)],
                "participant_id": [f"sub-{i:02d}" for i in range(30)],
                "dataset": "phantom",
                "sex": np.where(second, "M", "F"),
                "diagnosis": [("CN", "AD", "MCI")[i % 3] for i in range(30)],
                "age": 30 + 20 * second + rng.random(30) * 5,
                "foreground_mm3": 1e6 * (1 + 0.2 * second + 0.2 * rng.random(30)),
            }
        )
        return write_cohort(folder, contract, volumes, people)

    return make


@pytest.fixture
def signal_cohort(
    tmp_path: Path, contract: Contract, make_signal_cohort: MakeSignalCohort
) -> Cohort:
    return make_signal_cohort(tmp_path / "signal", contract)
