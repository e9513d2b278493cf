"""An arm of a classification: what every kind of arm declares, and what it is fitted with."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, ClassVar, Protocol, cast

import numpy as np
import torch
from torch import Tensor

from volta3d.arms import CLASSIFIER_TUNES, CLASSIFIERS, SCRATCH
from volta3d.arms.fold_data import FoldData, FoldResult
from volta3d.arms.networks.classifier import Classifier
from volta3d.arms.spec import ArmSpec, parse_arms
from volta3d.cohort.store import Cohort
from volta3d.config import ClassifyConfig, ModelConfig, build, load_pretrain
from volta3d.encoder.load import load_encoder
from volta3d.encoder.loaded import LoadedEncoder
from volta3d.encoder.matching import check_contract
from volta3d.errors import CohortError, UsageError
from volta3d.statistics.linear_models import LinearModel

Notify = Callable[[int], None]


class Bench(Protocol):
    """What an arm is fitted with: the scans, and the loop that trains networks."""

    config: ClassifyConfig
    device: torch.device

    @property
    def outputs(self) -> int:
        """Classes, or 1."""
        ...

    def train(
        self, arm: ClassifierArm, network: Classifier, data: FoldData, notify: Notify | None
    ) -> FoldResult:
        """Train a network on one fold."""
        ...

    def stemmed(self, arm: ClassifierArm, network: Classifier) -> Tensor | None:
        """What a network's frozen part makes of all labelled scans; None: too large to keep."""
        ...

    def volumes(self, columns: Sequence[str]) -> np.ndarray:
        """Log volumes [n, columns] of all labelled scans."""
        ...


@dataclass(frozen=True)
class Shape:
    """A ViT and its input.

    Args:
        model: sizes of the ViT.
        image_size, downsample: how it wants its cubes.
    """

    model: ModelConfig
    image_size: int
    downsample: int


@dataclass(frozen=True)
class Setting:
    """What arms are made for.

    Args:
        cohort: the scans.
        config: of the run.
        rows: [n] the cohort's index of each labelled scan.
        encoders: by folder, those that the arms name.
        like: the ViT whose architecture and input ``scratch`` and convolutional arms share; None
            where no arm names one.
    """

    cohort: Cohort
    config: ClassifyConfig
    rows: np.ndarray
    encoders: Mapping[str, LoadedEncoder]
    like: Shape | None

    def input(self, size: int = 0) -> tuple[int, int]:
        """Edge and pooling of the cubes of a network that is no ViT: those of the ViT's arms.

        Args:
            size: another edge, if not 0.
        """
        edge = size or (self.like.image_size if self.like else self.cohort.contract.size)
        pooled, whole = self.like.downsample if self.like else 1, self.cohort.contract.size
        while whole % (2 * pooled) == 0 and whole // (2 * pooled) >= edge:
            pooled *= 2
        return edge, pooled


@dataclass(frozen=True)
class ClassifierArm(ABC):
    """An arm with everything that sets it apart; all else is the same for all arms.

    Args:
        name: of the arm.
        tune: ``frozen``, ``last``, ``full``; ``linear`` and ``volume`` are what they are.
        encoder: what it starts from; None starts from scratch.
        model: sizes of the ViT; None for other networks.
        image_size, downsample: how the network wants its cubes; 0 for volumes.
        head: what stands before the linear layer.
        saw: what pretraining saw of this cohort.
        columns: the measured volumes that ``volume`` goes by.
    """

    kind: ClassVar[str]  # of the file that loads it again

    name: str
    tune: str
    encoder: LoadedEncoder | None = None
    model: ModelConfig | None = None
    image_size: int = 0
    downsample: int = 1
    head: str = "layernorm"
    saw: str = "none"
    columns: tuple[str, ...] = ()

    @abstractmethod
    def fit(
        self, bench: Bench, data: FoldData, notify: Notify | None
    ) -> tuple[FoldResult, dict[str, Tensor]]:
        """The result of one fold, and all tensors of the model fitted."""

    def declared(self) -> dict[str, Any]:
        """All that sets this arm apart, as plain JSON types."""
        sha = self.encoder.config["weights_sha256"] if self.encoder is not None else ""
        return {
            "kind": self.kind,
            "tune": self.tune,
            "encoder_sha256": sha,
            "model": self.model.content() if self.model is not None else None,
            "image_size": self.image_size,
            "downsample": self.downsample,
            "head": self.head,
            "pretraining_saw": self.saw,
            "columns": list(self.columns),
        }

    def architecture(self, config: ClassifyConfig) -> dict[str, Any]:
        """What config.json of a fitted model says, so that it can be built again."""
        return {
            "type": self.kind,
            "model": self.model.content() if self.model is not None else None,
            "image_size": self.image_size,
            "downsample": self.downsample,
            "pooling": config.pooling,
        }

    def notes(self, setting: Setting) -> list[str]:
        """What a reader should know of the arm in this cohort, a sentence each."""
        return []


class NetworkArm(ClassifierArm):
    """An arm that trains a network."""

    @abstractmethod
    def network(self, config: ClassifyConfig, outputs: int, seed: int) -> Classifier:
        """A network ready to be trained, a pure function of the arguments.

        Args:
            config: pooling and how many blocks are tuned.
            outputs: classes, or 1.
            seed: of the head, and of everything when it starts from scratch.
        """

    def fit(
        self, bench: Bench, data: FoldData, notify: Notify | None
    ) -> tuple[FoldResult, dict[str, Tensor]]:
        """Train, choose the epoch on inner validation, predict inner and test."""
        network = self.network(bench.config, bench.outputs, data.seed).to(bench.device)
        result = bench.train(self, network, data, notify)
        return result, dict(network.state_dict())


