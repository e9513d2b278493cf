"""One small synthetic cohort for all tests of the phantom; none of them writes into it."""

from __future__ import annotations

from pathlib import Path

import pytest

from volta3d.phantom import generate
from volta3d.phantom.anatomy import Anatomy, load_anatomy

SUBJECTS = 24  # two whole blocks: every combination of sex, site and diagnosis twice
SPACING = 4.0
SEED = 3


@pytest.fixture(scope="session")
def anatomy() -> Anatomy:
    return load_anatomy(2)


@pytest.fixture(scope="session")
def phantom_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("phantom") / "bids"
    return generate(out, subjects=SUBJECTS, seed=SEED, spacing=SPACING)
