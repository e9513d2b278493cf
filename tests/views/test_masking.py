"""GMML against a brute-force union, and METHOD section 3's expected facts."""

import numpy as np
import pytest
import torch

from volta3d.config import MaskingConfig
from volta3d.randomness import numpy_generator, torch_generator
from volta3d.views import masking as masking_module
from volta3d.views.masking import corrupt, draw_fill, draw_mask, draw_masks


def mask_of(number, size=96, **settings):
    return draw_mask(numpy_generator("mask", number), size, MaskingConfig(**settings))


def union(cuboids, size):
    voxels = np.zeros((size,) * 3, dtype=bool)
    for low, high in cuboids:
        for x in range(low[0], high[0]):
            for y in range(low[1], high[1]):
                for z in range(low[2], high[2]):
                    voxels[x, y, z] = True
    return voxels


@pytest.mark.parametrize("settings", [{}, {"align": 4}, {"ratio": 0.2}, {"ratio": 0.9}])
def test_X6_stops_at_the_first_cuboid_that_reaches_the_ratio(settings):
    mask = mask_of(0, 24, **settings)
    assert np.array_equal(union(mask.cuboids, 24), mask.voxels)
    wanted = settings.get("ratio", 0.5) * 24**3
    assert mask.voxels.sum() >= wanted > union(mask.cuboids[:-1], 24).sum()


@pytest.mark.parametrize(
    ("size", "settings"),
    [
        (24, {}),
        (24, {"align": 4}),
        (22, {"align": 4}),
        (24, {"ratio": 0.01}),
        (24, {"ratio": 0.97, "max_edge": 0.2}),  # more cuboids than are drawn at first
        (20, {"max_edge": 0.05}),
        (48, {}),
    ],
)
@pytest.mark.parametrize("held", [masking_module.PLANES, 1])
def test_masks_painted_as_matrix_products_are_those_painted_in_turn(
    size, settings, held, monkeypatch
):
    monkeypatch.setattr(masking_module, "PLANES", held)
    settings = MaskingConfig(**settings)
    streams = [numpy_generator("mask", number) for number in range(3)]
    found = draw_masks(streams, size, settings, torch.device("cpu"))
    wanted = [draw_mask(numpy_generator("mask", n), size, settings) for n in range(3)]
    assert found.dtype == torch.bool and found.shape == (3, size, size, size)
    for mask, one in zip(found.numpy(), wanted, strict=True):
        assert np.array_equal(mask, one.voxels)
    if settings.ratio > 0.9:
        first = masking_module.FIRST_CHUNKS * masking_module.CHUNK
        assert max(len(one.cuboids) for one in wanted) > first


def test_X6_expected_facts_voxelwise():
    many = [mask_of(i) for i in range(24)]
    ratios = [m.voxels.mean() for m in many]
    # about 330 cuboids; the mean of 24 has a standard error of about 6
    assert np.mean([len(m.cuboids) for m in many]) == pytest.approx(330, abs=30)
    assert min(ratios) >= 0.5
    assert np.quantile(ratios, 0.75) <= 0.506  # the rare larger ones end on a large cuboid
    assert max(ratios) < 0.5 + 28**3 / 96**3
    tokens = np.stack([m.voxels for m in many]).reshape(-1, 6, 16, 6, 16, 6, 16).mean((2, 4, 6))
    partly = np.mean((tokens > 0) & (tokens < 1), axis=(1, 2, 3))
    assert np.mean(partly) == pytest.approx(0.99, abs=0.01)
    assert partly.min() > 0.96


def test_X6_expected_facts_patchwise():
    many = [mask_of(i, align=16) for i in range(40)]
    ratios = [m.voxels.mean() for m in many]
    # about 70 cuboids; the mean of 40 has a standard error of about 1.5
    assert np.mean([len(m.cuboids) for m in many]) == pytest.approx(70, abs=7)
    assert min(ratios) >= 0.5
    assert np.quantile(ratios, 0.9) <= 0.514
    tokens = np.stack([m.voxels for m in many]).reshape(-1, 6, 16, 6, 16, 6, 16).mean((2, 4, 6))
    assert set(np.unique(tokens)) == {0.0, 1.0}


def test_X6_edges_and_corners():
    """Edges U{1 … ⌊.3·96⌋} before clipping, corners in (-edge, 96): both borders are reached."""
    low, high = np.array([c for i in range(12) for c in mask_of(i).cuboids]).swapaxes(0, 1)
    edges = high - low
    assert (low.min(), low.max()) == (0, 95)
    assert (high.min(), high.max()) == (1, 96)
    assert (edges.min(), edges.max()) == (1, 28)
    inner = ((low > 0) & (low <= 68)).all(1)  # clipped by neither border, whatever their edge
    # an edge e has 95 + e corners on an axis, of which 68 are counted here
    e = np.arange(1, 29)
    expected = np.average(e, weights=1 / (95 + e))
    # about 1,000 cuboids on three axes, standard deviation 8.1: four standard errors are .6
    assert edges[inner].mean() == pytest.approx(expected, abs=0.6)


