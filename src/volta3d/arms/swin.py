"""``swin``: MONAI's Swin transformer from scratch.

Shape legend: B batch, O outputs (classes, or 1 for a number).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from monai.networks.nets.swin_unetr import SwinTransformer
from torch import Tensor

from volta3d.arms.classifier import NetworkArm, Rebuilt, Setting, fill
from volta3d.arms.networks.classifier import Classifier, Head
from volta3d.arms.networks.swin_attention import lean
from volta3d.arms.spec import ArmSpec
from volta3d.config import ClassifyConfig
from volta3d.randomness import derived_seed

SIZES = {
    "in_chans": 1,
    "embed_dim": 48,
    "window_size": (7, 7, 7),
    "patch_size": (2, 2, 2),
    "depths": (2, 2, 2, 2),
    "num_heads": (3, 6, 12, 24),
}  # METHOD section 7
WIDTH = 768


class SwinClassifier(Classifier):
    """MONAI's Swin transformer from scratch, its last map pooled, and the same head.

    8.06 million parameters, a tenth of ViT-B: not a like-for-like comparison of sizes.

    Args:
        outputs: O.
        seed: of all weights.
        head_seed: of the head's.
    """

    def __init__(self, *, outputs: int, seed: int, head_seed: int) -> None:
        super().__init__()
        self.tune, self.has_stem = "full", False
        with torch.random.fork_rng(devices=[]), torch.device("cpu"):
            torch.default_generator.manual_seed(derived_seed(seed, "model", "swin"))
            self.swin = lean(SwinTransformer(**SIZES))  # type: ignore[arg-type]
        self.head = Head(WIDTH, outputs, head_seed)

    def stem(self, cubes: Tensor) -> Tensor:
        """The cubes as they are: nothing is frozen."""
        return cubes

    def features(self, stemmed: Tensor) -> Tensor:
        """Cubes [B, 1, S, S, S] to [B, 768]."""
        pooled: Tensor = self.swin(stemmed)[-1].flatten(2).mean(2)
        return pooled


class SwinArm(NetworkArm):
    """A Swin transformer on the cubes of the other arms, or on smaller ones (``swin_size``)."""

    kind: ClassVar[str] = "swin"

    def network(self, config: ClassifyConfig, outputs: int, seed: int) -> SwinClassifier:
        """See ``NetworkArm.network``."""
        return SwinClassifier(outputs=outputs, seed=seed, head_seed=seed)


def resolve(spec: ArmSpec, setting: Setting) -> SwinArm:
    """The arm of a SPEC."""
    size, pooled = setting.input(setting.config.swin_size)
    return SwinArm(spec.name, "full", image_size=size, downsample=pooled, head=setting.config.head)


def load(architecture: Mapping[str, Any], outputs: int, tensors: dict[str, Tensor]) -> Rebuilt:
    """A fitted Swin transformer.

    Raises:
        ValueError: tensors that don't fit.
    """
    network = SwinClassifier(outputs=outputs, seed=0, head_seed=0)
    fill(network, tensors)
    return Rebuilt(network=network)
