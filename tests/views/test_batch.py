"""The contract of ``make_views``: shapes, order, independence of the batch, bad input."""

import dataclasses
import itertools

import numpy as np
import pytest
import torch

from volta3d.config import MaskingConfig, ViewsConfig
from volta3d.views import batch as batch_module
from volta3d.views.batch import make_views
from volta3d.views.key import ViewKey
from volta3d.views.parameters import view_parameters

VIEWS = ViewsConfig(global_size=16, local_size=8, locals=3)
STILL = ViewsConfig(global_size=20, locals=0, global_scale=(1, 1), rotation=0, flip=0, intensity=0)
MASKING = MaskingConfig()
IDS = ["site_a", "site_b", "site_c"]
FIELDS = ("global_views", "corrupted", "masks", "local_views")


@pytest.fixture
def volumes():
    drawn = torch.rand(3, 1, 20, 20, 20, generator=torch.Generator().manual_seed(0))
    return drawn.clamp(0.1, 1.0)


def made(volumes, ids=IDS, *, views=VIEWS, masking=MASKING, epoch=0, seed=0, **more):
    return make_views(volumes, ids, epoch=epoch, seed=seed, views=views, masking=masking, **more)


def parameters(scan_id="a", view=0, *, epoch=0, seed=0, views=VIEWS, masking=MASKING):
    return view_parameters(scan_id, view, epoch=epoch, seed=seed, views=views, masking=masking)


def test_shapes_types_and_range(volumes):
    batch = made(volumes)
    for name in ("global_views", "corrupted", "masks"):
        assert getattr(batch, name).shape == (6, 1, 16, 16, 16)
    assert batch.local_views.shape == (9, 1, 8, 8, 8)
    assert batch.masks.dtype == torch.bool
    for name in ("global_views", "corrupted", "local_views"):
        tensor = getattr(batch, name)
        assert tensor.dtype == torch.float32
        assert not tensor.requires_grad
        assert 0 <= float(tensor.min()) < float(tensor.max()) <= 1


def test_views_of_a_batch_at_once_have_the_same_masks(volumes, monkeypatch):
    """The way of a device that makes all scans' views together, on this one."""
    alone = made(volumes)
    monkeypatch.setattr(batch_module, "one_by_one", lambda device: False)
    monkeypatch.setattr("volta3d.views.parameters.draw_mask", None)  # nothing is painted in turn
    together = made(volumes)
    for name in FIELDS:
        torch.testing.assert_close(getattr(alone, name), getattr(together, name))
    assert torch.equal(alone.masks, together.masks)


def test_no_locals_is_none(volumes):
    assert made(volumes, views=VIEWS.model_copy(update={"locals": 0})).local_views is None


def test_unmasked_voxels_are_bitwise_the_clean_view(volumes):
    batch = made(volumes)
    assert torch.equal(batch.corrupted[~batch.masks], batch.global_views[~batch.masks])
    assert not torch.equal(batch.corrupted, batch.global_views)


def test_still_view_is_the_volume_and_flip_mirrors_left_and_right(volumes):
    """Tolerance: the float32 error of a place times the difference between neighbours."""
    before = volumes.clone()
    got = made(volumes, views=STILL).global_views
    torch.testing.assert_close(got, volumes.repeat(2, 1, 1, 1, 1), rtol=0, atol=1e-5)
    got = made(volumes, views=STILL.model_copy(update={"flip": 1.0})).global_views
    torch.testing.assert_close(got[:3], volumes.flip(2), rtol=0, atol=1e-5)
    assert torch.equal(volumes, before)


@pytest.mark.parametrize("value_range", [(0.0, 1.0), None, (-1.0, 2.0)])
def test_R5_a_scans_views_do_not_depend_on_its_batch(volumes, value_range):
    together = made(volumes, value_range=value_range)
    order = [2, 0, 1]
    shuffled = made(volumes[order], [IDS[i] for i in order], value_range=value_range)
    for i, scan in enumerate(IDS):
        alone = made(volumes[i : i + 1], [scan], value_range=value_range)
        for name in FIELDS:
            mine = getattr(together, name)[i::3]
            assert torch.equal(mine, getattr(alone, name))
            assert torch.equal(mine, getattr(shuffled, name)[order.index(i) :: 3])


def test_R1_the_same_call_gives_the_same_bits_whatever_the_global_generators_hold(volumes):
    first = made(volumes)
    torch.rand(5)
    np.random.seed(3)  # noqa: NPY002 the legacy global state is what must not matter
    for name in FIELDS:
        assert torch.equal(getattr(made(volumes), name), getattr(first, name))


def test_R7_no_two_seeds_epochs_scans_or_views_share_draws():
    grid = itertools.product((0, 1), (0, 1, 10), ("a", "b", "a1"), range(4))
    many = [parameters(scan, view, seed=seed, epoch=e) for seed, e, scan, view in grid]
    for read in (
        lambda p: p.geometry.center,
        lambda p: p.geometry.rotation,
        lambda p: p.intensity.bias or p.intensity.sigma or id(p),
        lambda p: p.mask.cuboids[:2] if p.mask else id(p),
    ):
        assert len({read(p) for p in many}) == len(many) == 72


