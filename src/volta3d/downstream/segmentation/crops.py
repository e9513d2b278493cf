"""Training crops: where they lie, how they are varied, and image and labels cut together.

Everything drawn for a crop is a function of (seed, epoch, scan, number of the crop), never of the
network, so all arms see the same crops. Crops lie where windows lie when a scan is outlined: within
the head's box, or around its middle where the box is the smaller one. Norms take their statistics
over a whole crop, so a crop that is half air would show the network another world than it is asked
about.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from volta3d.config import CropsConfig, ViewsConfig
from volta3d.randomness import numpy_generator, torch_generator
from volta3d.views.geometry import Geometry, sampling_grid, view_to_volume
from volta3d.views.intensity import Intensity, apply_intensity, draw_intensity

JITTER = 3.0  # [C] prepared voxels that a crop may leave its place by, so that borders are seen too


@dataclass(frozen=True)
class Crop:
    """What was drawn for one crop.

    Args:
        key: (seed, epoch, scan, number).
        geometry: where it lies in the prepared cube.
        intensity: what is done to its grey values.
    """

    key: tuple[int, int, str, int]
    geometry: Geometry
    intensity: Intensity


def draw_crop(
    key: tuple[int, int, str, int],
    config: CropsConfig,
    edge: int,
    inside: tuple[np.ndarray, np.ndarray],
    voxels: Sequence[np.ndarray],
    turn: int | None = None,
) -> Crop:
    """Draw one crop [C].

    Args:
        key: (seed, epoch, scan, number).
        config: how.
        edge: of the prepared cube, in voxels.
        inside: first and last voxel of the head's box, [3] each; see ``placed`` for what a crop
            has to do with it.
        voxels: for each structure its voxels [n, 3], drawn from with equal chance for each
            structure, so that small ones are seen as often as large ones.
        turn: the structure, by its place in ``voxels`` and counted round, instead of a drawn one.

    Returns:
        The crop; the same for the same arguments. Every number is drawn whether it is used or not.
    """
    rng = numpy_generator(*key, "crop")
    zoom = rng.uniform(*config.scale)
    angles = rng.uniform(-1.0, 1.0, 3) * config.rotation
    chance, mirrored = rng.uniform(size=2)
    away = rng.uniform(-1.0, 1.0, 3) * config.stray * config.size / 2
    anywhere = rng.uniform(inside[0], inside[1])
    structure, part = int(rng.integers(max(1, len(voxels)))), rng.uniform()
    if turn is not None:
        structure = turn % max(1, len(voxels))
    shift = rng.uniform(-1.0, 1.0, 3) * JITTER
    centre = anywhere
    if chance < config.foreground and len(voxels):
        own = voxels[structure]
        centre = own[int(part * len(own))] + away
    centre = placed(centre, inside, config.size * zoom, shift)
    width = config.size * zoom / edge  # above 1 the crop reaches beyond the cube, into black
    at = np.clip((2 * centre + 1) / edge - 1, -1.0, 1.0)
    geometry = Geometry(
        scale=(width, width, width),
        center=(float(at[0]), float(at[1]), float(at[2])),
        rotation=(float(angles[0]), float(angles[1]), float(angles[2])),
        flip=bool(mirrored < config.flip),
    )
    views = ViewsConfig(intensity=config.intensity, contrast=config.contrast, bias=config.bias)
    drawn = draw_intensity(numpy_generator(*key, "grey"), views, smooth=config.smooth, gibbs=0.0)
    return Crop(key, geometry, drawn)


def placed(
    centre: np.ndarray, inside: tuple[np.ndarray, np.ndarray], edge: float, shift: np.ndarray
) -> np.ndarray:
    """The centre of a crop moved to where a window of the same edge could lie [C].

    Along an axis where the head's box is longer than the crop, the crop stays within the box;
    where it is not, the crop lies around the middle of the box, as padding places it.

    Args:
        centre: [3] in voxels of the prepared cube.
        inside: first and last voxel of the box, [3] each.
        edge: of the crop in voxels of the prepared cube.
        shift: [3] voxels by which these bounds are moved.
    """
    first, last = inside[0] - 0.5, inside[1] + 0.5  # the outer faces
    middle = (first + last) / 2
    low = np.minimum(first + edge / 2, middle)
    high = np.maximum(last - edge / 2, middle)
    moved: np.ndarray = np.clip(centre, low + shift, high + shift)
    return moved


def cut(
    volumes: Sequence[Tensor],
    labels: Sequence[Tensor],
    crops: Sequence[Crop],
    size: int,
    *,
    blacks: Sequence[float],
    value_range: tuple[float, float],
    swapped: tuple[int, ...] | None,
) -> tuple[Tensor, Tensor]:
    """Crops as a batch: one trilinear resampling of the image, nearest for the labels.

    Args:
        volumes: B prepared cubes, float32 [E, E, E], on one device.
        labels: their classes, uint8 [E, E, E].
        crops: B of them.
        size: edge S.
        blacks: of each cube the value of what lies outside it.
        value_range: least and largest value of all cubes, between which intensities are varied.
        swapped: the order of classes in a mirrored body; None: a flip swaps nothing.

    Returns:
        float32 [B, 1, S, S, S] and int64 [B, 1, S, S, S].
    """
    low, high = value_range
    images, maps = [], []
    for volume, label, crop, black in zip(volumes, labels, crops, blacks, strict=True):
        shape = (volume.shape[0], volume.shape[1], volume.shape[2])
        affine = view_to_volume(crop.geometry, shape)
        grid = sampling_grid(affine[None, None], size, volume.device)[0]
        images.append(_read(volume[None, None] - black, grid, "bilinear") + (black - low))
        found = _read(label[None, None].float(), grid, "nearest").long()
        if crop.geometry.flip and swapped is not None:
            found = torch.tensor(swapped, device=found.device)[found]
        maps.append(found)
    grey = torch.cat(images) / max(high - low, 1e-12)

    def noise(index: int) -> torch.Generator:
        return torch_generator(*crops[index].key, "noise", device=grey.device)

    if any(c.intensity != Intensity() for c in crops):
        grey = apply_intensity(grey, [c.intensity for c in crops], noise)
    return grey * (high - low) + low, torch.cat(maps)


def _read(volume: Tensor, grid: Tensor, mode: str) -> Tensor:
    return F.grid_sample(volume, grid, mode=mode, padding_mode="zeros", align_corners=False)
