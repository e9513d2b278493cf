"""The same weights for a network class of MONAI's own, where there is one: to train on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from volta3d.arms.networks.unetr import Unetr
from volta3d.arms.segmenter import Architecture
from volta3d.downstream.segmentation.ensemble import Ensemble
from volta3d.errors import EncoderError
from volta3d.export.graphs import EncoderGraph, Graph, SegmentGraph
from volta3d.model.monai import to_vit


@dataclass(frozen=True)
class Own:
    """The same network as a class of MONAI's: its weights, how it is built, and what differs."""

    state: dict[str, Tensor]
    definition: dict[str, Any]
    differs: str


def monai_network(graph: Graph) -> Own | None:
    """MONAI's own class with the same weights, where there is one: for training on."""
    if isinstance(graph.module, EncoderGraph):
        return _vit(graph.module)
    if not isinstance(graph.module, SegmentGraph):
        return None
    network = graph.module.network
    given = dict(graph.content["architecture"])
    architecture = Architecture(given.pop("kind"), int(given.pop("classes")), given)
    sizes = architecture.sizes
    if isinstance(network, Unetr):
        try:
            state = network.to_monai(graph.size)
        except EncoderError:
            return None
        definition = {
            "_target_": "UNETR",
            "in_channels": 1,
            "out_channels": architecture.classes,
            "img_size": [graph.size] * 3,
            "feature_size": sizes["features"],
            "hidden_size": sizes["width"],
            "mlp_dim": sizes["mlp"],
            "num_heads": sizes["heads"],
        }
    elif isinstance(network, Ensemble):
        return None  # several networks are no class of MONAI's
    else:
        state = dict(network.state_dict())
        definition = {
            "_target_": "UNet",
            "spatial_dims": 3,
            "in_channels": 1,
            "out_channels": architecture.classes,
            "channels": sizes["channels"],
            "strides": sizes["strides"],
            "num_res_units": sizes["residual_units"],
        }
    plain = {k: v.detach().contiguous().clone() for k, v in state.items()}
    return Own(plain, definition, "It answers with logits, `model.ts` with probabilities.")


def _vit(module: EncoderGraph) -> Own:
    encoder = module.encoder
    block: Any = encoder.blocks[0]
    definition = {
        "_target_": "ViT",
        "in_channels": 1,
        "img_size": [encoder.image_size] * 3,
        "patch_size": [encoder.patch_size] * 3,
        "hidden_size": encoder.width,
        "mlp_dim": block.mlp.up.out_features,
        "num_layers": len(encoder.blocks),
        "num_heads": block.attention.heads,
    }
    before = "prepared scans"
    if module.downsample > 1:
        before += f", average-pooled by {module.downsample}"
    size, n = encoder.image_size, module.reading.tiles
    if n > 1:
        before = f"tiles, {n} along each axis, of {before}"
    return Own(
        to_vit(encoder),
        definition,
        f"It takes {before} and resampled to {n * size}³, and answers with patch tokens; the "
        "summariser is in `model.ts` alone.",
    )
