"""``unet``: MONAI's 3D U-Net from scratch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from monai.networks.nets.unet import UNet
from torch import nn

from volta3d.arms.pretrained import LoadReport
from volta3d.arms.segmenter import Architecture, SegmenterArm, Setting, empty, multiple
from volta3d.arms.spec import ArmSpec
from volta3d.cohort.contract import Contract
from volta3d.config import SegmentConfig
from volta3d.errors import UsageError


class UnetArm(SegmenterArm):
    """A U-Net: all of it is trained."""

    def build(
        self, seed: int, config: SegmentConfig, contract: Contract
    ) -> tuple[nn.Module, LoadReport | None]:
        """See ``SegmenterArm.build``."""
        return empty(self.architecture, seed), None


def resolve(spec: ArmSpec, setting: Setting) -> UnetArm:
    """The arm of a SPEC.

    Raises:
        UsageError: crops that its strides don't divide.
    """
    unet, size = setting.config.unet, setting.config.crops.size
    step = math.prod(unet.strides)
    if size % step:
        raise UsageError(
            f"Crops of {size} voxels are not a multiple of the U-Net's strides, {step}",
            where="crops.size",
            fix=f"Use --set crops.size={multiple(size, step)}",
        )
    sizes = {
        "channels": list(unet.channels),
        "strides": list(unet.strides),
        "residual_units": unet.residual_units,
    }
    return UnetArm(spec, Architecture("unet", setting.classes, sizes), "full")


def network(classes: int, sizes: Mapping[str, Any], seed: int) -> nn.Module:
    """The network with weights from torch's own generator."""
    return UNet(
        spatial_dims=3,
        in_channels=1,
        out_channels=classes,
        channels=tuple(sizes["channels"]),
        strides=tuple(sizes["strides"]),
        num_res_units=sizes["residual_units"],
    )


def smallest_grid(sizes: Mapping[str, Any], crop: int) -> int:
    """Edge of the grid at the network's bottom."""
    return int(crop // math.prod(sizes["strides"]))
