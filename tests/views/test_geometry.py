"""The affine of a view against float64 loops written from its description."""

import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from volta3d.config import ViewsConfig
from volta3d.randomness import numpy_generator
from volta3d.views.geometry import (
    Geometry,
    draw_geometry,
    resample,
    rotation_matrix,
    sampling_grid,
    view_to_volume,
)

CPU = torch.device("cpu")
TILTED = Geometry(
    scale=(0.9, 0.7, 0.8), center=(0.05, -0.2, 0.1), rotation=(9.0, -6.0, 14.0), flip=True
)


def turned(point, degrees):
    """R0 R1 R2 point, one right-handed rotation after the other, in scalars."""
    x, y, z = point
    a, b, c = (math.radians(d) for d in degrees)
    x, y = x * math.cos(c) - y * math.sin(c), x * math.sin(c) + y * math.cos(c)  # about axis 2
    z, x = z * math.cos(b) - x * math.sin(b), z * math.sin(b) + x * math.cos(b)  # about axis 1
    y, z = y * math.cos(a) - z * math.sin(a), y * math.sin(a) + z * math.cos(a)  # about axis 0
    return x, y, z


def voxel_in_volume(index, size, geometry, shape):
    """The volume's (fractional) voxel index that a view's voxel is read from."""
    offset = []
    for axis in range(3):
        share = (index[axis] + 0.5) / size - 0.5  # of the view's edge, from its centre
        if axis == 0 and geometry.flip:
            share = -share
        offset.append(share * geometry.scale[axis] * shape[axis])  # voxels of the volume
    offset = turned(offset, geometry.rotation)
    return [shape[axis] / 2 * (1 + geometry.center[axis]) + offset[axis] - 0.5 for axis in range(3)]


def trilinear(volume, place):
    """Zero outside, in float64."""
    value = 0.0
    low = [math.floor(p) for p in place]
    for step in itertools.product((0, 1), repeat=3):
        at = [a + s for a, s in zip(low, step, strict=True)]
        if all(0 <= a < n for a, n in zip(at, volume.shape, strict=True)):
            weight = math.prod(1 - abs(p - a) for p, a in zip(place, at, strict=True))
            value += weight * float(volume[tuple(at)])
    return value


@pytest.mark.parametrize("shape", [(10, 10, 10), (12, 9, 7)], ids=["cube", "no cube"])
def test_every_voxel_equals_a_float64_loop(shape):
    volume = numpy_generator("volume").random(shape)
    other = Geometry(scale=(0.5, 0.6, 0.4), center=(0.3, 0.1, -0.5), rotation=(0, 10, -10))
    size = 6
    got = resample(torch.from_numpy(volume).float()[None, None], [[TILTED, other]], size, None)
    for view, geometry in enumerate((TILTED, other)):
        for index in itertools.product(range(size), repeat=3):
            expected = trilinear(volume, voxel_in_volume(index, size, geometry, shape))
            # float32 places are exact to 1e-6 voxels, neighbours differ by at most 1
            assert float(got[view, 0][index]) == pytest.approx(expected, abs=1e-5)


def test_landmark_moves_where_the_affine_says():
    shape, size, truth = (40, 36, 44), 32, (21, 13, 25)
    axes = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    middle = voxel_in_volume(truth, size, TILTED, shape)
    blob = np.exp(-0.5 * sum((a - m) ** 2 for a, m in zip(axes, middle, strict=True)) / 1.5**2)
    view = resample(torch.from_numpy(blob).float()[None, None], [[TILTED]], size, None)[0, 0]
    places = torch.stack(torch.meshgrid(*(torch.arange(size),) * 3, indexing="ij")).flatten(1)
    found = (places * view.flatten()).sum(1) / view.sum()
    # the centroid of a blob in a linear map is the map of its centroid; .02 covers its cut tails
    assert found.tolist() == pytest.approx(truth, abs=0.02)


def test_identity_view_is_the_volume():
    volume = torch.rand(2, 1, 12, 12, 12, generator=torch.Generator().manual_seed(0))
    got = resample(volume, [[Geometry()], [Geometry()]], 12, None)
    # the fp error of a place times the largest difference between neighbours
    torch.testing.assert_close(got, volume, rtol=0, atol=1e-5)


