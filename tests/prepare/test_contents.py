"""What the values of a volume say: label maps, probabilities, backgrounds, heads and brains."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from volta3d.cohort.contract import Contract
from volta3d.config import PrepareConfig
from volta3d.prepare import prepare
from volta3d.prepare.background import odd_background
from volta3d.prepare.contents import check_values
from volta3d.prepare.findings import Refused
from volta3d.prepare.stripping import stripping_of
from volta3d.prepare.volume import prepare_scan

Make = Callable[..., Path]
N = 48
GRID = np.stack(np.meshgrid(*[np.linspace(-1, 1, N)] * 3, indexing="ij"))
RADIUS = np.sqrt((GRID**2).sum(axis=0))
AFFINE = np.diag([4.5, 4.5, 4.5, 1.0])  # 216 mm
RNG = np.random.default_rng(0)


def brain(noise: float = 20.0) -> np.ndarray:
    """float32, 0 outside of a ball of about 900 ml: three tissues and noise."""
    tissue = np.select([RADIUS < 0.15, RADIUS < 0.42, RADIUS < 0.55], [200.0, 700.0, 500.0], 0.0)
    made = tissue + RNG.normal(0, noise, tissue.shape) * (tissue > 0)
    return np.where(tissue > 0, np.maximum(made, 1), 0).astype(np.float32)


def parcels(count: int) -> np.ndarray:
    centres = RNG.integers(8, N - 8, (count, 3))
    seeds = np.ones((N,) * 3, bool)
    seeds[tuple(centres.T)] = False
    at = ndimage.distance_transform_edt(seeds, return_distances=False, return_indices=True)
    lookup = np.zeros((N,) * 3, np.int32)
    lookup[tuple(centres.T)] = np.arange(1, count + 1)
    return np.where(RADIUS < 0.7, lookup[tuple(at)], 0)


LABEL_MAPS = {
    "mask": (RADIUS < 0.5).astype(np.uint8),
    "mask of 255": (RADIUS < 0.5).astype(np.float32) * 255,
    "small mask": (RADIUS < 0.06).astype(np.uint8),
    "two sides": np.where(RADIUS < 0.3, 1 + (GRID[0] > 0), 0).astype(np.int16),
    "tissues": np.select([RADIUS < 0.2, RADIUS < 0.4, RADIUS < 0.6], [3, 2, 1], 0).astype(float),
    "halves": np.select([RADIUS < 0.2, RADIUS < 0.4], [1.0, 0.5], 0.0).astype(np.float32),
    "140 regions": parcels(140).astype(np.int16),
    "FreeSurfer": (parcels(90) * 13 + 1000 * (parcels(90) > 40)).astype(np.int32),
}


@pytest.mark.parametrize("name", LABEL_MAPS)
def test_C4_label_maps_are_known_by_their_values(name: str) -> None:
    with pytest.raises(Refused, match="label-map"):
        check_values(np.asfortranarray(LABEL_MAPS[name]))


def test_C4_probability_maps_are_known_by_their_values() -> None:
    edge = 1 / (1 + np.exp((RADIUS - 0.5) * 80))
    shell = edge - 1 / (1 + np.exp((RADIUS - 0.3) * 80))
    for made in (edge, np.clip(shell, 0, 1), np.round(edge * 255) / 255):
        made = np.where(made < 1e-3, 0, made).astype(np.float32)
        with pytest.raises(Refused, match="probability-map"):
            check_values(made)


def scans() -> dict[str, np.ndarray]:
    data = brain()
    return {
        "int16": data.astype(np.int16),
        "uint8": np.clip(data / 4, 0, 255).astype(np.uint8),
        "float": data,
        "0 to 1": data / data.max(),
        "0 to 1, clipped at the 99th percentile": np.clip(
            data / np.percentile(data[data > 0], 99), 0, 1
        ),
        "z-scored": np.where(data > 0, (data - 550) / 150, 0).astype(np.float32),
        "smooth": ndimage.gaussian_filter(data, 1.5).astype(np.int16),
        "with NaN": np.where(data > 0, data, np.nan),
        "inverted": (900 - data).astype(np.int16),
    }


@pytest.mark.parametrize("name", scans())
def test_scans_are_not_taken_for_label_maps(name: str) -> None:
    check_values(np.asfortranarray(scans()[name]))


def prepared(nifti: Make, path: Path, data: np.ndarray) -> tuple[np.ndarray, set[str]]:
    found = prepare_scan(nifti(path, data, AFFINE), Contract(size=40, spacing=5))
    return found.volume, {f.code for f in found.findings}


def test_a_background_amid_the_values_becomes_the_darkest(tmp_path: Path, nifti: Make) -> None:
    data = brain()
    plain, codes = prepared(nifti, tmp_path / "a.nii", data)
    assert not codes & {"background-value", "nan-background"}
    zscored = np.where(data > 0, (data - 550) / 150, 0).astype(np.float32)
    inside = plain > 0.1
    for name, made, code in (
        ("z", zscored, "background-value"),
        ("ct", np.where(data > 0, data, -1024).astype(np.int16), "background-value"),
        ("offset", np.where(data > 0, data + 1000, 1000).astype(np.int16), "background-value"),
        ("white", np.where(data > 0, data, 2000).astype(np.int16), "background-value"),
        ("nan", np.where(data > 0, data, np.nan), "nan-background"),
    ):
        volume, codes = prepared(nifti, tmp_path / f"{name}.nii", made)
        assert code in codes, name
        corner = volume[:4, :4, :4]
        assert corner.max() == 0.0, name
        # the same brain in the same place; a z-score moves its darkest tissue to 0
        assert np.corrcoef(volume[inside], plain[inside])[0, 1] > 0.98, name
        low, high = np.argwhere(volume > 0.3).min(0), np.argwhere(volume > 0.3).max(0)
        assert np.abs(low - np.argwhere(plain > 0.3).min(0)).max() <= 1, name
        assert np.abs(high - np.argwhere(plain > 0.3).max(0)).max() <= 1, name


def test_an_ordinary_background_is_left_alone() -> None:
    data = brain()
    ringing = data + np.where(data > 0, 0, RNG.normal(0, 2, data.shape) * (RADIUS < 0.6))
    noisy = np.abs(data + RNG.normal(0, 8, data.shape))
    for ordinary in (data, ringing, noisy):
        assert odd_background(ordinary.astype(np.float32)) is None


def test_nan_scattered_in_the_head_is_still_refused(tmp_path: Path, nifti: Make) -> None:
    data = brain()
    data[RNG.random(data.shape) < 0.1] = np.nan
    with pytest.raises(Refused, match="not-finite"):
        prepare_scan(nifti(tmp_path / "a.nii", data, AFFINE), Contract(size=16))


@pytest.mark.parametrize(
    ("edges", "expected"),
    [
        ((35, 51, 35), True),
        ((216, 216, 30), True),
        ((160, 200, 180), False),
        ((110, 130, 105), False),
    ],
)
def test_C23_a_field_of_view_too_small_for_a_head_is_a_finding(
    tmp_path: Path, nifti: Make, edges: tuple[int, int, int], expected: bool
) -> None:
    data = brain().astype(np.int16)
    affine = np.diag([e / N for e in edges] + [1.0])
    found = prepare_scan(nifti(tmp_path / "a.nii", data, affine), Contract(size=16, spacing=8))
    assert ("small-field-of-view" in {f.code for f in found.findings}) is expected


@pytest.mark.parametrize(
    ("scale", "level"), [(1.0, ""), (0.6, "warning"), (1.6, "info"), (2.0, "warning")]
)
def test_a_head_of_an_odd_volume_is_a_finding(
    tmp_path: Path, nifti: Make, scale: float, level: str
) -> None:
    affine = np.diag([4.5 * scale] * 3 + [1.0])
    path = nifti(tmp_path / "a.nii", brain().astype(np.int16), affine)
    found = prepare_scan(path, Contract(size=16, spacing=20))
    levels = [f.level for f in found.findings if f.code == "odd-head-volume"]
    assert levels == ([level] if level else [])


def test_C23_too_many_voxels_say_how_to_go_on(tmp_path: Path, nifti: Make) -> None:
    small, dims = np.zeros((4, 4, 4), np.int16), [3, 700, 700, 600, 1, 1, 1, 1]
    path = nifti(tmp_path / "a.nii", small, AFFINE, dim=dims)
    with pytest.raises(Refused, match="too-large") as caught:
        prepare_scan(path, Contract(size=16))
    assert "resample it to 0.5 mm" in caught.value.finding.how_to_fix


def test_whole_heads_and_stripped_brains_are_told_apart(tmp_path: Path, nifti: Make) -> None:
    data = brain()
    assert stripping_of(data, 1.2e6) == "stripped"
    assert stripping_of(data, 2.8e6) == "whole"
    assert stripping_of(np.abs(data + RNG.normal(0, 9, data.shape)), 1.2e6) == "whole"
    assert stripping_of(data, 2.1e6) == "" and stripping_of(data, 0.1e6) == ""
    assert stripping_of(data, 1.2e6, RADIUS < 0.55) == "stripped"
    cut = (RADIUS < 0.55)[:, :, 24:]  # as a slab of thick slices through a whole head
    assert stripping_of(data[:, :, 24:], 1.2e6, cut) == ""


def test_a_cohort_of_both_is_warned_of(tmp_path: Path, nifti: Make) -> None:
    root = tmp_path / "in"
    data = brain()
    for n in (1, 2):
        nifti(root / f"brain{n}.nii", (data + (data > 0) * n).astype(np.int16), AFFINE)
    config = PrepareConfig(size=16, spacing=16)
    alone = prepare([root], tmp_path / "a", config=config)
    assert alone.findings["skull-stripped"] == 2 and "mixed-stripping" not in alone.findings
    tissue = 500 + 200 * np.sin(9 * GRID[0]) + 0.2 * data + RNG.normal(0, 90, data.shape)
    whole = np.where(RADIUS < 0.9, np.maximum(tissue, 1), 0)
    nifti(root / "head.nii", whole.astype(np.int16), AFFINE)
    both = prepare([root], tmp_path / "b", config=config)
    assert both.warnings["mixed-stripping"] == 3 and both.findings["skull-stripped"] == 2
