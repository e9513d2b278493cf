"""People of one cohort are found in another, under whatever name, and taken out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from volta3d.cohort.contract import Contract
from volta3d.cohort.exclude import exclusion
from volta3d.cohort.identity import person_key
from volta3d.cohort.store import Cohort, write_cohort

EDGE = 16
Make = Callable[..., Cohort]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("002_S_0295", "adni"), ("sub-ADNI002S0295", "harp")),
        (("002_S_0295", "ADNI1 complete"), ("sub-ADNI002S0295", "anything")),
        (("295", "adni"), ("002_S_0295", "harp-100")),
        (("sub-IXI002", "ixi-t1w"), ("IXI002", "other")),
        (("2", "ixi"), ("sub-IXI002", "ixi-hh")),
        (("OAS1_0061", "oasis"), ("sub-OAS10061", "miccai-2012")),
        (("BraTS-GLI-00005", "brats-gli"), ("sub-BraTSGLI00005", "tumours")),
        (("sub-AIBL2", "clinica"), ("2", "aibl")),
        (("sub-01", "mine"), ("SUB_1", "Mine")),
        (("3fa9c1d27b", "a"), ("sub-3FA9C1D27B", "b")),
        (("sub-a90122334455", "data-98dfc2"), ("sub-a90122334455", "data-11aa22")),
        (("sub-690122334455", "data-98dfc2"), ("sub-690122334455", "data-11aa22")),
    ],
)
def test_one_person_under_two_names(one: tuple[str, str], other: tuple[str, str]) -> None:
    assert person_key(*one) == person_key(*other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("sub-01", "a"), ("sub-01", "b")),
        (("2", "aibl"), ("2", "adni")),
        (("002_S_0295", "adni"), ("002_S_0296", "adni")),
        (("sub-IXI002", "ixi"), ("sub-IXI020", "ixi")),
        (("patient_007", "a"), ("patient_007", "b")),
        (("HC001", "a"), ("HC001", "b")),
        (("0050002", "abide"), ("0050002", "other")),
        (("sub-anna", "a"), ("sub-anna", "b")),
    ],
)
def test_two_people_stay_two(one: tuple[str, str], other: tuple[str, str]) -> None:
    assert person_key(*one) != person_key(*other)


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """make("name", [(participant, picture, dataset), ...]): equal pictures, equal voxels."""

    def build(name: str, rows: list[tuple[str, int, str]]) -> Cohort:
        volumes = [picture(number) for _, number, _ in rows]
        table = pd.DataFrame(
            {
                "scan_id": [f"{name}_{i}" for i in range(len(rows))],
                "participant_id": [r[0] for r in rows],
                "dataset": [r[2] for r in rows],
                "source_sha256": [f"{name}-{i}" for i in range(len(rows))],
            }
        )
        return write_cohort(tmp_path / name, Contract(size=EDGE), volumes, table)

    return build


def picture(number: int) -> np.ndarray:
    return np.random.default_rng(number).random((EDGE,) * 3, dtype=np.float32)


def test_L2_one_shared_image_takes_out_every_scan_of_its_person(make: Make) -> None:
    train = make(
        "train", [("p1", 1, "x"), ("p1", 2, "x"), ("p2", 3, "x"), ("002_S_0295", 4, "adni")]
    )
    test = make("test", [("q9", 2, "y"), ("sub-ADNI002S0295", 5, "harp")])
    found = exclusion([train], [test])
    assert found.scan_ids == {"train_0", "train_1", "train_3"}
    reasons = {s["scan_id"]: (s["reason"], s["as"]) for s in found.scans}
    assert reasons["train_0"] == reasons["train_1"] == ("same-volume", "test_0")
    assert reasons["train_3"] == ("subject", "test_1")
    assert exclusion([train], [make("none", [("z", 9, "z")])]).scans == ()


def test_people_shared_among_the_training_cohorts_alone_stay(make: Make) -> None:
    first, second = make("a", [("p1", 1, "x")]), make("b", [("p1", 2, "x")])
    assert exclusion([first, second], [make("c", [("p2", 3, "x")])]).scans == ()


def test_the_identity_of_an_exclusion_follows_what_was_excluded(make: Make) -> None:
    train = make("train", [("p1", 1, "x"), ("p2", 2, "x")])
    tests = [make("t1", [("p1", 8, "x")]), make("t2", [("p2", 9, "x")])]
    identities = [exclusion([train], [t]).identity() for t in tests]
    assert identities[0] != identities[1]
    both = exclusion([train], tests).identity()
    assert both == exclusion([train], tests[::-1]).identity()