@dataclass(frozen=True)
class Rebuilt:
    """A fitted model's parts.

    Args:
        network: what looks at cubes; None for volumes.
        line: the linear model of ``linear`` and ``volume``.
    """

    network: Classifier | None = None
    line: LinearModel | None = None


def resolve(
    texts: Sequence[str], cohort: Cohort, config: ClassifyConfig, rows: np.ndarray
) -> list[ClassifierArm]:
    """The arms of a command line, checked against the cohort.

    ``scratch`` and ``swin`` take architecture and input from the first encoder among the arms, so
    that nothing but the weights differs; ``scratch:PRESET`` takes those of a preset.

    Args:
        texts: each ``NAME=SPEC``.
        cohort: the scans.
        config: of the run.
        rows: [n] the cohort's index of each labelled scan.

    Raises:
        UsageError: not an arm, ``scratch`` without anything to be identical to, or ``volume`` where
            no volume is known for every labelled scan.
        EncoderError: an encoder is damaged or contradicts the cohort.
        CohortError: the cohort's cubes are too small for a preset.
    """
    return [arm for arm, _ in resolve_with_notes(texts, cohort, config, rows)]


def resolve_with_notes(
    texts: Sequence[str], cohort: Cohort, config: ClassifyConfig, rows: np.ndarray
) -> list[tuple[ClassifierArm, list[str]]]:
    """The arms as ``resolve`` makes them, each with its notes."""
    specs = parse_arms(texts, CLASSIFIERS, CLASSIFIER_TUNES)
    encoders: dict[str, LoadedEncoder] = {}
    for spec in specs:
        if spec.has_encoder and spec.source not in encoders:
            encoders[spec.source] = load_encoder(spec.path)
            check_contract(encoders[spec.source], cohort)
    setting = Setting(cohort, config, rows, encoders, _like(specs, encoders, cohort))
    made: list[tuple[ClassifierArm, list[str]]] = []
    for spec in specs:
        module = import_module(f"volta3d.arms.{CLASSIFIERS[spec.kind].module}")
        arm = cast(ClassifierArm, module.resolve(spec, setting))
        made.append((arm, arm.notes(setting)))
    return made


def rebuild(architecture: Mapping[str, Any], outputs: int, tensors: dict[str, Tensor]) -> Rebuilt:
    """The parts of a fitted model out of its config.json and tensors.

    Raises:
        ValueError: an unknown kind, or tensors that don't fit it.
    """
    if architecture["type"] not in {kind.module for kind in CLASSIFIERS.values()}:
        raise ValueError(f"unknown type '{architecture['type']}'")
    module = import_module(f"volta3d.arms.{architecture['type']}")
    return cast(Rebuilt, module.load(architecture, outputs, tensors))


def fill(network: Classifier, tensors: Mapping[str, Tensor], *, headless: bool = False) -> None:
    """Load all tensors into a network.

    Args:
        network: freshly built.
        tensors: of the network.
        headless: whether those of the head may be missing.

    Raises:
        ValueError: some are missing or unknown.
    """
    missing, unknown = network.load_state_dict(tensors, strict=False)
    if unknown or any(not (headless and name.startswith("head.")) for name in missing):
        raise ValueError(f"{len(missing)} tensors missing, {len(unknown)} unknown")


def shape_of_encoder(loaded: LoadedEncoder) -> Shape:
    """The ViT of an encoder folder."""
    loaded.vit  # noqa: B018 - refuses another kind of network before anything is computed
    model = build(ModelConfig, loaded.config["model"])
    return Shape(model, loaded.image_size, loaded.downsample)


def shape_of_preset(name: str, cohort: Cohort) -> Shape:
    """The ViT of a preset of ``pretrain``.

    Raises:
        CohortError: the cohort's cubes are too small for it.
        UsageError: no such preset.
    """
    preset = load_pretrain(name)
    size, pooled = preset.views.global_size, preset.views.downsample
    if cohort.contract.size % pooled or cohort.contract.size // pooled < size:
        raise CohortError(
            f"Preset '{name}' wants cubes of {size * pooled} voxels or more, the cohort has "
            f"{cohort.contract.size}",
            where=cohort.path,
            fix="Choose a smaller preset, or prepare the cohort with a larger size",
        )
    return Shape(preset.model, size, pooled)


def shape_of_scratch(spec: ArmSpec, setting: Setting) -> Shape:
    """The ViT that an untrained arm is identical to.

    Raises:
        UsageError: no arm names one.
    """
    if spec.source and spec.source != SCRATCH:
        return shape_of_preset(spec.source, setting.cohort)
    if setting.like is None:
        raise UsageError(
            "'scratch' is the network of an encoder arm before its training; there is none",
            where=spec.name,
            fix=f"Add an encoder as an arm, or name a preset: --arm {spec.name}=scratch:small",
        )
    return setting.like


def _like(
    specs: Sequence[ArmSpec], encoders: Mapping[str, LoadedEncoder], cohort: Cohort
) -> Shape | None:
    """The first ViT named that is trained itself; else the first whose features are read."""
    named = [s for s in specs if s.source and s.source != SCRATCH]
    named.sort(key=lambda s: not CLASSIFIERS[s.kind].tuned)
    if not named:
        return None
    first = named[0]
    if first.has_encoder:
        return shape_of_encoder(encoders[first.source])
    return shape_of_preset(first.source, cohort)
