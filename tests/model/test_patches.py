"""Patch embedding and positions against a convolution, F.interpolate and the formula."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch.nn import functional

from volta3d.errors import EncoderError
from volta3d.model.patches import PatchEmbedding


@pytest.fixture
def patches() -> PatchEmbedding:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return PatchEmbedding(image_size=16, patch_size=4, width=6)


def test_tokens_are_a_strided_convolution(patches: PatchEmbedding) -> None:
    volumes = torch.rand(2, 1, 16, 16, 16, generator=torch.Generator().manual_seed(1))
    kernel = patches.projection.weight.reshape(6, 1, 4, 4, 4)
    maps = functional.conv3d(volumes, kernel, patches.projection.bias, stride=4)
    expected = maps.flatten(2).transpose(1, 2) + patches.position
    # two orders of summing 64 products in fp32
    torch.testing.assert_close(patches(volumes), expected, rtol=1e-5, atol=1e-6)


def test_tokens_come_in_order_depth_height_width(patches: PatchEmbedding) -> None:
    with torch.no_grad():
        patches.position.zero_()
        patches.projection.bias.zero_()
        patches.projection.weight.fill_(1 / 64)  # a token is the mean of its patch
    volume = torch.zeros(1, 1, 8, 12, 16)
    for number, (d, h, w) in enumerate(itertools.product(range(2), range(3), range(4))):
        volume[0, 0, 4 * d : 4 * d + 4, 4 * h : 4 * h + 4, 4 * w : 4 * w + 4] = number
    patches.native_grid = (2, 3, 4)
    patches.position = torch.nn.Parameter(torch.zeros(1, 24, 6))
    assert torch.allclose(patches(volume)[0, :, 0], torch.arange(24.0), atol=1e-5)


def test_X10_native_grid_leaves_positions_untouched(patches: PatchEmbedding) -> None:
    assert patches.positions((4, 4, 4)) is patches.position
    # and interpolating to the same size by force is the identity too
    native = patches.position.transpose(1, 2).reshape(1, 6, 4, 4, 4)
    same = functional.interpolate(native, size=(4, 4, 4), mode="trilinear", align_corners=False)
    assert torch.equal(same, native)


@pytest.mark.parametrize("grid", [(2, 2, 2), (3, 4, 6), (7, 1, 4)])
def test_X10_other_grids_match_interpolate(
    patches: PatchEmbedding, grid: tuple[int, int, int]
) -> None:
    field = torch.empty(6, 4, 4, 4)
    for d, h, w in itertools.product(range(4), repeat=3):
        field[:, d, h, w] = patches.position[0, (d * 4 + h) * 4 + w]
    resized = functional.interpolate(field[None], size=grid, mode="trilinear", align_corners=False)
    got = patches.positions(grid)
    for d, h, w in itertools.product(*map(range, grid)):
        token = got[0, (d * grid[1] + h) * grid[2] + w]
        # another memory layout takes another kernel: rounding of values around .02
        torch.testing.assert_close(token, resized[0, :, d, h, w], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("grid", [(2, 2, 2), (2, 6, 3), (8, 5, 4)])
def test_X10_coordinates_interpolate_to_cell_centres(
    patches: PatchEmbedding, grid: tuple[int, int, int]
) -> None:
    """A field that holds its own coordinates must hold the new cells' centres afterwards."""
    cells = torch.tensor(list(itertools.product(range(4), repeat=3)), dtype=torch.float32)
    with torch.no_grad():
        patches.position[0, :, :3] = cells
    got = patches.positions(grid)[0, :, :3]
    expected = torch.tensor(
        [
            [min(max((i + 0.5) * 4 / n - 0.5, 0.0), 3.0) for i, n in zip(cell, grid, strict=True)]
            for cell in itertools.product(*map(range, grid))
        ]
    )
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-5)  # fp32 at values up to 3


def test_gradient_reaches_the_learned_positions_through_interpolation(
    patches: PatchEmbedding,
) -> None:
    patches.positions((2, 2, 2)).sum().backward()
    grad = patches.position.grad
    # each coarse cell is the mean of 8 fine ones, so every fine one gets 1/8
    assert grad is not None and torch.allclose(grad, torch.full_like(grad, 0.125))


@pytest.mark.parametrize(
    ("shape", "what"),
    [
        ((1, 1, 16, 16, 15), "patches of 4"),
        ((1, 1, 16, 0, 16), "patches of 4"),
        ((1, 2, 16, 16, 16), "single-channel"),
        ((1, 16, 16, 16), "single-channel"),
    ],
)
def test_volumes_that_do_not_fit_are_named(
    patches: PatchEmbedding, shape: tuple[int, ...], what: str
) -> None:
    with pytest.raises(EncoderError, match=what):
        patches(torch.zeros(shape))


@pytest.mark.parametrize(("image", "patch"), [(17, 4), (2, 4), (0, 4), (16, 0)])
def test_sizes_that_do_not_divide_are_refused(image: int, patch: int) -> None:
    with pytest.raises(EncoderError, match="multiple of the patch size"):
        PatchEmbedding(image, patch, 6)
