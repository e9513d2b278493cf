"""``audit``: shared people, shared images, and what only looks shared."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage
from typer.testing import CliRunner

from volta3d.cli import app
from volta3d.cohort.audit import audit
from volta3d.cohort.contract import Contract
from volta3d.cohort.phash import NEAR, hash_distances, perceptual_hash
from volta3d.cohort.store import Cohort, write_cohort
from volta3d.errors import CohortError

EDGE = 32
Make = Callable[..., Cohort]


def head(number: int) -> np.ndarray:
    """A head-like ball, the same outline for all, with folds of its own; [32, 32, 32] in 0 to 1."""
    rng = np.random.default_rng(number)
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, EDGE)] * 3, indexing="ij"))
    inside = ((grid / np.array([0.7, 0.8, 0.75])[:, None, None, None]) ** 2).sum(axis=0) < 1
    folds = ndimage.gaussian_filter(rng.normal(size=(EDGE,) * 3), 1.5)
    volume = inside * np.clip(0.5 + 2.5 * folds, 0.2, 1)
    return volume.astype(np.float32)


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """make("name", [(participant, dataset, volume), ...], column=[...])."""

    def build(name: str, rows: list[tuple[str, str, np.ndarray]], **columns: object) -> Cohort:
        content = {
            "scan_id": [f"{name}_{i}" for i in range(len(rows))],
            "participant_id": [r[0] for r in rows],
            "dataset": [r[1] for r in rows],
            **columns,
        }
        table = pd.DataFrame(content)
        return write_cohort(tmp_path / name, Contract(size=EDGE), [r[2] for r in rows], table)

    return build


def kinds(result: object) -> list[tuple[str, str, str]]:
    return [(o.kind, o.scan_id, o.other_scan_id) for o in result.overlaps]  # type: ignore[attr-defined]


def test_L2_harp_subjects_inside_adni_pretraining_are_found(make: Make) -> None:
    """The paper pretrains on ADNI and segments HarP, whose scans are ADNI's."""
    adni = make(
        "adni", [("002_S_0295", "adni", head(1)), ("003_S_0907", "adni", head(2))], site=["2", "3"]
    )
    # another scan of the first subject under another name, and a stranger
    harp = make(
        "harp", [("sub-ADNI002S0295", "harp", head(3)), ("sub-ADNI009S0842", "harp", head(4))]
    )
    result = audit([adni.path, harp.path])
    assert result.found
    assert kinds(result) == [("subject", "adni_0", "harp_0")]
    assert result.shared == ({"cohorts": ["adni", "harp"], "people": 1},)
    assert "1 people are in both adni and harp" in result.text()


def test_L3_the_same_file_and_the_same_volume_are_found_under_any_name(make: Make) -> None:
    first = make("a", [("p1", "x", head(1)), ("p2", "x", head(2))], source_sha256=["aa", "bb"])
    second = make(
        "b",
        [("q1", "y", head(5)), ("q2", "y", head(2)), ("q3", "y", head(6))],
        source_sha256=["aa", "cc", ""],
    )
    result = audit([first.path, second.path])
    assert kinds(result) == [("same-file", "a_0", "b_0"), ("same-volume", "a_1", "b_1")]
    assert [o.distance for o in result.overlaps][1] == 0
    assert result.shared[0]["people"] == 2


@pytest.mark.parametrize(
    "change", ["noise", "blur", "shift", "gamma", "coarser", "scaled", "turned"]
)
def test_L3_nearly_the_same_image_is_found_under_another_name(make: Make, change: str) -> None:
    volume, rng = head(1), np.random.default_rng(9)
    copies = {
        "noise": lambda: np.clip(volume + rng.normal(0, 0.03, volume.shape), 0, 1),
        "blur": lambda: ndimage.gaussian_filter(volume, 0.7),
        "shift": lambda: np.roll(volume, 1, axis=1),
        "gamma": lambda: volume**0.8,
        "coarser": lambda: ndimage.zoom(ndimage.zoom(volume, 0.75, order=1), 4 / 3, order=1),
        "scaled": lambda: 0.5 * volume,
        "turned": lambda: ndimage.rotate(volume, 5, (0, 2), reshape=False, order=1).clip(0, 1),
    }
    copy = copies[change]().astype(np.float32)
    first = make("a", [("p1", "x", volume), ("p2", "x", head(2))])
    second = make("b", [("q1", "y", head(3)), ("q2", "y", copy)])
    assert kinds(audit([first.path, second.path])) == [("near", "a_0", "b_1")]