def test_flip_mirrors_axis_0_alone():
    volume = torch.rand(1, 1, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    got = resample(volume, [[Geometry(flip=True)]], 8, None)
    torch.testing.assert_close(got, volume.flip(2), rtol=0, atol=1e-5)


def test_no_rotation_is_exactly_no_rotation():
    assert np.array_equal(rotation_matrix((0.0, 0.0, 0.0)), np.eye(3))


def test_rotation_is_proper_and_in_voxels():
    matrix = rotation_matrix((10.0, -20.0, 30.0))
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-15)
    assert np.linalg.det(matrix) == pytest.approx(1)
    shape = (20, 10, 30)
    linear = view_to_volume(Geometry(rotation=(10.0, -20.0, 30.0)), shape)[:, :3]
    in_voxels = np.diag(shape) @ linear @ np.diag(1 / np.array(shape))
    np.testing.assert_allclose(in_voxels, matrix, atol=1e-14)


def test_grid_equals_affine_grid():
    affine = view_to_volume(TILTED, (16, 12, 14))
    reordered = torch.from_numpy(affine[::-1, [2, 1, 0, 3]].copy()).float()[None]
    expected = F.affine_grid(reordered, [1, 1, 5, 5, 5], align_corners=False)
    got = sampling_grid(affine[None, None], 5, CPU)[0]
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-6)


def test_outside_the_volume_is_background():
    volume = torch.full((1, 1, 8, 8, 8), 5.0)
    far = Geometry(scale=(0.2, 0.2, 0.2), center=(3.0, 0.0, 0.0))
    assert resample(volume, [[far]], 4, None).eq(0).all()
    background = torch.full((1, 1, 1, 1, 1), -7.0)
    assert resample(volume, [[far]], 4, background).eq(-7).all()
    inside = resample(volume, [[Geometry(scale=(0.5, 0.5, 0.5))]], 4, background)
    torch.testing.assert_close(inside, torch.full_like(inside, 5.0))


def test_views_of_several_scans_are_view_major():
    volume = torch.rand(2, 1, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    rows = [[Geometry(), Geometry(flip=True)], [TILTED, Geometry()]]
    together = resample(volume, rows, 6, None)
    for scan, view in itertools.product(range(2), range(2)):
        alone = resample(volume[scan : scan + 1], [[rows[scan][view]]], 6, None)
        assert torch.equal(together[view * 2 + scan], alone[0])


def drawn(count=400, scale_range=(0.35, 0.6), **settings):
    views = ViewsConfig(**settings)
    return [draw_geometry(numpy_generator("draw", i), views, scale_range) for i in range(count)]


def test_drawn_boxes_stay_inside_and_fill_their_ranges():
    many = drawn(rotation=10.0)
    scale, center = (np.array([getattr(g, name) for g in many]) for name in ("scale", "center"))
    rotation = np.array([g.rotation for g in many])
    assert scale.min() >= 0.35
    assert scale.max() <= 0.6
    assert np.all(np.abs(center) + scale <= 1 + 1e-12)
    # 400 uniform draws come within 3 % of both ends of each range, but for a chance of 1e-5
    share = center / (1 - scale)
    for values, low, high in ((scale, 0.35, 0.6), (share, -1, 1), (rotation, -10, 10)):
        assert np.all(values.min(0) < low + 0.03 * (high - low))
        assert np.all(values.max(0) > high - 0.03 * (high - low))
    assert 0.4 < np.mean([g.flip for g in many]) < 0.6  # four standard errors


def test_axes_scale_apart_unless_isotropic():
    assert all(len(set(g.scale)) == 3 for g in drawn(20))
    assert all(len(set(g.scale)) == 1 for g in drawn(20, isotropic=True))


def test_settings_at_their_ends():
    still = drawn(20, scale_range=(1.0, 1.0), flip=0.0, rotation=0.0)
    assert all(view_to_volume(g, (8, 8, 8)).tolist() == np.eye(3, 4).tolist() for g in still)
    assert all(g.flip for g in drawn(20, flip=1.0))


def test_one_setting_leaves_the_other_draws_alone():
    for before, after in zip(drawn(5), drawn(5, rotation=0.0, flip=0.0), strict=True):
        assert (before.scale, before.center) == (after.scale, after.center)
