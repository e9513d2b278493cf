"""Training scans varied on the device: one bounded resampling, then mild intensity changes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from volta3d.config import AugmentConfig, ViewsConfig
from volta3d.randomness import numpy_generator, torch_generator
from volta3d.views.geometry import draw_geometry, resample
from volta3d.views.intensity import Intensity, apply_intensity, draw_intensity


@torch.no_grad()
def augment(
    volumes: Tensor,
    scan_ids: Sequence[str],
    *,
    size: int,
    epoch: int,
    seed: int,
    config: AugmentConfig,
    value_range: tuple[float, float] | None = (0.0, 1.0),
) -> Tensor:
    """Crop, scale, flip and rotate each cube in one resampling, and change its intensities.

    Args:
        volumes: float32 [B, 1, D, H, W] on any device, axis 0 left-right. Never changed.
        scan_ids: B names; a scan's draws depend on (seed, epoch, scan id) alone.
        size: edge S of what is returned.
        epoch: changes the draws.
        seed: changes the draws.
        config: what is drawn and how strongly; nothing goes beyond its bounds.
        value_range: where intensities end; None (z-scores): each volume's own.

    Returns:
        [B, 1, S, S, S].
    """
    views = ViewsConfig(
        flip=config.flip,
        rotation=config.rotation,
        isotropic=True,
        intensity=config.intensity,
        contrast=config.contrast,
        bias=config.bias,
    )
    geometries, intensities = [], []
    for name in scan_ids:
        place = numpy_generator(seed, "augment", epoch, name, "geometry")
        geometries.append([draw_geometry(place, views, config.scale)])
        grey = numpy_generator(seed, "augment", epoch, name, "intensity")
        intensities.append(draw_intensity(grey, views, smooth=config.smooth, gibbs=0.0))

    def noise(index: int) -> torch.Generator:
        keys = (seed, "augment", epoch, scan_ids[index], "noise")
        return torch_generator(*keys, device=volumes.device)

    with torch.autocast(volumes.device.type, enabled=False):
        low, high = _levels(volumes, value_range)
        cut = resample(volumes, geometries, size, low)
        if all(one == Intensity() for one in intensities):
            return cut
        width = (high - low).clamp_min(1e-12)
        return apply_intensity((cut - low) / width, intensities, noise) * width + low


def _levels(volumes: Tensor, value_range: tuple[float, float] | None) -> tuple[Tensor, Tensor]:
    """Black and white of each volume, [B, 1, 1, 1, 1]."""
    if value_range is None:
        low, high = volumes.flatten(1).aminmax(dim=1)
    else:
        low, high = (volumes.new_full((len(volumes),), value) for value in value_range)
    return low.view(-1, 1, 1, 1, 1), high.view(-1, 1, 1, 1, 1)
