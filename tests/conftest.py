"""One thread for everybody: sums split over threads differ in their last bits between machines."""

from __future__ import annotations

import pytest
import torch

torch.set_num_threads(1)


def pytest_addoption(parser: pytest.Parser) -> None:
    """A folder for pictures of the pages that the browser tests open."""
    parser.addoption("--screenshots", default="", help="folder for screenshots of the report")
