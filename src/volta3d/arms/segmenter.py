"""An arm of a segmentation: its network, its first weights, how it is tuned, what it declares."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol, cast

import torch
from torch import nn

from volta3d.arms import SEGMENTER_TUNES, SEGMENTERS
from volta3d.arms.pretrained import LoadReport, check_grey
from volta3d.arms.spec import ArmSpec, parse_arms
from volta3d.cohort.contract import Contract
from volta3d.cohort.store import Cohort
from volta3d.config import SegmentConfig
from volta3d.encoder.load import load_encoder
from volta3d.encoder.loaded import LoadedEncoder
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


@dataclass(frozen=True)
class Setting:
    """What arms are made for.

    Args:
        config: of the run.
        contract: how the cohort was prepared.
        classes: background included.
        encoders: by folder, those that the arms name, in their order.
        voxel_mm: median edge of the cohort's voxels, by its own affines; None: the contract's.
    """

    config: SegmentConfig
    contract: Contract
    classes: int
    encoders: Mapping[str, LoadedEncoder]
    voxel_mm: float | None = None


@dataclass(frozen=True)
class SegmenterArm(ABC):
    """An arm with everything that sets it apart; all else is the same for all arms.

    Args:
        spec: as the command line states it.
        architecture: of its network.
        tune: ``full``, ``last``, ``staged`` or ``frozen``: how much of an encoder is trained.
        encoder: what it starts from; None starts from scratch.
    """

    spec: ArmSpec
    architecture: Architecture
    tune: str
    encoder: LoadedEncoder | None = None

    @property
    def name(self) -> str:
        """As the user calls it."""
        return self.spec.name

    @abstractmethod
    def build(
        self, seed: int, config: SegmentConfig, contract: Contract
    ) -> tuple[nn.Module, LoadReport | None]:
        """A network; what is not loaded starts from (seed, part), equal for all arms.

        Raises:
            EncoderError: too little of an encoder fits.
        """

    def declared(self) -> dict[str, Any]:
        """What makes an arm what it is: its weights by their hash, not by their path."""
        return {
            "kind": self.spec.kind,
            "tune": self.tune,
            "encoder_sha256": self.encoder.config["weights_sha256"] if self.encoder else "",
            "architecture": self.architecture.content(),
        }

    def saw(self, cohort: Cohort) -> str:
        """What the pretraining of the arm saw of a cohort; none without one."""
        return self.encoder.saw(cohort) if self.encoder else "none"


class _Module(Protocol):
    """What the file of each kind offers."""

    def resolve(self, spec: ArmSpec, setting: Setting) -> SegmenterArm: ...

    def network(self, classes: int, sizes: Mapping[str, Any], seed: int) -> nn.Module: ...

    def smallest_grid(self, sizes: Mapping[str, Any], crop: int) -> int: ...


def resolve(
    texts: Sequence[str],
    config: SegmentConfig,
    contract: Contract,
    classes: int,
    voxel_mm: float | None = None,
) -> list[SegmenterArm]:
    """The arms of a command line, checked against the cohort's preparation.

    Args:
        texts: each ``NAME=SPEC``.
        config: of the run.
        contract: how the cohort was prepared.
        classes: background included.
        voxel_mm: median edge of the cohort's voxels, by its own affines; None: the contract's.

    Raises:
        EncoderError: an encoder is damaged, contradicts the cohort, or doesn't fit a UNETR.
        UsageError: not an arm, crops that patches or strides don't divide, or a staged encoder that
            would stay frozen to the end.
    """
    specs = parse_arms(texts, SEGMENTERS, SEGMENTER_TUNES)
    encoders: dict[str, LoadedEncoder] = {}
    for spec in specs:
        if spec.has_encoder and spec.source not in encoders:
            encoders[spec.source] = load_encoder(spec.path)
            check_grey(encoders[spec.source], contract)
    setting = Setting(config, contract, classes, encoders, voxel_mm)
    return [_module(SEGMENTERS[spec.kind].module).resolve(spec, setting) for spec in specs]


def empty(architecture: Architecture, seed: int, device: str = "cpu") -> nn.Module:
    """A network with fresh weights, a function of the seed and the architecture.

    On device ``meta`` it has no weights yet.

    Raises:
        ValueError: an unknown kind.
    """
    with torch.random.fork_rng(devices=[]), torch.device(device):
        torch.default_generator.manual_seed(derived_seed(seed, "segment", architecture.kind))
        module = _module(architecture.kind)
        return module.network(architecture.classes, architecture.sizes, seed)


def sound_bf16(architecture: Architecture, size: int, device: torch.device) -> bool:
    """Whether bfloat16 gradients of an architecture can be trusted on a device.

    On CPUs the bfloat16 gradient of a convolution of 3 x 3 x 3 over a grid of 2 x 2 x 2 is wrong,
    and often not finite (seen with torch 2.13; every other grid agrees with fp32). A U-Net has such
    a grid at its bottom when the crops are twice its strides, a UNETR above its coarsest skip
    connection when a crop is one patch.
    """
    if device.type != "cpu":
        return True
    return _module(architecture.kind).smallest_grid(architecture.sizes, size) > 2


def multiple(size: int, step: int) -> int:
    """The largest multiple of ``step`` up to ``size``, at least one."""
    return max(1, size // step) * step


def _module(kind: str) -> _Module:
    if kind not in {k.module for k in SEGMENTERS.values()}:
        raise ValueError(f"unknown kind of network '{kind}'")
    return cast(_Module, import_module(f"volta3d.arms.{kind}"))
