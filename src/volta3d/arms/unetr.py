"""``ENCODER``, ``scratch`` and ``scratch:PRESET``: a UNETR.

A pretrained and an untrained arm differ in their encoder's first weights alone: decoder, trained
blocks and rates are those of the configuration for both.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from volta3d.arms import SCRATCH
from volta3d.arms.networks.unetr import Unetr
from volta3d.arms.pretrained import LoadReport, fill, folding
from volta3d.arms.segmenter import Architecture, SegmenterArm, Setting, empty, multiple
from volta3d.arms.spec import ArmSpec
from volta3d.cohort.contract import Contract
from volta3d.config import SegmentConfig, load_pretrain
from volta3d.errors import UsageError
from volta3d.model.vit import Encoder
from volta3d.randomness import derived_seed

SIZES = ("patch_size", "width", "depth", "heads", "mlp")


class UnetrArm(SegmenterArm):
    """A UNETR whose encoder is pretrained, or isn't."""

    def build(
        self, seed: int, config: SegmentConfig, contract: Contract
    ) -> tuple[nn.Module, LoadReport | None]:
        """See ``SegmenterArm.build``."""
        made = empty(self.architecture, seed)
        if self.encoder is None:
            return made, None
        assert isinstance(made, Unetr)
        return made, fill(made.encoder, self.encoder, contract, config.tune.matched)


def resolve(spec: ArmSpec, setting: Setting) -> UnetrArm:
    """The arm of a SPEC.

    Raises:
        EncoderError: the encoder doesn't fit a UNETR.
        UsageError: crops that its patches don't divide, or a staged encoder that never thaws.
    """
    config, loaded = setting.config, setting.encoders.get(spec.source)
    tune = spec.how or config.tune.encoder
    epochs, frozen = config.epochs, config.tune.frozen_epochs
    if tune == "staged" and frozen >= epochs:
        raise UsageError(
            f"A staged encoder that is frozen for {frozen} epochs never thaws in {epochs}",
            where=spec.name,
            fix=f"Use --set tune.frozen_epochs={epochs // 4}, more epochs, or frozen:ENCODER",
        )
    sizes = _sizes(spec, setting)
    return UnetrArm(spec, Architecture("unetr", setting.classes, sizes), tune, loaded)


def network(classes: int, sizes: Mapping[str, Any], seed: int) -> nn.Module:
    """The network with weights from torch's own generator; the decoder's are a seed of their own.

    So all arms have the same decoder at first, whatever their encoder.
    """
    s = sizes
    encoder = Encoder(
        s["image_size"], s["patch_size"], s["width"], s["depth"], s["heads"], s["mlp"]
    )
    torch.default_generator.manual_seed(derived_seed(seed, "segment", "decoder"))
    return Unetr(encoder, classes, s["features"])


def smallest_grid(sizes: Mapping[str, Any], crop: int) -> int:
    """Edge of the grid above the coarsest skip connection."""
    return int(2 * (crop // sizes["patch_size"]))


def _sizes(spec: ArmSpec, setting: Setting) -> dict[str, Any]:
    """Of the transformer, and of the crops it takes."""
    config = setting.config
    sizes = {k: getattr(config.unetr, k) for k in SIZES}
    loaded = setting.encoders.get(spec.source)
    if spec.kind == SCRATCH and not spec.source:  # the identical network without training
        loaded = next(iter(setting.encoders.values()), None)
    if loaded is not None:
        sizes = {k: int(loaded.config["model"][k]) for k in SIZES}
        sizes["patch_size"] *= folding(loaded, setting.contract, setting.voxel_mm)
    elif spec.source:
        preset = load_pretrain(spec.source)
        sizes = {k: getattr(preset.model, k) for k in SIZES}
        sizes["patch_size"] *= preset.views.downsample
    size = config.crops.size
    if size % sizes["patch_size"]:
        raise UsageError(
            f"Crops of {size} voxels do not divide into patches of {sizes['patch_size']}",
            where=spec.name,
            fix=f"Use --set crops.size={multiple(size, sizes['patch_size'])}",
        )
    return {"image_size": size, **sizes, "features": config.unetr.features}
