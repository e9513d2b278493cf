"""What classifying networks have in common, and the ViT with a linear head.

Each is a ``stem`` that is not trained and a ``rest`` that is. What the stem makes of a scan that is
not augmented never changes, so it can be computed once for all epochs, folds, fractions and seeds.

Shape legend: B batch, T tokens, W width, O outputs (classes, or 1 for a number).
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from typing import Any, Literal

import torch
from torch import Tensor, nn

from volta3d.config import ModelConfig
from volta3d.encoder.loaded import REGIONS, regions
from volta3d.model.summariser import Summariser
from volta3d.model.vit import Encoder
from volta3d.randomness import derived_seed

Tune = Literal["frozen", "last", "full"]
Pooling = Literal["token", "mean", "concat", "regions"]


class Head(nn.Module):
    """LayerNorm, then a linear layer; in between each feature by its mean and deviation.

    Means and deviations stay 0 and 1 unless ``standardise`` is called. Features of brains point
    nearly all one way: what tells them apart is small, and a linear layer finds it sooner once
    each feature is scaled by how much it varies.

    Args:
        width: of the features.
        outputs: O.
        seed: of the weights.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, width: int, outputs: int, seed: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.register_buffer("shift", torch.zeros(width))
        self.register_buffer("scale", torch.ones(width))
        self.linear = nn.Linear(width, outputs)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(derived_seed(seed, "classifier head"))
            nn.init.trunc_normal_(self.linear.weight, std=0.02)
        nn.init.zeros_(self.linear.bias)

    @torch.no_grad()
    def standardise(self, features: Tensor) -> None:
        """Take means and deviations from features [n, W]."""
        normed = self.norm(features.float())
        self.shift.copy_(normed.mean(0))
        spread = normed.std(0, correction=0)
        self.scale.copy_(1 / spread.clamp_min(1e-3 * float(spread.mean()) + 1e-8))

    def forward(self, features: Tensor) -> Tensor:
        """[B, W] to [B, O]."""
        logits: Tensor = self.linear((self.norm(features) - self.shift) * self.scale)
        return logits


class Classifier(nn.Module, ABC):
    """A ``stem`` that is not trained, a ``rest`` that is, and what training asks of them.

    Attributes:
        tune: how much is trained.
        has_stem: whether any of it is frozen.
        frozen_blocks: how many blocks are, where some are trained.
        head: the last layer.
    """

    tune: Tune
    has_stem: bool
    frozen_blocks: int = 0
    head: Head

    @abstractmethod
    def stem(self, cubes: Tensor) -> Tensor:
        """Cubes [B, 1, S, S, S] through what is frozen."""

    @abstractmethod
    def features(self, stemmed: Tensor) -> Tensor:
        """What the stem made to features [B, W] of the head."""

    def rest(self, stemmed: Tensor) -> Tensor:
        """What the stem made to logits [B, O]."""
        logits: Tensor = self.head(self.features(stemmed))
        return logits

    def forward(self, cubes: Tensor) -> Tensor:
        """Cubes [B, 1, S, S, S] to logits [B, O]."""
        return self.rest(self.stem(cubes))


class VitClassifier(Classifier):
    """Encoder, pooling, head (METHOD section 7).

    Args:
        encoder, summariser: copied, never changed.
        pooling: the summariser's token, the mean of the patch tokens, both, or their means over
            a grid of 3³ regions.
        outputs: O.
        tune: ``frozen`` trains the head alone; ``last`` also the last blocks, the final norm and
            the summariser; ``full`` everything.
        blocks: how many blocks ``last`` trains.
        seed: of the head's weights.
    """

    def __init__(
        self,
        encoder: Encoder,
        summariser: nn.Module,
        *,
        pooling: Pooling,
        outputs: int,
        tune: Tune,
        blocks: int,
        seed: int,
    ) -> None:
        super().__init__()
        self.encoder = copy.deepcopy(encoder)
        self.summariser = copy.deepcopy(summariser)
        self.pooling = pooling
        self.tune, self.has_stem = tune, tune != "full"
        self.frozen_blocks = max(0, len(encoder.blocks) - blocks) if tune == "last" else 0
        factor = {"token": 1, "mean": 1, "concat": 2, "regions": REGIONS**3}[pooling]
        self.head = Head(encoder.width * factor, outputs, seed)
        self.requires_grad_(tune == "full")
        self.head.requires_grad_(True)
        if tune == "last":
            self.encoder.blocks[self.frozen_blocks :].requires_grad_(True)
            self.encoder.norm.requires_grad_(True)
            self.summariser.requires_grad_(True)
        if pooling not in ("token", "concat"):
            self.summariser.requires_grad_(False)

    def stem(self, cubes: Tensor) -> Tensor:
        """Cubes [B, 1, S, S, S] through what is frozen: features, tokens, or the cubes as are."""
        if self.tune == "full":
            return cubes
        with torch.no_grad():
            tokens = self._blocks(self.encoder.patches(cubes), 0, self.frozen_blocks)
            if self.tune == "last":
                return tokens.float()
            return self._pooled(self._blocks(tokens, 0, None)).float()

    def features(self, stemmed: Tensor) -> Tensor:
        """What the stem made to features [B, W] of the head."""
        if self.tune == "frozen":
            return stemmed
        if self.tune == "full":
            stemmed = self.encoder.patches(stemmed)
        return self._pooled(self._blocks(stemmed, self.frozen_blocks, None))

    def _blocks(self, tokens: Tensor, start: int, stop: int | None) -> Tensor:
        for block in self.encoder.blocks[start:stop]:
            tokens = block(tokens)
        return tokens

    def _pooled(self, tokens: Tensor) -> Tensor:
        normed = self.encoder.norm(tokens)
        mean: Tensor = normed.mean(1)
        if self.pooling == "mean":
            return mean
        if self.pooling == "regions":
            return regions(normed.float())
        token: Tensor = self.summariser(normed)
        return token if self.pooling == "token" else torch.cat([token, mean], 1)


def fresh_vit(model: ModelConfig, image_size: int, seed: int) -> tuple[Encoder, Summariser]:
    """Encoder and summariser as pretraining starts them, a pure function of the arguments."""
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.default_generator.manual_seed(derived_seed(seed, "model", "encoder"))
        encoder = Encoder(
            image_size, model.patch_size, model.width, model.depth, model.heads, model.mlp
        )
        torch.default_generator.manual_seed(derived_seed(seed, "model", "summariser"))
        summariser = Summariser(model.width, model.summariser_heads)
    return encoder, summariser


def parameter_counts(network: nn.Module) -> dict[str, Any]:
    """How many parameters there are, and how many are trained."""
    return {
        "parameters": sum(p.numel() for p in network.parameters()),
        "trained": sum(p.numel() for p in network.parameters() if p.requires_grad),
    }
