"""Sliding windows: an identity comes back, whatever the shape."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from volta3d.downstream.segmentation.sliding import (
    flip_passes,
    foreground_box,
    probabilities,
    slide,
)


@pytest.mark.parametrize("shape", [(16, 16, 16), (21, 16, 34), (5, 40, 9)])
@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5])
def test_X17_a_sliding_window_of_an_identity_is_the_input(
    shape: tuple[int, int, int], overlap: float
) -> None:
    volume = torch.rand(shape, generator=torch.Generator().manual_seed(0))

    def identity(windows: Tensor) -> Tensor:
        assert windows.shape[2:] == (16, 16, 16)
        return torch.cat([windows, 2 * windows], 1)

    found = slide(identity, volume, size=16, overlap=overlap, batch=3)
    # weights of up to eight windows are divided out again: a few roundings of fp32
    assert torch.allclose(found[0], volume, atol=2e-6)
    assert torch.allclose(found[1], 2 * volume, atol=4e-6)


def lean(windows: Tensor) -> Tensor:
    """Logits that tell left from right: bright voxels are class 1 where x is small in a window."""
    x = torch.linspace(-1, 1, windows.shape[2]).view(1, 1, -1, 1, 1)
    return torch.cat([torch.zeros_like(windows), windows * (x < 0), windows * (x >= 0)], 1) * 20


def test_mirrored_passes_swap_sides_and_agree_with_a_symmetric_network() -> None:
    volume = torch.rand((16, 16, 16), generator=torch.Generator().manual_seed(1)) + 0.1
    settings = {"size": 16, "overlap": 0.0, "batch": 1, "background": 0.0}
    plain = probabilities(lean, volume, **settings)
    both = probabilities(
        lean, volume, flips=flip_passes("left-right"), swapped=(0, 2, 1), **settings
    )
    assert torch.allclose(plain, both, atol=1e-6)  # the network itself is symmetric
    wrong = probabilities(lean, volume, flips=flip_passes("left-right"), swapped=None, **settings)
    assert not torch.allclose(plain, wrong, atol=1e-2)


def test_outside_the_head_is_background_without_asking_the_network() -> None:
    volume = torch.zeros((40, 40, 40))
    volume[10:20, 12:22, 14:24] = 1.0
    asked = []

    def network(windows: Tensor) -> Tensor:
        asked.append(len(windows))
        return torch.cat([torch.zeros_like(windows), torch.ones_like(windows)], 1)

    found = probabilities(network, volume, size=16, overlap=0.5, batch=4, background=0.0)
    assert sum(asked) == 1  # the box fits one window
    assert bool((found[0, :10] == 1).all()) and bool((found[1, :10] == 0).all())
    assert torch.allclose(found.sum(0), torch.ones(40, 40, 40))
    assert found[1, 15, 15, 15] > 0.5


def test_a_volume_without_foreground_is_one_box() -> None:
    assert foreground_box(torch.zeros(3, 4, 5), 0.0) == (slice(0, 3), slice(0, 4), slice(0, 5))
    assert flip_passes("left-right") == ((), (0,)) and flip_passes("none") == ((),)