def test_X6_snapped_to_the_patch():
    low, high = np.array([c for i in range(30) for c in mask_of(i, align=16).cuboids]).swapaxes(
        0, 1
    )
    assert not (low % 16).any()
    assert not (high % 16).any()
    edges = (high - low)[((low > 0) & (low <= 64)).all(1)]
    assert set(np.unique(edges)) == {16, 32}
    # U{16 … 28} rounds to 32 from 24 on, 5 of 13; a corner is one of 6 with 16, of 7 with 32
    expected = 5 / 7 / (5 / 7 + 8 / 6)
    # about 700 cuboids on three axes: four standard errors are .04
    assert np.mean(edges == 32) == pytest.approx(expected, abs=0.04)


@pytest.mark.parametrize("settings", [{}, {"align": 6}])
@pytest.mark.parametrize("path", ["one by one", "at once"])
def test_X6_every_token_is_masked_about_as_often(path, settings):
    size, edge, count = 24, 6, 400
    settings = MaskingConfig(**settings)
    streams = [numpy_generator("even", i) for i in range(count)]
    if path == "at once":
        voxels = draw_masks(streams, size, settings, torch.device("cpu")).numpy()
    else:
        voxels = np.stack([draw_mask(stream, size, settings).voxels for stream in streams])
    shape = (count, *(size // edge, edge) * 3)
    share = voxels.reshape(shape).mean((0, 2, 4, 6))
    # at most .025 of standard error for a token; corners from 0 on gave .1 to .6
    assert share.min() > 0.4
    assert share.max() < 0.6
    for axis in range(3):  # and no drift from one border to the other
        along = share.mean(tuple({0, 1, 2} - {axis}))
        assert np.ptp(along) < 0.05


@pytest.mark.parametrize("size", [5, 10])
def test_sizes_that_the_alignment_does_not_divide(size):
    mask = mask_of(0, size, align=4)
    assert mask.voxels.shape == (size,) * 3
    assert mask.voxels.mean() >= 0.5


def test_alignment_above_the_largest_edge_still_masks():
    assert mask_of(0, 16, align=8).voxels.mean() >= 0.5


def test_masks_compare_by_their_cuboids():
    assert mask_of(1, 16) == mask_of(1, 16)
    assert mask_of(1, 16) != mask_of(2, 16)


def test_fill_is_one_of_two_per_view():
    either = [draw_fill(numpy_generator("f", i), MaskingConfig()) for i in range(400)]
    assert np.mean([f == "noise" for f in either]) == pytest.approx(0.5, abs=0.1)
    for fill in ("zeros", "noise"):
        fixed = MaskingConfig(fill=fill)
        assert {draw_fill(numpy_generator("f", i), fixed) for i in range(20)} == {fill}


def columns(*values):
    return torch.tensor(values, dtype=torch.float32).view(-1, 1, 1, 1, 1)


def corrupted(views, masks, fills, low, high):
    return corrupt(views, masks, fills, lambda i: torch_generator("fill", i), low, high)


@pytest.fixture
def views():
    drawn = torch.rand(2, 1, 24, 24, 24, generator=torch.Generator().manual_seed(0))
    drawn[1] = 0.4 + 0.05 * drawn[1]
    return drawn


@pytest.fixture
def masks():
    return torch.from_numpy(np.stack([mask_of(i, 24).voxels for i in range(2)]))[:, None]


@pytest.mark.parametrize("fills", [("zeros", "noise"), ("noise", "noise"), ("zeros", "zeros")])
def test_unmasked_voxels_stay_bitwise_and_masked_ones_change(views, masks, fills):
    before = views.clone()
    got = corrupted(views, masks, fills, columns(0, 0), columns(1, 1))
    assert torch.equal(views, before)
    assert torch.equal(got[~masks], views[~masks])
    assert not torch.eq(got[masks], views[masks]).any()
    for i, fill in enumerate(fills):
        assert got[i][masks[i]].eq(0).all() == (fill == "zeros")


def test_noise_has_the_views_mean_and_spread_and_is_clipped(views, masks):
    got = corrupted(views, masks, ("noise", "noise"), columns(0, 0), columns(1, 1))
    narrow = got[1][masks[1]]  # far from both ends of the range: nothing is clipped
    # 7,000 voxels: four standard errors are 4.8 % of the spread for the mean, 3.4 % for the spread
    spread = float(views[1].std())
    assert float(narrow.mean()) == pytest.approx(float(views[1].mean()), abs=0.05 * spread)
    assert float(narrow.std()) == pytest.approx(spread, rel=0.035)
    wide = got[0][masks[0]]
    assert float(wide.min()) == 0.0
    assert float(wide.max()) == 1.0


def test_zeros_are_black_when_the_range_is_another(views, masks):
    got = corrupted(views, masks, ("zeros", "noise"), columns(-2.5, 0.42), columns(3, 0.43))
    assert got[0][masks[0]].eq(-2.5).all()
    filled = got[1][masks[1]]
    assert float(filled.min()) == pytest.approx(0.42)
    assert float(filled.max()) == pytest.approx(0.43)


def test_views_draw_their_own_noise(views, masks):
    same = views[:1].repeat(2, 1, 1, 1, 1)
    both = masks[:1].repeat(2, 1, 1, 1, 1)
    got = corrupted(same, both, ("noise", "noise"), columns(0, 0), columns(1, 1))
    assert not torch.equal(got[0], got[1])
