"""Settings of ``volta3d segment``, and its presets."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from volta3d.config.base import (
    Config,
    Count,
    Fractions,
    Positive,
    Probability,
    Range,
    Some,
    load_preset,
    preset_names,
)

FOLDER = "presets/segment"
# what may differ between two calls on one run folder
FREE = ("preset", "checkpoint_minutes", "device", "window_batch", "seeds", "fractions")

THEN = {"shares": False, "dice": "all"}  # settings younger than some runs: what those did


class CropsConfig(Config):
    """The crops a network is trained on, and how they are varied."""

    size: Some = 96  # [C] edge in voxels, for training and for the sliding window
    per_scan: Some = 1  # [C] crops of each scan in an epoch
    foreground: Probability = 0.67  # [C] of the crops lie around a voxel of a structure
    in_turn: bool = True  # [C] around each structure equally often; else drawn with equal chance
    stray: Probability = 0.5  # [C] how far from it, of half the crop's edge, within the head's box
    scale: Range = (0.85, 1.15)  # [C] one zoom for the three axes
    rotation: float = Field(default=10.0, ge=0, le=45)  # [C] degrees about each axis
    flip: Probability = 0.5  # left-right; labels with sides are swapped
    intensity: float = Field(default=0.5, ge=0, le=1)  # [C] strength of the intensity operations
    contrast: Probability = 0.5  # [C] one of gamma, histogram shift, noise
    smooth: Probability = 0.1  # [C]
    bias: Probability = 0.3  # [C]


class UnetConfig(Config):
    """The 3D U-Net, MONAI's ``UNet``."""

    channels: tuple[Some, ...] = (16, 32, 64, 128, 256)  # [S]
    strides: tuple[Some, ...] = (2, 2, 2, 2)  # [S]
    residual_units: Count = 2  # [C] 4.81 M parameters

    @model_validator(mode="after")
    def _levels(self) -> Self:
        if len(self.strides) != len(self.channels) - 1:
            raise ValueError("unet.strides has one entry fewer than unet.channels")
        return self


class UnetrConfig(Config):
    """The UNETR: its decoder, and its transformer when no encoder gives one."""

    features: Some = 16  # [I] MONAI's feature_size
    patch_size: Some = 16  # [I]
    width: Some = 768  # [S]
    depth: Some = 12  # [S]
    heads: Some = 12  # [S]
    mlp: Some = 3072  # [S]


class TuneConfig(Config):
    """How the encoder of a UNETR is tuned, pretrained or not."""

    encoder: Literal["full", "last", "staged", "frozen"] = "full"  # [C] staged: frozen at first
    blocks: Some = 4  # [C] the last blocks that `last` trains, with the final norm
    frozen_epochs: Count = 20  # [C] of a staged one; fewer than all epochs
    layer_decay: float = Field(default=1.0, gt=0, le=1)  # learning rate, per block down
    matched: Probability = 0.95  # refuse an encoder of which fewer of the weights fit


class SegmentConfig(Config):
    """Everything ``volta3d segment`` needs besides the cohort and the arms."""

    preset: str = "paper"
    labels: str | dict[str, int | tuple[int, ...]] | tuple[int | str, ...] = "hippocampus"
    epochs: Some = 500  # [S]
    batch_size: Some = 2  # [C] crops
    lr: Positive = 1e-4  # [C]
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    seed: int = 0
    seeds: Some = 1  # repetitions, each with its own start and crops; the test folds stay
    fractions: Fractions = (1.0,)  # of the training part; test folds stay
    selection: Literal["inner", "paper", "last"] = "inner"  # which epoch is kept, see below
    validate_epochs: Some = 10  # how often the epoch is judged
    weight_decay: float = Field(default=1e-5, ge=0)  # [C]
    warmup_epochs: float = Field(default=5, ge=0)  # [C]
    clip: float = Field(default=1.0, ge=0)  # [C] of the gradient's norm, 0 turns it off
    average: Probability = 0.0  # [C] of weights, decay a step; judged and kept; 0 turns it off
    overlap: float = Field(default=0.5, ge=0, lt=1)  # [C] of neighbouring windows
    window_batch: Some = 4  # windows at once
    test_flips: Literal["none", "left-right"] = "none"  # a mirrored pass averaged in at the end
    largest_component: bool = False  # keep only the largest part of each structure
    side_ratio: float = Field(default=2.0, ge=1)  # sides more unequal than this are refused
    shares: bool = True  # [C] a network first says each class as often as it occurs
    # [C] which structures' Dice a crop's loss holds: those that the crop has, or all
    dice: Literal["present", "all"] = "present"
    absent: Literal["refuse", "allow"] = "refuse"  # label maps that lack a structure
    checkpoint_minutes: Positive = 10.0
    crops: CropsConfig = CropsConfig()
    unet: UnetConfig = UnetConfig()
    unetr: UnetrConfig = UnetrConfig()
    tune: TuneConfig = TuneConfig()

    @classmethod
    def before(cls) -> dict[str, Any]:
        """The defaults, but for settings younger than some runs: what those did."""
        content = cls().content()
        return {**content, **THEN, "crops": {**content["crops"], "in_turn": False}}

    def science(self) -> dict[str, Any]:
        """What two calls on one run folder must share; fractions, seeds and arms may be added."""
        content = self.content()
        for free in FREE:
            content.pop(free)
        return content


def segment_presets() -> list[str]:
    """The names of the presets that ship with the package."""
    return preset_names(FOLDER)


def load_segment(preset: str = "paper", assignments: Iterable[str] = ()) -> SegmentConfig:
    """A preset (a shipped name or a YAML file) with ``key=value`` assignments on top.

    Raises:
        ConfigError: no such preset, an unknown key, or a value of the wrong kind.
    """
    return load_preset(SegmentConfig, FOLDER, preset, assignments)