def test_R7_voxel_noise_differs_between_views_scans_epochs_and_purposes():
    device = torch.device("cpu")
    keys = [ViewKey(s, e, i, v) for s in (0, 1) for e in (0, 1) for i in "ab" for v in (0, 1)]
    drawn = {
        float(torch.rand(1, dtype=torch.float64, generator=key.voxels(purpose, device)))
        for key in keys
        for purpose in ("noise", "fill noise")
    }
    assert len(drawn) == 2 * len(keys)


def test_parameters_say_what_was_made(volumes):
    batch = made(volumes, epoch=3, seed=5)
    for (view, scan), mask in zip(itertools.product((0, 1), IDS), batch.masks, strict=True):
        one = parameters(scan, view, epoch=3, seed=5)
        assert np.array_equal(one.mask.voxels, mask[0].numpy())
        assert one.size == 16
        assert one == parameters(scan, view, epoch=3, seed=5)
    local = parameters("a", 4)
    assert (local.size, local.mask, local.fill, local.key.name) == (8, None, None, "local3")
    assert [parameters("a", v).key.name for v in range(3)] == ["global1", "global2", "local1"]
    assert dataclasses.asdict(local)["geometry"]["scale"] == local.geometry.scale


def test_kinds_of_view_have_their_own_smoothing_gibbs_and_scale():
    settings = VIEWS.model_copy(update={"smooth": (1.0, 0.0, 1.0), "gibbs": 1.0})
    for epoch in range(20):
        first, second, local = (parameters(view=v, epoch=epoch, views=settings) for v in range(3))
        assert first.intensity.sigma is not None
        assert local.intensity.sigma is not None
        assert second.intensity.sigma is None
        assert second.intensity.gibbs is not None
        assert first.intensity.gibbs is None
        assert local.intensity.gibbs is None
        assert min(first.geometry.scale) >= 0.7
        assert max(local.geometry.scale) <= 0.6


def test_zscored_volumes_use_their_own_extremes(volumes):
    """A z-scored scan is an affine image of a [0, 1] scan; so are its views and their filling."""
    unit = volumes.clone()
    unit[:, 0, 0, 0, 0], unit[:, 0, 0, 0, 1] = 0.0, 1.0
    expected = made(unit)
    scale, shift = 4.0, -1.5
    got = made(unit * scale + shift, value_range=None)
    for name in ("global_views", "corrupted", "local_views"):
        mine, theirs = getattr(got, name), getattr(expected, name)
        # float32 rounding of values of size 4, carried through a power of up to 1/2
        torch.testing.assert_close(mine, theirs * scale + shift, rtol=0, atol=2e-3)
    assert float(got.global_views.min()) >= shift


def test_constant_volume_stays_finite():
    batch = made(torch.zeros(1, 1, 20, 20, 20), ["a"], value_range=None)
    assert batch.corrupted.eq(0).all()


def test_volumes_that_are_not_cubes(volumes):
    batch = made(volumes[:, :, :, :14, :18])
    assert batch.global_views.shape == (6, 1, 16, 16, 16)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_become_float32(volumes, dtype):
    batch = made(volumes.to(dtype))
    assert torch.equal(batch.global_views, made(volumes.to(dtype).float()).global_views)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.uint16, torch.bool])
def test_integers_are_refused(dtype):
    with pytest.raises(ValueError, match="scale them to floating point"):
        made(torch.zeros(3, 1, 20, 20, 20, dtype=dtype))


@pytest.mark.parametrize(
    "shape", [(3, 20, 20, 20), (2, 1, 20, 20, 20), (3, 2, 8, 8, 8), (0, 1, 8, 8, 8)]
)
def test_shapes_that_do_not_fit_are_refused(shape):
    with pytest.raises(ValueError, match="do not fit"):
        made(torch.zeros(shape), IDS if shape[0] else [])


def test_autocast_changes_nothing(volumes):
    expected = made(volumes)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = made(volumes)
    for name in FIELDS:
        assert torch.equal(getattr(got, name), getattr(expected, name))


@pytest.mark.parametrize("value_range", [(0.0, 1.0), None])
def test_F14_a_voxel_that_is_no_number_shows_in_its_scan_alone(volumes, value_range):
    expected = made(volumes, value_range=value_range)
    volumes[1, 0, 10, 10, 10] = float("nan")
    got = made(volumes, value_range=value_range)
    assert got.global_views[1::3].isnan().any()
    for name in FIELDS:
        for scan in (0, 2):
            assert torch.equal(getattr(got, name)[scan::3], getattr(expected, name)[scan::3])


def test_gradients_are_not_followed(volumes):
    assert not made(volumes.requires_grad_()).global_views.requires_grad
