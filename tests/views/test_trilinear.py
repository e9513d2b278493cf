"""The CPU's sampling through pictures against torch's own sampling of volumes."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from volta3d.views.geometry import Geometry, resample, sampling_grid, view_to_volume
from volta3d.views.trilinear import Tiles, sample_affine


@pytest.mark.parametrize("shape", [(17, 12, 9), (5, 20, 31), (1, 3, 2), (24, 24, 24)])
def test_X_equals_grid_sample_in_float64(shape):
    """The way an accelerator takes, computed in float64 on a CPU."""
    rng = np.random.default_rng(0)
    volumes = torch.rand(2, 1, *shape, generator=torch.Generator().manual_seed(1))
    rows = [
        [
            Geometry(
                scale=tuple(rng.uniform(0.3, 1, 3)),
                center=tuple(rng.uniform(-0.6, 0.6, 3)),
                rotation=tuple(rng.uniform(-30, 30, 3)),
                flip=bool(view),
            )
            for view in range(2)
        ]
        for _ in range(2)
    ]
    affines = np.stack([np.stack([view_to_volume(g, shape) for g in row]) for row in rows])
    grid = sampling_grid(affines, 11, torch.device("cpu")).flatten(1, 2)
    wanted = F.grid_sample(volumes.double(), grid.double(), align_corners=False)
    wanted = wanted.view(2, 2, 1, 11, 11, 11).transpose(0, 1).flatten(0, 1)
    found = sample_affine(volumes, torch.from_numpy(affines), 11)
    # coordinates in fp32 are off by some 1e-5 of a voxel, neighbours differ by up to 1
    assert torch.allclose(found.double(), wanted, atol=2e-4)
    assert torch.equal(found, resample(volumes, rows, 11, None))


def test_far_outside_is_exactly_zero():
    tiles = Tiles(torch.ones(4, 5, 6))
    base, line = (
        torch.full((3, 2, 2, 1), -50.0),
        torch.arange(2.0).view(1, 1, 1, 2).expand(3, 1, 1, 2),
    )
    assert torch.equal(tiles.sample(base, line), torch.zeros(2, 2, 2))
    assert torch.equal(tiles.sample(-base, line), torch.zeros(2, 2, 2))
