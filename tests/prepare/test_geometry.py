"""The prepared grid and the one resampling onto it."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations, product
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from volta3d.cohort.contract import Contract
from volta3d.prepare.checks import voxel_sizes
from volta3d.prepare.findings import Refused
from volta3d.prepare.foreground import COARSE_MM, _filled, _opened, find_foreground, of_mask, otsu
from volta3d.prepare.geometry import as_float, mapping_to, plan_grid, same_grid, to_ras
from volta3d.prepare.resample import apply_along_axes, blur, resample, resample_nearest
from volta3d.prepare.volume import prepare_scan

Make = Callable[..., Path]


def rotation(seed: int, degrees: float = 40) -> np.ndarray:
    axis = np.random.default_rng(seed).normal(size=3)
    x, y, z = axis / np.linalg.norm(axis)
    k = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = np.radians(degrees)
    turned: np.ndarray = np.eye(3) + np.sin(angle) * k + (1 - np.cos(angle)) * k @ k
    return turned


def oblique(seed: int, zooms: tuple[float, float, float], shape: tuple[int, ...]) -> np.ndarray:
    """An affine rotated about the centre of its grid, which lies at (3, -5, 7) mm."""
    affine = np.eye(4)
    affine[:3, :3] = rotation(seed) * zooms
    affine[:3, 3] = np.array([3, -5, 7]) - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return affine


ORIENTATIONS = [
    np.array(list(zip(axes, signs, strict=True)))
    for axes in permutations(range(3))
    for signs in product((1, -1), repeat=3)
]


def test_N28_all_48_orientations_give_the_same_array(
    tmp_path: Path, nifti: Make, head: tuple[np.ndarray, np.ndarray]
) -> None:
    data, affine = head
    marks = np.zeros(data.shape, np.uint8)
    marks[13:16, 8:12, 5:7] = 47
    contract = Contract(size=16, spacing=3.0)
    native = prepare_scan(nifti(tmp_path / "a.nii", data, affine), contract)
    assert len(ORIENTATIONS) == 48 and native.volume.std() > 0.1
    seen = set()
    for turn in ORIENTATIONS:
        turned = affine @ nib.orientations.inv_ornt_aff(turn, data.shape)
        seen.add("".join(nib.aff2axcodes(turned)))
        scan = nifti(tmp_path / "b.nii", nib.apply_orientation(data, turn), turned)
        label = nifti(tmp_path / "l.nii", nib.apply_orientation(marks, turn), turned)
        prepared = prepare_scan(scan, contract, label)
        np.testing.assert_array_equal(prepared.volume, native.volume)
        np.testing.assert_array_equal(prepared.affine, native.affine)
        assert prepared.label is not None
        x = np.argwhere(prepared.label == 47) @ prepared.affine[0, :3] + prepared.affine[0, 3]
        assert (x > native.affine[0] @ [7.5, 7.5, 7.5, 1]).all()
    assert len(seen) == 48


@pytest.mark.parametrize("zooms", [(1.5, 1.5, 1.5), (0.9, 1.1, 3.5), (3.0, 1.0, 1.0)])
@pytest.mark.parametrize("angle", ["parallel", 1, 2, 3])
def test_X16_every_voxel_keeps_its_world_position_within_a_hundredth_of_a_mm(
    zooms: tuple[float, float, float], angle: int | str
) -> None:
    """Images that hold their own world coordinates: linear interpolation and a symmetric blur
    reproduce a linear function exactly, so the value of a prepared voxel is where it came from."""
    shape = (44, 40, 36)
    if isinstance(angle, int):
        affine = oblique(angle, zooms, shape)
    else:
        affine = np.diag([*zooms, 1.0])
        affine[:3, 3] = [-20.3, -31.7, 11.1]
    centre = affine @ [*((np.array(shape) - 1) / 2), 1]
    grid = np.diag([2.0, 2.0, 2.0, 1.0])
    grid[:3, 3] = centre[:3] - 2.0 * 6.5
    mapping = mapping_to(affine, grid)
    voxels = np.stack(np.indices(shape), axis=-1)
    out = (14, 14, 14)
    wanted = np.stack(np.indices(out), axis=-1) @ grid[:3, :3].T + grid[:3, 3]
    for axis in range(3):
        world = (voxels @ affine[axis, :3] + affine[axis, 3]).astype(np.float32)
        moved = resample(world, mapping, out, outside=float(world.min()))
        inner = (slice(3, -3),) * 3  # away from the edges of the field of view
        assert np.abs(moved[inner] - wanted[inner][..., axis]).max() < 0.01


@pytest.mark.parametrize("fit", ["resize", "pad", "none"])
def test_X16_a_landmark_keeps_its_world_position_there_and_back(
    tmp_path: Path, nifti: Make, fit: str
) -> None:
    shape, at = (50, 54, 46), np.array([9.0, -14.0, 16.0])
    affine = oblique(5, (1.4, 1.2, 1.6), shape)
    world = np.stack(np.indices(shape), axis=-1) @ affine[:3, :3].T + affine[:3, 3]
    blob = 1000 * np.exp(-((world - at) ** 2).sum(axis=-1) / (2 * 6.0**2))
    path = nifti(tmp_path / "a.nii", blob.astype(np.float32), affine)
    size = 80 if fit == "none" else 48
    contract = Contract(size=size, spacing=1.5, fit=fit, percentiles=(0, 100))  # type: ignore[arg-type]
    prepared = prepare_scan(path, contract)
    assert centroid(prepared.volume, prepared.affine) == pytest.approx(at, abs=0.01)
    # back onto the native grid, as predictions are
    there = mapping_to(prepared.affine, affine)
    native = resample(prepared.volume, there, shape, outside=0.0)
    assert centroid(native, affine) == pytest.approx(at, abs=0.01)


def centroid(volume: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """The centre of mass in world mm."""
    weight = volume.astype(np.float64)
    voxel = [(weight * i).sum() / weight.sum() for i in np.indices(weight.shape)]
    where: np.ndarray = (affine @ [*voxel, 1])[:3]
    return where


def test_both_resamplers_are_one() -> None:
    """The product of matrices equals Gaussian filter and interpolation by scipy."""
    rng = np.random.default_rng(0)
    data = rng.random((21, 18, 25), dtype=np.float32)
    mapping = np.diag([2.3, 0.7, 1.4, 1.0])
    mapping[:3, 3] = [-1.2, 3.3, -0.4]
    out = (10, 24, 19)
    fast = resample(data, mapping, out, outside=0.3)
    smooth = ndimage.gaussian_filter(data, blur(mapping), mode="nearest")
    slow = ndimage.affine_transform(
        smooth, mapping, output_shape=out, order=1, mode="grid-constant", cval=0.3
    )
    np.testing.assert_allclose(fast, slow, atol=2e-6)  # fp32 sums in another order
    labels = rng.integers(0, 200, data.shape).astype(np.uint16)
    near = resample_nearest(labels, mapping, out)
    for at in rng.integers(0, out, (300, 3)):
        where = np.floor(mapping[:3, :3] @ at + mapping[:3, 3] + 0.5).astype(int)
        inside = (where >= 0).all() and (where < data.shape).all()
        assert near[tuple(at)] == (labels[tuple(where)] if inside else 0)


def test_shrinking_removes_what_the_grid_cannot_hold() -> None:
    stripes = np.zeros((64, 8, 8), np.float32)
    stripes[::2] = 1
    coarse = resample(stripes, np.diag([3.0, 1, 1, 1]), (20, 8, 8), outside=0.5)
    # linear interpolation alone would alternate between 0 and 1
    assert np.abs(coarse[2:-2] - 0.5).max() < 0.05
    assert blur(np.diag([1.0, 0.5, 1, 1])) == [0, 0, 0]


def planned(contract: Contract, data: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, list]:
    data = data.astype(np.float32)
    return plan_grid(data.shape, affine, find_foreground(data, affine), contract)


def box(edges: tuple[int, int, int], zoom: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """A bright block of ``edges`` voxels in a dark volume, and its affine."""
    data = np.zeros((60, 60, 60), np.float32)
    data[tuple(slice(10, 10 + e) for e in edges)] = 100
    affine = np.diag([zoom, zoom, zoom, 1.0])
    affine[:3, 3] = [-7.3, 4.1, 22.9]
    return data, affine


def test_resize_shrinks_a_large_head_to_the_cube_less_its_margin() -> None:
    data, affine = box((48, 30, 36), zoom=3.0)  # one voxel a block, so the box is exact
    grid, found = planned(Contract(size=28, margin=2, spacing=1.0), data, affine)
    assert found == []
    assert grid[0, 0] == grid[1, 1] == grid[2, 2] == pytest.approx(48 * 3 / 24)
    centre = grid @ [13.5, 13.5, 13.5, 1]
    wanted = affine @ [*(np.array([10, 10, 10]) + (np.array([48, 30, 36]) - 1) / 2), 1]
    np.testing.assert_allclose(centre, wanted, atol=1e-9)


def test_resize_never_enlarges() -> None:
    data, affine = box((12, 12, 12), zoom=3.0)
    assert planned(Contract(size=64, spacing=1.5), data, affine)[0][0, 0] == 1.5


def test_pad_keeps_the_spacing_copies_native_voxels_and_says_what_is_cropped(
    tmp_path: Path, nifti: Make
) -> None:
    data, affine = box((48, 30, 36))
    data += np.random.default_rng(0).random(data.shape, dtype=np.float32)
    grid, found = planned(Contract(size=24, fit="pad"), data, affine)
    assert [f.code for f in found] == ["cropped"] and grid[0, 0] == 1
    mapping = mapping_to(affine, grid)
    offset = mapping[:3, 3].round().astype(int)
    np.testing.assert_allclose(mapping[:3, 3], offset, atol=1e-9)
    cut = data[tuple(slice(o, o + 24) for o in offset)]
    np.testing.assert_allclose(resample(data, mapping, (24, 24, 24), 0.0), cut, atol=1e-5)
    assert planned(Contract(size=64, fit="pad"), data, affine)[1] == []


def test_none_keeps_the_field_of_view_or_refuses() -> None:
    data, affine = box((20, 20, 20))
    grid, found = planned(Contract(size=64, fit="none"), data, affine)
    corner = np.linalg.inv(grid) @ affine
    assert found == [] and (corner[:3, 3] >= 0).all() and (corner[:3, 3] + 59 <= 63).all()
    with pytest.raises(Refused, match="needs 60 voxels") as caught:
        planned(Contract(size=59, fit="none"), data, affine)
    assert "size=60" in caught.value.finding.how_to_fix


def test_N29_thick_slices_are_handled_and_flagged(tmp_path: Path, nifti: Make) -> None:
    data = np.zeros((120, 120, 12), np.int16)
    data[20:100, 30:90, 2:10] = 100
    data += np.random.default_rng(0).integers(1, 9, data.shape).astype(np.int16)
    path = nifti(tmp_path / "a.nii", data, np.diag([0.5, 0.5, 6.0, 1.0]))
    prepared = prepare_scan(path, Contract(size=32))
    assert {f.code for f in prepared.findings} == {"thick-slices", "small-field-of-view"}
    bright = np.argwhere(prepared.volume > 0.5)
    edges = (bright.max(axis=0) + 1 - bright.min(axis=0)) * prepared.affine[0, 0]
    # 40 x 30 x 48 mm of tissue, to within a voxel and the width of a slice
    assert np.abs(edges - [40, 30, 48]).max() < 2 * prepared.affine[0, 0] + 3


def test_N30_label_grids_are_compared_in_millimetres() -> None:
    affine, shape = oblique(1, (1, 1, 1), (20, 20, 20)), (20, 20, 20)
    barely, shifted, flipped = affine + 1e-4, affine.copy(), affine.copy()
    shifted[:3, 3] += affine[:3, 0]
    flipped[:3, 0] *= -1
    assert same_grid(affine, barely, shape, shape)
    assert not same_grid(affine, shifted, shape, shape)
    assert not same_grid(affine, flipped, shape, shape)
    assert not same_grid(affine, affine, shape, (20, 20, 21))


@pytest.mark.parametrize("dtype", [np.int16, np.float64, ">i2"])
def test_as_float_copies_every_order_of_axes(dtype: str) -> None:
    data = np.random.default_rng(0).integers(-99, 99, (5, 6, 7)).astype(dtype)
    for stored in (np.asfortranarray(data), np.ascontiguousarray(data)):
        for turn in ORIENTATIONS:
            view = nib.apply_orientation(stored, turn)
            copy = as_float(view)
            assert copy.dtype == np.float32 and copy.flags.c_contiguous
            np.testing.assert_array_equal(copy, view)


def test_banded_products_are_the_whole_products() -> None:
    rng = np.random.default_rng(0)
    data = rng.random((23, 40, 51), dtype=np.float32)
    bands = []
    for n, m in zip(data.shape, (7, 33, 70), strict=True):
        at = np.linspace(-3, n + 2, m)  # the outermost rows are empty
        bands.append(np.maximum(0, 2 - np.abs(at[:, None] - np.arange(n))))
    found = apply_along_axes(data, bands, offset=0.25)
    shifted = data.astype(np.float64) - 0.25
    wanted = np.einsum("ai,bj,ck,ijk->abc", *bands, shifted, optimize=True)
    np.testing.assert_allclose(found, wanted, atol=2e-5)  # fp32
    assert not any(found[0].ravel())


def test_the_parts_of_the_foreground_equal_scipy_s() -> None:
    rng = np.random.default_rng(0)
    for trial in range(30):
        shape = tuple(rng.integers(1, 24, 3))
        noise = rng.random(shape)
        mask = (noise if trial % 3 else ndimage.gaussian_filter(noise, 1.2)) > rng.uniform(0.4, 0.6)
        np.testing.assert_array_equal(_opened(mask), ndimage.binary_opening(mask))
        np.testing.assert_array_equal(_filled(mask), ndimage.binary_fill_holes(mask))
        if mask.any():
            affine = np.vstack([rng.normal(size=(3, 4)), [0, 0, 0, 1]])
            found = of_mask(mask, affine)
            centres = np.argwhere(mask) @ affine[:3, :3].T + affine[:3, 3]
            half = np.abs(affine[:3, :3]).sum(axis=1) / 2
            np.testing.assert_allclose(found.low, centres.min(axis=0) - half, atol=1e-12)
            np.testing.assert_allclose(found.high, centres.max(axis=0) + half, atol=1e-12)


def test_to_ras_moves_no_voxel_in_the_world(head: tuple[np.ndarray, np.ndarray]) -> None:
    affine = oblique(3, (1, 2, 3), head[0].shape)
    view, moved = to_ras(head[0], affine)
    assert "".join(nib.aff2axcodes(moved)) == "RAS"
    at = np.array([4, 5, 6, 1])
    there = np.linalg.inv(moved) @ affine @ at
    np.testing.assert_allclose(there, there.round(), atol=1e-9)
    assert view[tuple(there[:3].round().astype(int))] == head[0][4, 5, 6]
    np.testing.assert_allclose(sorted(voxel_sizes(moved)), [1, 2, 3])


@pytest.mark.parametrize("noise", [0, 5, 25])
def test_foreground_survives_noise_and_stray_bright_spots(noise: float) -> None:
    data, affine = box((30, 24, 27), zoom=3.0)
    rng = np.random.default_rng(0)
    data += noise * np.abs(rng.normal(size=data.shape)).astype(np.float32)
    data[50:53, 50:53, 50:53] = 100  # a marker beside the head
    found = find_foreground(data, affine)
    assert found.mm3 == pytest.approx(30 * 24 * 27 * 27, rel=0.02)
    # noise may add a coarse voxel at each face, the marker nothing
    np.testing.assert_allclose(found.high - found.low, [90, 72, 81], atol=2 * COARSE_MM + 0.1)


def test_foreground_fills_the_hollow_of_a_head() -> None:
    data, affine = box((30, 30, 30), zoom=3.0)
    solid = find_foreground(data, affine).mm3
    data[20:26, 20:26, 20:26] = 0
    assert find_foreground(data, affine).mm3 == solid
    assert solid == pytest.approx(30**3 * 27, rel=0.02)  # opening rounds the edges


def test_otsu_is_the_split_with_least_variance_within() -> None:
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(10, 3, 700), rng.normal(50, 8, 300)])
    threshold = otsu(values)

    def within(t: float) -> float:
        parts = (values[values <= t], values[values > t])
        return sum(len(p) * p.var() for p in parts if len(p))

    candidates = np.linspace(values.min(), values.max(), 400)
    best = min(map(within, candidates))
    assert within(threshold) <= best * 1.01  # a bin is 1/256 of the range
