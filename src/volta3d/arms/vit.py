"""``ENCODER``, ``scratch`` and ``scratch:PRESET``: a ViT with a linear head.

A pretrained and an untrained arm differ in their first weights alone: head, pooling, trained blocks
and rate are those of the configuration for both.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, cast

from torch import Tensor

from volta3d.arms.classifier import (
    NetworkArm,
    Rebuilt,
    Setting,
    fill,
    shape_of_encoder,
    shape_of_scratch,
)
from volta3d.arms.networks.classifier import Tune, VitClassifier, fresh_vit
from volta3d.arms.spec import ArmSpec
from volta3d.config import ClassifyConfig, ModelConfig, build
from volta3d.encoder.foreign.wrapped import MeanToken
from volta3d.encoder.weights import LARGEST
from volta3d.randomness import derived_seed


class VitArm(NetworkArm):
    """A ViT that starts from an encoder or from scratch."""

    kind: ClassVar[str] = "vit"

    def network(self, config: ClassifyConfig, outputs: int, seed: int) -> VitClassifier:
        """See ``NetworkArm.network``."""
        assert self.model is not None
        if self.encoder is not None:
            encoder, summariser = self.encoder.vit, self.encoder.summariser
        else:
            encoder, summariser = fresh_vit(self.model, self.image_size, derived_seed(seed, "vit"))
        return VitClassifier(
            encoder,
            summariser,
            pooling=config.pooling,
            outputs=outputs,
            tune=cast(Tune, self.tune),
            blocks=config.blocks,
            seed=seed,
        )


def resolve(spec: ArmSpec, setting: Setting) -> VitArm:
    """The arm of a SPEC.

    Raises:
        UsageError: ``scratch`` without anything to be identical to.
        CohortError: the cohort's cubes are too small for a preset.
    """
    loaded = setting.encoders.get(spec.source)
    shape = shape_of_encoder(loaded) if loaded else shape_of_scratch(spec, setting)
    return VitArm(
        name=spec.name,
        tune=spec.how or setting.config.tune,
        encoder=loaded,
        model=shape.model,
        image_size=shape.image_size,
        downsample=shape.downsample,
        head=setting.config.head,
        saw=loaded.saw(setting.cohort) if loaded else "none",
    )


def load(architecture: Mapping[str, Any], outputs: int, tensors: dict[str, Tensor]) -> Rebuilt:
    """A fitted ViT.

    Raises:
        ValueError: tensors that don't fit.
    """
    return Rebuilt(network=rebuilt_vit(architecture, outputs, tensors))


def rebuilt_vit(
    architecture: Mapping[str, Any],
    outputs: int,
    tensors: dict[str, Tensor],
    *,
    headless: bool = False,
) -> VitClassifier:
    """The ViT of a fitted model.

    Raises:
        ValueError: tensors that don't fit, or impossible sizes.
    """
    model = build(ModelConfig, architecture["model"])
    if model.depth > len(tensors) or max(model.width, model.mlp) > LARGEST:
        raise ValueError("impossible sizes")
    encoder, summariser = fresh_vit(model, architecture["image_size"], 0)
    network = VitClassifier(
        encoder,
        summariser,
        pooling=architecture["pooling"],
        outputs=outputs,
        tune="frozen",
        blocks=1,
        seed=0,
    )
    if not any(name.startswith("summariser.") for name in tensors):
        network.summariser = MeanToken()  # an imported encoder has no summary of its own
    fill(network, tensors, headless=headless)
    return network
