"""``resnet``: MONAI's 3D ResNet-18 from scratch, the convolutional baseline.

Shape legend: B batch, O outputs (classes, or 1 for a number).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from monai.networks.nets.resnet import ResNet
from torch import Tensor

from volta3d.arms.classifier import NetworkArm, Rebuilt, Setting, fill
from volta3d.arms.networks.classifier import Classifier, Head
from volta3d.arms.spec import ArmSpec
from volta3d.config import ClassifyConfig
from volta3d.randomness import derived_seed

CHANNELS = [64, 128, 256, 512]
# [C] batches are small, so each scan is normalised by itself
NORM = ("group", {"num_groups": 8})


class ResnetClassifier(Classifier):
    """ResNet-18 with group norm, its last map pooled, and the same head: 33 million parameters.

    Args:
        outputs: O.
        seed: of all weights.
    """

    def __init__(self, *, outputs: int, seed: int) -> None:
        super().__init__()
        self.tune, self.has_stem = "full", False
        with torch.random.fork_rng(devices=[]), torch.device("cpu"):
            torch.default_generator.manual_seed(derived_seed(seed, "model", "resnet"))
            self.resnet = ResNet(
                "basic",
                [2, 2, 2, 2],
                CHANNELS,
                n_input_channels=1,
                conv1_t_stride=2,
                feed_forward=False,
                norm=NORM,
            )
        self.head = Head(CHANNELS[-1], outputs, seed)

    def stem(self, cubes: Tensor) -> Tensor:
        """The cubes as they are: nothing is frozen."""
        return cubes

    def features(self, stemmed: Tensor) -> Tensor:
        """Cubes [B, 1, S, S, S] to [B, 512]."""
        pooled: Tensor = self.resnet(stemmed)
        return pooled


class ResnetArm(NetworkArm):
    """A ResNet on the cubes of the other arms."""

    kind: ClassVar[str] = "resnet"

    def network(self, config: ClassifyConfig, outputs: int, seed: int) -> ResnetClassifier:
        """See ``NetworkArm.network``."""
        return ResnetClassifier(outputs=outputs, seed=seed)


def resolve(spec: ArmSpec, setting: Setting) -> ResnetArm:
    """The arm of a SPEC."""
    size, pooled = setting.input()
    head = setting.config.head
    return ResnetArm(spec.name, "full", image_size=size, downsample=pooled, head=head)


def load(architecture: Mapping[str, Any], outputs: int, tensors: dict[str, Tensor]) -> Rebuilt:
    """A fitted ResNet.

    Raises:
        ValueError: tensors that don't fit.
    """
    network = ResnetClassifier(outputs=outputs, seed=0)
    fill(network, tensors)
    return Rebuilt(network=network)
