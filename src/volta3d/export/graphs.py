"""What is exported of an encoder or a fitted model: one module, a prepared scan in, answers out.

Shape legend: B batch, D edge of a prepared cube, S edge of a window, C classes, T tokens, W width.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool3d

from volta3d.arms.networks.classifier import Classifier
from volta3d.arms.spec import is_arm
from volta3d.artefacts import MODEL
from volta3d.cohort.contract import Contract
from volta3d.downstream.classification.fitted import FittedModel, load_fitted, read_model_config
from volta3d.downstream.segmentation.ensemble import load_ensemble
from volta3d.downstream.segmentation.memory_layout import plain_layout
from volta3d.downstream.segmentation.model import SegmentModel, load_segment_model
from volta3d.encoder.load import load_encoder
from volta3d.encoder.loaded import LoadedEncoder
from volta3d.encoder.tiles import cut, join
from volta3d.errors import EncoderError, VoltaError
from volta3d.files import read_json
from volta3d.pretrain.encoder import CONFIG
from volta3d.pretrain.monitor import whole

INPUT = "scan"
TOLERANCE = 1e-3  # of the largest answer; fp32 sums in another order


@dataclass(frozen=True)
class Graph:
    """A module that other programs can run, and what they must know of it.

    Args:
        module: in eval mode, on the CPU, fp32; takes ``scan`` [B, 1, size, size, size].
        kind: encoder, classification, regression or segmentation.
        size: edge of its input: D of the prepared cube, or S of a window for segmentation.
        outputs: name of each output and the shape of one scan's.
        contract: how scans must be prepared.
        content: of the model's config.json.
        path: its folder.
    """

    module: nn.Module
    kind: str
    size: int
    outputs: dict[str, tuple[int, ...]]
    contract: Contract
    content: dict[str, Any]
    path: Path

    @property
    def synthetic(self) -> bool:
        """Whether it was made of synthetic scans."""
        seen = self.content.get("trained_on", {})
        return bool(self.contract.synthetic or seen.get("synthetic"))

    def example(self, batch: int = 2) -> Tensor:
        """An input, the same each time."""
        generator = torch.Generator().manual_seed(0)
        return torch.rand((batch, 1, self.size, self.size, self.size), generator=generator)

    def answers(self, scan: Tensor) -> tuple[Tensor, ...]:
        """What the module answers, always as a tuple."""
        with torch.no_grad():
            answers = self.module(scan)
        return answers if isinstance(answers, tuple) else (answers,)


def compared(graph: Graph, scan: Tensor, theirs: list[Tensor], what: str) -> float:
    """The largest difference of answers, relative to the largest answer.

    Raises:
        VoltaError: above the tolerance, or of another shape.
    """
    worst = 0.0
    for (name, shape), ours, found in zip(
        graph.outputs.items(), graph.answers(scan), theirs, strict=True
    ):
        apart = float("inf")
        if found.shape == ours.shape == (len(scan), *shape):
            apart = float((found - ours).abs().max() / ours.abs().max().clamp_min(1e-12))
        if not apart <= TOLERANCE:
            raise VoltaError(
                f"The {what} answers differently from the network: '{name}' by {apart:.2g}",
                where=graph.path,
                fix="Report this with the versions of torch and onnxruntime",
            )
        worst = max(worst, apart)
    return worst


def load_graph(path: Path | str) -> Graph:
    """The graph of an encoder folder, a fitted model's folder, or all networks of an arm as one.

    Raises:
        EncoderError: neither, damaged, or a model that is no network.
    """
    path = Path(path)
    if is_arm(path) and read_model_config(path / MODEL)["kind"] == "segmentation":
        return _of_segmentation(load_ensemble(path))
    if _is_encoder(path):
        return _of_encoder(load_encoder(path))
    if read_model_config(path)["kind"] == "segmentation":
        return _of_segmentation(load_segment_model(path))
    return _of_fitted(load_fitted(path))


def _is_encoder(path: Path) -> bool:
    if not (path / CONFIG).is_file():
        return not path.joinpath("model").exists()  # then the encoder's reader says what is there
    try:
        content = read_json(path / CONFIG)
    except (VoltaError, OSError):
        return True
    return not isinstance(content, dict) or "kind" not in content


class EncoderGraph(nn.Module):
    """Cubes [B, 1, D, D, D] to the summariser's token [B, W] and patch tokens [B, T, W].

    At the scale of pretraining, in tiles where the head is larger than a view (``Reading``).
    """

    def __init__(self, loaded: LoadedEncoder) -> None:
        super().__init__()
        self.encoder, self.summariser = loaded.vit, loaded.summariser
        self.downsample, self.image_size = loaded.downsample, loaded.image_size
        self.reading = loaded.reading()

    def forward(self, scan: Tensor) -> tuple[Tensor, Tensor]:
        """See the class."""
        cubes = _fitting(scan, self.downsample, self.reading.edge)
        n = self.reading.tiles  # a number, so that the batch may have any size
        own = self.encoder(cut(cubes, self.image_size, n))
        token = self.summariser(own)
        tokens = token.reshape(-1, n**3, token.shape[1])
        return tokens.mean(1), join(own, self.encoder.patches.native_grid[0], n)


class FittedGraph(nn.Module):
    """Cubes [B, 1, D, D, D] to class probabilities [B, C] or numbers [B, 1]."""

    weight: Tensor
    bias: Tensor

    def __init__(self, fitted: FittedModel, network: Classifier) -> None:
        super().__init__()
        architecture = fitted.config["architecture"]
        self.network, self.classes = network, len(fitted.labels)
        self.downsample = int(architecture["downsample"])
        self.image_size = int(architecture["image_size"])
        self.mean = float(architecture.get("mean") or 0.0)
        self.deviation = float(architecture.get("deviation") or 1.0)
        self.line = fitted.line is not None
        if fitted.line is not None:
            self.register_buffer("weight", torch.from_numpy(fitted.line.weight.copy()))
            self.register_buffer("bias", torch.from_numpy(fitted.line.bias.copy()))

    def forward(self, scan: Tensor) -> Tensor:
        """See the class."""
        cubes = _fitting(scan, self.downsample, self.image_size)
        if self.line:  # in fp64: features of brains differ in their last digits
            answers = self.network.stem(cubes).double() @ self.weight.T + self.bias
        else:
            answers = self.network(cubes).double()
        if self.classes:
            return answers.softmax(1).float()
        return (answers if self.line else answers * self.deviation + self.mean).float()


class SegmentGraph(nn.Module):
    """Windows [B, 1, S, S, S] to class probabilities [B, C, S, S, S], background first."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, scan: Tensor) -> Tensor:
        """See the class."""
        return torch.softmax(self.network(scan), 1)


