"""The networks that are compared, without their weights."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from monai.networks.nets.unet import UNet
from torch import nn

from volta3d.downstream.segmentation.unetr import Unetr
from volta3d.model.vit import Encoder
from volta3d.randomness import derived_seed


@dataclass(frozen=True)
class Architecture:
    """Everything needed to build a network without its weights.

    Args:
        kind: ``unetr`` or ``unet``.
        classes: background included.
        sizes: of the transformer (image_size, patch_size, width, depth, heads, mlp, features), or
            of the U-Net (channels, strides, residual_units).
    """

    kind: str
    classes: int
    sizes: dict[str, Any]

    def content(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {"kind": self.kind, "classes": self.classes, **self.sizes}


def empty(architecture: Architecture, seed: int, device: str = "cpu") -> nn.Module:
    """A network with fresh weights, a function of the seed and the architecture.

    On device ``meta`` it has no weights yet.
    """
    s, classes = architecture.sizes, architecture.classes
    with torch.random.fork_rng(devices=[]), torch.device(device):
        torch.default_generator.manual_seed(derived_seed(seed, "segment", architecture.kind))
        if architecture.kind == "unet":
            unet: nn.Module = UNet(
                spatial_dims=3,
                in_channels=1,
                out_channels=classes,
                channels=tuple(s["channels"]),
                strides=tuple(s["strides"]),
                num_res_units=s["residual_units"],
            )
            return unet
        sizes = (s["image_size"], s["patch_size"], s["width"], s["depth"], s["heads"], s["mlp"])
        encoder = Encoder(*sizes)
        torch.default_generator.manual_seed(derived_seed(seed, "segment", "decoder"))
        return Unetr(encoder, classes, s["features"])


def sound_bf16(architecture: Architecture, size: int, device: torch.device) -> bool:
    """Whether bfloat16 gradients of an architecture can be trusted on a device.

    On CPUs the bfloat16 gradient of a convolution of 3 x 3 x 3 over a grid of 2 x 2 x 2 is wrong,
    and often not finite (seen with torch 2.13; every other grid agrees with fp32). A U-Net has such
    a grid at its bottom when the crops are twice its strides, a UNETR above its coarsest skip
    connection when a crop is one patch.
    """
    if device.type != "cpu":
        return True
    sizes = architecture.sizes
    if architecture.kind == "unet":
        smallest = size // math.prod(sizes["strides"])
    else:
        smallest = 2 * (size // sizes["patch_size"])
    return bool(smallest > 2)
