"""Which parameters are trained, and how fast each learns."""

from __future__ import annotations

from typing import Any

from torch import nn

from volta3d.arms.networks.unetr import Unetr


def parameter_groups(
    network: nn.Module, *, lr: float, weight_decay: float, layer_decay: float
) -> list[dict[str, Any]]:
    """Groups for AdamW, each with its ``scale`` of the learning rate.

    The decoder learns at the full rate, block i of d of an encoder at ``layer_decay`` to the power
    of d - i, its patches and positions at that of d + 1. Biases and one-dimensional tensors are not
    decayed.
    """
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        scale = layer_decay ** _distance(network, name)
        groups.setdefault((scale, parameter.ndim > 1), []).append(parameter)
    return [
        {
            "params": parameters,
            "lr": lr * scale,
            "scale": scale,
            "weight_decay": weight_decay if decayed else 0.0,
        }
        for (scale, decayed), parameters in sorted(groups.items(), key=lambda item: item[0])
    ]


def _distance(network: nn.Module, name: str) -> int:
    """How many blocks lie between a parameter and the decoder; 0 in the decoder itself."""
    if not isinstance(network, Unetr) or not name.startswith("encoder."):
        return 0
    depth = len(network.encoder.blocks)
    if name.startswith("encoder.blocks."):
        return depth - int(name.split(".")[2])
    return 1 if name.startswith("encoder.norm") else depth + 1


def train_encoder(network: nn.Module, blocks: int | None) -> None:
    """Choose what of a UNETR's encoder is trained; its other parts, and a U-Net, always are.

    Args:
        network: any.
        blocks: the last so many with the final norm; 0 freezes the encoder, None trains all of it.
    """
    if not isinstance(network, Unetr):
        return
    encoder = network.encoder
    encoder.requires_grad_(blocks is None)
    if blocks:
        encoder.blocks[max(0, len(encoder.blocks) - blocks) :].requires_grad_(True)
        encoder.norm.requires_grad_(True)