def _fitting(cubes: Tensor, downsample: int, image_size: int) -> Tensor:
    if downsample > 1:
        cubes = avg_pool3d(cubes, downsample)
    return whole(cubes, image_size)


def _of_encoder(loaded: LoadedEncoder) -> Graph:
    reading = loaded.reading()
    if abs(reading.as_prepared / reading.voxel_mm - 1) > 0.02:
        raise EncoderError(
            "Cubes of its contract do not fill whole tiles at the encoder's scale",
            where=loaded.path,
            fix="Embed scans with volta3d, which pads them",
        )
    tokens = loaded.vit.patches.position.shape[1] * reading.tiles**3
    outputs: dict[str, tuple[int, ...]] = {
        "token": (loaded.width,),
        "patches": (tokens, loaded.width),
    }
    module, size = EncoderGraph(loaded).eval(), loaded.contract.size
    return Graph(module, "encoder", size, outputs, loaded.contract, loaded.config, loaded.path)


def _of_fitted(fitted: FittedModel) -> Graph:
    if fitted.network is None:
        raise EncoderError(
            "This model goes by measured volumes, there is no network to export",
            where=fitted.path,
            fix="Its weights are two numbers in model.safetensors; use volta3d predict",
        )
    name = "probabilities" if fitted.labels else str(fitted.config["target"])
    shape = (max(1, len(fitted.labels)),)
    module = FittedGraph(fitted, fitted.network).eval()
    kind, size = str(fitted.config["kind"]), fitted.contract.size
    return Graph(module, kind, size, {name: shape}, fitted.contract, fitted.config, fitted.path)


def _of_segmentation(model: SegmentModel) -> Graph:
    size = int(model.config["crop"])
    outputs: dict[str, tuple[int, ...]] = {
        "probabilities": (len(model.structures) + 1, size, size, size)
    }
    module = SegmentGraph(plain_layout(model.network)).eval()
    return Graph(module, "segmentation", size, outputs, model.contract, model.config, model.path)
