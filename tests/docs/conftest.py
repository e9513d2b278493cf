"""A folder in which the documentation's commands run, in the order in which a reader meets them."""

from __future__ import annotations

from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parent.parent.parent / "docs"


@pytest.fixture(scope="session")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty folder for all pages; the tutorial fills it, the how-to guides go on in it."""
    return tmp_path_factory.mktemp("desk")


@pytest.fixture(scope="session")
def docs() -> Path:
    """The folder of the documentation."""
    return DOCS
