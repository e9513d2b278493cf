"""Views in millimetres: their size in the scan's own mm, and where in the head they lie."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from volta3d.config import MaskingConfig, ViewsConfig, build
from volta3d.errors import ConfigError
from volta3d.randomness import numpy_generator
from volta3d.views.batch import make_views
from volta3d.views.geometry import centred_on, draw_geometry, view_to_volume
from volta3d.views.head import Head, cube_edge_mm, foreground_box
from volta3d.views.parameters import scale_range, view_parameters

MM = ViewsConfig(spacing_mm=(1.8, 2.2), global_size=48, locals=0, rotation=0, isotropic=True)
SMALL_HEAD = Head(192.0, (-0.3, -0.6, -0.9), (0.5, 0.8, 0.7))


def drawn(head: Head, views: ViewsConfig = MM, count: int = 200):
    settings = {"epoch": 0, "seed": 0, "views": views, "masking": MaskingConfig(), "mask": False}
    rows = [view_parameters(f"s{i}", 0, head=head, **settings) for i in range(count)]
    return [row.geometry for row in rows]


@pytest.mark.parametrize("edge_mm", [192.0, 228.0, 96.0])
def test_a_view_has_its_millimetres_whatever_the_cube_measures(edge_mm):
    voxels = np.array([g.scale for g in drawn(Head(edge_mm))]) * edge_mm / 48
    assert voxels.min() >= 1.8
    assert voxels.max() <= 2.2
    assert np.ptp(voxels) > 0.35  # 200 draws reach both ends nearly


def test_at_least_half_of_a_view_lies_in_the_head():
    low, high = np.array(SMALL_HEAD.low), np.array(SMALL_HEAD.high)
    shares = []
    for g in drawn(SMALL_HEAD):
        half, center = np.array(g.scale), np.array(g.center)
        assert (np.abs(center) + half <= 1 + 1e-9).all()  # and all of it in the cube
        shared = np.minimum(center + half, high) - np.maximum(center - half, low)
        shares.append(np.prod(shared.clip(0)) / np.prod(2 * half))
        # along an axis on which the box is shorter than the view, all of its share may be less
        attainable = np.prod(np.minimum(1, (high - low) / (2 * half)))
        assert shares[-1] >= 0.5 * attainable - 1e-9
    assert np.ptp(shares) > 0.3  # not all in one place


def test_a_view_larger_than_the_cube_holds_all_of_it():
    for g in drawn(Head(80.0)):
        assert min(g.scale) > 1
        assert (np.abs(g.center) <= np.array(g.scale) - 1 + 1e-9).all()


def test_views_by_fraction_draw_what_they_always_drew():
    views = ViewsConfig(global_scale=(0.5, 0.9))
    ours = draw_geometry(numpy_generator("g", 1), views, (0.5, 0.9))
    generator = numpy_generator("g", 1)
    scale = generator.uniform(0.5, 0.9, size=3)
    assert ours.scale == pytest.approx(tuple(scale))
    assert ours.center == pytest.approx(tuple(generator.uniform(-1, 1, size=3) * (1 - scale)))


def test_the_middle_of_the_head():
    g = centred_on(SMALL_HEAD, 0.5)
    assert g.center == pytest.approx((0.1, 0.1, -0.1))
    assert view_to_volume(g, (96, 96, 96))[:, 3] == pytest.approx([0.1, 0.1, -0.1])


def test_the_box_of_what_is_bright_without_the_noise_around_it():
    volume = torch.full((20, 24, 16), 0.01)
    volume[4:15, 2:20, 3:16] = 1.0
    volume[0, 0, 0] = 1.0  # a speck
    low, high = foreground_box(volume)
    assert low == pytest.approx((-0.6, 4 / 24 - 1, 6 / 16 - 1))
    assert high == pytest.approx((0.5, 40 / 24 - 1, 1.0))
    assert foreground_box(torch.ones(4, 4, 4)) == ((-1, -1, -1), (1, 1, 1))


def test_the_edge_of_a_cube_by_its_affine():
    turned = np.eye(4)
    turned[:3, :3] = 1.75 * np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1]])
    assert cube_edge_mm(turned, 128) == pytest.approx(224)


def test_views_show_the_same_millimetres_of_cubes_of_different_scale():
    """A ball of 60 mm fills the same share of a view, in cubes of 2 mm and of 1.5 mm voxels."""
    shares = []
    for voxel in (2.0, 1.5):
        places = (torch.arange(96) - 47.5) * voxel
        radius = (places.view(-1, 1, 1) ** 2 + places.view(1, -1, 1) ** 2 + places**2).sqrt()
        ball = (radius < 30).float()[None, None]
        head = Head(96 * voxel, *foreground_box(ball[0, 0]))
        views = MM.model_copy(update={"spacing_mm": (2.0, 2.0), "intensity": 0.0})
        batch = make_views(
            ball, ["s"], epoch=0, seed=0, views=views, masking=MaskingConfig(), heads=[head]
        )
        shares.append(float(batch.global_views.sum()) / 2 * 8)  # mm³
    assert shares[0] == pytest.approx(4 / 3 * np.pi * 30**3, rel=0.02)
    assert shares[1] == pytest.approx(shares[0], rel=0.02)


def test_millimetres_without_a_head_are_refused():
    with pytest.raises(ValueError, match="how large the scans are"):
        scale_range(MM, True, None)


def test_locals_have_millimetres_of_their_own_or_those_of_the_globals():
    own = MM.model_copy(update={"local_size": 24, "local_spacing_mm": (1.0, 1.5)})
    assert scale_range(own, False, Head(192.0)) == (24 / 192, 36 / 192)
    same = MM.model_copy(update={"local_size": 24})
    assert scale_range(same, False, Head(192.0)) == pytest.approx((43.2 / 192, 52.8 / 192))


def test_one_way_to_say_how_much_of_a_head_a_view_holds():
    assert ViewsConfig().global_scale == (0.7, 1.0)
    assert ViewsConfig(spacing_mm=(2, 2)).global_scale is None
    assert build(ViewsConfig, {"spacing_mm": [2, 2], "global_scale": None}).local_scale is None
    with pytest.raises(ConfigError, match=r"global_scale both say.*spacing_mm=null"):
        build(ViewsConfig, {"spacing_mm": [2, 2], "global_scale": [0.5, 0.9]})
    with pytest.raises(ConfigError, match="local_spacing_mm needs spacing_mm"):
        build(ViewsConfig, {"local_spacing_mm": [2, 2]})
    with pytest.raises(ConfigError, match="larger than the second"):
        build(ViewsConfig, {"spacing_mm": [2.2, 1.8]})
