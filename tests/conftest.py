"""One thread for everybody: sums split over threads differ in their last bits between machines."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from types import ModuleType

import pytest
import torch

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
