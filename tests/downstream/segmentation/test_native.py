"""Back to the scan's own grid: exact where grids agree, in place where they don't, bounded."""

from __future__ import annotations

import itertools
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from volta3d.cohort.contract import Contract
from volta3d.downstream.segmentation import native
from volta3d.downstream.segmentation.labelmap_files import write_labelmap
from volta3d.downstream.segmentation.native import Grid, largest_components, to_native
from volta3d.downstream.segmentation.structures import Structure
from volta3d.prepare.nifti import read_nifti
from volta3d.prepare.volume import prepare_scan
from volta3d.views.geometry import rotation_matrix


def bodies(shape: tuple[int, int, int] = (20, 24, 22)) -> np.ndarray:
    """Two different bodies without any symmetry, uint8 classes."""
    x, y, z = np.indices(shape)
    classes = np.zeros(shape, np.uint8)
    classes[((x - 6) / 3) ** 2 + ((y - 9) / 6) ** 2 + ((z - 8) / 3) ** 2 < 1] = 1
    classes[((x - 13) / 4) ** 2 + ((y - 14) / 5) ** 2 + ((z - 12) / 3) ** 2 < 1] = 2
    return classes


def one_hot(classes: np.ndarray, count: int = 3) -> Tensor:
    return torch.stack([torch.from_numpy(classes == c).float() for c in range(count)])


def orientations() -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    return [
        (order, signs)
        for order in itertools.permutations(range(3))
        for signs in itertools.product((1, -1), repeat=3)
    ]


def turned(classes: np.ndarray, affine: np.ndarray, order: tuple[int, ...], signs: tuple[int, ...]):  # type: ignore[no-untyped-def]
    """The same body stored along other axes, with the affine that says so."""
    ornt = np.array([[o, s] for o, s in zip(order, signs, strict=True)], float)
    stored = nib.orientations.apply_orientation(classes, ornt)
    return stored, affine @ nib.orientations.inv_ornt_aff(ornt, classes.shape)


def test_X18_all_48_orientations_come_back_exactly() -> None:
    classes = bodies()
    grid = np.diag([1.0, 1.0, 1.0, 1.0])
    grid[:3, 3] = (-9.5, 4.0, 12.0)
    for order, signs in orientations():
        stored, affine = turned(classes, grid, order, signs)
        found = to_native(one_hot(classes), grid, Grid(stored.shape, affine))
        assert np.array_equal(found, stored), (order, signs)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.7, 1.3, 2.5)])
def test_X18_through_preparation_and_back(
    tmp_path: Path, spacing: tuple[float, float, float]
) -> None:
    """A label map prepared along with its scan and taken back is the native label map."""
    classes = bodies()
    rotation = rotation_matrix((12.0, -7.0, 20.0)) if spacing[0] != 1.0 else np.eye(3)
    affine = np.eye(4)
    affine[:3, :3] = rotation @ np.diag(spacing)
    affine[:3, 3] = (-30.0, 12.0, 5.0)
    rng = np.random.default_rng(0)
    scan = (50 + 100 * (classes > 0) + rng.random(classes.shape)).astype(np.float32)
    nib.save(nib.Nifti1Image(scan, affine), tmp_path / "a.nii.gz")
    nib.save(nib.Nifti1Image(classes, affine), tmp_path / "a_dseg.nii.gz")
    fine = 1.0 if spacing[0] == 1.0 else 0.5
    contract = Contract(size=160, spacing=fine, fit="none")
    prepared = prepare_scan(tmp_path / "a.nii.gz", contract, tmp_path / "a_dseg.nii.gz")
    assert prepared.label is not None
    found = to_native(one_hot(prepared.label), prepared.affine, Grid(classes.shape, affine))
    if spacing[0] == 1.0:
        assert np.array_equal(found, classes)
        return
    # oblique and finer: a boundary may move by a fraction of a prepared voxel
    for c in (1, 2):
        same = (
            2 * ((found == c) & (classes == c)).sum() / ((found == c).sum() + (classes == c).sum())
        )
        assert same > 0.97


