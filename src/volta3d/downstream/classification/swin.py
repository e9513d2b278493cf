"""The Swin transformer the ViT is compared with.

It stands apart because MONAI, whose network it is, takes seconds to import.

Shape legend: B batch, O outputs (classes, or 1 for a number).
"""

from __future__ import annotations

import torch
from monai.networks.nets.swin_unetr import SwinTransformer
from torch import Tensor

from volta3d.downstream.classification.classifier import Classifier, Head
from volta3d.downstream.classification.swin_attention import lean
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