def test_different_people_are_far_apart_whatever_they_have_in_common() -> None:
    bits = np.stack([perceptual_hash(head(k)) for k in range(12)])
    apart = hash_distances(bits, bits)[np.triu_indices(12, 1)]
    assert apart.min() > 2 * NEAR

    def unlike(a: np.ndarray, b: np.ndarray) -> float:
        """The upright head of one against every pose of the other, both ways."""
        return min(min(np.mean(a[0] != pose) for pose in b), min(np.mean(b[0] != p) for p in a))

    expected = [[unlike(a, b) for b in bits] for a in bits]
    np.testing.assert_allclose(hash_distances(bits, bits), expected, atol=1e-6)  # float32 sums


def test_the_hash_sees_the_picture_not_the_grid_or_the_unit() -> None:
    volume = head(1)
    fine = ndimage.zoom(volume, 2, order=1)
    padded = np.pad(volume, ((3, 9), (6, 6), (10, 2)))
    for other in (fine, padded, volume * 300 - 40, volume - 5):
        hashes = [perceptual_hash(v)[None] for v in (other, volume)]
        assert hash_distances(*hashes)[0, 0] < NEAR
    assert not perceptual_hash(np.full((8, 8, 8), 3.0)).any()


def test_L3_one_cohort_alone_is_looked_through_for_doubles(make: Make) -> None:
    rows = [("p1", "x", head(1)), ("p1", "x", head(1)), ("p2", "x", head(2)), ("p3", "x", head(2))]
    result = audit([make("a", rows).path])
    assert kinds(result) == [("same-volume", "a_0", "a_1"), ("same-volume", "a_2", "a_3")]
    assert result.shared == ()


def test_scans_of_one_person_in_one_cohort_are_as_they_should_be(make: Make) -> None:
    noisy = np.clip(head(1) + 0.01, 0, 1).astype(np.float32)
    result = audit([make("a", [("p1", "x", head(1)), ("p1", "x", noisy)]).path])
    assert not result.found and "Nothing is shared" in result.text()


def test_equal_numbers_in_two_data_sets_are_two_people(make: Make) -> None:
    first, second = make("a", [("sub-01", "x", head(1))]), make("b", [("sub-01", "y", head(2))])
    assert not audit([first.path, second.path]).found
    third = make("c", [("SUB_1", "x", head(3))])
    assert kinds(audit([first.path, third.path])) == [("subject", "a_0", "c_0")]


def test_sites_by_arm(make: Make) -> None:
    cohort = make(
        "a",
        [("p1", "x", head(1)), ("p1", "x", head(2)), ("p2", "x", head(3)), ("p3", "z", head(4))],
        site=["S", "S", "S", ""],
        sex=["F", "F", "M", ""],
        age=[30, 32, None, 50],
    )
    shown = {(r["dataset"], r["site"], r["sex"]): r for r in audit([cohort.path]).sites}
    assert {k: (r["scans"], r["people"], r["age"]) for k, r in shown.items()} == {
        ("x", "S", "F"): (2, 1, 31.0),
        ("x", "S", "M"): (1, 1, None),
        ("z", "", ""): (1, 1, 50.0),
    }


def test_the_file_holds_all_that_was_found(make: Make, tmp_path: Path) -> None:
    first, second = make("a", [("p1", "x", head(1))]), make("b", [("p1", "x", head(1))])
    result = audit([first.path, second.path], out=tmp_path / "audit.json")
    assert json.loads((tmp_path / "audit.json").read_text()) == result.content()
    assert result.content()["overlaps"][0]["kind"] == "same-volume"


def test_O2_the_command_exits_with_3_when_something_is_shared(make: Make) -> None:
    first, second = make("a", [("p1", "x", head(1))]), make("b", [("p1", "x", head(2))])
    run = CliRunner()
    done = run.invoke(app, ["audit", str(first.path), str(second.path), "--json"])
    assert done.exit_code == 3
    assert json.loads(done.stdout)["shared"] == [{"cohorts": ["a", "b"], "people": 1}]
    assert run.invoke(app, ["audit", str(first.path)]).exit_code == 0


def test_nonsense_is_refused(make: Make, tmp_path: Path) -> None:
    cohort = make("a", [("p1", "x", head(1))])
    with pytest.raises(CohortError, match="twice"):
        audit([cohort.path, cohort.path])
    with pytest.raises(CohortError, match="No cohort"):
        audit([])
    with pytest.raises(CohortError, match="nowhere"):
        audit([tmp_path / "nowhere"])
