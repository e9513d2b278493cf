"""``linear:ENCODER`` and ``linear:scratch``: a linear model on what a ViT makes of each scan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from torch import Tensor

from volta3d.arms import SCRATCH
from volta3d.arms.classifier import Bench, ClassifierArm, Notify, Rebuilt, Setting
from volta3d.arms.fold_data import FoldData, FoldResult
from volta3d.arms.linear_model import LinearLearner, line_of
from volta3d.arms.spec import ArmSpec
from volta3d.arms.vit import VitArm, rebuilt_vit
from volta3d.arms.vit import resolve as resolve_vit


class LinearArm(ClassifierArm):
    """A linear model on features that stay as they are."""

    kind: ClassVar[str] = "linear"

    def fit(
        self, bench: Bench, data: FoldData, notify: Notify | None
    ) -> tuple[FoldResult, dict[str, Tensor]]:
        """Features of every scan, then ``LinearLearner``."""
        frozen = VitArm(**{**vars(self), "tune": "frozen"})
        network = frozen.network(bench.config, bench.outputs, data.seed).to(bench.device)
        features = bench.stemmed(self, network)
        assert features is not None
        balanced = bench.config.class_weights == "balanced"
        result = LinearLearner(features.cpu().numpy(), balanced=balanced).learn(data)
        kept = {k: v for k, v in network.state_dict().items() if not k.startswith("head.")}
        return result, {**kept, **result.tensors}


def resolve(spec: ArmSpec, setting: Setting) -> LinearArm:
    """The arm of a SPEC.

    Raises:
        UsageError: ``linear:scratch`` without anything to be identical to.
    """
    source = "" if spec.source == SCRATCH else spec.source
    vit = resolve_vit(replace(spec, source=source), setting)
    return LinearArm(**{**vars(vit), "tune": "linear"})


def load(architecture: Mapping[str, Any], outputs: int, tensors: dict[str, Tensor]) -> Rebuilt:
    """A fitted linear model, and the ViT that makes its features.

    Raises:
        ValueError: tensors that don't fit.
    """
    line = line_of(tensors, outputs)
    return Rebuilt(rebuilt_vit(architecture, outputs, tensors, headless=True), line)
