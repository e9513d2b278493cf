"""The first answer of a segmenting network."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from volta3d.arms.prior import start_at_shares
from volta3d.arms.segmenter import Architecture, empty

UNETR = {
    "image_size": 16, "patch_size": 8, "width": 16, "depth": 3, "heads": 2, "mlp": 16,
    "features": 4,
}  # fmt: skip
UNET = {"channels": [4, 8], "strides": [2], "residual_units": 1}


@pytest.mark.parametrize(("kind", "sizes"), [("unetr", UNETR), ("unet", UNET)])
def test_every_class_is_shifted_by_the_log_of_its_share(kind: str, sizes: dict[str, Any]) -> None:
    plain, started = (empty(Architecture(kind, 3, sizes), 0).eval() for _ in range(2))
    start_at_shares(started, [0.98, 0.015, 0.005])
    crops = torch.randn(1, 1, 16, 16, 16)
    with torch.no_grad():
        moved = started(crops) - plain(crops)
    wanted = torch.tensor([0.98, 0.015, 0.005]).log().view(1, 3, 1, 1, 1).expand_as(moved)
    torch.testing.assert_close(moved, wanted, rtol=1e-4, atol=1e-4)


def test_a_class_that_hardly_occurs_stays_within_reach() -> None:
    network = empty(Architecture("unet", 3, UNET), 0)
    start_at_shares(network, [1.0, 0.0, 0.0])
    assert all(bool(torch.isfinite(p).all()) for p in network.parameters())