def test_X18_against_resampling_every_probability() -> None:
    """The slabs, the box and the background give what a plain resampling gives everywhere."""
    rng = np.random.default_rng(3)
    raw = ndimage.gaussian_filter(rng.normal(size=(3, 16, 16, 16)), (0, 2, 2, 2)) * 40
    raw[0] += 1.0
    chances = np.exp(raw) / np.exp(raw).sum(0)
    grid = np.diag([2.0, 2.0, 2.0, 1.0])
    affine = np.eye(4)
    affine[:3, :3] = rotation_matrix((25.0, 10.0, -15.0)) @ np.diag([1.1, 0.9, 1.7])
    affine[:3, 3] = (3.0, -2.0, 4.0)
    shape = (30, 33, 21)
    found = to_native(torch.from_numpy(chances), grid, Grid(shape, affine))
    mapping = np.linalg.inv(grid) @ affine
    moved = np.stack(
        [
            ndimage.affine_transform(
                c, mapping, output_shape=shape, order=1, mode="grid-constant", cval=float(i == 0)
            )
            for i, c in enumerate(chances)
        ]
    )
    margin = np.sort(moved, axis=0)[-1] - np.sort(moved, axis=0)[-2]
    clear = margin > 1e-5  # fp32 against fp64 may decide a tie otherwise
    assert clear.mean() > 0.999
    assert np.array_equal(found[clear], moved.argmax(0)[clear])
    assert {0, 1, 2} <= set(np.unique(found))


def test_X18_a_native_grid_beyond_the_cube_is_background() -> None:
    far = np.eye(4)
    far[:3, 3] = 500.0
    found = to_native(one_hot(bodies()), np.eye(4), Grid((10, 10, 10), far))
    assert not found.any()
    nothing = torch.zeros(3, 8, 8, 8)
    nothing[0] = 1
    assert not to_native(nothing, np.eye(4), Grid((10, 10, 10), np.eye(4))).any()


def test_memory_is_bounded_by_slabs_whatever_the_native_grid(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Thin slabs change nothing, and no slab holds more than its share."""
    classes, grid = bodies(), np.eye(4)
    fine = np.diag([0.25, 0.25, 0.25, 1.0])
    shape = (80, 96, 88)
    whole = to_native(one_hot(classes), grid, Grid(shape, fine))
    sizes: list[int] = []
    slab = native._slab

    def watched(structures: Tensor, mapping: np.ndarray, ranges: list[range]) -> np.ndarray:
        each = native.PLACE_BYTES + 8 * len(structures)
        sizes.append(each * int(np.prod([len(r) for r in ranges])))
        return slab(structures, mapping, ranges)

    monkeypatch.setattr(native, "_slab", watched)
    monkeypatch.setattr(native, "SLAB_BYTES", 2**20)
    assert np.array_equal(to_native(one_hot(classes), grid, Grid(shape, fine)), whole)
    assert len(sizes) > 5 and max(sizes) <= 2**20


def test_the_largest_part_of_each_structure_is_kept() -> None:
    classes = bodies()
    before = classes.copy()
    classes[0, 0, 0], classes[19, 23, 20:22] = 1, 2
    assert np.array_equal(largest_components(classes), before)
    diagonal = np.zeros((4, 4, 4), np.uint8)
    diagonal[[0, 1, 2], [0, 1, 2], [0, 1, 2]] = 1  # corners hang together
    assert largest_components(diagonal).sum() == 3


def test_a_written_label_map_has_the_scan_s_grid_and_its_own_values(tmp_path: Path) -> None:
    affine = np.diag([-0.8, 1.1, 2.0, 1.0])
    affine[:3, 3] = (40.0, -3.0, 7.0)
    structures = (Structure("left", (48,), "left"), Structure("right", (4700,), "right"))
    path = tmp_path / "sub-1" / "anat" / "sub-1_dseg.nii.gz"
    write_labelmap(path, bodies(), Grid((20, 24, 22), affine), structures)
    image = read_nifti(path)
    assert np.allclose(image.affine, affine, atol=1e-5)  # NIfTI stores fp32
    assert set(np.unique(image.data)) == {0, 48, 4700}
    assert np.array_equal(image.data == 48, bodies() == 1)
    assert [p.name for p in path.parent.iterdir()] == [path.name]
