"""Which networks there are: how sizes are read from shapes, and how the network is built.

A new one is a file beside this, a line here and a map of its names in ``keys/``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import nn

from volta3d.encoder.foreign.autoencoder import LatentEncoder
from volta3d.encoder.foreign.autoencoder import sizes as autoencoder_sizes
from volta3d.encoder.foreign.dinov2 import Dinov2
from volta3d.encoder.foreign.dinov2 import sizes as dinov2_sizes
from volta3d.encoder.foreign.resnet import ResNet
from volta3d.encoder.foreign.resnet import sizes as resnet_sizes
from volta3d.encoder.foreign.swin import Swin
from volta3d.encoder.foreign.swin import sizes as swin_sizes
from volta3d.encoder.foreign.unet import UnetEncoder
from volta3d.encoder.foreign.unet import sizes as unet_sizes
from volta3d.model.vit import Encoder
from volta3d.randomness import derived_seed

Shapes = Mapping[str, tuple[int, ...]]
Sizes = dict[str, int]


@dataclass(frozen=True)
class Kind:
    """A kind of network.

    Args:
        sizes: its arguments from the shapes of its tensors and what shapes don't tell.
        build: the network, whose ``forward`` maps volumes [B, 1, S, S, S] to tokens [B, P + T, W],
            P its attribute ``prefix`` (0 where it has none), with the width W as ``width``.
        stride: edge of a token, in voxels.
        shapes_alone: whether it can be built without memory for its weights.
    """

    sizes: Callable[[Shapes, Mapping[str, int]], Sizes]
    build: Callable[..., nn.Module]
    stride: Callable[[Mapping[str, int]], int]
    shapes_alone: bool = True


def _vit_sizes(shapes: Shapes, options: Mapping[str, int]) -> Sizes:
    width, voxels = shapes["patches.projection.weight"]
    patch = round(voxels ** (1 / 3))
    return {
        "image_size": patch * round(shapes["patches.position"][1] ** (1 / 3)),
        "patch_size": patch,
        "width": width,
        "depth": sum(bool(re.fullmatch(r"blocks\.\d+\.norm1\.weight", k)) for k in shapes),
        "heads": options.get("heads", 12),
        "mlp": shapes["blocks.0.mlp.up.weight"][0],
    }


KINDS = {
    "vit": Kind(_vit_sizes, Encoder, lambda s: s["patch_size"]),
    "swin": Kind(swin_sizes, Swin, lambda s: 32, shapes_alone=False),  # MONAI reads a tensor
    "dinov2": Kind(dinov2_sizes, Dinov2, lambda s: s["patch"]),
    "resnet": Kind(resnet_sizes, ResNet, lambda s: 16 * s["stride"]),
    "unet": Kind(unet_sizes, UnetEncoder, lambda s: 16),
    "autoencoder": Kind(autoencoder_sizes, LatentEncoder, lambda s: 2 ** s["levels"]),
}


def build_network(kind: str, sizes: Mapping[str, int], seed: int | None = None) -> nn.Module:
    """A network with fresh weights, in eval mode.

    Args:
        kind: of :data:`KINDS`.
        sizes: its arguments.
        seed: of the weights; None allocates nothing where that can be (the meta device).
    """
    if seed is None and KINDS[kind].shapes_alone:
        with torch.device("meta"):
            return KINDS[kind].build(**sizes).eval()
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.default_generator.manual_seed(derived_seed(seed or 0, "foreign", kind))
        return KINDS[kind].build(**sizes).eval()
